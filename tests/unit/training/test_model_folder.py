"""The folder that training ends with: weights, figures, and a card that says what the figures can mean."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from tests.labelled import loop_of, planned, train_settings
from tonearm.api import flags
from tonearm.errors import DestinationError, SettingsError, SourceError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.window_plan import plan_windows
from tonearm.settings import TrainSettings, build
from tonearm.storage.download import local_copy
from tonearm.training.data.omitted import Omitted
from tonearm.training.fit import initial_weights
from tonearm.training.fit.result import Result, read_result
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import Comparison, dataset_name, source_share
from tonearm.training.publish.model_folder import write_model
from tonearm.training.publish.trackers import check_trackers

RUN = {"workers": 1, "precision": "fp32", "why": "no GPU", "device": "cpu", "step_size": 4}


@pytest.fixture(scope="module")
def settings(start: Path, cache: Path) -> TrainSettings:
    return train_settings(start, cache, epochs=1, labels={"validation_share": 0.2, "source_by": "folder"})


@pytest.fixture(scope="module")
def finished(
    collection: Path, settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingPlan, Result]:
    folder = tmp_path_factory.mktemp("run")
    run = planned(collection, settings)
    loop_of(run, folder).run()
    return run, read_result(folder, run.job, RUN)


def card_of(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")


@pytest.mark.processes
def test_the_folder_is_a_checkpoint_with_the_trained_weights(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
    run, result = finished
    write_model(str(tmp_path), run, result, source=str(collection), comparisons=[])
    info = describe_checkpoint(str(tmp_path))
    assert info.labels == ("bird", "cello", "drone")
    assert not info.multi_label
    assert plan_windows(info, None, None).window_samples == 16000, "tagging takes the windows of training"
    from transformers import AutoModelForAudioClassification

    model = AutoModelForAudioClassification.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, result.weights[name], rtol=0, atol=0)


@pytest.mark.processes
def test_weights_are_loaded_once_and_not_to_be_counted_or_written(
    collection: Path, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    real = initial_weights.load_weights

    def load_weights(folder: Path, *arguments: Any, **named: Any) -> Any:
        loaded.append(folder)
        return real(folder, *arguments, **named)

    monkeypatch.setattr(initial_weights, "load_weights", load_weights)
    run = planned(collection, settings)
    assert loaded == [] and run.num_parameters > 10_000
    loop = loop_of(run, tmp_path / "run")
    assert len(loaded) == 1 and run.num_parameters == sum(weight.numel() for weight in loop.bare.parameters())
    loop.run()
    write_model(str(tmp_path / "m"), run, read_result(tmp_path / "run", run.job, RUN), source="x", comparisons=[])
    assert len(loaded) == 1


@pytest.mark.processes
def test_both_splits_stand_side_by_side(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
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
def test_a_source_that_says_nothing_is_said_to(finished: tuple[TrainingPlan, Result]) -> None:
    run, _ = finished
    share = source_share(run, "validation")
    assert share == (1.0, pytest.approx(1 / 3))
    clips = {clip: dataclasses.replace(track, source="everywhere") for clip, track in run.collection.clips.items()}
    same = dataclasses.replace(run, collection=dataclasses.replace(run.collection, clips=clips))
    found = source_share(same, "validation")
    assert found is not None
    assert found[0] == found[1]


@pytest.mark.processes
def test_a_note_and_a_licence_are_the_users(collection: Path, settings: TrainSettings, tmp_path: Path) -> None:
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
def test_a_place_that_cannot_be_written_is_one_line(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
    run, result = finished
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError, match="a file is where a folder should be"):
        write_model(str(tmp_path / "file" / "model"), run, result, source=str(collection), comparisons=[])


def test_a_missing_tracker_is_said_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    check_trackers(("tensorboard", "wandb", "mlflow"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"tensorboard needs the extra 'train', .*; run .* install"):
        check_trackers(("tensorboard",))
    check_trackers(())


def test_a_folder_in_a_store_is_copied_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = fsspec.filesystem("memory")
    store.pipe({"/shelf/model/config.json": b"{}", "/shelf/model/model.safetensors": b"1", "/shelf/model/notes": b"-"})
    first = local_copy("memory://shelf/model", ["*.json", "*.safetensors"])
    assert {path.name for path in first.iterdir()} == {"config.json", "model.safetensors"}
    assert first.name == "model"
    assert local_copy("memory://shelf/model", ["*.json", "*.safetensors"]) == first
    store.pipe({"/shelf/model/model.safetensors": b"22"})
    second = local_copy("memory://shelf/model", ["*.json", "*.safetensors"])
    assert second != first
    assert (second / "model.safetensors").read_bytes() == b"22"
    with pytest.raises(SourceError, match="holds none of"):
        local_copy("memory://shelf/nothing", ["*.json"])
    assert not list((tmp_path / "tonearm" / "models").rglob("*.partial"))


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("epochs=3", {"epochs": 3}),
        ("augment.mixup=0.3", {"augment": {"mixup": 0.3}}),
        ("labels.test_on=['4','5']", {"labels": {"test_on": ["4", "5"]}}),
        ("model=small-ast", {"model": "small-ast"}),
        ("from_scratch=true", {"from_scratch": True}),
    ],
)
def test_any_setting_can_be_given_on_the_command_line(assignment: str, read: dict[str, object]) -> None:
    assert flags.train_settings({"set": [assignment]}) == build(TrainSettings, read)


def test_flags_go_before_the_file_and_set_before_flags(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("max_windows = 5\n[train]\nepochs = 3\nbatch_size = 2\nseed = 1\n")
    found = flags.train_settings({"batch_size": 4, "seed": 2, "config": path, "set": ["seed=3"]})
    assert (found.epochs, found.batch_size, found.seed) == (3, 4, 3)
    assert flags.tag_settings({"config": path}).max_windows == 5
    with pytest.raises(SettingsError, match="expected name=value"):
        flags.train_settings({"set": ["mixup"]})


def test_the_recipes_are_settings() -> None:
    recipes = sorted(Path(__file__).parents[3].glob("recipes/*.toml"))
    assert len(recipes) == 6
    for path in recipes:
        assert flags.train_settings({"config": path}).from_scratch


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
