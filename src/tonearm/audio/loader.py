"""Load one track: fetch its bytes, decode its windows. An error of the track is returned, not raised."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tonearm.errors import TrackError

if TYPE_CHECKING:
    from tonearm.audio.decode import DecodedTrack, DecodeRequest
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.sources.reader import ObjectReader
    from tonearm.sources.track_ref import TrackRef


@dataclasses.dataclass(frozen=True)
class TrackLoader:
    """Fetches with ``reader`` and decodes in ``sandbox`` what ``request`` asks for; it closes neither."""

    reader: ObjectReader
    sandbox: DecodeSandbox
    request: DecodeRequest

    def load(self, ref: TrackRef) -> DecodedTrack | TrackError:
        """Fetch and decode a track."""
        return self.decode(self.fetch(ref), ref)

    def fetch(self, ref: TrackRef) -> bytes | TrackError:
        """Return a track's encoded bytes."""
        try:
            return self.reader.read(ref)
        except TrackError as error:
            return error

    def decode(self, data: bytes | TrackError, ref: TrackRef) -> DecodedTrack | TrackError:
        """Decode what ``fetch`` returned; an error is passed through."""
        if isinstance(data, TrackError):
            return data
        try:
            return self.sandbox.decode(data, self.request, ref.uri)
        except TrackError as error:
            return error
