"""The first failure that is reported is the reason why a run ends."""

from __future__ import annotations

from tonearm.distributed.run_failures import KeptFailure
from tonearm.errors import DestinationError, Stopped


def test_what_was_told_first_is_why_a_run_ends() -> None:
    """A guard stops the run; what its workers then die of is a consequence."""
    kept = KeptFailure()
    assert kept.read_failure() is None
    kept.fail(Stopped("the store gives nothing"))
    kept.fail(DestinationError("a file cannot be written"))
    assert str(kept.read_failure()) == "the store gives nothing"
