"""An ``Engine`` in the server's own process: for one machine without cards, where a hop costs more than it brings.

::

    client ─► listener, limits, app ─► Pipeline (children that decode) ─► a Scorer a head (threads)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tonearm.errors import first_line
from tonearm.models.runtimes import usable_cores
from tonearm.settings import ServeSettings
from tonearm.storage.allowed_uris import AllowedUris
from tonearm.tagging import HeadPlan, TrackResult, plan_heads
from tonearm.web.engines.engine import CHECK_FRESH_S, states
from tonearm.web.engines.pipeline import Pipeline
from tonearm.web.engines.scorer import Scorer
from tonearm.web.requests.admission import parse_rate
from tonearm.web.requests.keys import read_keys


def prepared(settings: ServeSettings) -> tuple[ServeSettings, dict[str, HeadPlan]]:
    """Return the settings with all API keys read, and the heads; nothing is started.

    Raises:
        TonearmError: settings or checkpoints that cannot be used.
    """
    # These two only for what they refuse, before a model is looked for.
    if settings.rate_limit:
        parse_rate(settings.rate_limit)
    AllowedUris(settings.allow_uris)
    plans = plan_heads(settings.models, max_windows=settings.max_windows, max_scored_s=settings.decode.max_scored_s)
    return dataclasses.replace(settings, api_keys=read_keys(settings.api_keys, settings.api_key_file)), plans


class ProcessEngine(Pipeline):
    """Loads the models when it is made; from then on it belongs to one event loop.

    Args:
        settings, plans: as ``prepared`` gives them.

    Raises:
        CheckpointError, SettingsError: a model that cannot be loaded.
    """

    def __init__(self, settings: ServeSettings, plans: Mapping[str, HeadPlan]) -> None:
        cores = usable_cores()
        self.plans = plans
        self.scorers = {head: Scorer(head, plan, settings, settings.threads or cores) for head, plan in plans.items()}
        scores = {head: scorer.windows for head, scorer in self.scorers.items()}
        super().__init__(settings, plans, scores, settings.decoders or cores)

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return what all heads say of the object at ``uri``."""
        # Here, in the listener's process, so that a refusal takes none of the places for reads.
        self.allowed.check(uri)
        return await super().tag_uri(uri, max_windows)

    async def check(self) -> dict[str, str]:
        """Return ``ok`` for each head that answers, else why it does not."""
        checks = {head: scorer.check(CHECK_FRESH_S) for head, scorer in self.scorers.items()}
        return await states(checks, (RuntimeError, ValueError, MemoryError), first_line)

    async def runs_on(self) -> dict[str, dict[str, str]]:
        """Return what each head runs on."""
        return {head: scorer.classifier.describe() for head, scorer in self.scorers.items()}

    def close(self) -> None:
        """End the children and the threads."""
        super().close()
        for scorer in self.scorers.values():
            scorer.close()
