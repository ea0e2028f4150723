"""``tonearm evaluate``: a model on labelled audio, and what a person is told of it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tonearm import settings as settings_module
from tonearm.cli.tag import stop_like_ctrl_c, tag_settings
from tonearm.cli.terminal import ProgressLine
from tonearm.errors import UsageError
from tonearm.runs.destination import check_form
from tonearm.settings import LabelSettings, TagSettings
from tonearm.storage.uris import shown, visible
from tonearm.wording import counted

NUM_NAMED = 3


def evaluate_settings(flags: Mapping[str, Any], config: Path | None, model: str) -> TagSettings:
    """Return the settings of decoding and scoring for one model; what a file says of other models does not hold."""
    settings = tag_settings(flags, config, genre_model=model, tag_model="none", demo_models=False)
    models = dataclasses.replace(settings.models, genre_revision=None, heads={}, calibrated=False)
    return dataclasses.replace(settings, models=models)


def evaluate(
    model: str,
    source: str,
    settings: TagSettings,
    labels: Mapping[str, Any],
    *,
    on: Sequence[str],
    out: str | None,
    calibrate: bool,
    precision: float,
) -> int:
    """Judge, print, write and store; return the exit status."""
    from tonearm.distributed.tagging import evaluate as verb
    from tonearm.training.judge.evaluation import write_evaluation

    if calibrate and not Path(model).is_dir():
        raise UsageError(f"got --calibrate for {model}, which is no local folder to keep the calibration in")
    if on and "split_by" not in labels:
        raise UsageError("got --on without --split-by; give the field whose values these are")
    if out is not None:
        check_form(out, "--out")
    stop_like_ctrl_c()
    where = settings_module.build(LabelSettings, labels)
    _warn_of_trained_on(model, source, on)
    with ProgressLine("evaluating") as watcher:
        found = verb.evaluate(
            model, source, settings, where, watcher, on=on, precision=precision if calibrate else None
        )
    for uri, reason in list(found.failed.items())[:NUM_NAMED]:
        print(visible(f"left out, {reason} ({uri})"))
    if len(found.failed) > NUM_NAMED:
        print(f"... and {len(found.failed) - NUM_NAMED} more")
    if found.unlabelled:
        print(f"left out, no label: {counted(found.unlabelled, 'clip')}")
    _print_figures(found)
    if calibrate:
        verb.store_calibration(model, found)
        _print_calibration(found, model, precision)
    if out is not None:
        names = write_evaluation(out, found)
        print(f"written to {shown(out)}: {', '.join(names)}")
    return 0


def _warn_of_trained_on(model: str, source: str, on: Sequence[str]) -> None:
    import json

    path = Path(model) / "metrics.json"
    if on or not path.is_file():
        return
    facts = json.loads(path.read_text())
    if str(facts.get("source", "")).rstrip("/") == source.rstrip("/"):
        print(
            "note: the model was trained on part of this collection, so these figures are of memory too; --split-by "
            "and --on name the clips to judge by",
            file=sys.stderr,
        )


def _print_figures(found: Any) -> None:
    for level in ("track", "window"):
        figures = found.figures[level]
        count = found.figures[f"num_{level}s"]
        if found.is_multi:
            print(
                f"{level}: macro mAP {figures['macro_map']:.3f}, micro mAP {figures['micro_map']:.3f}, mean AUC "
                f"{figures['mean_auc']:.3f}, d' {figures['d_prime']:.2f} over "
                f"{counted(figures['num_labels'], 'tag')}; {counted(count, level)}"
            )
            continue
        low, high = figures["accuracy_interval"]
        top = f", top-3 {figures['top_3']:.3f}" if "top_3" in figures else ""
        print(
            f"{level}: accuracy {figures['accuracy']:.3f} (95% interval {low:.3f} to {high:.3f}){top}, macro F1 "
            f"{figures['macro_f1']:.3f}, ECE {figures['ece']:.3f}; {count:,} {level}s"
        )
    per_class = found.figures["track"]["per_class"]
    present = {label: row for label, row in per_class.items() if row["support"]}
    width = max(map(len, present))
    print(f"\n{'':{width}}  precision  recall  tracks")
    for label, row in present.items():
        print(f"{visible(label):{width}}  {row['precision']:9.2f}  {row['recall']:6.2f}  {row['support']:6d}")
    print()


def _print_calibration(found: Any, model: str, precision: float) -> None:
    fitted = found.calibration
    before, after = found.figures["track"]["ece"], found.calibrated["track"]["ece"]
    print(
        f"temperature {fitted.temperature:.3f}: ECE {before:.3f} without, {after:.3f} with (each half of the clips by "
        "the other half's)"
    )
    if not found.is_calibration_kept:
        print(f"not stored: it does not help on clips that it was not fitted on; {shown(model)} stays as it is")
        return
    if fitted.thresholds:
        kept = [label for label, value in fitted.thresholds.items() if value is not None]
        print(
            f"{len(kept)} of {counted(len(fitted.thresholds), 'tag')} reach a precision of {precision:g} from some "
            "score on"
        )
    print(f"stored in {shown(model)}/tonearm.json; `tonearm tag --calibrated` uses it")
