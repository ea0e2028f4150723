"""What a person sees while a model is trained: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live

from tonearm.api.progress import PLAIN_EVERY_S, ProgressLine, line_width, print_prose, with_bar
from tonearm.runs.counts import Counts
from tonearm.watchers import Watcher
from tonearm.wording import clock, counted, fitting


class TrainingLine(Watcher):
    """Shows decoding, then epoch, loss, rate and time left; see ``watchers.Watcher``."""

    def __init__(self, epochs: int) -> None:
        # A copy of the descriptor: while a run is quiet, stderr itself goes to a log file.
        self.stream = os.fdopen(os.dup(2), "w", buffering=1)
        self.console = Console(file=self.stream, markup=False, emoji=False)
        self.live: Live | None = None
        self.epochs = epochs
        self.num_steps = self.first_step = 0
        self.latest: dict[str, Any] = {}
        self.figures = ""
        self.started = self.last_plain = time.monotonic()

    def __enter__(self) -> TrainingLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end_live()
        self.stream.close()

    def note(self, line: str) -> None:
        """Say something that a person should know."""
        self._end_live()
        self._plain(f"note: {line}")

    def decoding(self, num_done: int, num_clips: int) -> None:
        """Say how far the clips are decoded."""
        if num_done == num_clips or time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self._plain(f"{num_done:,}/{counted(num_clips, 'clip')} decoded")

    def event(self, event: dict[str, Any]) -> None:
        """Show what the training loop says."""
        kind = event["kind"]
        if kind == "start":
            self._start(event)
        elif kind == "evaluation":
            names = [name for name in ("accuracy", "macro_map") if name in event]
            self.figures = " · ".join(f"{name.replace('_', ' ')} {event[name]:.3f}" for name in names)
            figures = ", ".join(f"{name} {event[name]:.3f}" for name in ("loss", *names))
            self._end_live()
            self._plain(f"epoch {event['epoch']} of {self.epochs}: validation {figures}")
        elif kind == "step":
            self.latest = event
            if self.console.is_terminal:
                self._show()
            elif time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
                self._plain(self._text())

    def _start(self, event: dict[str, Any]) -> None:
        self._end_live()
        again = f", going on at step {event['step']:,}" if event["step"] else ""
        self._plain(
            f"training {counted(event['num_steps'], 'step')} of {counted(event['step_size'], 'clip')} on "
            f"{event['device']} in {event['precision']} ({event['why']}){again}; Ctrl-C stops, the same command goes "
            "on"
        )
        self.num_steps, self.first_step = event["num_steps"], event["step"]
        self.started = time.monotonic()

    def _show(self) -> None:
        if self.live is None:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        self.live.update(with_bar(self._text(), self.latest["step"], self.num_steps, self.console), refresh=True)

    def _end_live(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _plain(self, line: str) -> None:
        print_prose(line, self.console)
        self.last_plain = time.monotonic()

    def _text(self) -> str:
        step = self.latest["step"]
        taken = max(1, step - self.first_step)
        left = (self.num_steps - step) * (time.monotonic() - self.started) / taken
        figures = f" · {self.figures}" if self.figures else ""
        epoch, steps = f"epoch {self.latest['epoch'] + 1}/{self.epochs}", f"{step:,}/{self.num_steps:,}"
        loss, speed = f"loss {self.latest['loss']:.4f}", f"{self.latest['clips_per_s']:.1f} clips/s"
        rate, remaining = f"lr {self.latest['learning_rate']:.1e}", f"{clock(left)} left"
        forms = (
            f"{epoch} · step {steps} · {loss} · {speed} · {rate}{figures} · {remaining}",
            f"{epoch} · step {steps} · {loss} · {speed}{figures} · {remaining}",
            f"{epoch} · step {steps} · {loss} · {speed} · {remaining}",
            f"{epoch} · {steps} · {loss} · {remaining}",
            f"{epoch} · {remaining}",
        )
        return fitting(forms, line_width(self.console))


class DistillingLine(TrainingLine):
    """Shows how far the teacher is, then the training; see ``watchers.Watcher``."""

    def __init__(self, epochs: int, scoring: ProgressLine) -> None:
        super().__init__(epochs)
        self.scoring = scoring

    def waiting(self, why: str) -> None:
        """Say what is waited for."""
        self.scoring.waiting(why)

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Say what is ahead of the teacher."""
        self.scoring.starting(num_tracks, num_done)

    def progress(self, counts: Counts) -> None:
        """Show how far the teacher is."""
        self.scoring.progress(counts)

    def decoding(self, num_done: int, num_clips: int) -> None:
        """Say how far the student's clips are decoded, which the teacher is done with."""
        self.scoring.end_line()
        super().decoding(num_done, num_clips)
