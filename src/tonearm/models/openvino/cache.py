"""Checkpoints in OpenVINO's form: made once, in a process of its own, and kept by the hash of their weights.

Converting takes up to half a minute and 1.5 GB for a large model, because torch traces it; loading what was made takes
half a second and no torch model. int8 needs windows of real audio to be calibrated and checked on, which a run takes
from what it is about to tag.

::

    ~/.cache/tonearm/models/<checkpoint>/facts.json  network.xml/.bin  features.safetensors
                                         int8.xml/.bin  int8.json      where int8 was asked for
                            <checkpoint>.rates.json                    see ``rates``
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from tonearm import own_process
from tonearm.errors import CheckpointError
from tonearm.storage.atomic import replacing_folder
from tonearm.surroundings import cache_folder, user_cache
from tonearm.wording import counted

# Raised when what a folder holds, or what it means, changes.
FORMAT = 3
# Where a checkpoint brings its own converted form.
BUNDLED_FOLDER = "openvino"

LEAST_AGREEMENT, MOST_MOVE = 0.99, 0.03


@dataclasses.dataclass(frozen=True)
class Int8Check:
    """How int8 did beside fp32 on windows that it was not calibrated on.

    Attributes:
        top1_agreement: share of windows with the same first label.
        largest_move: of any label's sigmoid score.
        refused: why int8 was not to be used when it was tried, or None; another head may read the same checkpoint
            otherwise, see ``refusal``.
    """

    num_calibrated: int
    num_checked: int
    top1_agreement: float
    largest_move: float
    refused: str | None = None

    def refusal(self, *, is_multi: bool) -> str | None:
        """Return why int8 is not to be used, or None.

        Args:
            is_multi: whether the labels are read independently, so that each one's score counts and not only which is
                first. The head decides that: many checkpoints of tags have no ``problem_type`` in their config.
        """
        if not self.num_checked:
            return None
        if self.top1_agreement < LEAST_AGREEMENT:
            return (
                f"the first label is the same in {self.top1_agreement:.1%} of {counted(self.num_checked, 'window')}, "
                "expected at least 99%"
            )
        if is_multi and self.largest_move > MOST_MOVE:
            return f"a score moves by {self.largest_move:.3f}, expected at most {MOST_MOVE}"
        return None


@dataclasses.dataclass(frozen=True)
class Converted:
    """A checkpoint's converted form."""

    folder: Path

    @property
    def network_path(self) -> Path:
        """The network in fp32, as OpenVINO's XML."""
        return self.folder / "network.xml"

    @property
    def int8_path(self) -> Path:
        """The quantized network; may not be there."""
        return self.folder / "int8.xml"

    @property
    def features_path(self) -> Path:
        """What ``features.load_features`` reads."""
        return self.folder / "features.safetensors"

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What was written beside it: the checkpoint's revision, what made it, and ``description``."""
        facts: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return facts

    @property
    def digest(self) -> str:
        """The checkpoint's revision."""
        return str(self.facts["checkpoint"])

    @property
    def description(self) -> dict[str, Any]:
        """The fields of ``CheckpointInfo`` that the checkpoint's files decide."""
        described: dict[str, Any] = self.facts["info"]
        return described

    def int8_verdict(self) -> Int8Check | None:
        """Return how int8 did, or None before it was tried."""
        found = read_json(self.folder / "int8.json")
        return Int8Check(**found) if found else None

    def settled_verdict(self, *, is_guarded: bool) -> Int8Check | None:
        """Return how int8 did, or None where that has still to be tried, or checked."""
        verdict = self.int8_verdict()
        return verdict if verdict is not None and (verdict.num_checked or not is_guarded) else None


def find(folder: Path, digest: str) -> Converted | None:
    """Return the converted form of the checkpoint in ``folder``, where there is one.

    Args:
        digest: the checkpoint's revision; see ``CheckpointInfo``.
    """
    return find_cached(digest) or _valid(folder / BUNDLED_FOLDER, digest)


def find_cached(digest: str) -> Converted | None:
    """Return the converted form that this machine has made of a checkpoint, where there is one."""
    usual = user_cache()
    # A cache that may only be read may hold it all the same.
    before = _valid(_below(usual, digest), digest) if usual is not None else None
    return before or _valid(place_of(digest), digest)


def _valid(place: Path, digest: str) -> Converted | None:
    facts = read_json(place / "facts.json")
    return Converted(place) if facts.get("format") == FORMAT and facts.get("checkpoint") == digest else None


