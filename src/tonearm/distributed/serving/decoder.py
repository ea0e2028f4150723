"""Decoding as a deployment of Ray Serve, which asks the heads' deployments; see ``serve``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tonearm.distributed.serving.calls import ask, gives_errors
from tonearm.models.pooling import Scored
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan, TrackResult
from tonearm.web.engines.pipeline import Pipeline
from tonearm.web.messages import View
from tonearm.web.telemetry import share

REPLICA_DECODERS = 2


class Decoder:
    """A replica with some sandboxed children. A deployment."""

    def __init__(
        self, settings: ServeSettings, plans: dict[str, HeadPlan], heads: Mapping[str, Any], metrics_folder: Path
    ) -> None:
        share(metrics_folder)
        scores = {head: functools.partial(ask, handle.windows) for head, handle in heads.items()}
        self.pipeline = Pipeline(settings, plans, scores, settings.decoders or REPLICA_DECODERS)

    @gives_errors
    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        """Return the results of all heads for a track."""
        return await self.pipeline.tag(data, max_windows)

    @gives_errors
    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return the results of all heads for the object at ``uri``, which the caller has checked to be allowed."""
        return await self.pipeline.tag_uri(uri, max_windows)

    @gives_errors
    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        """Return every label of one head with the mean over windows of its score, descending."""
        return await self.pipeline.classify(head, data, function, max_windows)

    @gives_errors
    async def view(self, data: bytes) -> View:
        """Return what the page draws of a track."""
        return await self.pipeline.view(data)
