"""When a run counts as failed, and the command that its summary names."""

from __future__ import annotations

import pytest

from tonearm.api.tagging import _command, refuse_failures
from tonearm.errors import TooManyFailures
from tonearm.runs.resume import Audit


def audit(num_error: int, num_incomplete: int = 0) -> Audit:
    """Return the audit of ten tracks."""
    return Audit(
        num_listed=10, num_ok=10 - num_error, num_error=num_error, errors_by_code={"corrupt": num_error},
        audio_s=0.0, scored_s=0.0, num_missing=0, num_outranked=0, num_files=1,
        num_incomplete=num_incomplete, missing_by_group={"mood": num_incomplete} if num_incomplete else {},
    )  # fmt: skip


def test_failures_up_to_the_allowed_share_are_no_failure_of_the_run() -> None:
    refuse_failures(audit(1), 0.1)
    with pytest.raises(TooManyFailures, match=r"2 of 10 tracks failed \(2 corrupt\), more than --max-error-rate 0.1"):
        refuse_failures(audit(2), 0.1)


def test_rows_that_lack_a_head_count_as_failures_and_are_named() -> None:
    with pytest.raises(TooManyFailures, match=r"3 of 10 tracks failed \(1 corrupt, 2 without mood\)"):
        refuse_failures(audit(1, 2), 0.2)


def test_a_call_from_python_is_named_as_the_command_that_does_the_same() -> None:
    flags = {"max_windows": 3, "demo_models": True, "verbose": False, "limit": None}
    assert _command(["a", "b"], "out", flags, True, ["genre"]) == [
        "tonearm", "tag", "a", "b", "--out", "out", "--max-windows", "3", "--demo-models", "--retry-errors",
        "--rescore", "genre",
    ]  # fmt: skip
