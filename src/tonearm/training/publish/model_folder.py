"""The folder that training ends with: what ``transformers`` loads, and beside it figures, pictures and a card."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from tonearm import __version__
from tonearm.models.calibration import TonearmSidecar, write_sidecar
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.data.duplicates import count_by_side
from tonearm.training.fit.initial import load_start
from tonearm.training.fit.result import Result
from tonearm.training.judge.json_text import json_text
from tonearm.training.judge.pictures import write_confusion, write_curves
from tonearm.training.prepare import Prepared
from tonearm.training.publish.card import Comparison, describe_split, main_side, source_share, write_card
from tonearm.wording import counted

METRICS, CONFIG = "metrics.json", "config.json"


def write_model(
    out: str, prepared: Prepared, result: Result, *, source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    """Write the model's folder to ``out``, a folder or an object store's prefix; return what metrics.json says.

    ``config.json`` goes last: a folder that has one is whole.

    Raises:
        DestinationError: no space left, or a place that cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-model-") as name:
        folder = Path(name)
        with filesystems.writing(name):
            facts = _write(folder, prepared, result, source, comparisons)
        filesystems.copy_files(folder, out, last=CONFIG)
    return facts


def _write(
    folder: Path, prepared: Prepared, result: Result, source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    job = prepared.job
    model, extractor = load_start(
        prepared.start, job.labels, is_multi=job.is_multi, seed=job.settings.seed, window_s=job.settings.window_s
    )
    model.load_state_dict(result.weights)
    model.eval()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    write_sidecar(folder, TonearmSidecar(window_s=job.plan.window_s))
    figures = result.figures(prepared)
    facts = _facts(prepared, result, figures, source, comparisons)
    (folder / METRICS).write_text(json_text(facts))
    progress = result.progress
    write_curves(folder / "curves.png", progress.losses, progress.evaluations)
    side = main_side(figures)
    if side is not None and not job.is_multi:
        track = figures[side]["track"]
        title = f"{side}, {counted(figures[side]['num_tracks'], 'track')}, accuracy {track['accuracy']:.3f}"
        write_confusion(folder / "confusion.png", track["confusion"], job.labels, title=title)
    run = {**result.run, "tonearm": __version__}
    (folder / "README.md").write_text(write_card(prepared, figures, comparisons, source=source, run=run))
    return facts


def _facts(
    prepared: Prepared, result: Result, figures: dict[str, Any], source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    job, progress = prepared.job, result.progress
    side = main_side(figures)
    confounded = source_share(prepared, side) if side is not None else None
    return {
        "fingerprint": prepared.fingerprint,
        "tonearm": __version__,
        "source": shown(source),
        "labels": list(job.labels),
        "is_multi": job.is_multi,
        "num_parameters": prepared.num_parameters,
        "split": {
            "by": describe_split(prepared),
            **{name: len(numbers) for name, numbers in prepared.split.sides().items()},
            "left_out": dict(prepared.omitted.no_side),
            "unlabelled": prepared.omitted.unlabelled,
            "twins": sum(exact + alike for exact, alike in count_by_side(prepared.twins).values()),
            "copies_taken_out": prepared.omitted.copies,
            "broken": prepared.omitted.broken,
        },
        "source_alone": None if confounded is None else {"accuracy": confounded[0], "most_frequent": confounded[1]},
        "notes": list(prepared.notes),
        "run": result.run,
        "steps": progress.step,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "kept_epoch": progress.kept_epoch,
        "evaluation": figures,
        "comparisons": [dataclasses.asdict(comparison) for comparison in comparisons],
        "curves": {"loss": progress.losses, "evaluations": progress.evaluations},
        "settings": dataclasses.asdict(job.settings),
    }
