"""The card of a trained model: its figures, what they cannot mean, and what was left out."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from tests.labelled import loop_of, planned
from tests.unit.training.publish.cards import RUN, card_of
from tonearm.settings import TrainSettings
from tonearm.training.data.omitted import Omitted
from tonearm.training.fit.result import Result, read_result
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import Comparison, dataset_name, source_share
from tonearm.training.publish.model_folder import write_model


@pytest.mark.processes
def test_the_card_shows_both_splits(finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path) -> None:
    run, result = finished
    figures = result.figures()["validation"]
    other = {**figures, "track": {**figures["track"], "accuracy": 0.25}}
    write_model(
        str(tmp_path),
        run,
        result,
        source=str(collection),
        comparisons=[Comparison("gtzan-fault-filtered", "test", other)],
    )
    card = card_of(tmp_path)
    assert "| gtzan-fault-filtered (test) | 6 | 0.250 |" in card.text
    assert "| stratified, 20% held out, seed 42 (validation) | 6 |" in card.text
    values = [entry.metric_value for entry in card.data.eval_results if entry.metric_name == "accuracy"]
    assert values == [round(figures["track"]["accuracy"], 4), 0.25]
    facts = json.loads((tmp_path / "metrics.json").read_text())
    assert facts["comparisons"][0]["split"] == "gtzan-fault-filtered"


@pytest.mark.processes
def test_the_card_says_what_the_figure_cannot_mean(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
    run, result = finished
    write_model(str(tmp_path), run, result, source=str(collection), comparisons=[])
    text = card_of(tmp_path).text
    assert "judged on 6 tracks. That is few" in text
    assert "The split knows no artists" in text
    assert "The same clips chose the best epoch" in text
    assert "Knowing nothing but `folder`, one guesses the class of 100%" in text
    assert "cannot tell that from knowing the music" in text


@pytest.mark.processes
def test_a_source_that_all_clips_share_predicts_no_label(finished: tuple[TrainingPlan, Result]) -> None:
    run, _ = finished
    share = source_share(run, "validation")
    assert share == (1.0, pytest.approx(1 / 3))
    clips = {clip: dataclasses.replace(track, source="everywhere") for clip, track in run.collection.clips.items()}
    same = dataclasses.replace(run, collection=dataclasses.replace(run.collection, clips=clips))
    found = source_share(same, "validation")
    assert found is not None
    assert found.by_source == found.by_chance


@pytest.mark.processes
def test_the_card_has_the_users_note_and_licence(collection: Path, settings: TrainSettings, tmp_path: Path) -> None:
    run = planned(collection, dataclasses.replace(settings, note="Only birds that sing.", license="mit"))
    loop_of(run, tmp_path / "run").run()
    write_model(
        str(tmp_path / "m"), run, read_result(tmp_path / "run", run.job, RUN), source=str(collection), comparisons=[]
    )
    card = card_of(tmp_path / "m")
    assert "Only birds that sing." in card.text
    assert card.data.license == "mit"


@pytest.mark.parametrize(
    ("source", "name", "hub_id"),
    [
        ("/data/sounds/", "sounds", None),
        ("/data/music/clips.csv", "music", None),
        ("s3://bucket/esc10", "esc10", None),
        ("hf://datasets/marsyas/gtzan", "marsyas/gtzan", "marsyas/gtzan"),
        ("hf://datasets/marsyas/gtzan@main/all", "marsyas/gtzan", "marsyas/gtzan"),
    ],
)
def test_a_collection_is_called_by_its_folder_or_its_name_on_the_hub(
    source: str, name: str, hub_id: str | None
) -> None:
    assert dataset_name(source) == (name, hub_id)


@pytest.mark.processes
def test_what_is_left_out_is_in_the_card_and_the_metrics(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
    run, result = finished
    run = dataclasses.replace(run, omitted=Omitted({"extra": 3}, 2, 1, 4))
    progress = dataclasses.replace(
        result.progress, evaluations=[{"epoch": 1, "step": 1, "loss": math.nan, "accuracy": 0.5}]
    )
    result = dataclasses.replace(result, progress=progress)
    write_model(str(tmp_path), run, result, source=str(collection), comparisons=[])
    text = card_of(tmp_path).text
    for line in run.omitted.lines("stratified"):
        assert f"- {line}" in text
    facts = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    counts = [facts["split"][name] for name in ("left_out", "unlabelled", "copies_taken_out", "broken")]
    assert counts == [{"extra": 3}, 2, 1, 4]
    assert facts["curves"]["evaluations"][0]["loss"] is None
