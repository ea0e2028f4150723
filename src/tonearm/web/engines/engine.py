"""What the app asks of the part that decodes and scores: ``process_engine``, or ``distributed.serving`` on Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from tonearm.errors import TonearmError
from tonearm.models.pooling import Scored
from tonearm.tagging import HeadPlan, TrackResult
from tonearm.web.messages import View

CHECK_TIMEOUT_S = 20.0
# A model that has just answered somebody is not asked again.
CHECK_FRESH_S = 10.0


class Engine(Protocol):
    """Decodes and scores. Every call may be cancelled, and raises ``TrackError`` or ``RequestError`` alone."""

    plans: Mapping[str, HeadPlan]

    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        """Return what both heads say of a track."""

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return what both heads say of the object at ``uri``."""

    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        """Return every label of one head with the mean over windows of its score, descending."""

    async def view(self, data: bytes) -> View:
        """Return what the page draws of a track."""

    async def check(self) -> dict[str, str]:
        """Return ``ok`` for each head that answers, else why it does not."""

    async def runs_on(self) -> dict[str, dict[str, str]]:
        """Return for each head that answers what it runs on, as ``Classifier.describe`` gives it."""


async def states(
    checks: Mapping[str, Awaitable[object]],
    bugs: tuple[type[Exception], ...],
    describe: Callable[[Exception], str],
) -> dict[str, str]:
    """Return ``ok`` for each head whose check comes back in time, else why it does not.

    Args:
        bugs: what a check may raise besides ``TonearmError``.
        describe: gives what one of them says.
    """

    # One head that hangs must not hide how the others are, so each has a time of its own.
    async def state(check: Awaitable[object]) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT_S:g} s"
        except TonearmError as error:
            return error.message
        except bugs as error:
            return describe(error)
        return "ok"

    answers = await asyncio.gather(*map(state, checks.values()))
    return dict(zip(checks, answers, strict=True))
