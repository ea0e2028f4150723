"""A third head for a finished destination, against all three from nothing: python -m bench --only heads

Both are the whole command on one machine, one after the other in each round. The row that is extended must be the row
that is made at once, and the run that extends must have loaded no model but the third head's.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tonearm
from bench.checkpoints import save_ast, save_distilhubert
from bench.clips import write_clips
from bench.figures import Figure, Section
from bench.runs import run_tag
from tonearm import demo
from tonearm.demo.library import write_library

NAME = "mood"
NUM_CLIPS = 16
# What may differ between an extended row and one that was made at once; of two windows as strong either is the best.
VOLATILE = ("run_id", "term", "max_start_s")
# Of embeddings and scores, which depend a little on the batch that a window was in.
TOLERANCE = 2e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """One library and the three models that score it."""

    name: str
    library: Path
    genre: str
    tags: str
    third: str
    rounds: int


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured: the demo library, and at full size clips of half a minute."""
    library = folder / "heads-demo"
    write_library(library)
    genre, tags = demo.genre_model_path(), demo.tag_model_path()
    yield Case("demo library, demo models", library, genre, tags, genre, 1 if quick else 3)
    if quick:
        return
    clips = folder / "heads-clips"
    write_clips(clips, ["mp3", "flac"] * (NUM_CLIPS // 2), seed=11)
    genre, tags = str(save_distilhubert(folder / "heads-distilhubert")), str(save_ast(folder / "heads-ast"))
    third = str(shutil.copytree(genre, folder / "heads-third"))
    yield Case("full size: DistilHuBERT and AST, then DistilHuBERT", clips, genre, tags, third, 3)


def measure(case: Case, folder: Path) -> Section:
    """Run every round and compare."""
    models = ["--genre-model", case.genre, "--tag-model", case.tags, "--max-error-rate", "1"]
    head = ["--head", f"{NAME}={case.third}:single"]
    out, fresh = folder / "heads-out", folder / "heads-fresh"
    shutil.rmtree(fresh, ignore_errors=True)  # of the case before, whose models were others
    _tag(case, fresh, *models, *head, "--limit", "1")  # converts what is to be converted, once
    whole_s, span_s = [], []
    worst, is_alone = 0.0, True
    for _ in range(case.rounds):
        for place in (out, fresh):
            shutil.rmtree(place, ignore_errors=True)
        _tag(case, out, *models)
        extended, extended_s = _tag(case, out, *models, *head)
        made, made_s = _tag(case, fresh, *models, *head)
        whole_s.append((extended_s, made_s))
        span_s.append((extended["speed"]["span_s"], made["speed"]["span_s"]))
        worst = max(worst, _difference(out, fresh))
        loaded = [extended["genre_model"]["runtime"], extended["tag_model"]["runtime"]]
        is_alone = is_alone and not any(loaded) and bool(extended["head_models"][NAME]["runtime"])
    lines = [
        f"## A third head for a finished destination: {case.name}",
        "",
        "| | seconds, median: a third head is added | all three from nothing |",
        "|---|---:|---:|",
    ]
    for name, pairs in (("the whole command", whole_s), ("first byte to last row", span_s)):
        added, at_once = (statistics.median(column) for column in zip(*pairs, strict=True))
        lines.append(f"| {name} | {added:.1f} | {at_once:.1f} |")
    lines += ["", f"Largest difference of a number between the rows of both: {worst:.1e}."]
    figures = [
        Figure(f"{case.name}: a third head added, against all three from nothing, {name}",
               tuple(made_s / added_s for added_s, made_s in pairs))
        for name, pairs in (("the whole command", whole_s), ("first byte to last row", span_s))
    ]  # fmt: skip
    return Section("\n".join(lines), worst < TOLERANCE and is_alone, tuple(figures))


def _tag(case: Case, out: Path, *options: str) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    run = run_tag(case.library, out, *options, is_quiet=True)
    return run, time.perf_counter() - started


def _difference(out: Path, fresh: Path) -> float:
    """Return how far numbers of the two destinations' rows are apart; infinite where anything else differs."""
    # A track that failed keeps the row that says so, which names only the heads of its own run.
    tables = [tonearm.open(place).tracks(where="status = 'ok'").arrow() for place in (out, fresh)]
    there, made = (table.sort_by("track_key").to_pylist() for table in tables)
    if len(there) != len(made):
        return float("inf")
    return max((_apart(row, other) for row, other in zip(there, made, strict=True)), default=0.0)


def _apart(one: Any, other: Any) -> float:
    if isinstance(one, dict) and isinstance(other, dict):
        names = {*one, *other} - {*VOLATILE}
        return max((_apart(one.get(name), other.get(name)) for name in names), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        if one and isinstance(one[0], dict) and "label" in one[0] and "start_s" not in one[0]:
            # Scores that differ in the last bit may have changed places, the last ones with those that are left out.
            ours, theirs = ({entry["label"]: entry for entry in entries} for entries in (one, other))
            return max((_apart(ours[label], theirs[label]) for label in ours.keys() & theirs.keys()), default=0.0)
        return max((_apart(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    return 0.0 if one == other else float("inf")
