"""Duration and coverage of every kind of file that can be written here, whole and damaged; docs/formats.md has them.

``TONEARM_WRITE_TABLES=1`` writes that table anew.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from tests.parity.coverage_cases import CHANGES, DECLARED_TWICE, KINDS, LENGTH_S, NOT_THE_LENGTH, Kind
from tonearm.audio.decode import DecodeRequest, decode
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError

TABLE = Path(__file__).parents[2] / "docs" / "formats.md"
REQUEST = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 1e4)
CUT = {"cut at 75%": 0.75, "cut at 50%": 0.5, "cut at 25%": 0.25}
NEAR = 0.05
HEAD = """# Formats

Eight seconds of noise in every container and codec that the test suite can write, whole and damaged: the seconds that
decode, and `coverage`, the share of the track that they are. Bold: the file does not tell how long the whole was, so
only what decodes is known. A code: the track is a failed row. A dash: the header tells no length that could be wrong.
Made by `TONEARM_WRITE_TABLES=1 pytest tests/parity/test_coverage.py`.

"""


@functools.cache
def outcomes(kind: Kind) -> dict[str, tuple[float, float] | str]:
    whole = kind.write(LENGTH_S)
    found: dict[str, tuple[float, float] | str] = {}
    for name, change in CHANGES.items():
        data = change(whole)
        if name == DECLARED_TWICE and (data == whole or kind.title in NOT_THE_LENGTH):
            continue
        try:
            track = decode(data, REQUEST, f"song.{kind.extension}")
        except DecodeError as error:
            found[name] = error.code
        else:
            found[name] = track.info.duration_s, track.decoded_share
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_coverage_equals_the_share_of_audio_that_was_scored(kind: Kind) -> None:
    found = outcomes(kind)
    assert found["whole"] == (pytest.approx(LENGTH_S, abs=0.15), 1.0)
    for change, result in found.items():
        if isinstance(result, str):
            assert change != "damaged", "one packet is no reason to lose the track"
            continue
        duration_s, coverage = result
        if change == DECLARED_TWICE:
            assert (duration_s, coverage) == (pytest.approx(LENGTH_S, abs=0.15), pytest.approx(0.5, abs=NEAR))
            continue
        share = CUT.get(change, 1.0)
        if change in CUT:
            assert duration_s <= share * LENGTH_S + kind.unit_s
            # What is compressed together ends before the cut.
            assert duration_s >= share * LENGTH_S - kind.unit_s - 0.1
        if kind.tells or change not in CUT:
            assert coverage == pytest.approx(min(1.0, duration_s / LENGTH_S), abs=NEAR), change
        else:
            assert coverage == pytest.approx(1.0, abs=NEAR), change


def test_the_table_in_the_docs() -> None:
    lines = ["| | " + " | ".join(CHANGES) + " |", "|---|" + "---:|" * len(CHANGES)]
    for kind in KINDS:
        cells, found = [], outcomes(kind)
        for change in CHANGES:
            result = found.get(change, "–")
            text = result if isinstance(result, str) else f"{result[0]:.1f} s, {result[1]:.2f}"
            cells.append(f"**{text}**" if change in CUT and not kind.tells and not isinstance(result, str) else text)
        lines.append(f"| {kind.title} | " + " | ".join(cells) + " |")
    made = HEAD + "\n".join(lines) + "\n"
    if "TONEARM_WRITE_TABLES" in os.environ:
        TABLE.write_text(made)
    assert TABLE.read_text() == made, "write it anew with TONEARM_WRITE_TABLES=1"
