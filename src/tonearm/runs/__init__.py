"""What a destination holds and how it stays exact.

``destination`` names its places. A run takes the ``lock``, writes the ``manifest``, finds what is left (``resume``),
and its rows are read by the rules in ``rows``. ``groups`` are columns with the facts that decided them, ``differences``
says in words where two sets of facts differ. ``compaction``, ``counts``, ``progress``,
``status``, ``run_summary`` serve the verbs.
"""
