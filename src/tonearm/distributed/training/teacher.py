"""A teacher's logits of a library's windows: computed on Ray Data as tagging is, once, and stored in the cache.

::

    CACHE/teachers/KEY/facts.json       the teacher, its windows and how it is run: what KEY stands for
    CACHE/teachers/KEY/*.parquet        rows of ``stages.LOGITS``, a file per block of tracks, whole or not at all

Stored rows are looked up by track key, so another library with the same tracks, or a run that resumes, scores only what
is missing. Tracks that failed are tried again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from tonearm.distributed.tagging.scored_clips import score_blocks
from tonearm.errors import TrackError
from tonearm.runs.places import KEY
from tonearm.settings import TagSettings
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.atomic import replacing
from tonearm.storage.filesystems import writing
from tonearm.tagging import TagPlan
from tonearm.watchers import Watcher

FORMAT = 1
FACTS = "facts.json"


class WindowLogits(NamedTuple):
    """A track's windows: starts in seconds, float64 [windows], and logits, float32 [windows, labels]."""

    start_s: NDArray[np.float64]
    logits: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class TeacherScores:
    """A teacher's logits by track key, and by track key the error of each track that could not be scored."""

    windows: dict[int, WindowLogits]
    errors: dict[int, TrackError]


def score_library(
    base: Path, refs: Sequence[TrackRef], settings: TagSettings, plan: TagPlan, watcher: Watcher
) -> TeacherScores:
    """Return the logits of every window of these tracks, by the only head of ``plan``.

    Args:
        base: the cache.
        settings: how tracks are read and decoded, and on how many workers.

    Raises:
        Stopped: it ended early; the same call scores what is left.
        DestinationError: the cache cannot be written.
    """
    folder = _cache_folder(base, settings, plan)
    with writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).write_text(json.dumps(_key_facts(settings, plan), indent=1))
    failed: list[pa.Table] = []
    with FileLock(folder / "lock"):
        done = _scored_keys(folder)
        todo = [ref for ref in {ref.track_key: ref for ref in refs}.values() if ref.track_key not in done]
        if todo:
            watcher.starting(len(refs), len(refs) - len(todo))
            with contextlib.closing(
                score_blocks(todo, settings, plan, watcher, what="the teacher's scoring")
            ) as blocks:
                for block in blocks:
                    is_scored = pc.is_null(block["error_code"])
                    with writing(str(folder)):
                        _write_scored(folder, block.filter(is_scored))
                    failed.append(block.filter(pc.invert(is_scored)))
    errors = {
        row[KEY]: TrackError(row["error_message"], code=row["error_code"])
        for table in failed
        for row in table.to_pylist()
    }
    return TeacherScores(_read_logits(folder, {ref.track_key for ref in refs}), errors)


def _cache_folder(base: Path, settings: TagSettings, plan: TagPlan) -> Path:
    text = json.dumps(_key_facts(settings, plan), sort_keys=True)
    return base / "teachers" / hashlib.sha256(text.encode()).hexdigest()[:20]


def _key_facts(settings: TagSettings, plan: TagPlan) -> dict[str, object]:
    (head,) = plan.heads.values()
    return {
        "format": FORMAT,
        "model": head.checkpoint.revision,
        "activation": head.head.activation,
        "windows": dataclasses.asdict(head.windows),
        "runtime": head.runtime,
        "precision": head.precision,
        "int8_guard": settings.models.int8_guard,
        "max_scored_s": plan.max_scored_s,
    }


def _write_scored(folder: Path, block: pa.Table) -> None:
    if block.num_rows:
        with replacing(folder / f"{uuid.uuid4().hex}.parquet") as partial:
            pq.write_table(block, partial, compression="zstd")


def _scored_keys(folder: Path) -> set[int]:
    """Return the keys of the tracks that have logits in the cache."""
    return {key for path in folder.glob("*.parquet") for key in pq.read_table(path, columns=[KEY])[KEY].to_pylist()}


def _read_logits(folder: Path, keys: set[int]) -> dict[int, WindowLogits]:
    logits_by_key = {}
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        for index, key in enumerate(table[KEY].to_pylist()):
            if key in keys and key not in logits_by_key:
                starts = np.asarray(table["start_s"][index].values, np.float64)
                logits = np.asarray(table["logits"][index].values, np.float32)
                logits_by_key[key] = WindowLogits(starts, logits.reshape(len(starts), -1))
    return logits_by_key
