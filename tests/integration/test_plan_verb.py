"""``tonearm plan`` and the run that it was made for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import read_tracks
from tests.one_process import tonearm


@pytest.mark.slow
def test_the_plan_is_near_what_the_run_takes(songs: Path, tmp_path: Path) -> None:
    """What `tonearm plan` says comes true within its interval."""
    out = tmp_path / "out"
    planned = tonearm("plan", songs, "--demo-models", "--out", out, "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    run = tonearm("tag", songs, "--demo-models", "--out", out)
    assert run.returncode == 0, run.stderr
    truth = read_tracks(out).to_pylist()
    assert plan["num_tracks"] == len(truth)
    assert plan["audio_s"] == pytest.approx(sum(row["duration_s"] or 0 for row in truth), rel=0.01)
    assert sum(plan["errors"].values()) == sum(row["status"] == "error" for row in truth)
    assert plan["wall_s"] > 0
    assert "planned: " in run.stdout and "; it was " in run.stdout
    again = tonearm("plan", songs, "--demo-models", "--out", out)
    assert again.stdout.startswith("nothing to do: all"), again.stdout + again.stderr


def test_given_rates_machines_and_prices(songs: Path) -> None:
    rates = ["--decode-rate", "600", "--forward-rate", "400", "--gpus", "8", "--cpus", "64"]
    made = tonearm("plan", songs, "--demo-models", *rates, "--gpu-price", "2.5", "--cpu-price", "0.04")
    assert made.returncode == 0, made.stderr
    assert "600× real time (given)" in made.stdout and "8 scoring on 8 GPUs" in made.stdout
    assert "GPU hours" in made.stdout and "in money" in made.stdout


def test_what_the_models_need_first_is_said(songs: Path, tmp_path: Path) -> None:
    """As the run would: ten songs are too few to calibrate int8 on, so both run in bf16."""
    made = tonearm("plan", songs, "--demo-models", "--precision", "int8", XDG_CACHE_HOME=str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert "int8 needs 24 whole windows of audio to be calibrated" in made.stderr
    assert "bf16 instead" in made.stderr
    assert "measured" in made.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--workers", "4", "--cpus", "4"], "leave none to list, decode and write|do not fit"),
        (["--gpus", "1", "--cpus", "1"], r"--workers \d|wait for ever"),
        (["--workers", "500"], "500 workers on"),
    ],
)
def test_a_layout_that_would_wait_for_ever_is_refused_as_the_run_would(
    songs: Path, options: list[str], says: str
) -> None:
    import re

    made = tonearm("plan", songs, "--demo-models", *options)
    assert made.returncode == 2, made.stdout
    assert re.search(says, made.stderr), made.stderr
