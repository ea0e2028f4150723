"""Encoded audio to blocks of samples: ``container`` opens with the reader that knows a file best.

``ffmpeg`` (through PyAV) and ``sndfile`` read, ``ogg`` chains, ``packets`` decode parts; ``source`` is what all give.
``headers``, ``declared`` and ``tags`` are what files say of themselves; ``pcm`` makes any samples mono float32.
"""
