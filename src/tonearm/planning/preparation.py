"""What a run's models need once before they score on processors: another form, and for int8 windows to calibrate on."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.decode import DecodedTrack
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.errors import CheckpointError, TrackError
from tonearm.library.objects import ObjectReader
from tonearm.models import converted, openvino_form, runtimes
from tonearm.models.openvino_form import Wanted
from tonearm.settings import TagSettings
from tonearm.tagging import HeadPlan, Heads, decode_request

if TYPE_CHECKING:
    from tonearm.library.sources import TrackRef
    from tonearm.models.converted import Converted

# int8 is calibrated on 20 windows and checked on 100, few enough to be done in minutes and enough that one in a hundred
# can be told.
NUM_WINDOWS, NUM_CALIBRATED, LEAST_WINDOWS = 120, 20, 24
# Without the guard nothing is checked, and whoever left it off wants to begin.
UNGUARDED_WINDOWS, LEAST_UNGUARDED = 24, 6
WINDOWS_A_TRACK, TRACKS_TRIED = 3, 200

Say = Callable[[str], None]


def prepare(plans: dict[str, HeadPlan], settings: TagSettings, tracks: Iterable[TrackRef], say: Say) -> TagSettings:
    """Convert and quantize what is not there yet; return the settings that the run then has.

    Where there is not enough audio to calibrate on, the run goes on in bf16.

    Args:
        plans: the heads.
        tracks: of the run, in any order; only looked at for int8.
        say: told what takes a while, and what is done instead of what was asked for.

    Raises:
        SettingsError: what was asked for cannot be had.
    """
    models = settings.models
    kind, precision, _ = runtimes.choose(models.runtime, models.precision, None)
    if kind != "openvino":
        return settings
    threads = runtimes.usable_cores()
    todo: dict[str, Converted] = {}
    for head, plan in plans.items():
        source, revision, _ = models.heads()[head]
        wanted = Wanted(str(source), revision, models.allow_pickle, models.runtime, precision, threads)
        found, _ = openvino_form.convert(wanted, plan.checkpoint, say)
        if precision == "int8" and found is not None and found.settled_verdict(is_guarded=models.int8_guard) is None:
            todo[head] = found
    if not todo:
        return settings
    windows = _windows({head: plans[head] for head in todo}, settings, tracks)
    for head, found in todo.items():
        checkpoint, count = plans[head].checkpoint, len(windows[head])
        least = LEAST_WINDOWS if models.int8_guard else LEAST_UNGUARDED
        if count < least:
            say(f"int8 needs {least} whole windows of audio to be calibrated, got {count}: bf16 instead")
            return dataclasses.replace(settings, models=dataclasses.replace(models, precision="bf16"))
        say(f"calibrating int8 for {checkpoint.name} on {count} windows of this library, once: some minutes")
        try:
            verdict = converted.quantize(
                found,
                windows[head],
                num_calibrated=NUM_CALIBRATED,
                is_guarded=models.int8_guard,
                is_multi=checkpoint.multi_label,
                num_threads=threads,
            )
        except CheckpointError as error:
            say(f"{error.message}: bf16 instead")
            return dataclasses.replace(settings, models=dataclasses.replace(models, precision="bf16"))
        if verdict.refused:
            say(f"int8 is not good enough for {checkpoint.name} ({verdict.refused}): bf16 instead")
    return settings


def _windows(
    plans: dict[str, HeadPlan], settings: TagSettings, tracks: Iterable[TrackRef]
) -> dict[str, NDArray[np.float32]]:
    """Return whole windows of the first tracks that decode, float32 [windows, samples] a head."""
    needed = NUM_WINDOWS if settings.models.int8_guard else UNGUARDED_WINDOWS
    heads = Heads(plans, settings.models).limited(WINDOWS_A_TRACK)
    found: dict[str, list[NDArray[np.float32]]] = collections.defaultdict(list)
    for track in _decoded(heads, settings, itertools.islice(tracks, TRACKS_TRIED)):
        for head, plan in plans.items():
            whole = [each for each in heads.windows(head, track) if len(each) == plan.windows.window_samples]
            found[head] += whole[: needed - len(found[head])]
        if all(len(found[head]) >= needed for head in plans):
            break
    return {head: np.stack(found[head]) if found[head] else np.empty((0, 1), np.float32) for head in plans}


def _decoded(heads: Heads, settings: TagSettings, tracks: Iterable[TrackRef]) -> Iterator[DecodedTrack]:
    reader, request = ObjectReader(settings.fetch), decode_request(heads.plans, settings.decode.max_scored_s)
    with DecodeSandbox(settings.decode) as sandbox:
        for ref in tracks:
            try:
                yield sandbox.decode(reader.read(ref), request)
            except TrackError:
                continue  # the run itself tells what is wrong with it
