"""``tonearm evaluate``: a model on labelled audio, and what a person is told of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tonearm
from tonearm.api.progress import ProgressLine
from tonearm.cli.output import Output
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.storage.uris import shown
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.training.judge.evaluation import Evaluation

NUM_NAMED = 3


def evaluate(
    model: str,
    source: str,
    *,
    head: str | None,
    out: str | None,
    on: Sequence[str],
    calibrate: bool,
    wanted_precision: float,
    as_json: bool = False,
    **flags: Any,
) -> int:
    """Judge, and print the figures and what was kept; return the exit status.

    Args:
        flags: the others of ``tonearm.evaluate``.
    """
    stop_like_ctrl_c()
    output = Output(as_json)
    printer = EvaluationPrinter(model, source, on, output)
    with printer:
        evaluation = tonearm.evaluate(
            model,
            source,
            head=head,
            out=out,
            on=on,
            calibrate=calibrate,
            wanted_precision=wanted_precision,
            watcher=printer,
            **flags,
        )
    if calibrate:
        _print_calibration(evaluation, model, wanted_precision, output)
    if out is not None:
        output.say(f"written to {shown(out)}: {', '.join(printer.names)}")
    output.result(document(evaluation) | {"out": out, "files": printer.names})
    return 0


def document(evaluation: Evaluation) -> dict[str, object]:
    """Return what ``--json`` prints of an evaluation."""
    calibration = None
    if evaluation.calibration is not None:
        calibration = {
            "fitted": evaluation.calibration,
            "figures": evaluation.calibrated,
            "is_kept": evaluation.is_calibration_kept,
        }
    return {
        "model": evaluation.model,
        "source": evaluation.source,
        "labels": evaluation.labels,
        "is_multi_label": evaluation.is_multi,
        "figures": evaluation.figures,
        "calibration": calibration,
        "num_unlabelled": evaluation.unlabelled,
        "failed": evaluation.failed,
    }


class EvaluationPrinter(ProgressLine):
    """Shows how an evaluation goes, and prints its figures as soon as they are known."""

    def __init__(self, model: str, source: str, on: Sequence[str], output: Output) -> None:
        super().__init__("evaluating")
        self.output = output
        self.model, self.source, self.on = model, source, on
        self.names: Sequence[str] = ()

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Print what is ahead, and that the figures may be too good."""
        _warn_of_trained_on(self.model, self.source, self.on)
        super().starting(num_tracks, num_done)

    def judged(self, evaluation: Evaluation) -> None:
        """Print what was left out, and the figures."""
        self.end_line()
        for uri, reason in list(evaluation.failed.items())[:NUM_NAMED]:
            self.output.say(f"left out, {reason} ({uri})")
        if len(evaluation.failed) > NUM_NAMED:
            self.output.say(f"... and {len(evaluation.failed) - NUM_NAMED} more")
        if evaluation.unlabelled:
            self.output.say(f"left out, no label: {counted(evaluation.unlabelled, 'clip')}")
        _print_figures(evaluation, self.output)

    def written(self, names: Sequence[str]) -> None:
        """Keep the names, to be printed at the end."""
        self.names = names


def _warn_of_trained_on(model: str, source: str, on: Sequence[str]) -> None:
    path = Path(model) / "metrics.json"
    if on or not path.is_file():
        return
    facts = json.loads(path.read_text())
    if str(facts.get("source", "")).rstrip("/") == source.rstrip("/"):
        print(
            "note: the model was trained on some of these clips, so the figures are optimistic; --split-by and --on "
            "name the clips to judge by",
            file=sys.stderr,
        )


def _print_figures(evaluation: Evaluation, output: Output) -> None:
    for level in ("track", "window"):
        figures = evaluation.figures[level]
        count = evaluation.figures[f"num_{level}s"]
        if evaluation.is_multi:
            output.say(
                f"{level}: macro mAP {figures['macro_map']:.3f}, micro mAP {figures['micro_map']:.3f}, mean AUC "
                f"{figures['mean_auc']:.3f}, d' {figures['d_prime']:.2f} over "
                f"{counted(figures['num_labels'], 'tag')}; {counted(count, level)}"
            )
            continue
        low, high = figures["accuracy_interval"]
        top = f", top-3 {figures['top_3']:.3f}" if "top_3" in figures else ""
        output.say(
            f"{level}: accuracy {figures['accuracy']:.3f} (95% interval {low:.3f} to {high:.3f}){top}, macro F1 "
            f"{figures['macro_f1']:.3f}, ECE {figures['ece']:.3f}; {count:,} {level}s"
        )
    per_class = evaluation.figures["track"]["per_class"]
    present = {label: row for label, row in per_class.items() if row["support"]}
    width = max(map(len, present))
    output.say()
    output.say(f"{'':{width}}  precision  recall  tracks")
    for label, row in present.items():
        output.say(f"{label:{width}}  {row['precision']:9.2f}  {row['recall']:6.2f}  {row['support']:6d}")
    output.say()


def _print_calibration(evaluation: Evaluation, model: str, target_precision: float, output: Output) -> None:
    fitted = evaluation.calibration
    assert fitted is not None and evaluation.calibrated is not None
    before, after = evaluation.figures["track"]["ece"], evaluation.calibrated["track"]["ece"]
    output.say(
        f"temperature {fitted.temperature:.3f}: ECE {before:.3f} without, {after:.3f} with (each half of the clips by "
        "the other half's)"
    )
    if not evaluation.is_calibration_kept:
        output.say(f"not stored: it does not help on clips that it was not fitted on; {shown(model)} stays as it is")
        return
    if fitted.thresholds:
        labels = [label for label, value in fitted.thresholds.items() if value is not None]
        output.say(
            f"{len(labels)} of {counted(len(fitted.thresholds), 'tag')} reach a precision of {target_precision:g} from "
            "some score on"
        )
    output.say(f"stored in {shown(model)}/tonearm.json; `tonearm tag --calibrated` uses it")
