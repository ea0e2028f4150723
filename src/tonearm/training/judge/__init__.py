"""Evaluate scores on labelled clips: ``predictions``, their ``metrics``, ``calibration`` and ``pictures``.

``evaluation`` joins them.
"""
