"""``tonearm.plan``: what a run would take, and whether it could run at all, before anything runs."""

from __future__ import annotations

import dataclasses
import os
from typing import Unpack

import numpy as np

from tonearm.api import flags as flags_
from tonearm.api.flags import Source, Sources, TagFlags
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.models.runtimes import usable_cores
from tonearm.planning import adoption
from tonearm.planning import layout as layouts
from tonearm.planning.estimate import Estimate, Machines, Prices, estimate, write_estimate
from tonearm.planning.layout import Layout
from tonearm.planning.measure import measure
from tonearm.planning.preparation import check_quantizer, prepare
from tonearm.planning.sample import SampledTrack, list_sample, probe
from tonearm.runs import resume
from tonearm.runs.destination import Destination
from tonearm.settings import TagSettings
from tonearm.sources.registry import check_extras
from tonearm.tagging.fallbacks import other_teachers
from tonearm.watchers import Watcher

# The same sample each time: two plans of a library differ only by what has changed.
SEED = 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
        estimate: None where every track is done already.
        num_done: tracks of the sources that are.
        skipped: files that are not audio, by extension.
        looks: the tracks that were looked at, and what was found in them.
        layout: how the run would be spread over the machines.
    """

    estimate: Estimate | None
    num_done: int
    skipped: dict[str, int]
    looks: tuple[SampledTrack, ...]
    layout: Layout
    settings: TagSettings


def plan(
    sources: Sources,
    *,
    out: Source | None = None,
    decode_rate: float | None = None,
    forward_rate: float | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    cpu_price: float = 0.0,
    gpu_price: float = 0.0,
    watcher: Watcher | None = None,
    **flags: Unpack[TagFlags],
) -> Plan:
    """Return what tagging ``sources`` would take: what ``tonearm plan SOURCES`` prints.

    Args:
        out: leave out what is done there, and keep the estimate there, to be compared with the run.
        decode_rate: seconds of audio that a core decodes in a second; measured by default.
        forward_rate: seconds of audio that a worker scores with both heads in a second; measured by default.
        cpus, gpus: of the cluster to plan for; this machine's, or that of ``RAY_ADDRESS``, by default.
        cpu_price, gpu_price: money per hour of one.
        watcher: reports how it goes.
        flags: as for ``tag``.

    Raises:
        UsageError: what ``tag`` would refuse.
    """
    places = flags_.source_list(sources)
    check_extras([*places, *([] if out is None else [flags_.place_of(out, "out")])])
    settings, watcher = flags_.tag_settings(flags, verb="plan"), watcher or Watcher()
    tagging = adoption.planned(
        settings.models, settings.max_windows, settings.decode.max_scored_s, fallback=settings.fallback
    )
    check_quantizer(tagging)
    for line in other_teachers(tagging):
        watcher.note(line)
    layout = _layout(settings, cpus, gpus)
    destination = Destination.of(flags_.place_of(out, "out")) if out is not None else None
    done, rows = np.empty(0, np.int64), None
    if destination is not None:
        tagging, stored = adoption.adopt(destination, tagging, settings.max_windows)
        rows = resume.read_rows(destination, stored, [planned.head for planned in tagging.heads.values()])
        done = rows.complete(list(tagging.heads))
    listed = list_sample(places, limit=settings.limit, done=done, seed=SEED, progress=watcher.listing)
    if not listed.num_tracks:
        return Plan(None, listed.num_done, listed.skipped, (), layout, settings)
    if rows is not None and listed.sample:  # what a finished destination lacks may be one head
        keys = np.array([ref.track_key for ref in listed.sample], np.int64)
        tagging = tagging.only(rows.heads_to_score(keys, list(tagging.heads)))
    with DecodeSandbox(settings.decode) as sandbox:
        looks = probe(listed, settings, sandbox)
        if forward_rate is None:  # which is measured on the models as the run will have them
            tagging = prepare(tagging, settings, [track.ref for track in looks], watcher.note)
        measured = measure(
            looks,
            settings,
            tagging,
            sandbox,
            decode=decode_rate,
            forward=forward_rate,
            num_threads=layout.scorer_threads,
        )
    prices = Prices(cpu_price, gpu_price)
    estimated = estimate(listed, looks, measured.decoded, tagging.heads, measured.rates, _machines(layout), prices)
    if destination is not None:
        write_estimate(destination, estimated)
    return Plan(estimated, listed.num_done, listed.skipped, (*measured.decoded, *looks), layout, settings)


def _layout(settings: TagSettings, cpus: int | None, gpus: int | None) -> Layout:
    """Return the layout of the run, or refuse it as the run would."""
    if cpus is not None or gpus is not None:
        num_gpus, num_cpus = gpus or 0, cpus or usable_cores()
        nodes = [{"CPU": float(num_cpus), **({"GPU": float(num_gpus)} if num_gpus else {})}]
        return layouts.plan(nodes, settings.workers, is_local=False)
    if os.environ.get("RAY_ADDRESS"):
        from tonearm.distributed.cluster import session  # Ray, for nothing else here

        with session.session(settings.workers, verbose=settings.verbose) as layout:
            return layout
    return layouts.plan_local(settings.workers)


def _machines(layout: Layout) -> Machines:
    num_gpus = round(layout.num_scorers * layout.scorer_gpus)
    if layout.is_local:
        cores = float(usable_cores())
        return Machines(cores, num_gpus, cores, layout.num_scorers, is_shared=not num_gpus)
    decoders = max(1.0, layout.num_cpus - layout.num_scorers * layout.scorer_cpus)
    return Machines(layout.num_cpus, num_gpus, decoders, layout.num_scorers, is_shared=False)
