"""Write the folder of a trained model: the files that ``transformers`` loads, figures, pictures and a card."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from tonearm import __version__
from tonearm.models.calibration import TonearmSidecar, write_sidecar
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.destination import CONFIG, METRICS
from tonearm.training.fit.result import Result
from tonearm.training.judge.json_text import json_text
from tonearm.training.judge.pictures import write_confusion, write_curves
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import Comparison, Findings, write_card
from tonearm.wording import counted


def write_model(
    out: str, plan: TrainingPlan, result: Result, *, source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    """Write the model's folder to ``out``, a folder or an object-store prefix; return the content of metrics.json.

    Raises:
        DestinationError: there is no space left, or ``out`` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-model-") as name:
        folder = Path(name)
        with filesystems.writing(name):
            facts = _write_files(folder, plan, result, source, comparisons)
        # config.json last: a folder that has one is complete.
        filesystems.copy_files(folder, out, last=CONFIG)
    return facts


def _write_files(
    folder: Path, plan: TrainingPlan, result: Result, source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    job, progress = plan.job, result.progress
    write_weights(folder, plan, result)
    findings = Findings.of(plan, result, result.figures(), source, comparisons)
    write_curves(folder / "curves.png", progress.losses, progress.evaluations)
    side = findings.side
    if side is not None and not job.is_multi:
        judged = findings.figures[side]
        title = f"{side}, {counted(judged['num_tracks'], 'track')}, accuracy {judged['track']['accuracy']:.3f}"
        write_confusion(folder / "confusion.png", judged["track"]["confusion"], job.labels, title=title)
    facts = facts_of(plan, result, findings)
    # A loss may be NaN or infinite, which JSON does not have: ``json_text`` writes null.
    texts = {METRICS: json_text(facts), "README.md": write_card(plan, findings)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return facts


def write_weights(folder: Path, plan: TrainingPlan, result: Result) -> None:
    """Write the files that ``transformers`` loads, and tonearm's sidecar with the length of a window."""
    plan.empty.with_weights(result.weights).save_pretrained(folder)
    plan.empty.extractor.save_pretrained(folder)
    write_sidecar(folder, TonearmSidecar(window_s=plan.job.windows.window_s))


def facts_of(plan: TrainingPlan, result: Result, findings: Findings) -> dict[str, Any]:
    """Return what metrics.json says of a training and its figures."""
    job, progress, alone = plan.job, result.progress, findings.source_alone
    return {
        "fingerprint": plan.settings_hash,
        "tonearm": __version__,
        "source": shown(findings.source),
        "labels": list(job.labels),
        "is_multi": job.is_multi,
        "num_parameters": plan.num_parameters,
        "split": {
            "by": findings.split,
            **{name: len(clips) for name, clips in plan.split.sides().items()},
            "left_out": dict(plan.omitted.no_side),
            "unlabelled": plan.omitted.unlabelled,
            "twins": sum(same + alike for same, alike in findings.copies.values()),
            "copies_taken_out": plan.omitted.copies,
            "broken": plan.omitted.broken,
        },
        "source_alone": None if alone is None else {"accuracy": alone.by_source, "most_frequent": alone.by_chance},
        "notes": list(plan.notes),
        "run": result.run,
        "steps": progress.step,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "kept_epoch": progress.kept_epoch,
        "evaluation": findings.figures,
        "comparisons": [dataclasses.asdict(comparison) for comparison in findings.comparisons],
        "curves": {"loss": progress.losses, "evaluations": progress.evaluations},
        "settings": dataclasses.asdict(job.settings),
    }
