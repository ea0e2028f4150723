"""Labelled clips: decoded (``cache``), split (``splits``, ``holdout``), freed of copies, and as training examples."""
