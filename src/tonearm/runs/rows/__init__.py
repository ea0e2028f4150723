"""The rows of ``tracks/``: their ``schema``, which files and which rows count, and reading them.

``track_files`` says which files count, ``ranking`` which row of a track, ``finished_rows`` reads both at one moment;
``track_rows`` gives one row for each listed track. ``telling_tags`` and ``silent`` are how rows are shown to people.
"""
