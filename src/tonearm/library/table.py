"""Reading ``tracks/*.parquet`` a batch at a time, however many rows there are.

A file whose two-phase mark is still *pending* is left out: its tracks are tagged again by the next run.
A changed object is a new version and has a row of its own; ``latest`` says which version of each URI counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tonearm.errors import DestinationError
from tonearm.library import schema, stores, track_files
from tonearm.library.runs import KEY, Destination, among
from tonearm.library.uris import shown

BATCH_ROWS = 4096
# One batch is decoded while one is in use; the next file is opened meanwhile. More only costs memory.
BATCH_READAHEAD = 2
FRAGMENT_READAHEAD = 2
EMBEDDINGS = ("genre_embedding", "tag_embedding")


@dataclasses.dataclass(frozen=True)
class LatestTracks:
    """The newest version of each URI.

    Attributes:
        keys: int64 [tracks], sorted.
        num_older: rows of earlier versions, which ``keys`` leaves out.
    """

    keys: NDArray[np.int64]
    num_older: int


def track_paths(destination: str) -> list[str]:
    """Return the finished files of ``tracks/``, sorted, as paths on the destination's file system.

    Raises:
        DestinationError: the destination cannot be read.
    """
    with _reading(destination):
        return [file.path for file in track_files.finished(destination)]


def open_tracks(destination: str) -> ds.Dataset:
    """Return the rows of ``destination`` as a data set of ``schema.TRACKS``; no row is read yet.

    Args:
        destination: a folder or an object-store prefix that ``tonearm tag`` has written.

    Raises:
        DestinationError: there is no finished file in its ``tracks/``.
    """
    paths = track_paths(destination)
    if not paths:
        raise DestinationError(
            f"{destination}: no tracks here (expected {Destination(destination).tracks}/*.parquet); "
            f"give a destination that `tonearm tag SOURCE --out {destination}` has written"
        )
    filesystem, _ = stores.arrow_filesystem(Destination(destination).tracks)
    return ds.dataset(paths, schema=schema.TRACKS, filesystem=filesystem, format="parquet")


def num_rows(destination: str) -> int:
    """Return how many rows there are, all versions counted, from the files' footers.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
    """
    with _reading(destination):
        return open_tracks(destination).count_rows()


def scan(
    destination: str,
    columns: Sequence[str],
    filter: ds.Expression | None = None,
    *,
    keys: NDArray[np.int64] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows batch by batch, in the order of the files; columns not asked for are not read.

    Args:
        columns: names of ``schema.TRACKS``.
        filter: an Arrow expression over any of the columns.
        keys: int64 [n] sorted; only rows whose key is among them.
        batch_rows: at most so many rows at a time; take fewer for ``windows`` and embeddings.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
    """
    wanted = list(columns) if keys is None or KEY in columns else [*columns, KEY]
    dataset = open_tracks(destination)
    with _reading(destination):
        batches = dataset.to_batches(
            columns=wanted,
            filter=filter,
            batch_size=batch_rows,
            batch_readahead=BATCH_READAHEAD,
            fragment_readahead=FRAGMENT_READAHEAD,
        )
    while True:
        with _reading(destination):
            batch = next(batches, None)
        if batch is None:
            return
        if keys is not None:
            batch = batch.filter(pa.array(among(batch[KEY].to_numpy(), keys))).select(list(columns))
        if batch.num_rows:
            yield batch


def read_keys(destination: str) -> NDArray[np.int64]:
    """Return int64 [rows]: the key of every row, sorted; a key that stands twice was written twice.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
    """
    parts = [batch[KEY].to_numpy() for batch in scan(destination, [KEY])]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def latest(destination: str) -> LatestTracks:
    """Return which rows hold the latest version of each URI, whether that one succeeded or failed.

    The latest has the highest ``modified``; among equals (stores that give none) it is the one of the latest run,
    then the one with the highest key. Holds 32 bytes a row.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
    """
    # 64-bit digests of a million URIs collide with a chance of 3e-8, and take a tenth of the URIs' memory.
    uris: list[NDArray[np.uint64]] = []
    columns: dict[str, list[NDArray[np.int64]]] = {KEY: [], "modified": [], "run": []}
    runs: dict[str | None, int] = {}
    for batch in scan(destination, [KEY, "uri", "modified", "run_id"]):
        uris.append(digests(batch["uri"].to_pylist()))
        columns[KEY].append(batch[KEY].to_numpy())
        moments = pc.fill_null(batch["modified"].cast(pa.int64()), np.iinfo(np.int64).min)
        columns["modified"].append(moments.to_numpy())
        encoded = batch["run_id"].dictionary_encode(null_encoding="encode")
        numbers = [runs.setdefault(run, len(runs)) for run in encoded.dictionary.to_pylist()]
        columns["run"].append(np.array(numbers, np.int64)[encoded.indices.to_numpy()])
    if not uris:
        return LatestTracks(np.empty(0, np.int64), 0)
    uri = np.concatenate(uris)
    key, modified, run = (np.concatenate(columns.pop(name)) for name in (KEY, "modified", "run"))
    # A run's id opens with its start, so its place among the sorted ids is its place in time.
    by_time = sorted(runs, key=lambda name: name or "")
    rank = np.empty(len(runs), np.int64)
    rank[[runs[name] for name in by_time]] = np.arange(len(runs))
    order = np.lexsort((key, rank[run], modified, uri))
    is_last = np.append(uri[order][1:] != uri[order][:-1], True)
    keys = np.sort(key[order[is_last]])
    return LatestTracks(keys, len(key) - len(keys))


def digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return uint64 [n]: a number for each text, equal for equal texts in every process."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.uint64)


@contextlib.contextmanager
def _reading(destination: str) -> Iterator[None]:
    """Turn what can go wrong while reading into one line; around the reading alone, not around what uses the rows."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DestinationError(
            f"{destination}: a file of tracks/ is not what `tonearm tag` writes ({stores.reason(error)}); "
            "delete that file and run `tonearm tag` again: its tracks will be tagged anew"
        ) from None
    except stores.store_errors(stores.scheme(destination)) as error:
        raise DestinationError(
            f"{shown(destination)}: tracks/ cannot be read ({stores.reason(error)}); see `tonearm doctor`"
        ) from None
