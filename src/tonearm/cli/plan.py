"""``tonearm plan``: what a run would take, and whether it could run at all, before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

import tonearm
from tonearm.api.planning import Plan
from tonearm.planning.estimate import Estimate
from tonearm.planning.sample import SampledTrack, examples
from tonearm.report import text as report_text
from tonearm.storage.uris import shown, visible
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
    if planned.estimate is None:
        all_of = "all " * (planned.num_done > 1)
        print(f"nothing to do: {all_of}{counted(planned.num_done, 'track', 'is', 'are')} in {shown(str(out))} already")
    elif as_json:
        print(planned.estimate.to_json())
    else:
        _print(planned, planned.estimate)
    return 0


class PlanPrinter(Watcher):
    """Prints on stderr how planning goes."""

    def note(self, line: str) -> None:
        """Print it."""
        print(line, file=sys.stderr)

    def listing(self, num_tracks: int) -> None:
        """Print how many tracks there are so far."""
        print(f"listing: {counted(num_tracks, 'track')} so far", file=sys.stderr)


def _print(planned: Plan, found: Estimate) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    for name, text in _lines(planned, found):
        table.add_row(name, visible(text))
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(table)


def _lines(planned: Plan, found: Estimate) -> list[tuple[str, str]]:
    layout, max_windows = planned.layout, planned.settings.max_windows
    before = f", and {found.num_done:,} that are done already" if found.num_done else ""
    lines = [("tracks", f"{found.num_tracks:,}, {report_text.size(found.num_bytes)}{before}")]
    if planned.skipped:
        names = ", ".join(f"{count:,} {kind or 'without extension'}" for kind, count in planned.skipped.items())
        lines.append(("not audio", names))
    interval = f"{hours(found.audio_low_s)} to {hours(found.audio_high_s)}"
    lines.append(
        ("audio", f"{hours(found.audio_s)} ({interval}, from {counted(found.num_sampled, 'track')} looked at)")
    )
    lines.append(("formats", ", ".join(f"{codec} {share:.0%}" for codec, share in found.formats.items()) or "none"))
    lines.append(("will fail", _failing(found, planned.looks)))
    windows = ", ".join(f"{count:,} of {head}" for head, count in found.num_windows.items())
    lines.append(("windows", windows + (f" (at most {max_windows} a track)" if max_windows else "")))
    origin = {name: "measured here" if name in found.rates.measured else "given" for name in ("decode", "forward")}
    for name, what, work_s, rate in (
        ("decode", "core", found.decode_core_s, found.rates.decode),
        ("forward", "worker", found.forward_worker_s, found.rates.forward),
    ):
        lines.append((NAMES[name], f"{work_s / 3600:,.2f} {what} hours at {rate:,.0f}× real time ({origin[name]})"))
    gpus = f" on {counted(found.machines.num_gpus, 'GPU')}" if found.machines.num_gpus else ""
    lines.append(
        (
            "layout",
            f"{layout.num_scorers} scoring{gpus}, {counted(found.machines.num_decoders, 'core')} to decode: fits",
        )
    )
    lines.append(("time", f"{clock(found.wall_s)}, most of it {found.bottleneck}"))
    lines.append(("store", f"must give {report_text.size(found.num_bytes / found.wall_s)} a second"))
    spent = f"{found.gpu_hours:,.1f} GPU hours, " if found.machines.num_gpus else ""
    spent += f"{found.cpu_hours:,.1f} CPU hours"
    money = f", {found.cost:,.2f} in money" if found.cost is not None else "; --cpu-price and --gpu-price add money"
    lines.append(("cost", spent + money))
    return lines


def _failing(found: Estimate, looks: Sequence[SampledTrack]) -> str:
    if not found.errors:
        return f"none of those looked at (at most {found.failing_high:.1%} of all)"
    codes = ", ".join(f"{count} {code}" for code, count in found.errors.items())
    uris = "; ".join(f"{code}: {shown(uri)}" for code, uri in examples(looks))
    return f"{found.failing_low:.1%} to {found.failing_high:.1%} ({codes} of {found.num_sampled}; {uris})"
