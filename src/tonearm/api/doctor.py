"""What this machine has, what is missing, what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil

from tonearm import __version__, demo
from tonearm.api.environment import VARIABLES
from tonearm.errors import TonearmError
from tonearm.exports.registry import EXPORTERS
from tonearm.heads import INSTALLED
from tonearm.models.families import FAMILIES
from tonearm.models.musicnn import named
from tonearm.models.openvino.rates import known_rates
from tonearm.models.runtimes import gpu_names, usable_cores
from tonearm.settings import GENRE_MODEL, TAG_MODEL, DecodeSettings
from tonearm.sources.registry import SOURCES
from tonearm.wording import counted


class Finding(NamedTuple):
    """One line of the report; ``status`` is ok, note or bad."""

    name: str
    status: str
    text: str


HINT = "; see `tonearm doctor`"
GPU_BATCH = 4


def doctor() -> Iterator[Finding]:
    """Yield what was found, one check after the other; one that fails is a finding, and the others still run."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "machine": _machine,
        "packages": _packages,
        "added": _added,
        "environment": _environment,
        "object storage": _storage,
        "decoding": _decoding,
        "ray": _ray,
        "gpu": _gpus,
        "models": _models,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001  whatever a machine does that nobody has thought of is what it is for
            yield Finding(name, "bad", _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, TonearmError):
        return error.message.removesuffix(HINT)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _machine() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    text = f"tonearm {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("machine", "ok", f"{text}, {counted(usable_cores(), 'core')}")
    free = memory.available / 2**30
    yield Finding(
        "memory",
        "ok" if free >= 4 else "note",
        f"{free:.1f} of {memory.total / 2**30:.1f} GiB free; a run takes about 4",
    )
    shared = shutil.disk_usage("/dev/shm").free / 2**30 if os.path.isdir("/dev/shm") else None
    if shared is not None and shared < 1:
        yield Finding(
            "/dev/shm", "note", f"{shared:.1f} GiB free; Ray keeps decoded audio there: `docker run --shm-size=4g`"
        )
    for folder in {tempfile.gettempdir(), os.environ.get("RAY_TMPDIR", "/tmp")}:
        disk = shutil.disk_usage(folder).free / 2**30
        yield Finding("disk", "ok" if disk >= 5 else "note", f"{disk:.0f} GiB free under {folder}")


def _packages() -> Iterator[Finding]:
    present, absent = [], []
    for name in ("ray", "torch", "transformers", "openvino", "av", "pyarrow", "s3fs"):
        try:
            present.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    yield Finding("packages", "ok", ", ".join(present))
    if absent:
        yield Finding("packages", "bad", f"not installed: {', '.join(absent)}; install tonearm again")
    for name, use in (
        ("nncf", "precision int8"),
        ("datasets", "hf:// and saved data sets"),
        ("gcsfs", "gs:// sources"),
        ("adlfs", "az:// sources"),
    ):
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "note", f"not installed; only needed for {use}")


def _added() -> Iterator[Finding]:
    for registry in (FAMILIES, SOURCES, EXPORTERS, INSTALLED):
        outside = registry.outside()
        for name in outside.usable:
            yield Finding("added", "ok", f"{registry.noun} {name}")
        for line in outside.problems:
            yield Finding("added", "note", line)


def _environment() -> Iterator[Finding]:
    """Yield the variables that are set and decide something here; ``_storage`` says those of object storage."""
    for variable in VARIABLES:
        if variable.value and not variable.name.startswith("AWS_") and variable.name != "PYTHONPATH":
            yield Finding("environment", "ok", f"{variable.name}={variable.value}: {variable.help}")


def _storage() -> Iterator[Finding]:
    names = [name for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL") if os.environ.get(name)]
    text = f"{', '.join(names)} set" if names else "no AWS_ variables; s3:// then uses ~/.aws or the instance's role"
    yield Finding("object storage", "ok" if names else "note", text)


def _decoding() -> Iterator[Finding]:
    import numpy as np
    import soundfile

    from tonearm.audio.decode import DecodeRequest
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.audio.windows import WindowPlan

    with tempfile.NamedTemporaryFile(suffix=".flac") as file:
        soundfile.write(file.name, np.sin(np.arange(44100) / 20).astype(np.float32), 44100)
        plan = WindowPlan(16000, 16000, 16000, None, 400)
        with DecodeSandbox(DecodeSettings()) as sandbox:
            track = sandbox.decode(file.read(), DecodeRequest((plan,), 60.0))
        yield Finding("decoding", "ok", f"a {track.info.codec} file of {track.info.duration_s:g} s in a child process")


def _ray() -> Iterator[Finding]:
    from tonearm.distributed.cluster import session

    where = os.environ.get("RAY_ADDRESS", "a local Ray")
    # While it is joined, what is printed goes to its log.
    with session.session(None) as layout:
        gpus = f", {layout.scorer_gpus:g} GPU each" if layout.scorer_gpus else ""
        threads = counted(layout.scorer_threads, "thread")
        text = f"{where}: scoring with {layout.num_scorers} × {threads}{gpus}"
    yield Finding("ray", "ok", text)


def _gpus() -> Iterator[Finding]:
    names = gpu_names()
    if not names:
        return
    from tonearm.models.classifier import Classifier

    # A small model that is always there: whether a card does what it should shows in any.
    described = Classifier.load(demo.models()["genre_model"], runtime="torch", batch_size=GPU_BATCH).describe()
    graphs = "with graphs" if described["passes"] == "graphs" else "without graphs"
    note = described["note"] or "which says what fp32 says"
    text = f"{names[0]}: {described['precision']} {graphs}, {note}"
    yield Finding("gpu", "bad" if described["note"] else "ok", text)


def _models() -> Iterator[Finding]:
    from tonearm.models.checkpoint import describe_checkpoint

    for source in (GENRE_MODEL, TAG_MODEL):
        try:
            info = describe_checkpoint(source)
            speed = "".join(f", {rate}" for rate in known_rates(info.revision))
            yield Finding("model", "ok", f"{info.name}: {counted(len(info.labels), 'label')}, {info.family}{speed}")
        except TonearmError as error:
            yield Finding("model", "note", error.message)
    for name in named.NAMES:
        folder = named.find_added(name)
        text = (
            f"{name}: in {folder}" if folder else f"`tonearm models add {name}` fetches it: real music without the hub"
        )
        yield Finding("model", "ok" if folder else "note", text)
