"""The first figures that a reader sees are those of the test clips, where there are any."""

from __future__ import annotations

from typing import Any

from tonearm.training.judge.headline import headline, main_side


def test_the_test_clips_go_before_those_that_chose_the_best_epoch() -> None:
    assert main_side({"validation": {}, "test": {}}) == "test"
    assert main_side({"validation": {}}) == "validation"
    assert main_side({}) is None


def test_the_line_names_what_the_task_is_judged_by() -> None:
    single: dict[str, Any] = {"accuracy": 0.5, "accuracy_interval": [0.25, 0.75], "macro_f1": 0.4}
    assert headline({"num_tracks": 8, "track": single}, is_multi=False) == (
        "accuracy 0.500 (95% interval 0.250 to 0.750), macro F1 0.400, 8 tracks"
    )
    multi: dict[str, Any] = {"macro_map": 0.3, "micro_map": 0.2, "mean_auc": 0.9, "num_labels": 1}
    assert headline({"num_tracks": 1, "track": multi}, is_multi=True) == (
        "macro mAP 0.300, micro mAP 0.200, mean AUC 0.900 over 1 tag, 1 track"
    )