def convert(
    source: str, folder: Path, digest: str, *, revision: str | None, allow_pickle: bool, num_threads: int
) -> Converted:
    """Return the converted form of a checkpoint, made now unless it was made before.

    Raises:
        CheckpointError: OpenVINO cannot run this model, or does not give the same scores.
    """
    if (found := find(folder, digest)) is not None:
        return found
    place = place_of(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if (found := find(folder, digest)) is not None:
            return found
        with replacing_folder(place) as made:  # one of another format may be there
            what = {"source": source, "revision": revision, "allow_pickle": allow_pickle, "checkpoint": digest}
            run_child({"task": "convert", "folder": str(made), "num_threads": num_threads, **what})
    return Converted(place)


def quantize(
    converted: Converted,
    windows: NDArray[np.float32],
    *,
    num_calibrated: int,
    is_guarded: bool,
    is_multi: bool,
    num_threads: int,
) -> Int8Check:
    """Quantize a converted checkpoint unless that was done before; return how it did.

    Args:
        windows: float32 [windows, samples] of real audio; some of them calibrate, the others check.
        is_guarded: whether to check at all, which says something only of a checkpoint that was trained.
        is_multi: see ``Int8Check.refusal``.

    Raises:
        CheckpointError: it cannot be quantized.
    """
    converted = _in_cache(converted)
    place = converted.folder
    with FileLock(f"{place}.lock"):
        if (verdict := converted.settled_verdict(is_guarded=is_guarded)) is not None:
            return verdict
        with tempfile.TemporaryDirectory(dir=place, prefix=".making-") as making:
            np.save(Path(making) / "windows.npy", windows)
            run_child(
                {
                    "task": "quantize",
                    "folder": str(place),
                    "making": making,
                    "num_calibrated": num_calibrated,
                    "is_guarded": is_guarded,
                    "is_multi": is_multi,
                    "num_threads": num_threads,
                }
            )
    verdict = converted.int8_verdict()
    assert verdict is not None
    return verdict


def read_json(path: Path) -> dict[str, Any]:
    """Return what was kept, or nothing: also where a full disk, or a process that was killed, left half of it."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def bundle_with_model(folder: Path, digest: str) -> None:
    """Put the converted form of a checkpoint into its own folder, so that who gets it need not convert it."""
    made = convert(str(folder), folder, digest, revision=None, allow_pickle=False, num_threads=2)
    files = pack(made)  # before what is there goes: it may be that
    shutil.rmtree(folder / BUNDLED_FOLDER, ignore_errors=True)
    (folder / BUNDLED_FOLDER).mkdir()
    for name, data in files.items():
        if not name.startswith("int8"):
            (folder / BUNDLED_FOLDER / name).write_bytes(data)


def pack(converted: Converted) -> dict[str, bytes]:
    """Return the files of a converted checkpoint, for a machine that has another disk."""
    return {path.name: path.read_bytes() for path in converted.folder.iterdir() if path.is_file()}


def unpack(digest: str, files: Mapping[str, bytes]) -> None:
    """Put what ``pack`` returned where ``find`` looks, unless the same is there."""
    place = place_of(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        found = _valid(place, digest)
        if found is not None and (found.int8_verdict() is not None or "int8.json" not in files):
            return
        with replacing_folder(place) as made:
            made.mkdir()
            for name, data in files.items():
                (made / name).write_bytes(data)


def _in_cache(converted: Converted) -> Converted:
    """Return the same form where it may be added to; one that a checkpoint brings along is left as it is."""
    place = place_of(converted.digest)
    if converted.folder != place:
        unpack(converted.digest, pack(converted))
    return Converted(place)


def place_of(digest: str) -> Path:
    """Return where this machine keeps a checkpoint's converted form."""
    return _below(cache_folder(), digest)


def _below(cache: Path, digest: str) -> Path:
    return cache / "models" / digest.replace(":", "-")


def run_child(message: dict[str, Any]) -> str:
    """Run ``models.openvino.convert`` in a process of its own, and return what it prints.

    What torch takes for it is given back when the process ends.

    Raises:
        CheckpointError: the process failed, with the last line that it said.
    """
    environment = own_process.environment(OMP_NUM_THREADS=str(message["num_threads"]), CUDA_VISIBLE_DEVICES="")
    made = subprocess.run(
        own_process.command("tonearm.models.openvino.convert"),
        input=json.dumps(message),
        capture_output=True,
        text=True,
        env=environment,
    )
    if made.returncode:
        lines = made.stderr.strip().splitlines() or [f"its process ended with status {made.returncode}"]
        raise CheckpointError(f"OpenVINO cannot take this model: {lines[-1][:300]}")
    return made.stdout
