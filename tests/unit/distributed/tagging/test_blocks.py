"""Decoded tracks on their way through the object store."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile

from tonearm.audio.decode import AudioInfo, DecodedTrack, DecodeRequest, PcmStream
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.distributed.tagging import blocks
from tonearm.errors import DecodeError
from tonearm.settings import DecodeSettings
from tonearm.sources.listing import make_ref


def test_rows_survive_a_block() -> None:
    info = AudioInfo(1.5, 44100, 2, "flac", title="é")
    two = DecodedTrack(
        info,
        (
            PcmStream(16000, 24000, np.arange(24000, dtype=np.int16), 2.0**-15, ((0, 24000),)),
            PcmStream(32000, 48000, np.arange(7, dtype=np.int16), 0.5, ((3, 5), (40, 45))),
        ),
        1.0,
    )
    one = DecodedTrack(info, (PcmStream(16000, 0, np.empty(0, np.int16), 1.0, ()),), 0.25)
    error = DecodeError("no sample", code="corrupt")
    refs = [make_ref(f"s3://b/{number}.flac", number, f"e{number}") for number in range(3)]
    table = blocks.encode_tracks(list(zip(refs, [two, error, one], strict=True)))
    assert table.schema == blocks.DECODED
    table.validate(full=True)
    assert [blocks.decode_ref(table, index) for index in range(3)] == refs
    found = [blocks.read_outcome(table, index) for index in range(3)]
    assert isinstance(found[1], DecodeError) and (found[1].code, found[1].message) == ("corrupt", "no sample")
    for track, expected in ((found[0], two), (found[2], one)):
        assert isinstance(track, DecodedTrack)
        assert (track.info, track.decoded_share) == (expected.info, expected.decoded_share)
        for stream, given in zip(track.streams, expected.streams, strict=True):
            assert (stream.sample_rate, stream.num_samples, stream.scale, stream.spans) == (
                given.sample_rate,
                given.num_samples,
                given.scale,
                given.spans,
            )
            np.testing.assert_array_equal(stream.pcm, given.pcm)


@pytest.mark.processes
def test_a_decoded_track_leaves_no_memory_or_descriptors_behind() -> None:
    """A worker decodes tens of thousands of tracks: neither their audio nor a descriptor of theirs may stay."""
    request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0)
    buffer, open_files = io.BytesIO(), 0
    soundfile.write(buffer, np.sin(np.arange(8000) / 9), 16000, format="WAV")
    with DecodeSandbox(DecodeSettings()) as sandbox:
        for number in range(60):
            blocks.encode_tracks([(make_ref("a.wav"), sandbox.decode(buffer.getvalue(), request))])
            if number == 9:
                open_files = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) <= open_files + 2


@pytest.mark.parametrize(
    "info",
    [
        *(
            AudioInfo(1.5, 2**32 - 1, 2, "pcm"),
            AudioInfo(1.5, 44100, 2**40, "pcm"),
            AudioInfo(1.5, 44100, 2, "pcm\ud800"),
        ),
        AudioInfo(1.5, 44100, 2, "pcm", title="\udcff"),
    ],
)
def test_figures_that_no_column_takes_cost_one_track(info: AudioInfo) -> None:
    good = DecodedTrack(AudioInfo(1.5, 44100, 2, "flac"), (), 1.0)
    refs = [make_ref(f"s3://b/{number}.wav") for number in range(3)]
    tracks = [(refs[0], good), (refs[1], DecodedTrack(info, (), 1.0)), (refs[2], good)]
    table = blocks.encode_tracks(tracks)
    assert table["error_code"].to_pylist() == [None, "corrupt", None]
    assert table["uri"].to_pylist() == [ref.uri for ref in refs]


def test_a_message_that_is_not_unicode_can_be_stored() -> None:
    error = DecodeError("no such tag \udcff", code="corrupt")
    (message,) = blocks.encode_tracks([(make_ref("s3://b/k"), error)])["error_message"].to_pylist()
    assert message == "no such tag \\udcff"
