"""Flags of ``train`` and ``evaluate`` become the settings of the library."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.verbs.conftest import run
from tonearm.api.flags import train_settings
from tonearm.settings import LabelSettings, TrainSettings


def test_training_gets_its_settings(given: dict[str, Any]) -> None:
    run(
        "train sounds --out model --model ./base --from-scratch --new-head --label-by folder --single-label "
        "--skip-unlabelled --group-by artist --source-by host --split-by fold --validation-on 1 --validation-on 2 "
        "--test-on 3 --validation-share 0.2 --duplicates drop --window-s 5 --epochs 2 --batch-size 4 "
        "--learning-rate 1e-4 --precision fp32 --seed 7 --freeze-feature-encoder --workers 2 --tracker none "
        "--set augment.mixup=0.3 --verbose"
    )
    del given["overwrite"], given["as_json"]
    settings = train_settings(given)
    assert settings == TrainSettings(
        model="./base", from_scratch=True, new_head=True, window_s=5.0, epochs=2, batch_size=4, learning_rate=1e-4,
        precision="fp32", seed=7, freeze_feature_encoder=True, workers=2, trackers=(), verbose=True,
        augment=settings.augment,
        labels=LabelSettings(
            label_by="folder", multi_label=False, skip_unlabelled=True, group_by="artist", source_by="host",
            split_by="fold", validation_on=("1", "2"), test_on=("3",), validation_share=0.2, duplicates="drop",
        ),
    )  # fmt: skip
    assert settings.augment.mixup == 0.3


def test_evaluation_leaves_a_yes_or_no_open(given: dict[str, Any]) -> None:
    run("evaluate model sounds")
    assert "multi_label" not in given
    run("evaluate model sounds --single-label --target-precision 0.8")
    assert given["multi_label"] is False and given["wanted_precision"] == 0.8
