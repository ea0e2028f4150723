"""Decoded tracks as Arrow rows: what travels through Ray's object store from decoding to scoring.

One row is one track: its manifest columns, then either an error or its metadata and the audio that windows need.
Audio is one binary value a sample rate, so reading it back copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tonearm.audio.decode import AudioInfo, DecodedTrack, PcmStream
from tonearm.errors import DecodeError, TrackError
from tonearm.runs.rows import schema
from tonearm.sources.listing import TrackRef
from tonearm.storage.uris import scrubbed

STREAM = pa.struct(
    [
        pa.field("sample_rate", pa.int32()),
        pa.field("num_samples", pa.int64()),
        pa.field("scale", pa.float64()),
        pa.field("spans", pa.list_(pa.int64())),
        pa.field("dtype", pa.string()),
        pa.field("pcm", pa.large_binary()),
    ]
)

HEADER = [field.name for field in STREAM if field.name != "pcm"]

DECODED = pa.schema(
    [
        *schema.MANIFEST,
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        *[schema.TRACKS.field(name) for name in ("duration_s", "sample_rate", "channels", "codec")],
        *[schema.TRACKS.field(name) for name in ("title", "artist", "album")],
        pa.field("decoded_share", pa.float64()),
        pa.field("streams", pa.list_(STREAM)),
    ]
)

# A sample rate of 2**32 - 1, a title that is not Unicode.
NO_COLUMN_TAKES = (pa.ArrowException, ValueError, TypeError, OverflowError)
INFO = ("duration_s", "sample_rate", "channels", "codec", "title", "artist", "album")


def encode_tracks(tracks: Sequence[tuple[TrackRef, DecodedTrack | TrackError]]) -> pa.Table:
    """Return rows of ``DECODED``, in order; a track with figures that no column takes becomes one that failed."""
    try:
        return _encoded(tracks)
    except NO_COLUMN_TAKES as error:
        if len(tracks) > 1:
            return pa.concat_tables(encode_tracks([track]) for track in tracks)
        (ref, outcome), why = tracks[0], f"{type(error).__name__}: {scrubbed(str(error))}"
        if isinstance(outcome, TrackError):
            raise
        failure = DecodeError(f"the file says of itself what no row can hold ({why})", code="corrupt")
        return _encoded([(ref, failure)])


def _encoded(tracks: Sequence[tuple[TrackRef, DecodedTrack | TrackError]]) -> pa.Table:
    rows = [_plain_columns(ref, outcome) for ref, outcome in tracks]
    arrays = [
        pa.array([row.get(field.name) for row in rows], field.type) for field in DECODED if field.name != "streams"
    ]
    return pa.Table.from_arrays([*arrays, _streams([outcome for _, outcome in tracks])], schema=DECODED)


def _plain_columns(ref: TrackRef, outcome: DecodedTrack | TrackError) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(ref, name) for name in schema.MANIFEST.names}
    if isinstance(outcome, TrackError):
        return row | {"error_code": outcome.code, "error_message": outcome.message}
    return row | {name: getattr(outcome.info, name) for name in INFO} | {"decoded_share": outcome.decoded_share}


def _streams(outcomes: Sequence[DecodedTrack | TrackError]) -> pa.Array:
    per_track = [() if isinstance(outcome, TrackError) else outcome.streams for outcome in outcomes]
    streams = [stream for of_track in per_track for stream in of_track]
    # pa.array never releases a memoryview that it is given (seen with pyarrow 26), and with it a track's audio and
    # a file descriptor; from_buffers copies once and keeps nothing.
    pcm = [np.ascontiguousarray(stream.pcm).view(np.uint8) for stream in streams]
    edges = np.cumsum([0, *(len(part) for part in pcm)], dtype=np.int64)
    data = np.concatenate(pcm) if pcm else np.empty(0, np.uint8)
    headers = [{**stream.header(), "spans": [edge for span in stream.spans for edge in span]} for stream in streams]
    columns = [
        *(pa.array([header[name] for header in headers], STREAM.field(name).type) for name in HEADER),
        pa.Array.from_buffers(pa.large_binary(), len(streams), [None, pa.py_buffer(edges), pa.py_buffer(data)]),
    ]
    offsets = np.cumsum([0, *(len(of_track) for of_track in per_track)], dtype=np.int32)
    values = pa.StructArray.from_arrays(columns, fields=list(STREAM))
    return pa.ListArray.from_arrays(
        pa.array(offsets), values, type=pa.list_(STREAM), mask=pa.array([isinstance(x, TrackError) for x in outcomes])
    )


def num_bytes(outcome: DecodedTrack | TrackError) -> int:
    """Return how much audio a track's row holds."""
    return 0 if isinstance(outcome, TrackError) else sum(stream.pcm.nbytes for stream in outcome.streams)


def decode_ref(block: pa.Table, index: int) -> TrackRef:
    """Return the manifest part of row ``index``."""
    return TrackRef(**{name: block[name][index].as_py() for name in schema.MANIFEST.names})


def read_outcome(block: pa.Table, index: int) -> DecodedTrack | TrackError:
    """Return what decoding made of row ``index``; the audio is a view of the block."""
    code = block["error_code"][index].as_py()
    if code is not None:
        return DecodeError(block["error_message"][index].as_py(), code=code)
    streams = []
    for value in block["streams"][index]:
        header = {name: value[name].as_py() for name in HEADER}
        edges = header["spans"]
        header["spans"] = zip(edges[::2], edges[1::2], strict=True)
        streams.append(PcmStream.of(header, np.frombuffer(value["pcm"].as_buffer(), header["dtype"])))
    info = AudioInfo(**{name: block[name][index].as_py() for name in INFO})
    return DecodedTrack(info=info, streams=tuple(streams), decoded_share=block["decoded_share"][index].as_py())
