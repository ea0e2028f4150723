"""``tonearm plan``: what a run would take, and whether it could run at all, before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tonearm
from tonearm.api.planning import Plan
from tonearm.cli.output import Output
from tonearm.planning.estimate import Estimate, FallbackEstimate
from tonearm.planning.sample import SampledTrack, failing_examples
from tonearm.report import text as report_text
from tonearm.storage.uris import shown
from tonearm.watchers import Watcher
from tonearm.wording import clock, counted, hours

NAMES = {"decode": "decoding", "forward": "scoring"}


def plan(sources: Sequence[str], out: str | None, *, as_json: bool = False, **flags: Any) -> int:
    """Print what a run over ``sources`` would take; keep it at ``out`` to be compared with the run.

    Args:
        flags: as for ``tonearm.plan``.

    Raises:
        UsageError: what ``tag`` would refuse.
    """
    planned = tonearm.plan(sources, out=out, watcher=PlanPrinter(), **flags)
    output = Output(as_json)
    if planned.estimate is None:
        all_of, are = "all " * (planned.num_done > 1), counted(planned.num_done, "track", "is", "are")
        output.say(f"nothing to do: {all_of}{are} in {shown(str(out))} already")
        output.result({"num_tracks": 0, "num_done": planned.num_done})
    # The document that is kept at the destination, character for character.
    elif as_json:
        print(planned.estimate.to_json())
    else:
        output.table(_plan_lines(planned, planned.estimate))
    return 0


class PlanPrinter(Watcher):
    """Prints on stderr how planning goes."""

    def note(self, line: str) -> None:
        """Print it."""
        print(line, file=sys.stderr)

    def listing(self, num_tracks: int) -> None:
        """Print how many tracks there are so far."""
        print(f"listing: {counted(num_tracks, 'track')} so far", file=sys.stderr)


def _plan_lines(planned: Plan, estimate: Estimate) -> list[tuple[str, str]]:
    layout, max_windows = planned.layout, planned.settings.max_windows
    before = f", and {estimate.num_done:,} that are done already" if estimate.num_done else ""
    lines = [("tracks", f"{estimate.num_tracks:,}, {report_text.size(estimate.num_bytes)}{before}")]
    if planned.skipped:
        names = ", ".join(f"{count:,} {kind or 'without extension'}" for kind, count in planned.skipped.items())
        lines.append(("not audio", names))
    interval = f"{hours(estimate.audio_low_s)} to {hours(estimate.audio_high_s)}"
    lines.append(
        ("audio", f"{hours(estimate.audio_s)} ({interval}, from {counted(estimate.num_sampled, 'track')} looked at)")
    )
    lines.append(("formats", ", ".join(f"{codec} {share:.0%}" for codec, share in estimate.formats.items()) or "none"))
    lines.append(("will fail", _failing_line(estimate, planned.looks)))
    windows = ", ".join(f"{count:,} of {head}" for head, count in estimate.num_windows.items())
    lines.append(("windows", windows + (f" (at most {max_windows} a track)" if max_windows else "")))
    lines += [("fallback", f"{head}: {_fallback_line(fallback)}") for head, fallback in estimate.fallbacks.items()]
    origin = {name: "measured here" if name in estimate.rates.measured else "given" for name in ("decode", "forward")}
    for name, what, work_s, rate in (
        ("decode", "core", estimate.decode_core_s, estimate.rates.decode),
        ("forward", "worker", estimate.forward_worker_s, estimate.rates.forward),
    ):
        lines.append((NAMES[name], f"{work_s / 3600:,.2f} {what} hours at {rate:,.0f}× real time ({origin[name]})"))
    gpus = f" on {counted(estimate.machines.num_gpus, 'GPU')}" if estimate.machines.num_gpus else ""
    lines.append(
        (
            "layout",
            f"{layout.num_scorers} scoring{gpus}, {counted(estimate.machines.num_decoders, 'core')} to decode: fits",
        )
    )
    lines.append(("time", f"{clock(estimate.wall_s)}, most of it {estimate.bottleneck}"))
    lines.append(("store", f"must give {report_text.size(estimate.num_bytes / estimate.wall_s)} a second"))
    spent = f"{estimate.gpu_hours:,.1f} GPU hours, " if estimate.machines.num_gpus else ""
    spent += f"{estimate.cpu_hours:,.1f} CPU hours"
    money = (
        f", {estimate.cost:,.2f} in money" if estimate.cost is not None else "; --cpu-price and --gpu-price add money"
    )
    lines.append(("cost", spent + money))
    return lines


def _fallback_line(fallback: FallbackEstimate) -> str:
    if fallback.share_sent is None:
        return f"windows below a score of {fallback.threshold:g} go to {fallback.model}; how many is not known"
    how = "measured here" if fallback.origin == "measured" else "as the student's distillation has found"
    return f"{fallback.share_sent:.0%} of the windows, {fallback.num_windows:,}, go to {fallback.model} ({how})"


def _failing_line(estimate: Estimate, looks: Sequence[SampledTrack]) -> str:
    if not estimate.errors:
        return f"none of those looked at (at most {estimate.failing_high:.1%} of all)"
    codes = ", ".join(f"{count} {code}" for code, count in estimate.errors.items())
    uris = "; ".join(f"{code}: {shown(uri)}" for code, uri in failing_examples(looks))
    return f"{estimate.failing_low:.1%} to {estimate.failing_high:.1%} ({codes} of {estimate.num_sampled}; {uris})"
