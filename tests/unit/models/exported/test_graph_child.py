"""The process that reads a graph answers in one line with a prefix, whatever else the libraries print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graphs import LABELS, save_wave_graph
from tonearm.models.exported.graph_child import PREFIX

pytestmark = pytest.mark.processes


def child(**message: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tonearm.models.exported.graph_child"]
    return subprocess.run(command, input=json.dumps(message), capture_output=True, text=True, check=False)


def test_what_a_graph_takes_and_gives_is_a_line_of_json(tmp_path: Path) -> None:
    ended = child(task="inspect", path=str(save_wave_graph(tmp_path / "wave.xml")), num_threads=1)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith(PREFIX)]
    outputs = json.loads(line.removeprefix(PREFIX))["outputs"]
    assert [output["num_scores"] for output in outputs] == [len(LABELS), 6]


def test_what_is_wrong_with_a_graph_is_a_line_on_the_standard_error(tmp_path: Path) -> None:
    (tmp_path / "wave.xml").write_text("no graph")
    ended = child(task="inspect", path=str(tmp_path / "wave.xml"), num_threads=1)
    assert ended.returncode == 1 and not ended.stdout
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith(PREFIX)]
    assert line.startswith(f"{PREFIX}OpenVINO cannot read it (")
