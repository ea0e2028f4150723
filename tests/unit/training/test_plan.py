"""What is found out before hours are spent: labels, heads, windows, copies, space; GTZAN by its names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.checkpoints import save_full_size
from tests.labelled import planned, train_settings, write_folders, write_gtzan
from tests.unit.training.tables import write_table
from tonearm.errors import SourceError, TooManyFailures
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import list_clips
from tonearm.training.plan import other_split


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
def test_gtzan_is_known_by_its_names_and_its_broken_file_is_no_matter(start: Path, cache: Path, tmp_path: Path) -> None:
    folder = write_gtzan(tmp_path / "genres")
    settings = train_settings(start, cache)
    run = planned(folder, settings)
    assert any("jazz.00054.wav" in note for note in run.notes)
    assert len(run.job.labels) == 10
    published = train_settings(start, cache, labels={"split_by": "gtzan-fault-filtered"})
    filtered = planned(folder, published)
    sides = {name: len(numbers) for name, numbers in filtered.split.sides().items()}
    assert sides["train"] + sides["validation"] + sides["test"] < 100
    listing = list_clips(str(folder), settings.labels)
    assert other_split(listing, settings) == "gtzan-fault-filtered"
    assert other_split(listing, published) is None
    assert other_split(listing, train_settings(start, cache, compare_split="none")) is None
