"""Rows to other programs: ``export`` chooses by the output's name, one module a format; ``output`` writes files.

``exporter`` is the contract of a format, ``registry`` has them all; other packages add theirs by entry points.
"""
