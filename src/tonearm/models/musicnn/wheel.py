"""``tonearm models add musicnn``: get the published wheel from the package index and put its weights into the cache.

Nothing of the wheel is installed or run: its hash is checked, and its license and two files per model are read. This
project does not distribute the weights; users get them from where the authors published them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from safetensors.numpy import save_file

from tonearm.errors import CheckpointError
from tonearm.models.config_files import CONFIG, PREPROCESSOR
from tonearm.models.families.musicnn import EXTRACTOR
from tonearm.models.musicnn.named import find_added, place_of
from tonearm.models.musicnn.variables import NORMS, PUBLISHED, Published, config_of, read_weights
from tonearm.storage.filesystems import writing
from tonearm.surroundings import CACHE, user_cache

FILE = "musicnn-0.1.0-py3-none-any.whl"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
DOWNLOAD = ("download", "--no-deps", "--only-binary=:all:", "musicnn==0.1.0")
QUIETLY = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "30")
PAGE = "https://pypi.org/project/musicnn/0.1.0/#files"
LICENSE_FILE = "musicnn-0.1.0.dist-info/LICENSE.md"
NOTICE = """{name}: {folder} of musicnn 0.1.0, a model trained on {trained_on}.

Copyright (c) 2019 Music Technology Group, Universitat Pompeu Fabra; code and model by Jordi Pons. ISC license, see
LICENSE beside this file. From https://pypi.org/project/musicnn/0.1.0/ ({file}, SHA-256 {sha256});
https://github.com/jordipons/musicnn.

Changed by tonearm: the weights of the TensorFlow 1 checkpoint are stored as safetensors in torch's order of axes,
without the optimizer's moments. Their values are the same.

To cite: Jordi Pons and Xavier Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
late-breaking demo of the 20th International Society for Music Information Retrieval Conference, 2019
(arXiv:1909.06654).
"""


def add(name: str, wheel: Path | None = None) -> Path:
    """Return the folder of a published model in the cache, adding it unless it is there.

    Several processes may do so at once: one adds it and the others wait. A folder that exists is complete.

    Args:
        name: ``musicnn`` or ``musicnn-msd``.
        wheel: the package's file, for machines without a network; otherwise pip fetches it.

    Raises:
        CheckpointError: no such model, or the wheel cannot be had or is not the published one; nothing is left behind.
    """
    model = next((published for published in PUBLISHED if published.name == name), None)
    if model is None:
        raise CheckpointError(f"got {name}, expected one of {', '.join(published.name for published in PUBLISHED)}")
    if wheel is not None:
        check(wheel)
    was_given = CACHE in os.environ
    if (added := find_added(name)) is not None:
        return added
    place = place_of(name)
    # Asking for the place has chosen a temporary folder for this process, because the user's cache cannot be written.
    if not was_given and CACHE in os.environ:
        raise CheckpointError(
            f"got no folder that {name} could be kept in: {user_cache() or '~/.cache'} cannot be written; set {CACHE} "
            "to one that can"
        )
    with writing(str(place.parent)):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if (added := find_added(name)) is not None:
                return added
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making-") as making, _at_hand(wheel) as file:
                made = Path(making) / "model"
                made.mkdir()
                unpack(model, file, made)
                shutil.rmtree(place, ignore_errors=True)  # a folder without a config is not a model
                made.rename(place)
    return place


def check(wheel: Path) -> None:
    """Refuse a file that is not the published wheel.

    Raises:
        CheckpointError: with both hashes, or why it cannot be read.
    """
    try:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{wheel} cannot be read ({error.strerror or error}); give {FILE}") from None
    if digest != SHA256:
        raise CheckpointError(
            f"{wheel} has the SHA-256 {digest[:16]}..., expected {SHA256[:16]}... of {FILE}: it is damaged or another "
            f"file; download it again from {PAGE}"
        )


def unpack(model: Published, wheel: Path, folder: Path) -> None:
    """Write a model of a wheel into a folder, as torch weights with its description, license and notice.

    Raises:
        CheckpointError: the wheel does not hold the model.
    """
    try:
        with zipfile.ZipFile(wheel) as files:
            index = files.read(f"musicnn/{model.folder}/.index")
            data = files.read(f"musicnn/{model.folder}/.data-00000-of-00001")
            license_text = files.read(LICENSE_FILE)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{wheel} does not hold {model.folder} ({error}); give {FILE}") from None
    weights = read_weights(index, data)
    # torch's norms expect a count of batches, which TensorFlow does not store; it does not matter for scoring.
    counts = {f"{norm}.num_batches_tracked": np.zeros((), np.int64) for norm in NORMS}
    save_file({**weights, **counts}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "LICENSE").write_bytes(license_text.strip() + b"\n")
    notice = NOTICE.format(**model._asdict(), file=FILE, sha256=SHA256)
    (folder / "NOTICE").write_text(notice, encoding="utf-8")
    for file, values in ((PREPROCESSOR, EXTRACTOR), (CONFIG, config_of(model, weights))):
        (folder / file).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _at_hand(wheel: Path | None) -> Iterator[Path]:
    """Yield the given wheel, or one that is fetched and deleted again."""
    if wheel is not None:
        yield wheel
        return
    with tempfile.TemporaryDirectory(prefix="tonearm-wheel-") as folder:
        file = Path(folder) / FILE
        _fetch(file)
        check(file)
        yield file


def _fetch(file: Path) -> None:
    pip = _pip()
    if pip is None:
        raise CheckpointError(f"pip, which would fetch musicnn, is not here; {_by_hand()}")
    fetched = subprocess.run(
        [*pip, *DOWNLOAD, *QUIETLY, "--dest", str(file.parent)], capture_output=True, text=True, check=False
    )
    if fetched.returncode or not file.is_file():
        errors = [line for line in fetched.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with status {fetched.returncode}"
        raise CheckpointError(f"musicnn cannot be fetched from the package index (pip: {reason[:200]}); {_by_hand()}")


def _pip() -> Sequence[str] | None:
    """Return the command of this Python's own pip, or of the user's; None where there is none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    pip = shutil.which("pip") or shutil.which("pip3")
    return None if pip is None else [pip]


def _by_hand() -> str:
    return f"download {FILE} from {PAGE} where there is a network, and give it here: --wheel FILE"
