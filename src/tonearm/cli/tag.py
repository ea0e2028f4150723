"""``tonearm tag``: what a person sees of a run, and of single files."""

from __future__ import annotations

import dataclasses
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
from tonearm.cli.output import Output
from tonearm.planning.summary import Outcome


def tag(
    sources: Sequence[str],
    out: str,
    *,
    retry_errors: bool = False,
    rescore: Sequence[str] = (),
    as_json: bool = False,
    **flags: Unpack[TagFlags],
) -> int:
    """Run, and print what was done and which labels came out, or the run's summary as JSON; return the exit status."""
    stop_like_ctrl_c()
    if flags.get("demo_models"):
        print(demo.NOTICE, file=sys.stderr)
    with RunPrinter(out, Output(as_json)) as printer:
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

    def __init__(self, out: str, output: Output | None = None) -> None:
        super().__init__()
        self.out = out
        self.output = output or Output()

    def tagged(self, outcome: Outcome) -> None:
        """Print what was done."""
        self.end_line()
        self._say(run_end.done_lines(outcome, self.out))

    def reported(self, run: FinishedRun) -> None:
        """Print how it was done, what was found, and what to do next."""
        outcome = run.outcome
        if outcome.counts is not None:
            self._say(run_end.how_lines(run.summary, outcome))
            beside = run_end.compare_with_estimate(
                run.planned,
                num_tracks=outcome.counts.num_tracks,
                audio_s=outcome.counts.audio_s,
                wall_s=outcome.wall_s,
            )
            self._say([] if beside is None else [beside])
        self._say(run_end.found_lines(run.summary.found))
        self._say(run_end.next_lines(self.out, run.report))
        self.output.result(summary_document(self.out, run))

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.output.say(line)


def summary_document(out: str, run: FinishedRun) -> dict[str, object]:
    """Return what ``--json`` prints of a run: its counts, where its report is, and its summary as ``runs/`` has it."""
    audit, counts = run.outcome.audit, run.outcome.counts
    return {
        "run": out,
        "report": run.report,
        "is_new": counts is not None,
        "num_listed": audit.num_listed,
        "num_ok": audit.num_ok,
        "num_failed": audit.num_error,
        "errors_by_code": audit.errors_by_code,
        "missing_by_group": audit.missing_by_group,
        "summary": dataclasses.asdict(run.summary),
    }


def stop_like_ctrl_c() -> None:
    """Let SIGTERM, which schedulers send, end a run as cleanly as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
