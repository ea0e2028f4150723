"""Decoded tracks as Arrow rows: what travels through Ray's object store from decoding to scoring.

One row is one track: its manifest columns, then either an error or its metadata and the int16 audio that windows need.
Audio is one binary value a sample rate, so reading it back copies nothing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tonearm.audio.decode import AudioInfo, DecodedTrack, PcmStream
from tonearm.errors import DecodeError, TrackError
from tonearm.library import schema
from tonearm.library.sources import TrackRef

STREAM = pa.struct(
    [
        pa.field("sample_rate", pa.int32()),
        pa.field("num_samples", pa.int64()),
        pa.field("scale", pa.float64()),
        pa.field("spans", pa.list_(pa.int64())),
        pa.field("pcm", pa.large_binary()),
    ]
)

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

INFO = ("duration_s", "sample_rate", "channels", "codec", "title", "artist", "album")


def encode_track(ref: TrackRef, outcome: DecodedTrack | TrackError) -> pa.Table:
    """Return one row of ``DECODED``."""
    row: dict[str, object] = {name: getattr(ref, name) for name in schema.MANIFEST.names}
    if isinstance(outcome, TrackError):
        row |= {"error_code": outcome.code, "error_message": outcome.message}
    else:
        row |= {name: getattr(outcome.info, name) for name in INFO}
        row["decoded_share"] = outcome.decoded_share
        row["streams"] = [
            {
                "sample_rate": stream.sample_rate,
                "num_samples": stream.num_samples,
                "scale": stream.scale,
                "spans": [edge for span in stream.spans for edge in span],
                "pcm": memoryview(np.ascontiguousarray(stream.pcm).data).cast("B"),
            }
            for stream in outcome.streams
        ]
    arrays = [pa.array([row.get(field.name)], field.type) for field in DECODED]
    return pa.Table.from_arrays(arrays, schema=DECODED)


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
        edges = value["spans"].as_py()
        streams.append(
            PcmStream(
                sample_rate=value["sample_rate"].as_py(),
                num_samples=value["num_samples"].as_py(),
                pcm=np.frombuffer(value["pcm"].as_buffer(), np.int16),
                scale=value["scale"].as_py(),
                spans=tuple(zip(edges[::2], edges[1::2], strict=True)),
            )
        )
    info = AudioInfo(**{name: block[name][index].as_py() for name in INFO})
    return DecodedTrack(info=info, streams=tuple(streams), decoded_share=block["decoded_share"][index].as_py())
