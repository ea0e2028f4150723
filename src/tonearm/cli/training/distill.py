"""``tonearm distill``: run it, and print how far the student agrees with its teacher."""

from __future__ import annotations

import shlex
import time
from typing import Any, Unpack

import tonearm
from tonearm.api.flags import DistillFlags
from tonearm.cli.output import Output
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.storage.uris import shown
from tonearm.training.judge.headline import main_side
from tonearm.wording import clock, counted


def distill(
    teacher: str,
    source: str,
    out: str,
    *,
    overwrite: bool = False,
    as_json: bool = False,
    **flags: Unpack[DistillFlags],
) -> int:
    """Train a student and print its figures; return the exit status."""
    stop_like_ctrl_c()
    started = time.monotonic()
    trained = tonearm.distill(teacher, source, out=out, overwrite=overwrite, **flags)
    facts, output = trained.facts, Output(as_json)
    if not trained.is_new:
        output.say(f"nothing to do: {shown(out)} holds this student already")
    else:
        steps, epochs = counted(facts["steps"], "step"), counted(facts["epochs"], "epoch")
        output.say(f"{steps}, {epochs} in {clock(time.monotonic() - started)}")
    for line in lines_about(facts):
        output.say(line)
    output.say(f"model: {shown(out)}")
    head = "--tag-model" if facts["is_multi"] else "--genre-model"
    use = f"tonearm tag SOURCE {head} {shlex.quote(shown(out))}"
    output.say(f"use it: {use} --out RUN")
    if facts["fallback"] is not None:
        asked = shlex.quote(f"{'tags' if facts['is_multi'] else 'genre'}={shown(teacher)}")
        output.say(f"with its teacher where it is unsure: {use} --fallback {asked} --out RUN")
    output.result({"model": out, "is_new": trained.is_new, **facts})
    return 0


def lines_about(facts: dict[str, Any]) -> list[str]:
    """Return the main figures of a student's metrics.json, in a few lines."""
    figures, cost, fallback = facts["evaluation"], facts["cost"], facts["fallback"]
    side, lines = main_side(figures), []
    if side is not None and figures[side]["num_tracks"]:
        of_side = figures[side]
        first, held_out = of_side["first_label"], counted(of_side["num_tracks"], "held-out recording")
        lines.append(
            f"{side}, {held_out}: first label as {facts['teacher']['name']}'s {_with_interval(first['track'])}, of "
            f"windows {_with_interval(first['window'])}, mAP {_with_interval(of_side['map'])}, rank correlation "
            f"{_with_interval(of_side['spearman'])}"
        )
        if (truth := of_side["truth"]) is not None:
            student, teacher = (truth[who]["first_of_known"] for who in ("student", "teacher"))
            lines.append(
                f"against {counted(truth['num_labels'], 'label')} of the collection: right {_with_interval(student)}, "
                f"the teacher {_with_interval(teacher)}"
            )
        if of_side["num_failed"]:
            lines.append(f"left out, no score that is a number: {counted(of_side['num_failed'], 'track')} of {side}")
    adds, times = cost["student"]["multiply_adds"] / 1e6, cost["times_less"]
    less = "" if times is None else f", {times:,.1f} times less than the teacher"
    lines.append(f"a window of {cost['window_s']:g} s: {adds:,.1f} million multiply-adds{less}")
    if fallback is not None:
        lines.append(
            f"ask the teacher below a score of {fallback['threshold']:.3f}: {fallback['share_sent']:.0%} of the "
            f"windows, for {fallback['agreement']:.1%} agreement"
        )
    return lines


def _with_interval(figure: dict[str, Any]) -> str:
    value, (low, high) = figure["value"], figure["interval"]
    # A figure that could not be computed is None in a metrics.json that was read, and NaN in one just made.
    if value is None or value != value:
        return "n/a"
    return f"{value:.3f}" if low is None or low != low else f"{value:.3f} ({low:.3f} to {high:.3f})"
