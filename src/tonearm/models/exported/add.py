"""``tonearm models add FILE``: describe an exported graph, try it on a clip, and put it where heads find it."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.decode import DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError, SourceError, UsageError
from tonearm.models import runtimes
from tonearm.models.calibration import TonearmSidecar, read_sidecar, write_sidecar
from tonearm.models.exported import reading
from tonearm.models.exported.description import (
    FRONT_ENDS,
    MIN_WINDOW_S,
    SUFFIXES,
    Description,
    LogMelFrontEnd,
    essence,
    parse,
    to_json,
)
from tonearm.models.exported.files import CONFIG
from tonearm.models.exported.labels import read_labels
from tonearm.models.exported.runtime import ExportedRuntime
from tonearm.models.pooling import sigmoid, softmax
from tonearm.settings import DecodeSettings
from tonearm.storage import filesystems
from tonearm.wording import counted

Floats = NDArray[np.float32]
NUM_SHOWN = 5
# Seconds of a clip that the model is tried on at most.
TRIED_S = 600.0
CLIP_S = 3.0


@dataclasses.dataclass(frozen=True)
class Added:
    """A graph that was described and works.

    Attributes:
        folder: what to give a head as its model.
        embedding_dim, num_parameters, multi_label: read from the graph.
        notes: what was changed of the given values, and why.
        clip: the name of the clip that it was tried on.
        top: the strongest labels of the clip, each with its highest score over the windows.
    """

    folder: Path
    description: Description
    embedding_dim: int
    num_parameters: int
    multi_label: bool
    notes: tuple[str, ...]
    clip: str
    top: tuple[tuple[str, float], ...]


def add(
    file: Path,
    *,
    labels: Path | None = None,
    front_end: str | None = None,
    rate: int | None = None,
    parameters: Mapping[str, object] | None = None,
    out: Path | None = None,
    clip: Path | None = None,
    **fields: Any,
) -> Added:
    """Describe a graph in ``tonearm.json`` and try it on a clip; nothing is written if it does not work.

    Values that are not given come from an existing description, or from the graph if it leaves no doubt.

    Args:
        file: ``.onnx``, ``.tflite`` or OpenVINO's ``.xml``.
        labels: see ``labels.read_labels``.
        front_end: ``waveform`` or ``log-mel``.
        rate: of the audio, in Hz.
        parameters: further ones of the front end; see ``description.WaveformFrontEnd`` and ``LogMelFrontEnd``.
        out: a folder that the file is copied to; its own by default.
        clip: audio to try it on; a synthesized sound by default.
        fields: of ``description.Description``: ``window_s``, ``hop_s``, ``activation``, ... None for not given.

    Raises:
        CheckpointError: the graph cannot be read, or does not fit its description.
        UsageError: a value is missing.
    """
    if not file.is_file() or not file.name.endswith(SUFFIXES):
        what = "is no file" if not file.is_file() else "is no exported graph"
        raise UsageError(f"{file} {what}; expected the path of an {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    runtimes.quiet()
    folder = out or file.parent
    if (folder / CONFIG).is_file():
        raise UsageError(f"{folder} holds a checkpoint of transformers; give another folder with --out")
    graph = reading.inspect(file)
    before, there = _described(file.parent, file), _described(folder, file)
    values: dict[str, Any] = dict(to_json(before.model)) if before.model is not None else {}
    values |= {name: value for name, value in fields.items() if value is not None}
    values["file"] = file.name
    if labels is not None:
        values["labels"] = list(read_labels(labels))
    values["front_end"] = _front_end(values.get("front_end"), front_end, rate, parameters or {}, graph)
    notes: list[str] = []
    _complete(values, graph, notes)
    try:
        description = parse(values)
    except ValueError as error:
        raise UsageError(f"{file.name}: {error}") from None
    digest = reading.digest_of(file, description)
    facts = reading.read(file, description, digest)
    top = _try(digest, description, clip, is_multi=facts.multi_label)
    # A calibration is valid for the scores that it was fitted to.
    calibration = there.calibration if there.model is not None and _says_the_same(there.model, description) else None
    _put(file, folder, TonearmSidecar(there.window_s, calibration, description))
    name = "a synthesized sound" if clip is None else clip.name
    graph_facts = (facts.embedding_dim, facts.num_parameters, facts.multi_label)
    return Added(folder, description, *graph_facts, tuple(notes), name, top)


def _described(folder: Path, file: Path) -> TonearmSidecar:
    """Return a folder's sidecar, which may describe this file but no other one."""
    sidecar = read_sidecar(folder)
    if sidecar.model is not None and sidecar.model.file != file.name:
        raise UsageError(f"{folder} describes {sidecar.model.file} already; give another folder with --out")
    return sidecar


