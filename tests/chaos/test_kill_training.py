"""Training that is killed anywhere goes on by itself or by the same command, and ends in the same weights."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.checkpoints import save_small
from tests.commands import start_tonearm, wait_for
from tests.labelled import write_folders
from tests.one_process import tonearm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """A run of some seconds with a checkpoint every few steps; dropout and mixup on."""
    base = tmp_path_factory.mktemp("killed")
    collection = write_folders(base / "sounds", clips=40)
    start = save_small(base / "base", "hubert")
    changes = ["checkpoint_steps=8", "log_steps=1", "augment.mixup=0.3", f"cache='{base / 'cache'}'"]
    return (
        *("train", collection, "--model", start, "--new-head", "--window-s", "1", "--epochs", "6"),
        *(
            "--duplicates",
            "ignore",
            "--learning-rate",
            "1e-3",
            *(part for change in changes for part in ("--set", change)),
        ),
    )


@pytest.fixture(scope="module")
def undisturbed(command: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    run = tonearm(*command, "--out", out)
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture
def running(command: tuple[str | Path, ...], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    out = tmp_path / "model"
    process = start_tonearm(*command, "--out", out)
    yield process, out
    if process.poll() is None:
        process.kill()
    process.communicate()


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob(".training/*/checkpoint_*/state.pt"))


def is_resumable(out: Path) -> bool:
    """Return whether Ray Train has noted a checkpoint, which it does a moment after it is written."""
    return any(out.glob(".training/*/checkpoint_manager_snapshot.json"))


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def assert_same_model(first: Path, second: Path) -> None:
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert set(one) == set(two)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=0)
    facts: list[Any] = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    assert facts[0]["curves"] == facts[1]["curves"]
    assert facts[0]["evaluation"] == facts[1]["evaluation"]


def test_a_killed_worker_is_replaced(running: tuple[subprocess.Popen[str], Path], undisturbed: Path) -> None:
    """A training whose worker was killed ends in the same weights, to the last bit."""
    process, out = running
    wait_for(lambda: is_resumable(out), what="a checkpoint", run=process)
    (worker,) = [child for child in family_of(process) if "RayTrainWorker" in " ".join(child.cmdline())]
    worker.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    steps = [int(found) for found in re.findall(r"going on at step (\d+)", errors)]
    assert len(steps) == 1, errors
    assert steps[0] >= 8
    assert_same_model(undisturbed, out)


def test_the_same_command_takes_up_a_killed_run_and_an_unwritten_model(
    running: tuple[subprocess.Popen[str], Path], command: tuple[str | Path, ...], undisturbed: Path
) -> None:
    """A training whose driver was killed, and whose model then could not be written, ends in the same weights."""
    process, out = running
    wait_for(lambda: is_resumable(out), what="a checkpoint", run=process)
    family = family_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for child in family:
        try:
            child.kill()
        except psutil.Error:
            continue
    assert not (out / "config.json").exists()
    refused = tonearm(*command, "--seed", "7", "--out", out)
    assert refused.returncode == 2
    assert "holds an unfinished run with other settings" in refused.stderr
    # What is in the way of the model's file fails its writing alone; the run after that trains no epoch again.
    (out / "model.safetensors").mkdir()
    failed = tonearm(*command, "--out", out)
    assert failed.returncode == 2, failed.stderr
    assert re.search(r"going on at step \d+", failed.stderr)
    assert "epoch 6 of 6" in failed.stderr
    (out / "model.safetensors").rmdir()
    again = tonearm(*command, "--out", out)
    assert again.returncode == 0, again.stderr
    assert "epoch 6 of 6" not in again.stderr
    assert_same_model(undisturbed, out)


def test_ctrl_c_says_how_to_go_on(running: tuple[subprocess.Popen[str], Path]) -> None:
    """Ctrl-C ends a training with status 4 and says how to resume it."""
    process, out = running
    wait_for(lambda: is_resumable(out), what="a checkpoint", run=process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 4, errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors
    assert checkpoints(out)


def test_a_full_disk_keeps_the_last_good_checkpoint(command: tuple[str | Path, ...], tmp_path: Path) -> None:
    """A disk that fills up while a snapshot is written spoils none of those before it."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2600k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here ({made.stderr.strip()}); needs root")
    try:
        # Room for two checkpoints of 1 MiB, as is asked for beforehand, but not for what is written beside them.
        run = tonearm(*command, "--out", folder / "model")
        assert run.returncode == 2, run.stderr
        last = run.stderr.strip().splitlines()[-1]
        assert "the last good snapshot is kept" in last
        assert "Traceback" not in run.stderr
        kept = checkpoints(folder / "model")
        assert kept
        assert torch.load(kept[0], weights_only=True)["progress"]["step"] >= 8
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
