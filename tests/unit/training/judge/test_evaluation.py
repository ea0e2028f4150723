"""A calibration is judged on clips that it was not fitted on, and stored only where it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.made_predictions import LABELS, predictions
from tonearm.cli.output import Output
from tonearm.cli.training.evaluate import _print_calibration
from tonearm.distributed.tagging.evaluate import store_calibration
from tonearm.models.calibration import Calibration, TonearmSidecar, read_sidecar, write_sidecar
from tonearm.training.judge.evaluation import Evaluation, _facts_of, cross_fitted_scores, judge
from tonearm.training.judge.predictions import Predictions


def test_each_half_is_calibrated_by_the_other() -> None:
    found = predictions(is_multi=False, num_tracks=40, sharpness=2.0)
    changed = Predictions(found.logits.copy(), found.owner, found.start_s, found.targets, found.clips)
    first = cross_fitted_scores(found, is_multi=False)
    changed.logits[changed.owner == 0] *= 50
    second = cross_fitted_scores(changed, is_multi=False)
    # One clip's change moves the temperature of the other half, but of none in its own.
    moved = np.abs(first - second).max(axis=1) > 1e-7
    assert 0 < moved[1:].sum() < len(moved) - 1


def evaluated(found: Predictions, *, is_multi: bool) -> Evaluation:
    figures, fitted, calibrated = judge(found, LABELS, is_multi=is_multi, target_precision=0.9)
    uris = tuple(f"/{number}.wav" for number in range(len(found.targets)))
    return Evaluation("m", "s", LABELS, is_multi, found, uris, {}, figures, fitted, calibrated)


@pytest.mark.parametrize("is_multi", [False, True])
def test_a_calibration_is_kept_only_where_it_helps(
    is_multi: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes ECE worse on the clips that it was not fitted on is not stored, and that is said."""
    before = Calibration(1.5, {}, 0.8)
    kept = []
    for seed in range(12):
        found = evaluated(predictions(is_multi=is_multi, num_tracks=24, seed=seed, sharpness=0.8), is_multi=is_multi)
        assert found.calibration is not None and found.calibrated is not None
        write_sidecar(tmp_path, TonearmSidecar(calibration=before))
        store_calibration(str(tmp_path), found)
        _print_calibration(found, str(tmp_path), 0.9, Output())
        helps = found.calibrated["track"]["ece"] < found.figures["track"]["ece"]
        assert read_sidecar(tmp_path).calibration == (found.calibration if helps else before)
        assert ("not stored: it does not help" in capsys.readouterr().out) is not helps
        assert (_facts_of(found)["calibration"] is not None) is helps
        kept.append(helps)
    assert any(kept) and not all(kept), "both are tried"
