"""The verbs of training: ``train``, ``evaluate`` and ``publish``."""
