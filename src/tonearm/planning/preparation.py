"""What a run's models need once before they score on processors: another form, and for int8 windows to calibrate on."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tonearm import extras
from tonearm.audio.decode import DecodedTrack
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.errors import CheckpointError, SettingsError, TrackError
from tonearm.models import runtimes
from tonearm.models.checkpoint import resolve
from tonearm.models.exported import runtime as exported
from tonearm.models.openvino import cache, select
from tonearm.models.openvino.processor import has_bf16
from tonearm.models.openvino.select import Request
from tonearm.settings import TagSettings
from tonearm.sources.reader import ObjectReader
from tonearm.tagging import HeadPlan, Heads, TagPlan, decode_request
from tonearm.watchers import Say
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.sources.listing import TrackRef

# int8 is calibrated on 20 windows and checked on 100, few enough to be done in minutes and enough that one in a hundred
# can be told.
NUM_WINDOWS, NUM_CALIBRATED, LEAST_WINDOWS = 120, 20, 24
# Without the guard nothing is checked, and whoever left it off wants to begin.
UNGUARDED_WINDOWS, LEAST_UNGUARDED = 24, 6
WINDOWS_A_TRACK, TRACKS_TRIED = 3, 200


def settle(plan: TagPlan, device: str) -> TagPlan:
    """Return the plan with every precision settled for scoring on ``device``, ``cpu`` or ``cuda``.

    The runtime is left to the workers, since one precision says the same on each.

    Raises:
        SettingsError: what was asked for cannot be had there.
    """
    heads = {}
    for head, each in plan.heads.items():
        if each.checkpoint.is_exported:
            precision, note = exported.settle(each.runtime, each.precision, each.checkpoint.name)
            heads[head] = dataclasses.replace(each, precision=precision, is_settled=True, note=note or each.note)
            continue
        # What rows were made with before may have been another machine's; the numbers are the precision's.
        runtime = "auto" if each.is_settled and device != "cpu" else each.runtime
        kind, precision, _ = runtimes.choose(runtime, each.precision, device)
        note = each.note
        if precision == "bf16" and kind == "openvino" and not has_bf16():
            precision, note = "fp32", "this processor has no bf16"
        heads[head] = dataclasses.replace(each, runtime=runtime, precision=precision, is_settled=True, note=note)
    return dataclasses.replace(plan, heads=heads)


def check_quantizer(plan: TagPlan) -> None:
    """Refuse int8 that would have to be made where the package that makes it is not installed.

    Raises:
        SettingsError: with the command that installs it.
    """
    if not extras.missing("int8"):
        return
    for each in plan.heads.values():
        if each.precision == "int8":
            folder = resolve(each.source, revision=each.revision, patterns=["config.json"])
            converted = cache.find(folder, each.checkpoint.revision)
            if converted is None or converted.int8_verdict() is None:
                extras.require("int8", "precision int8", SettingsError)


def prepare(plan: TagPlan, settings: TagSettings, tracks: Iterable[TrackRef], say: Say) -> TagPlan:
    """Convert and quantize what is not there yet on this machine; return the plan as it then runs here.

    Where there is not enough audio to calibrate on, the run goes on in bf16.

    Args:
        plan: its heads, settled or not; see ``settle``. What is settled already is not checked again.
        settings: how tracks are read.
        tracks: of the run, in any order; only looked at for int8.
        say: told what takes a while, and what is done instead of what was asked for.

    Raises:
        SettingsError: what was asked for cannot be had.
    """
    before, plan = plan, settle(plan, "cuda" if runtimes.count_gpus() else "cpu")
    heads, todo = dict(plan.heads), {}
    threads = runtimes.usable_cores()
    for head, each in plan.heads.items():
        if each.checkpoint.is_exported:  # read already, when it was described
            if each.note and before.heads[head].note != each.note:
                say(f"{head}: {each.note}")
            continue
        kind, precision, _ = runtimes.choose(each.runtime, each.precision, None)
        if kind != "openvino":
            continue
        is_guarded = plan.models.int8_guard and not before.heads[head].is_settled
        wanted = Request(each.source, each.revision, plan.models.allow_pickle, each.runtime, precision, threads)
        found, _ = select.convert(wanted, each.checkpoint, say)
        if precision != "int8" or found is None:
            continue
        verdict = found.settled_verdict(is_guarded=is_guarded)
        if verdict is None:
            todo[head] = (found, is_guarded)
        elif is_guarded and (refusal := verdict.refusal(is_multi=_is_multi(each))):
            heads[head] = _instead(each, f"not int8: {refusal}")
    if not todo:
        return dataclasses.replace(plan, heads=heads)
    windows = _windows(plan.only(list(todo)), settings, tracks)
    for head, (found, is_guarded) in todo.items():
        each, count = heads[head], len(windows[head])
        least = LEAST_WINDOWS if is_guarded else LEAST_UNGUARDED
        if count < least:
            why = f"int8 needs {counted(least, 'whole window')} of audio to be calibrated, got {count}"
            say(f"{why}: bf16 instead")
            heads[head] = _instead(each, f"not int8: {why}")
            continue
        say(
            f"calibrating int8 for {each.checkpoint.name} on {counted(count, 'window')} of this library, once: some "
            "minutes"
        )
        try:
            verdict = cache.quantize(
                found,
                windows[head],
                num_calibrated=NUM_CALIBRATED,
                is_guarded=is_guarded,
                is_multi=_is_multi(each),
                num_threads=threads,
            )
        except CheckpointError as error:
            say(f"{error.message}: bf16 instead")
            heads[head] = _instead(each, f"not int8: {error.message}")
            continue
        refusal = verdict.refusal(is_multi=_is_multi(each))
        if is_guarded and refusal:
            say(f"int8 is not good enough for {each.checkpoint.name} ({refusal}): bf16 instead")
            heads[head] = _instead(each, f"not int8: {refusal}")
    return dataclasses.replace(plan, heads=heads)


def _is_multi(plan: HeadPlan) -> bool:
    """Return whether a head's labels are independent, as it reads them or as its model was trained."""
    return plan.head.is_multi or plan.checkpoint.multi_label


