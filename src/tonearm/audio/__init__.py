"""Bytes to waveform, in a sandbox; knows neither torch nor Ray.

``decode`` gives what a ``DecodeRequest`` asks for, through one of the ``readers``; ``sandbox`` does so in a child;
``loader`` fetches before.
``windows`` is how a track is cut, ``streams`` how its samples are kept; ``plots`` and ``overview`` draw.
"""
