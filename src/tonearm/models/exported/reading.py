"""The first reading of an exported graph, in a child process, and the cache of its results by the hash of the file.

::

    ~/.cache/tonearm/models/<hash>.graph/facts.json  answers.npy
        network.xml/.bin    or batched.xml/.bin, for any number of windows

The hash covers the file and its description. Later loads read the cached network, not the file itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from tonearm import own_process
from tonearm.errors import CheckpointError
from tonearm.models.exported import description as descriptions
from tonearm.models.exported.description import Description
from tonearm.models.exported.graph_child import PREFIX
from tonearm.models.exported.kept_graph import Facts
from tonearm.surroundings import cache_folder, user_cache

# After this long the child is stopped. A graph of a gigabyte is read, written, compiled and run in less.
TIMEOUT_S = 300.0


class StoredGraph(NamedTuple):
    """A graph in the cache: its facts, and the folder with its network."""

    facts: Facts
    folder: Path


def stored_graph(digest: str) -> StoredGraph:
    """Return what ``read`` has cached of a graph.

    Raises:
        CheckpointError: it was deleted since.
    """
    if (stored := _stored(digest)) is None:
        place = _below(cache_folder(), digest)
        raise CheckpointError(f"{place} has gone since the model was read; run the same command again")
    return stored


def digest_of(path: Path, description: Description) -> str:
    """Return ``sha256:`` and 16 digits over a graph's bytes, those of its weights beside it, and its description.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        stats = tuple((str(part), part.stat().st_size, part.stat().st_mtime_ns) for part in parts(path))
        files = _hash_files(stats)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
    # The essence, so that a later tonearm, whose descriptions have more fields, still finds the same revision.
    essence = json.dumps(descriptions.essence(description), sort_keys=True)
    return f"sha256:{hashlib.sha256(f'{files} {essence}'.encode()).hexdigest()[:16]}"


def parts(path: Path) -> list[Path]:
    """Return the files of a graph: itself, and its weights where they are apart."""
    beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    # ONNX may keep its weights in a second file; exporters call it by either name.
    beside += [path.with_name(f"{path.name}{end}") for end in (".data", "_data")] if path.suffix == ".onnx" else []
    return [path, *(path_beside for path_beside in beside if path_beside.is_file())]


def read(path: Path, description: Description, digest: str, *, num_threads: int = 2) -> Facts:
    """Return the facts about a graph: from the cache, or read now in a child process.

    Args:
        digest: see ``digest_of``.

    Raises:
        CheckpointError: it cannot be read, or is not what the description says.
    """
    if (stored := _stored(digest)) is not None:
        return stored.facts
    place = _below(cache_folder(), digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        # Another process may have read it while this one waited for the lock.
        facts = _facts(place)
        if facts is None:
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making-") as making:
                made = Path(making) / "graph"
                facts = _convert(path, description, made, num_threads)
                shutil.rmtree(place, ignore_errors=True)  # of another format, or of another version of OpenVINO
                made.rename(place)
    return facts


def _stored(digest: str) -> StoredGraph | None:
    places = [_below(cache_folder(), digest)]
    # The user's own cache may be read-only, so that another folder is written to, and still hold the graph.
    if (usual := user_cache()) is not None:
        places.append(_below(usual, digest))
    for place in places:
        if (facts := _facts(place)) is not None:
            return StoredGraph(facts, place)
    return None


def _facts(place: Path) -> Facts | None:
    facts = Facts.read(place)
    # Another version of OpenVINO may make another network of the same file, or say something else of it.
    return facts if facts is not None and facts.openvino == importlib.metadata.version("openvino") else None


def _below(cache: Path, digest: str) -> Path:
    return cache / "models" / f"{digest.replace(':', '-')}.graph"


def _convert(path: Path, description: Description, made: Path, num_threads: int) -> Facts:
    """Have a child make the network, and a second child the one for many windows; return the facts."""
    message = {"model": descriptions.to_json(description), "out": str(made)}
    _child("convert", path, num_threads, **message)
    facts = _facts(made)
    if facts is None:
        raise CheckpointError(f"{path}: the process that reads it has left nothing; try it again")
    if "batch" in facts.layout:
        # Its own process: a failed trial leaves OpenVINO in a state in which the next pass ends the process. A failure
        # means that the graph takes one window at a time, which is no error.
        with contextlib.suppress(CheckpointError):
            _child("batch", path, num_threads, **message)
        facts = _facts(made) or facts
    for leftover in made.iterdir():
        if leftover.suffix in (".xml", ".bin") and leftover.stem != Path(facts.network).stem:
            leftover.unlink()
    return facts


def inspect(path: Path, *, num_threads: int = 2) -> dict[str, Any]:
    """Return what a graph takes and gives, as ``graph.inspect`` does, from a child process.

    Raises:
        CheckpointError: it cannot be read.
    """
    described: dict[str, Any] = json.loads(_child("inspect", path, num_threads))
    return described


def _child(task: str, path: Path, num_threads: int, **message: object) -> str:
    """Have ``graph_child`` do what the message says; return what it says."""
    environment = own_process.environment(OMP_NUM_THREADS=str(num_threads), CUDA_VISIBLE_DEVICES="")
    try:
        ended = subprocess.run(
            own_process.command("tonearm.models.exported.graph_child"),
            input=json.dumps({"task": task, "path": str(path.absolute()), "num_threads": num_threads, **message}),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{path}: reading it took longer than {TIMEOUT_S:g} s and was ended") from None
    if not ended.returncode:
        return ended.stdout.rpartition(PREFIX)[2]
    lines = ended.stderr.strip().splitlines()
    reasons = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
    # A negative status is the signal that ended it: a stranger's file may well crash its reader.
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise CheckpointError(f"{path}: the process that reads it died of it ({name}); the file is damaged")
    reason = reasons[-1] if reasons else (lines or [f"its reader ended with status {ended.returncode}"])[-1][:300]
    raise CheckpointError(f"{path}: {reason}")


@functools.lru_cache(maxsize=32)
def _hash_files(stats: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stats:
        with Path(name).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()
