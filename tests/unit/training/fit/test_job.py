"""What a worker is sent, and what it does where it cannot read a clip that the plan counts on."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from tests.labelled import planned, train_settings
from tests.unit.training.tables import write_table
from tonearm.errors import Stopped


@pytest.mark.processes
def test_workers_are_sent_the_job_alone(collection: Path, start: Path, cache: Path) -> None:
    """Nothing of the collection's own words travels: no groups, no notes, no names of labels per clip."""
    plan = planned(collection, train_settings(start, cache))
    sent = pickle.dumps(plan.job)
    assert b"LabelledTrack" not in sent and len(sent) < 250 * len(plan.collection.clips)


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
