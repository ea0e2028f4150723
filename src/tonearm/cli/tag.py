"""``tonearm tag``: what a person sees of a run, and of single files."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Unpack

import tonearm
from tonearm import demo
from tonearm.api.flags import TagFlags
from tonearm.api.progress import ProgressLine
from tonearm.api.tagging import FinishedRun
from tonearm.cli import run_end
from tonearm.planning.summary import Outcome
from tonearm.storage.uris import visible


def tag(
    sources: Sequence[str],
    out: str,
    *,
    retry_errors: bool = False,
    rescore: Sequence[str] = (),
    **flags: Unpack[TagFlags],
) -> int:
    """Run, and print what was done and found; return the exit status."""
    stop_like_ctrl_c()
    if flags.get("demo_models"):
        print(demo.NOTICE, file=sys.stderr)
    with RunPrinter(out) as printer:
        tonearm.tag(
            sources,
            out=out,
            retry_errors=retry_errors,
            rescore=rescore,
            watcher=printer,
            command=sys.argv,
            **flags,
        )
    return 0


class RunPrinter(ProgressLine):
    """Shows how a run goes, and prints what it did and found once that is known."""

    def __init__(self, out: str) -> None:
        super().__init__()
        self.out = out

    def tagged(self, outcome: Outcome) -> None:
        """Print what was done."""
        self.end_line()
        _print(run_end.done_lines(outcome, self.out))

    def reported(self, run: FinishedRun) -> None:
        """Print how it was done, what was found, and what to do next."""
        outcome = run.outcome
        if outcome.counts is not None:
            _print(run_end.how_lines(run.summary, outcome))
            beside = run_end.beside_truth(
                run.planned,
                num_tracks=outcome.counts.num_tracks,
                audio_s=outcome.counts.audio_s,
                wall_s=outcome.wall_s,
            )
            _print([] if beside is None else [beside])
        _print(run_end.found_lines(run.summary.found))
        _print(run_end.next_lines(self.out, run.report))


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(visible(line))


def stop_like_ctrl_c() -> None:
    """Let SIGTERM, which schedulers send, end a run as cleanly as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
