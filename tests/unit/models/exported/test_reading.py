"""A graph is read once, in a child process that may end in any way, and kept by its hash."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.graphs import save_described, save_wave_graph, windows
from tonearm import own_process
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.exported import reading

pytestmark = pytest.mark.processes


def test_another_file_or_description_is_another_revision(tmp_path: Path) -> None:
    folder = save_described(tmp_path / "wave")
    first = describe_checkpoint(str(folder)).revision
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert describe_checkpoint(str(copied)).revision == first
    save_wave_graph(folder / "wave.xml", gain=41.0)
    second = describe_checkpoint(str(folder)).revision
    values = json.loads((folder / "tonearm.json").read_text())
    values["model"]["hop_s"] = 0.1
    (folder / "tonearm.json").write_text(json.dumps(values))
    third = describe_checkpoint(str(folder)).revision
    assert len({first, second, third}) == 3
    values["calibration"] = {"temperature": 2.0, "thresholds": {}, "precision": 0.9}
    (folder / "tonearm.json").write_text(json.dumps({**values, "more": 1}))
    assert describe_checkpoint(str(folder)).revision == third  # a calibration is a fact of its own


def test_a_graph_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe_checkpoint(str(model))
    monkeypatch.setattr(own_process, "command", lambda *_: pytest.fail("a second child"))
    assert describe_checkpoint(str(model)) == info
    Classifier.load(str(model)).score(windows(1))


def test_a_file_that_ends_its_reader_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_described(tmp_path / "wave", licence="of this test")
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
    monkeypatch.setattr(own_process, "command", lambda *_: killed)
    with pytest.raises(CheckpointError, match=r"wave.xml: the process that reads it died of it \(SIGSEGV\)"):
        describe_checkpoint(str(folder))
    monkeypatch.undo()
    assert describe_checkpoint(str(folder)).embedding_dim == 6  # nothing was kept of it


def test_a_file_that_its_reader_hangs_on_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_described(tmp_path / "wave", licence="of another test")
    monkeypatch.setattr(
        own_process, "command", lambda *_: [sys.executable, "-c", "input(); import time; time.sleep(99)"]
    )
    monkeypatch.setattr(reading, "TIMEOUT_S", 0.5)
    with pytest.raises(CheckpointError, match=r"reading it took longer than 0\.5 s and was ended"):
        describe_checkpoint(str(folder))
