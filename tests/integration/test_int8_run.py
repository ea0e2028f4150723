"""``tonearm tag --precision int8``: calibrated on the library itself, once, and used where it says what fp32 says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import one_process
from tests.commands import read_tracks, tonearm
from tests.rays import nodes
from tonearm.demo.library import write_library

pytestmark = pytest.mark.slow

LEAST_SAME, MOST_MOVE = 0.99, 0.03


def run_of(out: Path) -> dict[str, Any]:
    (summary,) = (out / "runs").glob("*.json")
    run: dict[str, Any] = json.loads(summary.read_text())
    return run


def test_a_library_calibrates_its_own_models_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 is quantized once on the library itself, and every worker of a cluster uses that."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    music = tmp_path / "music"
    write_library(music, num_tracks=27, seed=11, min_s=31, max_s=34)  # whole windows of both models are in each
    run = one_process.tonearm("tag", music, "--out", tmp_path / "exact", "--demo-models", "--precision", "fp32")
    assert run.returncode == 0, run.stderr
    run = tonearm("tag", music, "--out", tmp_path / "first", "--demo-models", "--precision", "int8")
    assert run.returncode == 0, run.stderr
    assert "calibrating int8 for genre" in run.stderr
    exact = {row["uri"]: row for row in read_tracks(tmp_path / "exact").to_pylist() if row["status"] == "ok"}
    models = run_of(tmp_path / "first")
    rows = [row for row in read_tracks(tmp_path / "first").to_pylist() if row["status"] == "ok"]
    assert len(rows) == len(exact) == 27
    for head in ("genre", "tag"):
        model = models[f"{head}_model"]
        # Fallen back or not, what it says is what fp32 says; and where it fell back it says why.
        assert model["precision"] == "int8" or "not int8" in model["note"]
    same = [row["genre"] == exact[row["uri"]]["genre"] for row in rows]
    assert sum(same) >= LEAST_SAME * len(same)
    for row in rows:
        wanted = {tag["label"]: tag["score"] for tag in exact[row["uri"]]["tags"]}
        for tag in row["tags"]:
            assert abs(tag["score"] - wanted.get(tag["label"], tag["score"])) <= MOST_MOVE
    check_a_cluster_is_given_what_was_quantized_here(music, tmp_path, models)


def check_a_cluster_is_given_what_was_quantized_here(music: Path, folder: Path, local: dict[str, Any]) -> None:
    """What this machine has quantized before it quantizes no more; the cluster's have an empty cache of their own."""
    elsewhere = folder / "elsewhere"
    with nodes(1, XDG_CACHE_HOME=str(elsewhere)) as cluster:
        where = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
        command = ["tag", music, "--out", folder / "cluster", "--demo-models", "--precision", "int8"]
        run = tonearm(*command, **where)
    assert run.returncode == 0, run.stderr
    assert "calibrating" not in run.stderr
    there = run_of(folder / "cluster")
    precisions = [[models[f"{head}_model"]["precision"] for head in ("genre", "tag")] for models in (there, local)]
    assert precisions[0] == precisions[1]
    assert "int8" in precisions[0]
    assert list(elsewhere.rglob("int8.json"))
