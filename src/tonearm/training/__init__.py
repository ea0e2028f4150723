"""Training on labelled audio, in plain torch without Ray: ``plan``, with ``data``, ``fit``, ``judge``, ``publish``."""
