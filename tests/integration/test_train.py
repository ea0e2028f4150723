"""``tonearm train``, ``evaluate`` and ``publish`` as a person runs them: what comes out, and who can load it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

from tests import commands
from tests.checkpoints import AST, save_small
from tests.commands import read_tracks
from tests.labelled import write_folders, write_gtzan
from tests.one_process import tonearm
from tonearm.models.runtimes import count_gpus

STILL = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
RECIPE = ("--new-head", "--window-s", "1", "--epochs", "8", "--learning-rate", "2e-3", "--set", "log_steps=1")
SPLIT = ("--split-by", r"name:/(\d)-", "--test-on", "4", "--group-by", r"name:(\w+/\d-\d+)-", "--source-by", "folder")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 24 clips, and a file that is none."""
    folder = write_folders(tmp_path_factory.mktemp("labelled") / "sounds", clips=24)
    (folder / "bird" / "1-99-0.wav").write_bytes(b"RIFF, but that is all")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without dropout, which is drawn by each worker for itself."""
    return save_small(
        tmp_path_factory.mktemp("start") / "base", "hubert", layerdrop=0, apply_spec_augment=False, **STILL
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def trained(
    collection: Path, start: Path, cache: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("trained") / "model"
    run = commands.tonearm("train", collection, "--out", out, "--model", start, *RECIPE, *SPLIT, XDG_CACHE_HOME=cache)
    assert run.returncode == 0, run.stderr
    return out, run


def metrics_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_a_person_is_told_what_is_done_and_what_came_out(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, run = trained
    assert "left out, cannot be decoded" in run.stderr
    assert "1-99-0.wav" in run.stderr
    assert f"on {'cuda:0' if count_gpus() else 'cpu'} in" in run.stderr
    assert "epoch 8 of 8: validation loss" in run.stderr
    assert f"use it: tonearm tag SOURCE --genre-model {out}" in run.stdout
    accuracy = metrics_of(out)["evaluation"]["test"]["track"]["accuracy"]
    assert f"test: accuracy {accuracy:.3f} (95% interval" in run.stdout
    assert accuracy >= 0.6


def test_transformers_loads_it_without_tonearm(
    trained: tuple[Path, subprocess.CompletedProcess[str]], collection: Path
) -> None:
    out, _ = trained
    program = (
        "import json, sys\n"
        "sys.modules['tonearm'] = None\n"
        "import soundfile\n"
        "from transformers import pipeline\n"
        "classify = pipeline('audio-classification', model=sys.argv[1])\n"
        "audio, rate = soundfile.read(sys.argv[2], dtype='float32')\n"
        "print(json.dumps(classify({'raw': audio, 'sampling_rate': rate})))\n"
    )
    clip = sorted((collection / "drone").glob("4-*.wav"))[0]
    run = subprocess.run([sys.executable, "-c", program, out, clip], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {row["label"] for row in json.loads(run.stdout)} == {"bird", "cello", "drone"}


def test_the_folder_holds_figures_pictures_and_a_card(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = trained
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "metrics.json", "README.md"} <= names
    assert not (out / ".training").exists(), "checkpoints are of no use once the model is there"
    for picture in ("confusion.png", "curves.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    facts, card = metrics_of(out), ModelCard.load(out / "README.md")
    assert facts["split"]["broken"] == 1
    assert facts["split"]["train"] + facts["split"]["validation"] + facts["split"]["test"] == 72
    (result,) = [entry for entry in card.data.eval_results if entry.metric_name == "accuracy"]
    assert result.metric_value == round(facts["evaluation"]["test"]["track"]["accuracy"], 4)
    assert result.dataset_split == "test"
    assert "Knowing nothing but `folder`, one guesses the class of 100%" in card.text
    assert str(out.parent) not in card.content, "a place on this machine is nobody's business"


def test_tensorboard_shows_the_run(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, _ = trained
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    facts = metrics_of(out)
    losses = events.Scalars("train/loss")
    steps, values = zip(*facts["curves"]["loss"], strict=True)
    assert [event.step for event in losses] == list(steps)
    assert [event.value for event in losses] == pytest.approx(values)
    accuracies = [event.value for event in events.Scalars("validation/accuracy")]
    assert accuracies == pytest.approx([row["accuracy"] for row in facts["curves"]["evaluations"]])
    assert {"train/learning_rate", "train/clips_per_s", "validation/loss"} <= set(events.Tags()["scalars"])


def test_the_same_command_again_has_nothing_to_do_and_another_is_refused(
    trained: tuple[Path, subprocess.CompletedProcess[str]], collection: Path, start: Path, cache: str
) -> None:
    out, _ = trained
    before = (out / "model.safetensors").stat().st_mtime_ns
    command = ("train", collection, "--out", out, "--model", start, *RECIPE, *SPLIT)
    again = tonearm(*command, XDG_CACHE_HOME=cache)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    told = tonearm(*command, "--json", XDG_CACHE_HOME=cache)
    document = json.loads(told.stdout)
    assert (document["model"], document["is_new"]) == (str(out), False) and "nothing to do" in told.stderr
    assert document["evaluation"]["test"]["track"]["accuracy"] >= 0.6
    other = tonearm(*command, "--seed", "7", XDG_CACHE_HOME=cache)
    assert other.returncode == 2
    assert "holds a model trained otherwise: seed: 42 there, 7 now; give --set seed=42, another --out" in other.stderr
    assert (out / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_workers_learn_as_one(
    trained: tuple[Path, subprocess.CompletedProcess[str]], collection: Path, start: Path, cache: str, tmp_path: Path
) -> None:
    """Two workers learn as one does at the same clips a step; Weights & Biases and MLflow are told of it, offline."""
    out = tmp_path / "model"
    offline = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    run = commands.tonearm(
        *("train", collection, "--out", out, "--model", start, *RECIPE, *SPLIT, "--workers", "2", "--batch-size", "4"),
        *("--tracker", "wandb", "--tracker", "mlflow"),
        XDG_CACHE_HOME=cache,
        **offline,
    )
    assert run.returncode == 0, run.stderr
    one, two = metrics_of(trained[0]), metrics_of(out)
    assert two["run"]["workers"] == 2
    losses = [[loss for _, loss in facts["curves"]["loss"]] for facts in (one, two)]
    assert len(losses[0]) == len(losses[1]) > 40
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert not (out / "tensorboard").exists()
    # MLflow begins another run where training resumes, as it may on a busy machine: every step is told all the same.
    logged: dict[int, float] = {}
    for path in tmp_path.glob("mlruns/*/*/metrics/train/loss"):
        logged |= {int(step): float(loss) for _, loss, step in map(str.split, path.read_text().splitlines())}
    assert [logged[step] for step in sorted(logged)] == pytest.approx(losses[1])


@pytest.mark.slow
def test_it_tags_evaluates_and_is_calibrated(
    trained: tuple[Path, subprocess.CompletedProcess[str]], collection: Path, tmp_path: Path
) -> None:
    """A trained model tags, is evaluated, and its calibration is used by `tag --calibrated`."""
    out, _ = trained
    evaluated = tonearm(
        *("evaluate", out, collection, "--split-by", r"name:/(\d)-", "--on", "4", "--on", "3"),
        *("--calibrate", "--out", tmp_path / "figures", "--skip-unlabelled", "--json"),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    document = json.loads(evaluated.stdout)
    assert document["calibration"]["fitted"]["temperature"] > 0
    facts = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    with (tmp_path / "figures" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == facts["num_tracks"] == 36
    right = np.mean([row["true"] == row["said"] for row in rows])
    assert facts["track"]["accuracy"] == document["figures"]["track"]["accuracy"] == pytest.approx(right)
    assert f"accuracy {right:.3f}" in evaluated.stderr
    assert (tmp_path / "figures" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((out / "tonearm.json").read_text())["calibration"]["temperature"]
    assert f"temperature {stored:.3f}" in evaluated.stderr

    tagged = tonearm(
        *("tag", collection / "drone", collection / "bird", "--out", tmp_path / "tags", "--tag-model", "none"),
        *("--genre-model", out, "--calibrated"),
    )
    assert tagged.returncode == 0, tagged.stderr
    scored = {row["uri"]: row for row in read_tracks(tmp_path / "tags").to_pylist() if row["status"] == "ok"}
    judged = [row for row in rows if row["uri"] in scored]
    assert len(judged) == 24
    for row in judged:
        assert row["said"] == scored[row["uri"]]["genre"], "evaluation and tagging are one path"
    # A temperature moves how sure the scores are, never which is first.
    assert any(abs(float(row["score"]) - scored[row["uri"]]["genre_score"]) > 1e-3 for row in judged)


@pytest.mark.slow
def test_gtzan_is_judged_on_both_its_splits(start: Path, cache: str, tmp_path: Path) -> None:
    """GTZAN is trained and judged on its random and its fault-filtered split."""
    folder, out = write_gtzan(tmp_path / "genres"), tmp_path / "model"
    run = tonearm(
        *("train", folder, "--out", out, "--model", start, "--new-head", "--window-s", "1", "--epochs", "1"),
        XDG_CACHE_HOME=cache,
    )
    assert run.returncode == 0, run.stderr
    assert "jazz.00054.wav" in run.stderr
    facts, card = metrics_of(out), ModelCard.load(out / "README.md")
    (other,) = facts["comparisons"]
    assert other["split"] == "gtzan-fault-filtered"
    assert other["figures"]["num_tracks"] == 32
    own = facts["evaluation"]["validation"]["track"]["accuracy"]
    assert f"| stratified, 10% held out, seed 42 (validation) | 10 | {own:.3f} |" in card.text
    assert f"| gtzan-fault-filtered (test) | 32 | {other['figures']['track']['accuracy']:.3f} |" in card.text


@pytest.mark.slow
def test_tags_are_trained_from_a_table(collection: Path, cache: str, tmp_path: Path) -> None:
    """A multi-label model is trained from a table of tags, and judged as the head that it will be."""
    table = tmp_path / "clips.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "tags"])
        for path in sorted(collection.rglob("?-0*.wav")):
            tags = {"bird": "high;animal", "cello": "instrument", "drone": "low;instrument"}[path.parent.name]
            writer.writerow([path, tags])
    out = tmp_path / "model"
    start = save_small(tmp_path / "base", AST, max_length=128)
    run = tonearm(
        *("train", table, "--out", out, "--model", start, "--new-head", "--epochs", "6", "--learning-rate", "2e-3"),
        XDG_CACHE_HOME=cache,
    )
    assert run.returncode == 0, run.stderr
    assert f"--tag-model {out}" in run.stdout
    config = json.loads((out / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert sorted(config["label2id"]) == ["animal", "high", "instrument", "low"]
    assert metrics_of(out)["evaluation"]["validation"]["track"]["macro_map"] > 0.7
    judged = tonearm("evaluate", table, "--head", f"sound={out}:multi", "--out", tmp_path / "figures")
    assert judged.returncode == 0, judged.stderr
    facts = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert (facts["head"], facts["is_multi"]) == ("sound", True)
    assert facts["track"]["macro_map"] > 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.glob("[cd]*/*")], "has the one class bird"),
        (lambda folder: [path.unlink() for path in sorted(folder.glob("cello/*"))[1:]], "class cello has 1 clip"),
        (lambda folder: soundfile.write(folder / "loose.wav", np.ones(16000), 16000), None),
    ],
    ids=["one class", "a class with one clip", "a file beside the classes"],
)
def test_collections_that_cannot_be_learnt_from(
    change: Any, message: str | None, start: Path, cache: str, tmp_path: Path
) -> None:
    folder = write_folders(tmp_path / "sounds", clips=4)
    change(folder)
    command = ("train", folder, "--out", tmp_path / "model", "--model", start, "--new-head", "--epochs", "1")
    run = tonearm(*command, "--window-s", "1", XDG_CACHE_HOME=cache)
    if message is None:
        assert run.returncode == 2
        assert "class sounds has 1 clip" in run.stderr
    else:
        assert run.returncode == 2
        assert message in run.stderr
    assert not (tmp_path / "model").exists()


def test_unlabelled_rows_are_counted_before_anything_is_done(collection: Path, start: Path, tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    files = sorted(collection.rglob("?-0*.wav"))
    lines = [f"{path},{path.parent.name if number else ''}" for number, path in enumerate(files)]
    table.write_text("\n".join(["file,label", *lines]))
    run = tonearm("train", table, "--out", tmp_path / "model", "--model", start)
    assert run.returncode == 2
    assert f"1 of {len(files)} clips of {table} have no label by label" in run.stderr
    assert "--skip-unlabelled" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "lacks drone and the collection lacks ocarina"),
        (["--new-head", "--set", "epoch=3"], "unknown setting 'epoch'; did you mean 'epochs'?"),
        (["--new-head", "--set", "epochs=none"], "epochs: got 'none'"),
        (["--new-head", "--precision", "fp16"], "no fast fp16"),
        (["--new-head", "--epochs", "0"], "epochs: got 0"),
    ],
)
def test_wrong_settings_are_refused_before_hours_are_spent(
    arguments: list[str], message: str, collection: Path, cache: str, tmp_path: Path
) -> None:
    labels = ["bird", "cello", "ocarina"]
    start = save_small(tmp_path / "base", "hubert", num_labels=3)
    config = json.loads((start / "config.json").read_text())
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    (start / "config.json").write_text(json.dumps(config))
    command = ("train", collection, "--out", tmp_path / "out", "--model", start, "--epochs", "1", *arguments)
    run = tonearm(*command, XDG_CACHE_HOME=cache)
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_with_other_files_is_left_alone(collection: Path, start: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    run = tonearm("train", collection, "--out", tmp_path, "--model", start, "--new-head")
    assert run.returncode == 2
    assert "holds other files (thesis.tex)" in run.stderr


def test_too_many_broken_clips_end_with_status_3(start: Path, cache: str, tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "sounds", clips=6)
    for path in sorted(folder.glob("bird/*"))[:3]:
        soundfile.write(path, np.ones(3), 16000)
    run = tonearm("train", folder, "--out", tmp_path / "model", "--model", start, "--new-head", XDG_CACHE_HOME=cache)
    assert run.returncode == 3
    assert "3 of 18 clips cannot be used" in run.stderr
    assert "too_short" in run.stderr


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run_once(collection: Path, start: Path, cache: str, tmp_path: Path) -> None:
    """A loss that is not a number ends the training with one line, without retries."""
    run = tonearm(
        *("train", collection, "--out", tmp_path / "model", "--model", start, "--new-head", "--window-s", "1"),
        *("--learning-rate", "1e30", "--set", "log_steps=1", "--set", "clip_norm=1e30"),
        XDG_CACHE_HOME=cache,
    )
    assert run.returncode == 2
    assert "the loss is nan at step" in run.stderr
    assert "lower --learning-rate" in run.stderr
    assert run.stderr.count("training") <= 2, "what cannot work is not tried again"
    assert not (tmp_path / "model" / "config.json").exists()
