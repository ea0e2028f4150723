"""Tagging on Ray Data: ``driver`` is the course of a run, ``run`` what it is; a finished one needs no Ray.

``execution`` executes it on Ray, ``pipeline`` is the graph of operators, ``stages`` the operators, ``counters`` what
they report to, ``watch`` what ends a run and how a failure is explained. ``evaluate`` judges a model by the same
pipeline.
"""
