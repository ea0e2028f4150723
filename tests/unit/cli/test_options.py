"""Options are the settings' own: what is given becomes keywords of the library, and the rest is left to files."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from tonearm import cli
from tonearm.api.flags import serve_settings, tag_settings, train_settings
from tonearm.cli import plan, serve, tag
from tonearm.cli.app import app
from tonearm.cli.options import choices, settings
from tonearm.cli.training import evaluate, train
from tonearm.heads import HeadSettings
from tonearm.settings import LabelSettings, Precision, ServeSettings, TagSettings, TrainSettings


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the printers of the verbs are called with, by keyword."""
    seen: dict[str, Any] = {}
    for module, name in ((tag, "tag"), (plan, "plan"), (serve, "serve"), (train, "train"), (evaluate, "evaluate")):
        monkeypatch.setattr(module, name, lambda *_, **flags: seen.update(flags) or 0)
    return seen


def run(command: str) -> None:
    result = CliRunner().invoke(app, command.split(), standalone_mode=False)
    assert result.exception is None, result.exception


def test_what_was_not_given_is_not_handed_on(given: dict[str, Any]) -> None:
    """A default that was handed on would stand over the file of settings."""
    run("tag music --out labels")
    assert given == {"retry_errors": False, "rescore": (), "as_json": False}


def test_tagging_gets_its_settings(given: dict[str, Any]) -> None:
    run(
        "tag music --out labels --genre-model ./a --tag-model none --head mood=./m:multi --max-windows 3 --workers 2 "
        "--limit 9 --runtime torch --precision bf16 --max-error-rate 0.5 --calibrated --verbose --retry-errors "
        "--rescore genre --json"
    )
    made = {name: given.pop(name) for name in ("retry_errors", "rescore", "as_json")}
    assert made == {"retry_errors": True, "rescore": ["genre"], "as_json": True}
    found = tag_settings(given)
    assert (found.max_windows, found.workers, found.limit, found.max_error_rate, found.verbose) == (3, 2, 9, 0.5, True)
    models = found.models
    assert (models.genre_model, models.tag_model, models.runtime, models.precision) == ("./a", None, "torch", "bf16")
    assert models.calibrated and models.heads == {"mood": HeadSettings("./m", "multi")}


def test_training_gets_its_settings(given: dict[str, Any]) -> None:
    run(
        "train sounds --out model --model ./base --from-scratch --new-head --label-by folder --single-label "
        "--skip-unlabelled --group-by artist --source-by host --split-by fold --validation-on 1 --validation-on 2 "
        "--test-on 3 --validation-share 0.2 --duplicates drop --window-s 5 --epochs 2 --batch-size 4 "
        "--learning-rate 1e-4 --precision fp32 --seed 7 --freeze-feature-encoder --workers 2 --tracker none "
        "--set augment.mixup=0.3 --verbose"
    )
    del given["overwrite"], given["as_json"]
    found = train_settings(given)
    assert found == TrainSettings(
        model="./base", from_scratch=True, new_head=True, window_s=5.0, epochs=2, batch_size=4, learning_rate=1e-4,
        precision="fp32", seed=7, freeze_feature_encoder=True, workers=2, trackers=(), verbose=True,
        augment=found.augment,
        labels=LabelSettings(
            label_by="folder", multi_label=False, skip_unlabelled=True, group_by="artist", source_by="host",
            split_by="fold", validation_on=("1", "2"), test_on=("3",), validation_share=0.2, duplicates="drop",
        ),
    )  # fmt: skip
    assert found.augment.mixup == 0.3


def test_serving_gets_its_settings(given: dict[str, Any]) -> None:
    run(
        "serve --host ::1 --port 9000 --tag-model none --max-windows 2 --allow-uri s3://a/ --allow-uri s3://b/ "
        "--allow-origin * --root-path /t --rate-limit 5/minute --access-log log --engine ray --api-key-file keys"
    )
    found = serve_settings(given)
    assert (found.host, found.port, found.max_windows, found.engine) == ("::1", 9000, 2, "ray")
    assert (found.allow_uris, found.allow_origins, found.root_path) == (("s3://a/", "s3://b/"), ("*",), "/t")
    assert (found.rate_limit, found.access_log, found.api_key_file) == ("5/minute", "log", "keys")


def test_plan_takes_every_flag_of_tagging(given: dict[str, Any]) -> None:
    run("plan music --calibrated --precision int8 --cpus 4 --cpu-price 0.1")
    assert (given["calibrated"], given["precision"], given["cpus"], given["cpu_price"]) == (True, "int8", 4, 0.1)


def test_evaluation_leaves_a_yes_or_no_open(given: dict[str, Any]) -> None:
    run("evaluate model sounds")
    assert "multi_label" not in given
    run("evaluate model sounds --single-label --target-precision 0.8")
    assert given["multi_label"] is False and given["wanted_precision"] == 0.8


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("tag music --precision fp23", "got 'fp23', expected one of 'auto', 'fp32', 'bf16', 'fp16', 'int8'"),
        ("train sounds --out m --duplicates keep", "got 'keep', expected one of 'report', 'drop', 'ignore'"),
        ("train sounds --out m --precision int8", "got 'int8', expected one of 'auto', 'fp32', 'bf16', 'fp16'"),
        ("serve --engine spark", "got 'spark', expected one of 'auto', 'process', 'ray'"),
    ],
)
def test_a_wrong_choice_is_status_2_and_lists_the_choices(
    command: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tonearm", *command.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and len(said.splitlines()) == 1
    assert says in said and f"tonearm {command.split()[0]} --help" in said


def test_options_are_made_of_the_fields() -> None:
    """Of a setting's type, choices, and whether there are several of it."""
    assert choices(Precision) == ("auto", "fp32", "bf16", "fp16", "int8")
    assert [option.keyword for option in settings(TagSettings, "limit", "workers")] == ["limit", "workers"]
    names = {option.keyword for option in settings(ServeSettings)}
    assert {"host", "allow_uris", "engine", "verbose"} <= names
