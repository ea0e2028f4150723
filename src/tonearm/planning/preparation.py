"""Prepare a run's models before scoring: settle precisions, convert to OpenVINO and quantize to int8 where needed."""

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

# int8 is calibrated on 20 windows and checked on 100: that takes minutes, and is enough to see whether 1% of the labels
# change.
NUM_WINDOWS, NUM_CALIBRATED, MIN_WINDOWS = 120, 20, 24
# Without ``int8_guard`` nothing is checked, so only the calibration windows are needed.
NUM_UNGUARDED, MIN_UNGUARDED = 24, 6
WINDOWS_PER_TRACK, MAX_TRACKS = 3, 200


def settle(plan: TagPlan, device: str) -> TagPlan:
    """Return the plan with every precision settled for scoring on ``device``, ``cpu`` or ``cuda``.

    The runtime is left to each worker, since scores depend on the precision and not on the runtime.

    Raises:
        SettingsError: the device cannot run what was requested.
    """
    settled_heads = {}
    for head, head_plan in plan.unfolded().heads.items():
        if head_plan.checkpoint.is_exported:
            precision, note = exported.settle(head_plan.runtime, head_plan.precision, head_plan.checkpoint.name)
            settled_heads[head] = dataclasses.replace(
                head_plan, precision=precision, is_settled=True, note=note or head_plan.note
            )
            continue
        # A runtime adopted from earlier rows may be one for processors only. On a GPU choose again: only the precision
        # decides the numbers.
        runtime = "auto" if head_plan.is_settled and device != "cpu" else head_plan.runtime
        choice = runtimes.choose(runtime, head_plan.precision, device)
        precision, note = choice.precision, head_plan.note
        if precision == "bf16" and choice.runtime == "openvino" and not has_bf16():
            precision, note = "fp32", "this processor has no bf16"
        settled_heads[head] = dataclasses.replace(
            head_plan, runtime=runtime, precision=precision, is_settled=True, note=note
        )
    return plan.folded(settled_heads)


def check_quantizer(plan: TagPlan) -> None:
    """Refuse int8 if a model still has to be quantized and the package that does it is not installed.

    Raises:
        SettingsError: with the command that installs it.
    """
    if not extras.missing("int8"):
        return
    for head in plan.unfolded().heads.values():
        if head.precision == "int8":
            folder = resolve(head.source, revision=head.revision, patterns=["config.json"])
            converted = cache.find(folder, head.checkpoint.revision)
            if converted is None or converted.int8_verdict() is None:
                extras.require("int8", "precision int8", SettingsError)


def prepare(plan: TagPlan, settings: TagSettings, tracks: Iterable[TrackRef], say: Say) -> TagPlan:
    """Convert and quantize the models that this machine does not have in its cache; return the plan as it runs here.

    If there is not enough audio to calibrate on, the plan has bf16 or fp32 instead of int8, whichever is faster here.

    Args:
        plan: its heads may be settled or not; see ``settle``. Settled heads are not checked again.
        settings: how tracks are read.
        tracks: the run's tracks, in any order; only read for int8.
        say: called with a line when something takes a while, or replaces what was requested.

    Raises:
        SettingsError: what was requested cannot be had on this machine.
    """
    # As it came: below, ``is_settled`` has to tell heads adopted from earlier rows from those settled just now.
    given, requested = plan, plan.unfolded()
    plan = settle(plan, "cuda" if runtimes.count_gpus() else "cpu").unfolded()
    heads: dict[str, HeadPlan] = dict(plan.heads)
    uncalibrated: dict[str, tuple[Converted, bool]] = {}
    for name, head in plan.heads.items():
        # Exported models run as they are; their files were read when the plan was made.
        if head.checkpoint.is_exported:
            if head.note and requested.heads[name].note != head.note:
                say(f"{name}: {head.note}")
            continue
        choice = runtimes.choose(head.runtime, head.precision, None)
        if choice.runtime != "openvino":
            continue
        precision = choice.precision
        request = _openvino_request(head, plan.models, precision)
        converted = select.convert(request, head.checkpoint, say).converted
        # Earlier rows have this precision already: another one, even a better one, could not be mixed with them.
        if converted is None or (requested.heads[name].is_settled and precision != "int8"):
            continue
        if precision == "int8":
            is_guarded = plan.models.int8_guard and not requested.heads[name].is_settled
            check = converted.settled_verdict(is_guarded=is_guarded)
            if check is None:
                uncalibrated[name] = converted, is_guarded
            elif is_guarded:
                heads[name] = _apply_check(head, converted, check, plan.models.force_precision)
        elif not plan.models.force_precision:
            _require_gain(head, converted, precision)
    # Once for all heads, since each of them decodes the same tracks.
    if uncalibrated:
        windows = _calibration_windows(plan.only(list(uncalibrated)), settings, tracks)
        for name, (converted, is_guarded) in uncalibrated.items():
            heads[name] = _calibrate(
                heads[name],
                converted,
                windows[name],
                is_guarded=is_guarded,
                is_forced=plan.models.force_precision,
                say=say,
            )
    return given.folded(heads)


