"""Learning from labelled audio: ``prepare``, then ``data``, ``fit``, ``judge`` and ``publish``. Plain torch, no Ray."""
