"""``tonearm distill`` as a person runs it: killed once, gone on with, and what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import commands
from tests.checkpoints import extractor_of, save_checkpoint, save_small, tiny_config
from tests.commands import start_tonearm, wait_for
from tests.labelled import PITCH_HZ, write_folders
from tonearm.models.calibration import read_fallback
from tonearm.models.checkpoint import describe_checkpoint


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT whose labels are the collection's, with a card that names its licence."""
    labels = dict(enumerate(PITCH_HZ))
    config = tiny_config("hubert", conv_dim=(96, 96, 96), id2label=labels, label2id={v: k for k, v in labels.items()})
    folder = save_checkpoint(tmp_path_factory.mktemp("teacher") / "large", config, extractor_of("hubert", config))
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Large\n")
    return folder


@pytest.mark.slow
def test_a_student_is_made_of_a_teacher_also_by_a_run_that_was_killed(teacher: Path, tmp_path: Path) -> None:
    """A distillation that is killed goes on: no window is scored twice, and the folder says how far the two agree."""
    collection = write_folders(tmp_path / "sounds", clips=20)
    student = save_small(tmp_path / "small", "mobilenet_audio", num_labels=4)
    out, cache = tmp_path / "student", tmp_path / "cache"
    settings = ["least_audio_s=30", "checkpoint_steps=2", "log_steps=1", f"cache='{cache}'"]
    command: tuple[str | Path, ...] = (
        *("distill", teacher, collection, "--out", out, "--student", student, "--new-head", "--window-s", "0.5"),
        *("--epochs", "6", "--batch-size", "8", "--validation-share", "0.3", "--duplicates", "ignore"),
        *("--tracker", "none", *(word for each in settings for word in ("--set", each))),
    )
    process = start_tonearm(*command)
    wait_for(
        lambda: any(out.glob(".training/*/checkpoint_manager_snapshot.json")),
        what="a snapshot",
        timeout_s=800,
        run=process,
    )
    process.kill()
    process.communicate()
    scored = sorted(cache.glob("teachers/*/*.parquet"))
    assert scored and not (out / "config.json").exists()

    again = commands.tonearm(*command)
    assert again.returncode == 0, again.stderr
    assert sorted(cache.glob("teachers/*/*.parquet")) == scored
    assert "going on at step" in again.stderr and "the teacher scores" not in again.stderr

    facts = json.loads((out / "metrics.json").read_text())
    found = facts["evaluation"]["validation"]
    assert (facts["split"]["train"], facts["split"]["validation"], found["num_tracks"]) == (42, 18, 18)
    assert facts["labels"] == list(PITCH_HZ)
    assert found["num_windows"] > 18  # of half a second, of clips of a second and more
    low, high = found["first_label"]["window"]["interval"]
    assert 0 <= low <= found["first_label"]["window"]["value"] <= high <= 1
    assert found["truth"]["num_tracks"] == 18 and set(found["truth"]) >= {"student", "teacher"}
    assert facts["teacher"]["revision"] == describe_checkpoint(str(teacher)).revision
    assert facts["cost"]["times_less"] > 1
    card = (out / "README.md").read_text()
    assert "licence of the teacher: cc-by-4.0" in card and "multiply-adds" in card
    fallback = read_fallback(out)
    assert fallback is not None and fallback.chosen.agreement >= 0.95 and len(fallback.curve) == 5
    assert describe_checkpoint(str(out)).trained_window_s == 0.5

    done = commands.tonearm(*command, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["is_new"] is False
    other = commands.tonearm(*command, "--seed", "7")
    assert other.returncode == 2 and "--set seed=42" in other.stderr