def check_gains(heads: Mapping[str, HeadPlan], models: ModelSettings) -> None:
    """Refuse bf16 if it would make a server slower on this machine. The measured rates are cached.

    Raises:
        SettingsError: with both rates.
    """
    for head in heads.values():
        if head.checkpoint.is_exported or models.force_precision or head.precision != "bf16" or not has_bf16():
            continue
        choice = runtimes.choose(head.runtime, head.precision, None)
        if choice.runtime == "openvino":
            request = _openvino_request(head, models, choice.precision)
            converted = select.convert(request, head.checkpoint).converted
            if converted is not None:
                _require_gain(head, converted, choice.precision)


def _openvino_request(head: HeadPlan, models: ModelSettings, precision: str) -> Request:
    threads, samples = runtimes.usable_cores(), head.windows.window_samples
    return Request(head.source, head.revision, models.allow_pickle, head.runtime, precision, threads, samples)


def _require_gain(head: HeadPlan, converted: Converted, precision: str) -> None:
    if reason := _reason_against(head, converted, precision):
        raise SettingsError(
            f"got precision {precision} for {head.checkpoint.name}, but {reason}; give precision fp32, or "
            "insist with --force-precision"
        )


def _reason_against(head: HeadPlan, converted: Converted, precision: str) -> str | None:
    samples, threads = head.windows.window_samples, runtimes.usable_cores()
    return select.no_gain(head.checkpoint, converted, precision, samples, threads)


def _calibrate(
    head: HeadPlan, converted: Converted, windows: NDArray[np.float32], *, is_guarded: bool, is_forced: bool, say: Say
) -> HeadPlan:
    """Quantize a head's model on windows of the library; return the head with int8 or what replaces it."""
    name, min_windows = head.checkpoint.name, MIN_WINDOWS if is_guarded else MIN_UNGUARDED
    if len(windows) < min_windows:
        reason = f"int8 needs {counted(min_windows, 'whole window')} of audio to be calibrated, got {len(windows)}"
        fallback = _fall_back(head, converted, f"not int8: {reason}")
        say(f"{reason}: {fallback.precision} instead")
        return fallback
    say(f"calibrating int8 for {name} on {counted(len(windows), 'window')} of this library, once: some minutes")
    try:
        check = cache.quantize(
            converted,
            windows,
            num_calibrated=NUM_CALIBRATED,
            is_guarded=is_guarded,
            is_multi=_is_multi(head),
            num_threads=runtimes.usable_cores(),
        )
    except CheckpointError as error:
        fallback = _fall_back(head, converted, f"not int8: {error.message}")
        say(f"{error.message}: {fallback.precision} instead")
        return fallback
    # int8 is added to the copy in the cache, never to files that came with the model.
    checked = _apply_check(head, cache.find_cached(head.checkpoint.revision) or converted, check, is_forced)
    if not is_guarded or checked.precision == "int8":
        return head
    say(f"int8 is not good enough for {name} ({checked.note.removeprefix('not int8: ')}): {checked.precision} instead")
    return checked


def _apply_check(head: HeadPlan, converted: Converted, check: Int8Check, is_forced: bool) -> HeadPlan:
    """Return the head in int8, or in the next best precision if int8 gives other labels or is not faster here."""
    refusal = check.refusal(is_multi=_is_multi(head))
    if refusal is None and not is_forced:
        refusal = _reason_against(head, converted, "int8")
    return head if refusal is None else _fall_back(head, converted, f"not int8: {refusal}")


def _is_multi(plan: HeadPlan) -> bool:
    """Return whether a head's labels are independent, as it reads them or as its model was trained."""
    return plan.head.is_multi or plan.checkpoint.multi_label


def _fall_back(head: HeadPlan, converted: Converted, note: str) -> HeadPlan:
    samples, threads = head.windows.window_samples, runtimes.usable_cores()
    return dataclasses.replace(
        head, precision=select.next_best(head.checkpoint, converted, samples, threads), note=note
    )


def _calibration_windows(
    plan: TagPlan, settings: TagSettings, tracks: Iterable[TrackRef]
) -> dict[str, NDArray[np.float32]]:
    """Return whole windows of the first tracks that decode; for each head float32 [windows, samples]."""
    needed = NUM_WINDOWS if plan.models.int8_guard else NUM_UNGUARDED
    heads = Heads(plan.heads, plan.models).limited(WINDOWS_PER_TRACK)
    by_head: dict[str, list[NDArray[np.float32]]] = collections.defaultdict(list)
    # Few windows per track, so that the sample has many tracks; padded ones would calibrate int8 on silence.
    for track in _decode_tracks(heads, settings, itertools.islice(tracks, MAX_TRACKS)):
        for head, head_plan in plan.heads.items():
            whole_windows = [
                window for window in heads.windows(head, track) if len(window) == head_plan.windows.window_samples
            ]
            by_head[head] += whole_windows[: needed - len(by_head[head])]
        if all(len(by_head[head]) >= needed for head in plan.heads):
            break
    return {head: np.stack(by_head[head]) if by_head[head] else np.empty((0, 1), np.float32) for head in plan.heads}


def _decode_tracks(heads: Heads, settings: TagSettings, tracks: Iterable[TrackRef]) -> Iterator[DecodedTrack]:
    request = decode_request(heads.plans, settings.decode.max_scored_s)
    with DecodeSandbox(settings.decode) as sandbox:
        loader = TrackLoader(ObjectReader(settings.fetch), sandbox, request)
        for ref in tracks:
            track = loader.load(ref)
            # The run will read this track again and report its error.
            if not isinstance(track, TrackError):
                yield track
