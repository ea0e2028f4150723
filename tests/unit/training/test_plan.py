"""What is found out before hours are spent: labels, heads, windows, copies, space; GTZAN by its names."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.checkpoints import save_full_size, save_small
from tests.labelled import planned, train_settings, write_folders, write_gtzan
from tonearm.errors import CheckpointError, DestinationError, SourceError, Stopped, TooManyFailures
from tonearm.settings import TrainSettings
from tonearm.training import destination
from tonearm.training.data.omitted import Omitted
from tonearm.training.destination import check_space
from tonearm.training.fit.initial import choose_head, read_initial_model
from tonearm.training.fit.initial_weights import Classifier, count_parameters, load_initial_model


def test_the_default_recipe_is_the_courses() -> None:
    settings = TrainSettings()
    assert settings.model == "ntu-spml/distilhubert"
    assert (settings.epochs, settings.learning_rate, settings.batch_size, settings.warmup_ratio) == (10, 5e-5, 8, 0.1)
    assert (settings.seed, settings.labels.validation_share, settings.labels.split_by) == (42, 0.1, "stratified")
    assert (settings.keep, settings.evaluate_every, settings.weight_decay) == ("best", 1, 0.0)


@pytest.mark.processes
def test_examples_follow_the_split_and_the_labels(collection: Path, start: Path, cache: Path) -> None:
    run = planned(collection, train_settings(start, cache))
    assert run.job.labels == ("bird", "cello", "drone")
    assert (len(run.job.train), len(run.job.validation)) == (24, 6)
    for example in (*run.job.train, *run.job.validation):
        label = Path(run.collection.clips[example.clip].ref.uri).parent.name
        assert [run.job.labels[number] for number in example.labels] == [label]
    assert run.job.windows.window_samples == 16000


@pytest.mark.processes
def test_the_settings_hash_follows_what_decides_the_weights(collection: Path, start: Path, cache: Path) -> None:
    settings = train_settings(start, cache)
    first = planned(collection, settings).settings_hash
    assert planned(collection, dataclasses.replace(settings, workers=2, note="x")).settings_hash == first
    assert planned(collection, dataclasses.replace(settings, learning_rate=2e-3)).settings_hash != first


@pytest.mark.processes
def test_a_checkpoint_that_knows_the_labels_keeps_its_head(collection: Path, cache: Path, tmp_path: Path) -> None:
    start = save_small(tmp_path, "hubert", num_labels=3)
    labels = ["drone", "bird", "cello"]
    _relabel(start, labels)
    run = planned(collection, train_settings(start, cache, new_head=False))
    assert choose_head(run.job.initial, ["bird", "cello", "drone"]).is_kept
    assert run.job.labels == tuple(labels), "the order is the checkpoint's"
    model, _ = load_initial_model(run.job.initial, Classifier(run.job.labels, False), seed=0)
    from safetensors.torch import load_file

    assert (model.classifier.weight == load_file(start / "model.safetensors")["classifier.weight"]).all()


def _relabel(folder: Path, labels: list[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.processes
def test_labels_that_differ_from_the_checkpoints_need_a_word(collection: Path, cache: Path, tmp_path: Path) -> None:
    start = save_small(tmp_path, "hubert", num_labels=3)
    _relabel(start, ["bird", "cello", "flute"])
    with pytest.raises(CheckpointError, match=r"drone.*--new-head"):
        planned(collection, train_settings(start, cache, new_head=False))
    run = planned(collection, train_settings(start, cache, new_head=True))
    assert any("--new-head" in note for note in run.notes)


@pytest.mark.processes
def test_a_bare_encoder_gets_a_head(collection: Path, cache: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForAudioClassification

    classifier = AutoModelForAudioClassification.from_pretrained(save_small(tmp_path / "whole", "hubert"))
    encoder = AutoModel.from_config(classifier.config)
    encoder.load_state_dict(classifier.hubert.state_dict())
    encoder.save_pretrained(tmp_path / "bare")
    shutil.copy(tmp_path / "whole" / "preprocessor_config.json", tmp_path / "bare")
    run = planned(collection, train_settings(tmp_path / "bare", cache, new_head=False))
    model, _ = load_initial_model(run.job.initial, Classifier(run.job.labels, False), seed=3)
    assert model.classifier.out_features == 3
    name = "encoder.layers.0.attention.q_proj.weight"
    assert (model.hubert.state_dict()[name] == encoder.state_dict()[name]).all()


@pytest.mark.processes
def test_a_checkpoint_of_other_weights_is_refused(collection: Path, cache: Path, tmp_path: Path) -> None:
    start = save_small(tmp_path, "hubert")
    from safetensors.torch import load_file, save_file

    weights = load_file(start / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    save_file(kept, start / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="weights of the encoder are missing"):
        planned(collection, train_settings(start, cache))


@pytest.mark.parametrize(
    ("source", "named", "message"),
    [
        ("small-ast", {}, "add --from-scratch"),
        ("nowhere/at/all", {}, "no model folder"),
    ],
)
def test_starts_that_cannot_be_used(source: str, named: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_initial_model(source, **named)


@pytest.mark.parametrize(("name", "frames"), [("small-ast", 512), ("small-hubert", None)])
def test_small_architectures_are_made_for_the_window(name: str, frames: int | None) -> None:
    initial, head = read_initial_model(name, from_scratch=True), Classifier(["a", "b"], True, 5.0)
    model, extractor = load_initial_model(initial, head, seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == count_parameters(initial, head) < 1_000_000
    assert model.config.problem_type == "multi_label_classification"
    if frames is not None:
        assert model.config.max_length == extractor.max_length == frames
    again, _ = load_initial_model(initial, head, seed=0)
    assert all((one == two).all() for one, two in zip(model.parameters(), again.parameters(), strict=True))


def test_a_spectrogram_model_takes_no_longer_windows(collection: Path, ast_start: Path, cache: Path) -> None:
    with pytest.raises(SourceError, match=r"got --window-s 30 .*expected at most 1\.28 s"):
        planned(collection, train_settings(ast_start, cache, window_s=30.0))


@pytest.mark.processes
def test_the_published_shapes_start_a_run(collection: Path, cache: Path, shared_facts: Path, tmp_path: Path) -> None:
    """DistilHuBERT as it is on the hub, but for its weights."""
    start = save_full_size(tmp_path, shared_facts, "genre")
    run = planned(collection, train_settings(start, cache))
    assert run.job.initial.family == "hubert"
    assert 23_000_000 < run.num_parameters < 24_500_000


@pytest.mark.processes
def test_broken_and_too_short_clips_are_named_and_left_out(start: Path, cache: Path, tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "sounds", clips=10)
    (folder / "bird" / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "cello" / "blip.wav", np.ones(9), 16000)
    run = planned(folder, train_settings(start, cache))
    assert len(run.broken) == 2
    (note,) = [note for note in run.notes if note.startswith("left out")]
    assert "broken.wav" in note
    assert "blip.wav" in note
    with pytest.raises(TooManyFailures, match=r"more than max_error_rate 0\.01"):
        planned(folder, train_settings(start, cache, max_error_rate=0.01))


@pytest.mark.processes
def test_copies_across_the_split_are_said_and_dropped_on_request(start: Path, cache: Path, tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "sounds", clips=10, length_s=2.0)
    shutil.copy(sorted(folder.glob("bird/1-*"))[0], folder / "bird" / "9-99-0.wav")
    labels = {"split_by": r"name:/(\d)-", "test_on": ["9"], "validation_share": 0.0}
    # A copy leaves the test side alone with one class; the copies are what this is about.
    run = planned(folder, train_settings(start, cache, labels=labels))
    assert [pair.is_exact for pair in run.duplicates] == [True]
    assert any("1 clip of test is in training too" in note and "--duplicates drop" in note for note in run.notes)
    dropped = planned(folder, train_settings(start, cache, labels={**labels, "duplicates": "drop"}))
    assert len(dropped.job.train) == len(run.job.train) - 1


def write_table(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Write a clip of noise for each (name, label, split), and a table of them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, _, _ in rows:
        soundfile.write(folder / name, 0.2 * rng.normal(size=16000), 16000)
    table = folder / "clips.csv"
    table.write_text("\n".join(["uri,label,split", *(",".join(row) for row in rows)]))
    return table


@pytest.mark.processes
def test_every_copy_is_dropped_and_counted(start: Path, cache: Path, tmp_path: Path) -> None:
    rows = [(f"c{number}.wav", "ab"[number % 2], "test" if number < 2 else "train") for number in range(12)]
    rows += [(f"copy{number}.wav", "b", "train") for number in range(3)]
    table = write_table(tmp_path / "sounds", rows)
    for number in range(3):
        shutil.copy(tmp_path / "sounds" / "c0.wav", tmp_path / "sounds" / f"copy{number}.wav")
    labels = {"split_by": "split", "duplicates": "drop", "validation_share": 0.0}
    run = planned(table, train_settings(start, cache, labels=labels))
    names = [run.collection.clips[clip].name for clip in run.split.train]
    assert names == [f"c{number}.wav" for number in range(2, 12)]
    assert run.omitted.copies == 3
    assert any("1 clip of test is in training too" in note and "as 3 clips there" in note for note in run.notes)
    assert "3 clips were taken out of training as copies of held-out clips." in run.notes


@pytest.mark.processes
def test_clips_on_no_side_and_without_a_label_are_counted_and_said(start: Path, cache: Path, tmp_path: Path) -> None:
    sides = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2 + ["unused"] * 3 + ["", "Extra"]
    rows = [(f"c{number}.wav", "ab"[number % 2], side) for number, side in enumerate(sides)]
    table = write_table(tmp_path / "sounds", [*rows, ("bare.wav", "", "train")])
    run = planned(table, train_settings(start, cache, labels={"split_by": "split", "skip_unlabelled": True}))
    assert {name: len(clips) for name, clips in run.split.sides().items()} == {
        "train": 6, "validation": 2, "test": 2
    }  # fmt: skip
    assert run.omitted == Omitted({"unused": 3, "(none)": 1, "Extra": 1}, 1, 0, 0)
    said = [
        "5 clips were left out, since `split` puts them on no side of the split: unused (3), (none) (1), Extra (1).",
        "1 clip was left out for want of a label.",
    ]
    assert run.omitted.lines("split") == said
    assert [note for note in run.notes if "left out" in note] == said


@pytest.mark.processes
def test_a_split_field_that_names_training_alone_is_completed(start: Path, cache: Path, tmp_path: Path) -> None:
    """As every data set on the Hub with the one split `train`."""
    table = write_table(tmp_path / "sounds", [(f"c{number}.wav", "ab"[number % 2], "train") for number in range(20)])
    run = planned(table, train_settings(start, cache, labels={"split_by": "split", "validation_share": 0.2}))
    assert (len(run.job.train), len(run.job.validation)) == (16, 4)


@pytest.mark.processes
def test_a_side_of_which_nothing_decodes_is_refused(start: Path, cache: Path, tmp_path: Path) -> None:
    rows = [(f"c{number}.wav", "ab"[number % 2], "train" if number < 10 else "val") for number in range(12)]
    table = write_table(tmp_path / "sounds", rows)
    for number in (10, 11):
        (tmp_path / "sounds" / f"c{number}.wav").write_bytes(b"RIFF")
    settings = train_settings(start, cache, max_error_rate=0.5, labels={"split_by": "split"})
    with pytest.raises(SourceError, match="none of the 2 clips of validation can be decoded"):
        planned(table, settings)


@pytest.mark.processes
def test_a_clip_that_a_worker_cannot_read_ends_the_run_resumably(start: Path, cache: Path, tmp_path: Path) -> None:
    """On a machine with a cache of its own; what the split does without is not asked for again."""
    rows = [(f"c{number}.wav", "ab"[number % 2], "train" if number < 10 else "val") for number in range(12)]
    table = write_table(tmp_path / "sounds", rows)
    (tmp_path / "sounds" / "c9.wav").write_bytes(b"RIFF")
    run = planned(table, train_settings(start, cache, labels={"split_by": "split"}))
    settings = dataclasses.replace(run.job.settings, cache=str(tmp_path / "elsewhere"))
    elsewhere = dataclasses.replace(run.job, settings=settings)
    place = tmp_path / "sounds" / "c0.wav"
    place.rename(tmp_path / "away.wav")
    with pytest.raises(Stopped, match=r"1 of 11 clips cannot be read any more.* \(the first: .*c0\.wav"):
        elsewhere.open_clips(1)
    (tmp_path / "away.wav").rename(place)
    (broken,) = elsewhere.open_clips(1).errors
    assert run.collection.clips[broken].name == "c9.wav"


@pytest.mark.processes
def test_gtzan_is_known_by_its_names_and_its_broken_file_is_no_matter(start: Path, cache: Path, tmp_path: Path) -> None:
    folder = write_gtzan(tmp_path / "genres")
    run = planned(folder, train_settings(start, cache))
    assert any("jazz.00054.wav" in note for note in run.notes)
    assert len(run.job.labels) == 10
    filtered = planned(folder, train_settings(start, cache, labels={"split_by": "gtzan-fault-filtered"}))
    sides = {name: len(numbers) for name, numbers in filtered.split.sides().items()}
    assert sides["train"] + sides["validation"] + sides["test"] < 100
    from tonearm.distributed.training.driver import other_split

    assert other_split(run) == "gtzan-fault-filtered"
    assert other_split(filtered) is None
    assert other_split(planned(folder, train_settings(start, cache, compare_split="none"))) is None


def test_a_disk_without_room_for_two_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_space(tmp_path / "new" / "place", 1000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(destination.shutil, "disk_usage", lambda path: usage._replace(free=2**30))
    with pytest.raises(DestinationError, match=r"snapshots need some 2\.\d GiB and .* has 1\.0 GiB free"):
        check_space(tmp_path, 70_000_000)


@pytest.mark.processes
def test_several_labels_need_a_word_where_one_is_expected(
    collection: Path, start: Path, cache: Path, tmp_path: Path
) -> None:
    table = tmp_path / "clips.csv"
    files = sorted(collection.rglob("*.wav"))
    rows = [f"{path},{path.parent.name}{';loud' if number % 2 else ''}" for number, path in enumerate(files)]
    table.write_text("\n".join(["file,tags", *rows]))
    run = planned(table, train_settings(start, cache))
    assert run.job.is_multi
    assert run.job.labels == ("bird", "cello", "drone", "loud")
    with pytest.raises(SourceError, match="has 2 labels, expected 1; give --multi-label"):
        planned(table, train_settings(start, cache, labels={"multi_label": False}))
