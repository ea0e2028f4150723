"""A destination's store that fails once, at any of its requests: one line each time, never a traceback."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import PyFileSystem

from tests.tables import STARTED, make_row, make_run, write_tracks
from tonearm.errors import DestinationError
from tonearm.exports import export
from tonearm.planning import estimate
from tonearm.runs import compaction, groups, progress, resume, todo
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.runs.manifest import manifest
from tonearm.runs.progress import Progress
from tonearm.runs.run_summary import read_run
from tonearm.runs.status import read_status
from tonearm.storage import filesystems
from tonearm.storage.uris import local_path

REQUESTS = ("ls", "info", "cat_file", "_open", "rm_file", "exists")


class Fault:
    """Fails the ``number``-th request of this process, as a store that is away for a moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for name in REQUESTS:
            monkeypatch.setattr(LocalFileSystem, name, self._wrapped(getattr(LocalFileSystem, name)))
        # Arrow's own local file system would not pass through here.
        handled = PyFileSystem(filesystems.ObjectStoreHandler(LocalFileSystem()))
        through = lambda url: filesystems.ArrowPath(handled, local_path(url))  # noqa: E731
        monkeypatch.setattr(filesystems, "arrow_filesystem", through)

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def request(*values: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.EIO, "the store is away")
            return real(*values, **named)

        return request


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    """Three files of rows, one row doubled, a killed run's half of a file and a killed compaction's."""
    destination = Destination.of(str(tmp_path / "out"))
    music = tmp_path / "music"
    music.mkdir()
    for number in range(6):
        (music / f"{number}.mp3").write_bytes(b"x" * (number + 1))
    listed = manifest.write_manifest([str(music)], destination.manifest)
    keys, random = listed.keys.tolist(), np.random.default_rng(0)
    for number in range(3):
        rows = [make_row(n, random, track_key=keys[n]) for n in (2 * number, 2 * number + 1, 0)]
        write_tracks(destination.url, rows[: 3 if number else 2], name=f"w_{number}-0.parquet")
    folder = Path(destination.checkpoint(groups.write(destination, {"genre": Group({}), "tags": Group({})})))
    (folder / "half_0.pending.parquet").parent.mkdir()
    (folder / "half_0.pending.parquet").touch()
    Path(destination.tracks, "half_0-0.parquet").write_bytes(b"PAR1")
    (folder.parent / "compaction").mkdir()
    (folder.parent / "compaction" / "abc.pending").touch()
    (folder.parent / "compaction" / "def.json").write_text('{"superseded": []}')
    progress.write(destination, Progress("r", "tagging", STARTED, STARTED))
    (folder.parent / "plan.json").write_text('{"audio_s": 1, "wall_s": 1, "num_tracks": 1}')
    make_run(destination.url)
    return destination


def write_todo(place: Destination) -> object:
    parts = manifest.read_manifest(place.manifest).parts
    fresh = todo.write_todo(place, parts, np.empty(0, np.int64))
    return fresh + todo.write_todo(place, parts, manifest.read_keys(place.manifest)[:3])


def write_rewrites(place: Destination) -> object:
    todo.write_todo(place, (), np.empty(0, np.int64))  # which clears the folder
    found = resume.read_rows(place, {})
    return todo.write_rewrites(place, found.rewrites(np.sort(found.keys), ["genre"], retry_errors=False))


@pytest.mark.parametrize(
    "step",
    [
        lambda place: compaction.recover(place),
        lambda place: compaction.compact(place),
        lambda place: resume.read_rows(place, {}),
        write_todo,
        write_rewrites,
        lambda place: read_status(place.url),
        lambda place: read_run(place.url),
        lambda place: estimate.read_estimate(place),
        lambda place: groups.read(place),
        lambda place: export.export(place.url, "csv", f"{place.url}.csv", overwrite=True),
    ],
    ids=["recover", "compact", "find", "todo", "again", "status", "run", "kept", "groups", "export"],
)
def test_each_request_may_fail_and_the_next_time_it_is_as_if_nothing_was(
    place: Destination, monkeypatch: pytest.MonkeyPatch, step: Callable[[Destination], object]
) -> None:
    fault = Fault(monkeypatch)
    for number in range(1, 1000):
        fault.left = number
        try:
            step(place)
        except DestinationError as error:
            assert "\n" not in error.message
            assert "out of tracks/" not in error.message, "nobody should move a file because its store was away"
        if fault.left > 0:
            break  # it needed fewer requests than that
    fault.left = -1
    assert sorted(resume.read_rows(place, {}).complete([]).tolist()) == manifest.read_keys(place.manifest).tolist()


def test_what_may_not_be_deleted_is_said(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a bucket whose keys may write and not delete: nothing is wrong with writing there."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "AccessDenied")

    monkeypatch.setattr(LocalFileSystem, "rm_file", refused)
    with pytest.raises(DestinationError, match=r"cannot be deleted .*a place where you may delete"):
        compaction.recover(place)
