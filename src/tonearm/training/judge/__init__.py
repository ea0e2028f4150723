"""What scores are worth on labelled clips: ``metrics``, ``calibration``, ``pictures``, joined by ``evaluation``."""