def _front_end(
    before: object, kind: str | None, rate: int | None, parameters: Mapping[str, object], graph: Mapping[str, Any]
) -> dict[str, object]:
    there = dict(before) if isinstance(before, Mapping) and kind in (None, before.get("kind")) else {}
    if kind is not None:
        there["kind"] = kind
    if rate is not None:
        there["sample_rate"] = rate
    takes = f"its input {graph['input']['name']} has the shape {_shown(graph['input']['shape'])}"
    if "kind" not in there:
        raise UsageError(
            f"the front end is not described: {takes}; say what that is: --front-end waveform --rate HZ, or "
            "--front-end log-mel --rate HZ --set n_fft=N --set hop_length=N --set num_mel_bins=N ..."
        )
    if "sample_rate" not in there:
        raise UsageError(f"the front end is not described: {takes}; give --rate, the Hz of the audio it was trained on")
    if there["kind"] in FRONT_ENDS:
        known = {field.name for field in dataclasses.fields(FRONT_ENDS[str(there["kind"])])}
        if unknown := sorted(set(parameters) - known):
            raise UsageError(f"--set {unknown[0]}: a {there['kind']} front end has {', '.join(sorted(known))}")
    return {**there, **parameters}


def _complete(values: dict[str, Any], graph: Mapping[str, Any], notes: list[str]) -> None:
    """Fill in the values that the graph itself determines."""
    if "labels" not in values:
        scores = " or ".join(str(output["num_scores"]) for output in graph["outputs"][:3])
        raise UsageError(f"got no labels; give --labels FILE, in the order of its {scores} scores")
    outputs = _scores(values, graph)
    if not outputs and not isinstance(values.get("scores_output"), str):  # a text may name a tensor inside the graph
        sizes = ", ".join(f"{output['name']} with {output['num_scores']} scores" for output in graph["outputs"][:5])
        asked = values.get("scores_output")
        got = counted(len(values["labels"]), "label") if asked is None else f"--scores-output {asked}"
        raise UsageError(f"got {got}, which no output fits; expected one of its outputs: {sizes}")
    endings = {output["ending"] for output in outputs}
    ending = endings.pop() if len(endings) == 1 else None
    applied = {"independent": "sigmoid", "exclusive": "softmax"}.get(str(ending))
    # A person names the activation of the model, often without knowing that the export includes it.
    if values.get("activation") in (None, applied) and applied is not None:
        if values.get("activation") == applied:
            notes.append(f"the graph ends in a {applied} already: nothing more is applied to its scores")
        values["activation"] = "none"
        values.setdefault("multi_label", ending == "independent")
    if values.get("activation") is None:
        raise UsageError(
            "nothing says what its scores are; give --activation sigmoid (any number of labels), softmax (one label), "
            "or none where they are from 0 to 1 already"
        )
    if "window_s" not in values:
        values["window_s"] = _window_s(values["front_end"], graph["input"]["shape"])


