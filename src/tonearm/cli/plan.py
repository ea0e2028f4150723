"""``tonearm plan``: what a run would take, and whether it could run at all, before anything runs."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tonearm.cli.terminal import clock, hours
from tonearm.distributed.cluster import session
from tonearm.models.runtimes import usable_cores
from tonearm.planning import adoption
from tonearm.planning.estimate import Estimate, Machines, Prices, estimate, keep
from tonearm.planning.measure import measure
from tonearm.planning.preparation import prepare
from tonearm.planning.sample import Look, examples, list_sample, look
from tonearm.report import text as report_text
from tonearm.runs import resume
from tonearm.runs.destination import Destination
from tonearm.settings import TagSettings
from tonearm.storage.uris import shown, visible
from tonearm.wording import counted

SEED = 20
NAMES = {"decode": "decoding", "forward": "scoring"}


@dataclasses.dataclass(frozen=True)
class Given:
    """What a person knows better than a measurement here: rates, machines and prices; None for what is not given."""

    decode_rate: float | None = None
    forward_rate: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    cpu_price: float = 0.0
    gpu_price: float = 0.0


def plan(sources: Sequence[str], out: str | None, settings: TagSettings, given: Given, *, as_json: bool = False) -> int:
    """Print what a run over ``sources`` would take; keep it at ``out`` to be compared with the run.

    Raises:
        UsageError: what ``tag`` would refuse.
    """
    from tonearm.audio.sandbox import DecodeSandbox

    tagging = adoption.planned(settings.models, settings.max_windows, settings.decode.max_scored_s)
    layout = _layout(settings, given)
    destination = Destination.of(out) if out is not None else None
    done, found_rows = np.empty(0, np.int64), None
    if destination is not None:
        tagging, stored = adoption.adopt(destination, tagging, settings.max_windows)
        heads = [each.head for each in tagging.heads.values()]
        found_rows = resume.find(destination, stored, heads)
        done = found_rows.complete(list(tagging.heads))
    listed = list_sample(sources, limit=settings.limit, done=done, seed=SEED, progress=_say)
    if not listed.num_tracks:
        all_of = "all " * (listed.num_done > 1)
        print(f"nothing to do: {all_of}{counted(listed.num_done, 'track', 'is', 'are')} in {shown(str(out))} already")
        return 0
    if found_rows is not None and listed.sample:  # what a finished destination lacks may be one head
        keys = np.array([ref.track_key for ref in listed.sample], np.int64)
        tagging = tagging.only(found_rows.wanted(keys, list(tagging.heads)))
    with DecodeSandbox(settings.decode) as sandbox:
        looks = look(listed, settings, sandbox)
        if given.forward_rate is None:  # which is measured on the models as the run will have them
            tagging = prepare(tagging, settings, [each.ref for each in looks], _note)
        rates, whole = measure(
            looks,
            settings,
            tagging,
            sandbox,
            decode=given.decode_rate,
            forward=given.forward_rate,
            num_threads=layout.scorer_threads,
        )
    machines = _machines(layout, given)
    found = estimate(listed, looks, whole, tagging.heads, rates, machines, Prices(given.cpu_price, given.gpu_price))
    if destination is not None:
        keep(destination, found)
    if as_json:
        print(found.to_json())
        return 0
    _print(found, listed.skipped, [*whole, *looks], layout, settings)
    return 0


def _layout(settings: TagSettings, given: Given) -> session.Layout:
    """Return the layout of the run, or refuse it as the run would."""
    if given.cpus is not None or given.gpus is not None:
        gpus, cpus = given.gpus or 0, given.cpus or usable_cores()
        nodes = [{"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})}]
        return session.plan(nodes, settings.workers, is_local=False)
    if os.environ.get("RAY_ADDRESS"):
        with session.session(settings.workers, verbose=settings.verbose) as layout:
            return layout
    return session.plan_local(settings.workers)


def _machines(layout: session.Layout, given: Given) -> Machines:
    num_gpus = round(layout.num_scorers * layout.scorer_gpus)
    if layout.is_local:
        cores = float(usable_cores())
        return Machines(cores, num_gpus, cores, layout.num_scorers, is_shared=not num_gpus)
    decoders = max(1.0, layout.num_cpus - layout.num_scorers * layout.scorer_cpus)
    return Machines(layout.num_cpus, num_gpus, decoders, layout.num_scorers, is_shared=False)


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _say(num_tracks: int) -> None:
    print(f"listing: {counted(num_tracks, 'track')} so far", file=sys.stderr)


def _print(
    found: Estimate, skipped: dict[str, int], looks: Sequence[Look], layout: session.Layout, settings: TagSettings
) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    for name, text in _lines(found, skipped, looks, layout, settings):
        table.add_row(name, visible(text))
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(table)


def _lines(
    found: Estimate, skipped: dict[str, int], looks: Sequence[Look], layout: session.Layout, settings: TagSettings
) -> list[tuple[str, str]]:
    before = f", and {found.num_done:,} that are done already" if found.num_done else ""
    lines = [("tracks", f"{found.num_tracks:,}, {report_text.size(found.num_bytes)}{before}")]
    if skipped:
        names = ", ".join(f"{count:,} {kind or 'without extension'}" for kind, count in skipped.items())
        lines.append(("not audio", names))
    interval = f"{hours(found.audio_low_s)} to {hours(found.audio_high_s)}"
    lines.append(
        ("audio", f"{hours(found.audio_s)} ({interval}, from {counted(found.num_sampled, 'track')} looked at)")
    )
    lines.append(("formats", ", ".join(f"{codec} {share:.0%}" for codec, share in found.formats.items()) or "none"))
    lines.append(("will fail", _failing(found, looks)))
    windows = ", ".join(f"{count:,} of {head}" for head, count in found.num_windows.items())
    lines.append(("windows", windows + (f" (at most {settings.max_windows} a track)" if settings.max_windows else "")))
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


def _failing(found: Estimate, looks: Sequence[Look]) -> str:
    if not found.errors:
        return f"none of those looked at (at most {found.failing_high:.1%} of all)"
    codes = ", ".join(f"{count} {code}" for code, count in found.errors.items())
    uris = "; ".join(f"{code}: {shown(uri)}" for code, uri in examples(looks))
    return f"{found.failing_low:.1%} to {found.failing_high:.1%} ({codes} of {found.num_sampled}; {uris})"


def beside_truth(kept: dict[str, Any] | None, *, num_tracks: int, audio_s: float, wall_s: float) -> str | None:
    """Return the line that compares a run with its estimate, or None where there is none for it."""
    if kept is None or kept["num_tracks"] != num_tracks:
        return None
    return (
        f"planned: {hours(kept['audio_s'])} of audio in {clock(kept['wall_s'])}; "
        f"it was {hours(audio_s)} in {clock(wall_s)}"
    )
