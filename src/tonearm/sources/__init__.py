"""Which tracks there are, and reading one.

``listing`` is the entrance: any SOURCE becomes a stream of ``TrackRef``. One module a kind: ``local``, ``buckets``,
``tables``, ``hub_datasets``; ``source`` is their contract, ``registry`` has them and those of other packages.
``reader`` reads one object whole; ``labelled`` lists tracks with their labels.
"""
