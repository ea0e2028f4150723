"""A Ray to run on: ``session`` is the entrance; ``joining`` one that is there, ``local_ray`` one of our own."""
