from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tonearm.errors import FetchError
from tonearm.web.bulk import bulk_lines
from tonearm.web.messages import TrackResult

RESULT = TrackResult(
    duration_s=1.0, coverage=1.0, sample_rate=8000, channels=1, codec="mp3", windows=[], tonearm_version="1"
)


def run(uris: list[str], tag: Any, *, concurrency: int = 3, take: int | None = None) -> list[dict[str, Any]]:
    async def collect() -> list[dict[str, Any]]:
        parsed: list[dict[str, Any]] = []
        lines = bulk_lines(uris, tag, concurrency=concurrency)
        async for line in lines:
            parsed.append(json.loads(line))
            if len(parsed) == take:
                break
        await lines.aclose()  # type: ignore[attr-defined]
        return parsed

    return asyncio.run(collect())


def test_a_line_for_each_whatever_becomes_of_it() -> None:
    async def tag(uri: str) -> TrackResult:
        if uri == "gone":
            raise FetchError("gone", code="not_found")
        if uri == "bug":
            raise KeyError("bug")
        return RESULT

    lines = run(["a", "gone", "b", "bug", "a"], tag)
    assert sorted(line["uri"] for line in lines) == ["a", "a", "b", "bug", "gone"]
    assert {line["uri"]: line.get("error_code") for line in lines} == {
        "a": None,
        "b": None,
        "gone": "not_found",
        "bug": "internal",
    }


def test_in_order_of_completion_and_few_at_once() -> None:
    in_hand, most = 0, 0
    slow = asyncio.Event()

    async def tag(uri: str) -> TrackResult:
        nonlocal in_hand, most
        in_hand += 1
        most = max(most, in_hand)
        if uri == "0":
            await slow.wait()
        await asyncio.sleep(0)
        if uri == "19":
            slow.set()
        in_hand -= 1
        return RESULT

    lines = run([str(number) for number in range(20)], tag)
    assert lines[-1]["uri"] == "0"
    assert most == 3


@pytest.mark.parametrize("take", [1, 4])
def test_work_ends_when_the_client_of_bulk_leaves(take: int) -> None:
    started, ended = [], []

    async def tag(uri: str) -> TrackResult:
        started.append(uri)
        try:
            await asyncio.sleep(0 if len(started) <= 10 else 3600)
        finally:
            ended.append(uri)
        return RESULT

    run([str(number) for number in range(1000)], tag, take=take)
    assert sorted(started) == sorted(ended)
    # What the reader took, what waits for it, and what is in hand.
    assert len(started) <= take + 3 + 2 * 3
