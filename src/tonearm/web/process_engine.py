"""An ``Engine`` in the server's own process: for one machine without cards, where a hop costs more than it brings.

::

    client ─► listener, limits, app ─► Pipeline (children that decode) ─► a Scorer a head (threads)
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

from tonearm.errors import TonearmError
from tonearm.library.allowed_uris import AllowedUris
from tonearm.models.pooling import Scored
from tonearm.models.runtimes import usable_cores
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan, TrackResult, first_line, plan_heads
from tonearm.web.gate import parse_rate
from tonearm.web.keys import read_keys
from tonearm.web.messages import View
from tonearm.web.pipeline import Pipeline
from tonearm.web.scorer import Scorer

CHECK_TIMEOUT_S = 20.0
CHECK_FRESH_S = 10.0


def prepared(settings: ServeSettings) -> tuple[ServeSettings, dict[str, HeadPlan]]:
    """Return the settings with all API keys read, and the heads; nothing is started.

    Raises:
        TonearmError: settings or checkpoints that cannot be used.
    """
    if settings.rate_limit:
        parse_rate(settings.rate_limit)
    AllowedUris(settings.allow_uris)
    plans = plan_heads(settings.models, max_windows=settings.max_windows, max_scored_s=settings.decode.max_scored_s)
    return dataclasses.replace(settings, api_keys=read_keys(settings.api_keys, settings.api_key_file)), plans


class ProcessEngine:
    """Loads the models when it is made; from then on it belongs to one event loop.

    Args:
        settings, plans: as ``prepared`` gives them.

    Raises:
        CheckpointError, SettingsError: a model that cannot be loaded.
    """

    def __init__(self, settings: ServeSettings, plans: Mapping[str, HeadPlan]) -> None:
        self.plans = plans
        self.allowed = AllowedUris(settings.allow_uris)
        cores = usable_cores()
        self.scorers = {head: Scorer(head, plan, settings, settings.threads or cores) for head, plan in plans.items()}
        scores = {head: scorer.windows for head, scorer in self.scorers.items()}
        self.pipeline = Pipeline(settings, plans, scores, settings.decoders or cores)

    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        """Return what all heads say of a track."""
        return await self.pipeline.tag(data, max_windows)

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return what all heads say of the object at ``uri``."""
        self.allowed.check(uri)
        return await self.pipeline.tag_uri(uri, max_windows)

    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        """Return every label of one head with the mean over windows of its score, descending."""
        return await self.pipeline.classify(head, data, function, max_windows)

    async def view(self, data: bytes) -> View:
        """Return what the page draws of a track."""
        return await self.pipeline.view(data)

    async def check(self) -> dict[str, str]:
        """Return ``ok`` for each head that answers, else why it does not."""
        states = await asyncio.gather(*map(_state, self.scorers.values()))
        return dict(zip(self.scorers, states, strict=True))

    def close(self) -> None:
        """End the children and the threads."""
        self.pipeline.close()
        for scorer in self.scorers.values():
            scorer.close()


async def _state(scorer: Scorer) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await scorer.check(CHECK_FRESH_S)
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except TonearmError as error:
        return error.message
    except (RuntimeError, ValueError, MemoryError) as error:
        return first_line(error)
    return "ok"
