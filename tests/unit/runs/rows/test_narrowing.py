"""A ``where`` is worked out by a process of its own, which may take only so much memory and time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tables import make_row, write_tracks
from tonearm.errors import UsageError
from tonearm.runs.rows import narrowing, track_rows
from tonearm.runs.rows.narrowing import Limits

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def destination(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rows") / "out"
    random = np.random.default_rng(0)
    rows = [make_row(number, random, track_key=number, duration_s=float(number)) for number in range(20)]
    write_tracks(folder, rows[:12])
    write_tracks(folder, rows[12:], name="part-1.parquet")
    return str(folder)


def narrowed_keys(destination: str, where: str, **limits: float) -> list[int]:
    rows = track_rows.listed_rows(destination)
    return narrowing.narrow(destination, rows, where, Limits(**limits)).keys.tolist()  # type: ignore[arg-type]


def test_rows_of_several_files_are_narrowed(destination: str) -> None:
    assert narrowed_keys(destination, "duration_s >= 9 AND duration_s < 14") == [9, 10, 11, 12, 13]
    assert narrowed_keys(destination, "duration_s < 0") == []


@pytest.mark.parametrize(
    "where",
    [
        "list_sum(range(1000000000)) > 1",  # a constant, which DuckDB works out before it sees a row
        "list_sum(range(1000000000 + duration_s::BIGINT)) > 1",
    ],
)
def test_an_expression_that_takes_all_memory_is_refused(destination: str, where: str) -> None:
    with pytest.raises(UsageError, match=r"needs more than 4 GiB|[Oo]ut of [Mm]emory|allocat|exceed"):
        narrowed_keys(destination, where)


def test_an_expression_that_takes_too_long_is_refused(destination: str) -> None:
    # A loop over a loop in one function call of DuckDB's, which asks for nothing in between.
    where = "list_sum(list_transform(range(100000), lambda x: list_sum(range(100000 + x)))) > duration_s"
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"took longer than 1 s for 4,096 tracks at most; use a simpler one"):
        narrowed_keys(destination, where, batch_s=1.0)
    assert time.monotonic() - start < 30


def test_what_is_refused_says_the_same_as_the_expression_itself(destination: str) -> None:
    with pytest.raises(UsageError, match="has no column gener, did you mean genre"):
        narrowed_keys(destination, "gener = 'rock'")
    with pytest.raises(UsageError, match="expected a text such as"):
        narrowed_keys(destination, 7)  # type: ignore[arg-type]


def test_a_process_that_ends_within_its_answer_loses_no_row(destination: str, tmp_path: Path) -> None:
    """Four of five keys are a whole number of bytes, too."""
    rows = track_rows.listed_rows(destination)
    child = tmp_path / "child.py"
    child.write_text(
        "import sys\nsys.stdin.buffer.readline()\n"
        'sys.stdout.buffer.write(b\'{"columns": ["track_key"]}\\n{"keys": 5}\\n\' + bytes(32))\n'
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(narrowing.own_process, "command", lambda _: [sys.executable, str(child)])
        with pytest.raises(UsageError, match="ended its process otherwise"):
            narrowing.narrow(destination, rows, "duration_s > 1")
