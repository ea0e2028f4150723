"""What a run's models need once before they score on processors: another form, and for int8 windows to calibrate on."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
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
from tonearm.models.openvino.cache import Converted, Int8Check
from tonearm.models.openvino.processor import has_bf16
from tonearm.models.openvino.select import Request
from tonearm.settings import ModelSettings, TagSettings
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

    Where there is not enough audio to calibrate on, the run goes on in bf16 or fp32, whichever is faster here.

    Args:
        plan: its heads, settled or not; see ``settle``. What is settled already is not checked again.
        settings: how tracks are read.
        tracks: of the run, in any order; only looked at for int8.
        say: told what takes a while, and what is done instead of what was asked for.

    Raises:
        SettingsError: what was asked for cannot be had.
    """
    before, plan = plan, settle(plan, "cuda" if runtimes.count_gpus() else "cpu")
    heads: dict[str, HeadPlan] = dict(plan.heads)
    uncalibrated: dict[str, tuple[Converted, bool]] = {}
    for name, head in plan.heads.items():
        if head.checkpoint.is_exported:  # read already, when it was described
            if head.note and before.heads[name].note != head.note:
                say(f"{name}: {head.note}")
            continue
        kind, precision, _ = runtimes.choose(head.runtime, head.precision, None)
        if kind != "openvino":
            continue
        request = _request(head, plan.models, precision)
        converted, _ = select.convert(request, head.checkpoint, say)
        # What earlier rows were made with is not judged a second time.
        if converted is None or (before.heads[name].is_settled and precision != "int8"):
            continue
        if precision == "int8":
            is_guarded = plan.models.int8_guard and not before.heads[name].is_settled
            verdict = converted.settled_verdict(is_guarded=is_guarded)
            if verdict is None:
                uncalibrated[name] = converted, is_guarded
            elif is_guarded:
                heads[name] = _judged(head, converted, verdict, plan.models.force_precision)
        elif not plan.models.force_precision:
            _check_gain(head, converted, precision)
    if uncalibrated:
        windows = _windows(plan.only(list(uncalibrated)), settings, tracks)
        for name, (converted, is_guarded) in uncalibrated.items():
            heads[name] = _calibrated(
                heads[name],
                converted,
                windows[name],
                is_guarded=is_guarded,
                is_forced=plan.models.force_precision,
                say=say,
            )
    return dataclasses.replace(plan, heads=heads)


def check_gains(heads: Mapping[str, HeadPlan], models: ModelSettings) -> None:
    """Refuse a bf16 that would make a server slower on this machine; what is measured for it is kept.

    Raises:
        SettingsError: with both rates.
    """
    for head in heads.values():
        if head.checkpoint.is_exported or models.force_precision or head.precision != "bf16" or not has_bf16():
            continue
        kind, precision, _ = runtimes.choose(head.runtime, head.precision, None)
        if kind == "openvino":
            request = _request(head, models, precision)
            converted, _ = select.convert(request, head.checkpoint)
            if converted is not None:
                _check_gain(head, converted, precision)


def _request(head: HeadPlan, models: ModelSettings, precision: str) -> Request:
    threads, samples = runtimes.usable_cores(), head.windows.window_samples
    return Request(head.source, head.revision, models.allow_pickle, head.runtime, precision, threads, samples)


def _check_gain(head: HeadPlan, converted: Converted, precision: str) -> None:
    if reason := _no_gain(head, converted, precision):
        raise SettingsError(
            f"got precision {precision} for {head.checkpoint.name}, but {reason}; give precision fp32, or "
            "insist with --force-precision"
        )


def _no_gain(head: HeadPlan, converted: Converted, precision: str) -> str | None:
    samples, threads = head.windows.window_samples, runtimes.usable_cores()
    return select.no_gain(head.checkpoint, converted, precision, samples, threads)


def _calibrated(
    head: HeadPlan, converted: Converted, windows: NDArray[np.float32], *, is_guarded: bool, is_forced: bool, say: Say
) -> HeadPlan:
    """Quantize a head's model on windows of the library; return the head as it then runs here."""
    name, least = head.checkpoint.name, LEAST_WINDOWS if is_guarded else LEAST_UNGUARDED
    if len(windows) < least:
        why = f"int8 needs {counted(least, 'whole window')} of audio to be calibrated, got {len(windows)}"
        instead = _instead(head, converted, f"not int8: {why}")
        say(f"{why}: {instead.precision} instead")
        return instead
    say(f"calibrating int8 for {name} on {counted(len(windows), 'window')} of this library, once: some minutes")
    try:
        verdict = cache.quantize(
            converted,
            windows,
            num_calibrated=NUM_CALIBRATED,
            is_guarded=is_guarded,
            is_multi=_is_multi(head),
            num_threads=runtimes.usable_cores(),
        )
    except CheckpointError as error:
        instead = _instead(head, converted, f"not int8: {error.message}")
        say(f"{error.message}: {instead.precision} instead")
        return instead
    judged = _judged(head, cache.find_cached(head.checkpoint.revision) or converted, verdict, is_forced)
    if not is_guarded or judged.precision == "int8":
        return head
    say(f"int8 is not good enough for {name} ({judged.note.removeprefix('not int8: ')}): {judged.precision} instead")
    return judged


def _judged(head: HeadPlan, converted: Converted, verdict: Int8Check, is_forced: bool) -> HeadPlan:
    """Return the head in int8, or in the next best where that says something else or is no faster here."""
    refusal = verdict.refusal(is_multi=_is_multi(head))
    if refusal is None and not is_forced:
        refusal = _no_gain(head, converted, "int8")
    return head if refusal is None else _instead(head, converted, f"not int8: {refusal}")


def _is_multi(plan: HeadPlan) -> bool:
    """Return whether a head's labels are independent, as it reads them or as its model was trained."""
    return plan.head.is_multi or plan.checkpoint.multi_label


def _instead(head: HeadPlan, converted: Converted, note: str) -> HeadPlan:
    samples, threads = head.windows.window_samples, runtimes.usable_cores()
    return dataclasses.replace(
        head, precision=select.next_best(head.checkpoint, converted, samples, threads), note=note
    )


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
