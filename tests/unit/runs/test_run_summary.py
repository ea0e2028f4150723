"""The summary of a run survives JSON, with unknown and missing parts, and anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tables import make_run
from tonearm.cli import run_end
from tonearm.errors import DestinationError
from tonearm.runs.run_summary import FoundLabels, RunSummary, read_run


def test_a_run_survives_json(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert read_run(str(tmp_path)) == RunSummary.from_json(run.to_json()) == run


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run_id": 1}', "null", '{"started": 5}'])
def test_a_file_that_is_not_a_run_is_named(content: str) -> None:
    with pytest.raises(DestinationError, match=r"runs/x\.json: not a run's summary"):
        RunSummary.from_json(content, where="runs/x.json")


def test_what_was_found_survives_json_and_may_be_missing() -> None:
    found = FoundLabels({"jazz": 3}, 1, {"Guitar": 2}, 1)
    run = make_run(found=found)
    assert RunSummary.from_json(run.to_json()).found == found
    assert RunSummary.from_json(make_run().to_json()).found is None
    assert run_end.found_lines(None) == []
