"""Where exported graphs are: a file by its name, or a folder that holds one, with ``tonearm.json`` beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from tonearm.errors import CheckpointError
from tonearm.models.calibration import FILE, read_sidecar
from tonearm.models.exported import reading
from tonearm.models.exported.description import MIN_WINDOW_S, SUFFIXES

GRAPH_FILES = [f"*{suffix}" for suffix in SUFFIXES]
CONFIG = "config.json"


class Fetch(Protocol):
    """Downloads those files of a hub id that match a pattern, and returns their folder."""

    def __call__(self, *, patterns: list[str]) -> Path: ...


def is_graph_file(source: str) -> bool:
    """Return whether ``source`` is the file of an exported graph, by its name, here or in an object store."""
    return source.endswith(SUFFIXES) and not Path(source).is_dir()


def local_folder(source: str) -> Path | None:
    """Return the folder on this machine that a model's ``tonearm.json`` is in; None for a model that is elsewhere."""
    folder = Path(source).parent if is_graph_file(source) else Path(source)
    return folder if "://" not in source and folder.is_dir() else None


def has_graph(folder: Path) -> bool:
    """Return whether a folder holds an exported graph, described or not, and no transformers checkpoint.

    Raises:
        CheckpointError: its ``tonearm.json`` cannot be understood.
    """
    return read_sidecar(folder).model is not None or (not (folder / CONFIG).is_file() and bool(_graphs(folder)))


def describe_graph(source: str, folder: Path, fetch: Fetch | None) -> dict[str, Any]:
    """Return the fields of ``CheckpointInfo``; a graph that is not in the cache is read in a child process.

    Args:
        source: what a person gave: the folder, the file or a hub id.
        folder: where ``tonearm.json`` is.
        fetch: for a hub id.

    Raises:
        CheckpointError: it is not described, or not what its description says.
    """
    sidecar, file_name = read_sidecar(folder), source.rpartition("/")[2] if is_graph_file(source) else None
    described = sidecar.model
    if described is None or file_name not in (None, described.file):
        file = file_name or _graphs(folder)[0]
        what = "is not described" if described is None else f"is not what its {FILE} describes ({described.file})"
        raise CheckpointError(
            f"{source}: {file} {what}, so nothing says what it takes and what its scores are; run `tonearm models add "
            f"{file} --labels LABELS.csv --front-end ...`, which writes {FILE} beside it"
        )
    # Only now are the files known; a hub repository may hold gigabytes of others.
    if fetch is not None:
        folder = fetch(patterns=[described.file, f"{described.file}*", f"{Path(described.file).stem}.bin"])
    path = folder / described.file
    if not path.is_file():
        raise CheckpointError(f"{source} has no {described.file}, which its {FILE} describes; put it there")
    digest = reading.digest_of(path, described)
    facts = reading.read(path, described, digest)
    return {
        "name": source if fetch is not None else path.stem if file_name else folder.resolve().name,
        "revision": digest if fetch is None else folder.name,
        "family": f"exported-{path.suffix[1:]}",
        "labels": described.labels,
        "sample_rate": described.sample_rate,
        # Of whole samples, as the graph's input has them, not the seconds that a person wrote down.
        "native_window_s": described.window_samples / described.sample_rate,
        "min_samples": max(1, round(MIN_WINDOW_S * described.sample_rate)),
        "embedding_dim": facts.embedding_dim,
        "num_parameters": facts.num_parameters,
        "multi_label": facts.multi_label,
        "sidecar": sidecar,
        "hop_s": described.hop_s,
        "digest": digest,
    }


def _graphs(folder: Path) -> list[str]:
    return sorted(path.name for pattern in GRAPH_FILES for path in folder.glob(pattern))
