"""``tonearm train``: what a person is told at the end of a training."""

from __future__ import annotations

import shlex
import time
from typing import Unpack

import tonearm
from tonearm.api.flags import TrainFlags
from tonearm.cli.output import Output
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.storage.uris import shown
from tonearm.training.judge.headline import headline, main_side
from tonearm.wording import clock, counted


def train(source: str, out: str, *, overwrite: bool = False, as_json: bool = False, **flags: Unpack[TrainFlags]) -> int:
    """Run, and print what came out; return the exit status."""
    # Schedulers send SIGTERM; the training then keeps a snapshot and resumes.
    stop_like_ctrl_c()
    started = time.monotonic()
    trained = tonearm.train(source, out=out, overwrite=overwrite, **flags)
    facts, output = trained.facts, Output(as_json)
    if not trained.is_new:
        output.say(f"nothing to do: {shown(out)} holds this model already")
    else:
        output.say(
            f"{counted(facts['steps'], 'step')}, {counted(facts['epochs'], 'epoch')} in "
            f"{clock(time.monotonic() - started)}; kept: "
            f"epoch {facts['kept_epoch']}"
        )
    figures = facts["evaluation"]
    side = main_side(figures)
    if side is not None:
        output.say(f"{side}: {headline(figures[side], is_multi=facts['is_multi'])}")
        if figures[side].get("num_failed"):
            output.say(
                f"left out, no score that is a number: {counted(figures[side]['num_failed'], 'track')} of {side}"
            )
    for comparison in facts["comparisons"]:
        output.say(f"{comparison['split']}: {headline(comparison['figures'], is_multi=facts['is_multi'])}")
    output.say(f"model: {shown(out)}")
    head = "--tag-model" if facts["is_multi"] else "--genre-model"
    output.say(f"use it: tonearm tag SOURCE {head} {shlex.quote(shown(out))} --out RUN")
    output.result({"model": out, "is_new": trained.is_new, **facts})
    return 0
