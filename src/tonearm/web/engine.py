"""What the app asks of the part that decodes and scores; ``distributed.serve`` has the one on Ray Serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tonearm.models.pooling import Scored
from tonearm.tagging import HeadPlan, TrackResult
from tonearm.web.messages import View


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
