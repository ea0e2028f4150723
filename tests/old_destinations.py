"""Destinations that tonearm 0.1.0 wrote, put where a test wants them: to be read, resumed and extended by today's code.

They are kept in ``data/destinations_0_1_0``, as ``data/make_destinations_0_1_0.py`` made them::

    songs/               the audio that they tag; each file once
    NAME/library.json    the files of that library: path, which of the songs, and its time
    NAME/out/            what 0.1.0 left

A row holds its file's absolute path, and its key is a hash of path, size and time. So a destination that is moved to
another library gets other paths and keys everywhere, as if 0.1.0 had been run there; all else stays as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tonearm.sources.track_ref import track_key

KEPT = Path(__file__).parent / "data" / "destinations_0_1_0"
# What each is: see the maker.
NAMES = ("finished", "killed", "compacted", "doubled", "genre-only", "replaced", "deleted")
# Where the library and the destination are in what is kept: a place of no machine.
LIBRARY, OUT, HOST = "/music", "/labels", "studio"
KEY = "track_key"


def restore(name: str, folder: Path) -> tuple[Path, Path]:
    """Write one of ``NAMES`` and its library below ``folder``.

    Returns:
        The destination and the library; the same command as 0.1.0's resumes it.
    """
    out, library = folder / "out", folder / "library"
    write_library(name, library)
    shutil.copytree(KEPT / name / "out", out)
    move(out, {LIBRARY: str(library), OUT: str(out)})
    # A process of this machine that is gone: one with this one's number, which started long ago.
    set_holder(out, host=socket.gethostname(), pid=os.getpid())
    return out, library


def write_library(name: str, library: Path) -> None:
    """Write the songs of one of ``NAMES`` as its library was when 0.1.0 last listed it, times included."""
    files: dict[str, Any] = json.loads((KEPT / name / "library.json").read_text())
    for path, file in files.items():
        target = library / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(KEPT / "songs" / file["song"], target)
        os.utime(target, ns=(file["modified_s"] * 10**9,) * 2)


def move(out: Path, places: Mapping[str, str]) -> None:
    """Have ``out`` be of a library and a destination elsewhere: paths, keys and the manifest's digest.

    Args:
        places: the first part of paths, and what stands there instead.
    """
    tables = {path: pq.read_table(path) for path in sorted(out.rglob("*.parquet"))}
    keys: dict[int, int] = {}
    for path, table in tables.items():
        if "uri" not in table.column_names:
            continue
        moved = _moved(table, places)
        keys |= zip(table[KEY].to_pylist(), moved[KEY].to_pylist(), strict=True)
        _write(path, moved)
    for path, table in tables.items():
        if "uri" not in table.column_names:  # one of Ray's marks: keys alone
            _write(path, _with_keys(table, [keys[key] for key in table[KEY].to_pylist()]))
    for path in out.rglob("*.json"):
        path.write_text(_replaced(path.read_text(), places))
    _set_digest(out / "manifest")


def set_holder(out: Path, *, host: str, pid: int) -> None:
    """Have the lock that a killed run left be that of another process; nothing where no lock was left."""
    path = out / "_checkpoint" / "lock.json"
    if path.exists():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"host": host, "pid": pid}))


def _replaced(text: str, places: Mapping[str, str]) -> str:
    """Replace each of ``places`` where it stands; of two that begin alike the longer one."""
    pattern = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
    return re.sub(pattern, lambda match: places[match[0]], text)


def _moved(table: pa.Table, places: Mapping[str, str]) -> pa.Table:
    for name in ("uri", "error_message"):
        if name in table.column_names:
            field = table.schema.field(name)
            texts = [None if text is None else _replaced(text, places) for text in table[name].to_pylist()]
            table = table.set_column(table.schema.get_field_index(name), field, pa.array(texts, field.type))
    names = ["uri", "size_bytes", "etag", "modified"]
    return _with_keys(table, [track_key(*(row[name] for name in names)) for row in table.select(names).to_pylist()])


def _with_keys(table: pa.Table, keys: list[int]) -> pa.Table:
    field = table.schema.field(KEY)
    return table.set_column(table.schema.get_field_index(KEY), field, pa.array(keys, field.type))


def _write(path: Path, table: pa.Table) -> None:
    """Write a file again, sorted by key where it was: what a compaction wrote is."""
    sorting = pq.read_metadata(path).row_group(0).sorting_columns
    if sorting:
        table = table.sort_by(KEY)
    pq.write_table(table, path, compression="zstd", sorting_columns=sorting or None)


def _set_digest(manifest: Path) -> None:
    path = manifest / "_manifest.json"
    marker = json.loads(path.read_text())
    parts = [pq.read_table(manifest / part, columns=[KEY])[KEY].to_numpy() for part in marker["parts"]]
    keys = np.sort(np.concatenate(parts))
    marker["digest"] = hashlib.sha256(keys.astype("<i8").tobytes()).hexdigest()[:16]
    path.write_text(json.dumps(marker, indent=1))
