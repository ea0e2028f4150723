"""``tonearm doctor``: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tonearm import __version__
from tonearm.errors import TonearmError
from tonearm.library.uris import visible


class Finding(NamedTuple):
    """One line of the report; ``status`` is ok, note or bad."""

    name: str
    status: str
    text: str


def doctor() -> int:
    """Print the findings; return 0 when nothing is bad, else 1."""
    marks = {"ok": "green", "note": "yellow", "bad": "red"}
    table = Table(box=None, pad_edge=False, show_header=False)
    findings = list(examine())
    for finding in findings:
        table.add_row(Text(finding.status, style=marks[finding.status]), finding.name, visible(finding.text))
    Console(markup=False, emoji=False).print(table)
    return 1 if any(finding.status == "bad" for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Yield what was found, one check after the other."""
    checks: list[Callable[[], Iterator[Finding]]] = [_machine, _packages, _storage, _decoding, _ray, _models]
    for check in checks:
        yield from check()


def _machine() -> Iterator[Finding]:
    from tonearm.models.runtimes import usable_cores

    memory = psutil.virtual_memory()
    text = f"tonearm {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("machine", "ok", f"{text}, {usable_cores()} cores")
    free = memory.available / 2**30
    yield Finding(
        "memory",
        "ok" if free >= 4 else "note",
        f"{free:.1f} of {memory.total / 2**30:.1f} GiB free; a run takes about 4",
    )
    shared = shutil.disk_usage("/dev/shm").free / 2**30 if os.path.isdir("/dev/shm") else None
    if shared is not None and shared < 1:
        yield Finding(
            "/dev/shm", "note", f"{shared:.1f} GiB free; Ray keeps decoded audio there: docker run --shm-size=4g"
        )
    for folder in {tempfile.gettempdir(), os.environ.get("RAY_TMPDIR", "/tmp")}:
        disk = shutil.disk_usage(folder).free / 2**30
        yield Finding("disk", "ok" if disk >= 5 else "note", f"{disk:.0f} GiB free under {folder}")


def _packages() -> Iterator[Finding]:
    names = ("ray", "torch", "transformers", "openvino", "av", "pyarrow", "s3fs")
    yield Finding("packages", "ok", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
    for name, use in (
        ("nncf", "--precision int8"),
        ("datasets", "hf:// and saved data sets"),
        ("gcsfs", "gs:// sources"),
        ("adlfs", "az:// sources"),
    ):
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "note", f"not installed; only needed for {use}")


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
    from tonearm.settings import DecodeSettings

    with tempfile.NamedTemporaryFile(suffix=".flac") as file:
        soundfile.write(file.name, np.sin(np.arange(44100) / 20).astype(np.float32), 44100)
        plan = WindowPlan(16000, 16000, 16000, None, 400)
        try:
            with DecodeSandbox(DecodeSettings()) as sandbox:
                track = sandbox.decode(file.read(), DecodeRequest((plan,), 60.0))
            yield Finding(
                "decoding", "ok", f"a {track.info.codec} file of {track.info.duration_s:g} s in a child process"
            )
        except TonearmError as error:
            yield Finding("decoding", "bad", error.message)


def _ray() -> Iterator[Finding]:
    from tonearm.distributed import cluster

    where = os.environ.get("RAY_ADDRESS", "a local Ray")
    try:
        with cluster.session(None) as layout:
            gpus = f", {layout.scorer_gpus:g} GPU each" if layout.scorer_gpus else ""
            yield Finding(
                "ray", "ok", f"{where}: scoring with {layout.num_scorers} × {layout.scorer_threads} threads{gpus}"
            )
    except TonearmError as error:
        yield Finding("ray", "bad", error.message)


def _models() -> Iterator[Finding]:
    from tonearm.models.checkpoint import describe_checkpoint
    from tonearm.settings import GENRE_MODEL, TAG_MODEL

    for source in (GENRE_MODEL, TAG_MODEL):
        try:
            info = describe_checkpoint(source)
            yield Finding("model", "ok", f"{info.name}: {len(info.labels)} labels, {info.family}")
        except TonearmError as error:
            yield Finding("model", "note", error.message)
