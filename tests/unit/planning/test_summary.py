"""What a run says that it waited for."""

from __future__ import annotations

import pytest

from tonearm.planning.summary import bottleneck


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"score": 0.97, "forward": 0.93, "features": 0.03, "pool": 0.01, "decode": 0.2, "fetch": 0.1}, "forward: "),
        ({"score": 0.90, "forward": 0.30, "features": 0.55, "pool": 0.05, "decode": 0.2, "fetch": 0.1}, "features: "),
        ({"score": 0.30, "forward": 0.28, "features": 0.01, "pool": 0.01, "decode": 0.98, "fetch": 0.1}, "decode: "),
        ({"score": 0.30, "forward": 0.28, "features": 0.01, "pool": 0.01, "decode": 0.10, "fetch": 0.9}, "fetch: "),
        ({"score": 0.30, "forward": 0.28, "features": 0.01, "pool": 0.01, "decode": 0.10, "fetch": 0.1}, "none: "),
    ],
)
def test_the_slowest_stage_is_named_with_its_reason(shares: dict[str, float], said: str) -> None:
    text = bottleneck(shares)
    assert text.startswith(said)
    assert "%" in text
    if said not in ("forward: ", "features: "):
        assert "scoring waited 70%" in text


def test_a_run_without_tracks_has_no_bottleneck() -> None:
    assert bottleneck({}) == ""
