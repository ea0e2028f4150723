"""Tagging on Ray Data: ``driver`` runs it, ``stages`` are its operators, ``watch`` its progress and how it may fail."""
