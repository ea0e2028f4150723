"""Labelled clips: decoded (``clips``), split (``splits``, ``holdout``), freed of copies, and as training examples."""