def _scores(values: Mapping[str, Any], graph: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the outputs that may be the scores."""
    which, outputs = values.get("scores_output"), graph["outputs"]
    if isinstance(which, int):
        return outputs[which : which + 1] if which >= 0 else []
    if which is not None:
        return [output for output in outputs if output["name"] == which]
    return [output for output in outputs if output["num_scores"] == len(values["labels"])]


def _window_s(front_end: Mapping[str, Any], shape: list[int | None]) -> float:
    """Return the seconds of a window that the graph's input takes, if its shape tells.

    Raises:
        UsageError: the shape leaves it open, or the front end is impossible.
    """
    # Only its front end is of interest; the other values stand in for those that are not known yet.
    try:
        described = parse(
            {"file": f"x{SUFFIXES[0]}", "front_end": front_end, "window_s": 60.0, "labels": ["x"], "activation": "none"}
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    made = described.front_end
    bins = made.num_mel_bins if isinstance(made, LogMelFrontEnd) else None
    sizes = [size for size in shape if size != 1]
    if bins in sizes:
        sizes.remove(bins)
    # The batch, which comes first, may be of any size; the remaining axis is the length.
    known = [size for size in sizes if size is not None]
    if len(known) != 1 or None in shape[1:]:
        raise UsageError(
            f"its input has the shape {_shown(shape)}, which leaves the length of a window open; give --window SECONDS"
        )
    samples = made.samples_of(known[0]) if isinstance(made, LogMelFrontEnd) else known[0]
    return samples / described.sample_rate


def _shown(shape: list[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _says_the_same(before: Description, after: Description) -> bool:
    """Return whether a calibration fitted with one description holds with the other."""
    # The licence changes no score.
    return essence(dataclasses.replace(before, licence=None)) == essence(dataclasses.replace(after, licence=None))


def _try(digest: str, description: Description, clip: Path | None, *, is_multi: bool) -> tuple[tuple[str, float], ...]:
    """Return the strongest labels of a clip."""
    rate, samples = description.sample_rate, description.window_samples
    least = max(1, round(MIN_WINDOW_S * rate))
    hop = samples if description.hop_s is None else max(1, round(description.hop_s * rate))
    plan = WindowPlan(rate, samples, hop, None, least).within(TRIED_S)
    if clip is None:
        sound = _sound(rate)
        starts = plan.starts(len(sound))
        windows = [sound[start : start + samples] for start in starts]
    else:
        windows = _windows(clip, plan)
    runtime = ExportedRuntime(digest, description, "fp32", num_threads=runtimes.usable_cores(), is_multi=is_multi)
    logits = np.concatenate([runtime.run(window[None]).logits for window in windows])
    if not np.isfinite(logits).all():
        raise CheckpointError("it says what is not a number of the clip; it cannot be used")
    scores = (sigmoid(logits) if is_multi else softmax(logits)).max(axis=0)
    order = np.argsort(-scores, kind="stable")[:NUM_SHOWN]
    return tuple((description.labels[index], float(scores[index])) for index in order)


def _windows(clip: Path, plan: WindowPlan) -> list[Floats]:
    if not clip.is_file():
        raise SourceError(f"{clip} is no file; give --clip an audio file")
    with DecodeSandbox(DecodeSettings()) as sandbox:
        track = sandbox.decode(clip.read_bytes(), DecodeRequest((plan,), TRIED_S), clip.name)
    stream = track.stream(plan.sample_rate)
    return [stream.window(int(start), plan.window_samples) for start in plan.starts(stream.num_samples)]


def _sound(rate: int) -> Floats:
    """Return a chord that fades in over a little noise, float32 [samples]."""
    time_s = np.arange(round(CLIP_S * rate)) / rate
    chord = sum(np.sin(2 * math.pi * pitch_hz * time_s) for pitch_hz in (220.0, 277.2, 329.6)) / 3
    noise = np.random.default_rng(0).standard_normal(len(time_s)) * 0.01
    return (0.3 * chord * np.linspace(0, 1, len(time_s)) + noise).astype(np.float32)


def _put(file: Path, folder: Path, sidecar: TonearmSidecar) -> None:
    """Copy the graph unless it is there, then write its description."""
    with filesystems.writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        for part in reading.parts(file):
            if part.resolve() != (folder / part.name).resolve():
                shutil.copyfile(part, folder / part.name)
        write_sidecar(folder, sidecar)
