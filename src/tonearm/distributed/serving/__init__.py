"""The server on Ray Serve: ``app`` deploys a ``decoder`` and a ``head`` for each model; ``calls`` are between them."""
