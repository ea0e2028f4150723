"""``tonearm train``: what a person is told at the end of a training."""

from __future__ import annotations

import shlex
import time
from typing import Unpack

import tonearm
from tonearm.api.flags import TrainFlags
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.storage.uris import shown
from tonearm.training.judge.headline import headline, main_side
from tonearm.wording import clock, counted


def train(source: str, out: str, *, overwrite: bool = False, **flags: Unpack[TrainFlags]) -> int:
    """Run, and print what came out; return the exit status."""
    stop_like_ctrl_c()
    started = time.monotonic()
    trained = tonearm.train(source, out=out, overwrite=overwrite, **flags)
    facts = trained.facts
    if not trained.is_new:
        print(f"nothing to do: {shown(out)} holds this model already")
    else:
        print(
            f"{counted(facts['steps'], 'step')}, {counted(facts['epochs'], 'epoch')} in "
            f"{clock(time.monotonic() - started)}; kept: "
            f"epoch {facts['kept_epoch']}"
        )
    figures = facts["evaluation"]
    side = main_side(figures)
    if side is not None:
        print(f"{side}: {headline(figures[side], is_multi=facts['is_multi'])}")
        if figures[side].get("num_failed"):
            print(f"left out, no score that is a number: {counted(figures[side]['num_failed'], 'track')} of {side}")
    for comparison in facts["comparisons"]:
        print(f"{comparison['split']}: {headline(comparison['figures'], is_multi=facts['is_multi'])}")
    print(f"model: {shown(out)}")
    head = "--tag-model" if facts["is_multi"] else "--genre-model"
    print(f"use it: tonearm tag SOURCE {head} {shlex.quote(shown(out))} --out DEST")
    return 0