def _instead(plan: HeadPlan, note: str) -> HeadPlan:
    return dataclasses.replace(plan, precision="bf16" if has_bf16() else "fp32", note=note)


def _windows(plan: TagPlan, settings: TagSettings, tracks: Iterable[TrackRef]) -> dict[str, NDArray[np.float32]]:
    """Return whole windows of the first tracks that decode, float32 [windows, samples] a head."""
    needed = NUM_WINDOWS if plan.models.int8_guard else UNGUARDED_WINDOWS
    heads = Heads(plan.heads, plan.models).limited(WINDOWS_A_TRACK)
    found: dict[str, list[NDArray[np.float32]]] = collections.defaultdict(list)
    for track in _decoded(heads, settings, itertools.islice(tracks, TRACKS_TRIED)):
        for head, each in plan.heads.items():
            whole = [window for window in heads.windows(head, track) if len(window) == each.windows.window_samples]
            found[head] += whole[: needed - len(found[head])]
        if all(len(found[head]) >= needed for head in plan.heads):
            break
    return {head: np.stack(found[head]) if found[head] else np.empty((0, 1), np.float32) for head in plan.heads}


def _decoded(heads: Heads, settings: TagSettings, tracks: Iterable[TrackRef]) -> Iterator[DecodedTrack]:
    request = decode_request(heads.plans, settings.decode.max_scored_s)
    with DecodeSandbox(settings.decode) as sandbox:
        loader = TrackLoader(ObjectReader(settings.fetch), sandbox, request)
        for ref in tracks:
            track = loader.load(ref)
            if not isinstance(track, TrackError):  # the run itself tells what is wrong with it
                yield track
