"""Chained Ogg files are read link by link, and a link that cannot be opened is counted."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tonearm.audio.readers.ogg import ChainedSource, links
from tonearm.errors import DecodeError


def stream(length_s: float, rate: int) -> bytes:
    """Return a tone as one link of Ogg Vorbis."""
    file = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(length_s * rate)) / rate)
    soundfile.write(file, tone.astype(np.float32), rate, format="OGG", subtype="VORBIS")
    return file.getvalue()


FIRST, SECOND = stream(1.0, 16000), stream(2.0, 44100)


def test_each_link_begins_where_the_one_before_ends() -> None:
    assert links(FIRST) == [0]
    assert links(FIRST + SECOND) == [0, len(FIRST)]
    assert links(memoryview(FIRST + SECOND + FIRST)) == [0, len(FIRST), len(FIRST + SECOND)]
    assert links(b"RIFF" + FIRST) == links(b"") == []


def test_bytes_between_links_are_passed_over() -> None:
    between = b"neither a page nor audio" * 50
    assert links(FIRST + between + SECOND) == [0, len(FIRST + between)]


def test_links_keep_their_rates() -> None:
    data = FIRST + SECOND
    source = ChainedSource.of(data, links(data))
    lengths: dict[int, float] = {}
    for block, rate in source.blocks():
        lengths[rate] = lengths.get(rate, 0.0) + len(block) / rate
    assert lengths == {16000: pytest.approx(1.0, abs=0.01), 44100: pytest.approx(2.0, abs=0.01)}
    assert source.declared_s == pytest.approx(3.0, abs=0.01)
    assert source.num_errors == 0 and source.lost_s == 0


def test_a_link_that_cannot_be_opened_is_counted_with_its_share_of_the_time() -> None:
    broken = FIRST[:28] + bytes(len(FIRST) - 28)
    data = FIRST + broken
    source = ChainedSource.of(data, [0, len(FIRST)])
    assert source.num_unread == 1 and source.declared_s is None
    assert sum(len(block) / rate for block, rate in source.blocks()) == pytest.approx(1.0, abs=0.01)
    assert source.num_errors == 1
    assert source.lost_s == pytest.approx(1.0, abs=0.05)
    with pytest.raises(DecodeError):
        ChainedSource.of(broken + broken, [0, len(broken)])
