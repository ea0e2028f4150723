"""One model as a deployment of Ray Serve; see ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tonearm.distributed.serving.calls import gives_errors
from tonearm.models.window_scores import WindowScores
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan
from tonearm.web.engines.batching import Chunk
from tonearm.web.engines.scorer import Scorer
from tonearm.web.telemetry import share


class Head:
    """One loaded model. A deployment; there is one per head."""

    def __init__(
        self, head: str, plan: HeadPlan, settings: ServeSettings, num_threads: int, metrics_folder: Path
    ) -> None:
        share(metrics_folder)
        self.scorer = Scorer(head, plan, settings, num_threads)

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take ``user_config``: batch size and wait, without loading the model again."""
        self.scorer.configure(**config)

    @gives_errors
    async def windows(self, chunk: Chunk) -> WindowScores:
        """Return the scores of a chunk's windows, or why there are none."""
        return await self.scorer.windows(chunk)

    @gives_errors
    async def check(self, fresh_s: float) -> bool:
        """Answer once the model has scored a window, now or within the last ``fresh_s`` seconds."""
        return await self.scorer.check(fresh_s)

    @gives_errors
    async def runs_on(self) -> dict[str, str]:
        """Return what the model runs on."""
        return self.scorer.classifier.describe()
