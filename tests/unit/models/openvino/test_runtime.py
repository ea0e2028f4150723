"""OpenVINO's scores are torch's, whatever the window's length and however many passes run at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import clips
from tests.converted import windows
from tonearm.models.classifier import Classifier
from tonearm.models.openvino.cache import Converted
from tonearm.models.openvino.runtime import OpenVinoRuntime


@pytest.mark.processes
def test_any_length_scores_as_torch_does(hubert: Path, form: Converted) -> None:
    fast, exact = (Classifier.load(str(hubert), runtime=name, precision="fp32") for name in ("openvino", "torch"))
    for length_s in (0.5, 1.0, 3.7, 10.0):
        (waveform,) = clips(23, num_clips=1, length_s=length_s)
        found, wanted = fast.score([waveform]), exact.score([waveform])
        np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-4)
        np.testing.assert_allclose(found.embedding, wanted.embedding, atol=1e-4)


@pytest.mark.processes
def test_several_passes_at_a_time_give_the_same_in_order(form: Converted) -> None:

    batch = windows(5)
    one = OpenVinoRuntime(form, "fp32", num_threads=2)
    two = OpenVinoRuntime(form, "fp32", num_threads=2, num_streams=2)
    alone, together = one.run(batch), two.run(batch)
    np.testing.assert_allclose(alone.logits, together.logits, atol=1e-5)
    np.testing.assert_allclose(alone.embedding, together.embedding, atol=1e-5)
    assert one.features_s > 0


@pytest.mark.processes
def test_measuring_streams_gives_a_rate_for_either_layout(form: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.models.openvino import runtime as openvino_runtime
    from tonearm.models.openvino.runtime import measure_streams

    monkeypatch.setattr(openvino_runtime, "TRY_S", 0.1)
    measured = measure_streams(form, "fp32", windows(1)[0], 2)
    assert set(measured) == {"1x2", "2x1"}
    assert min(measured.values()) > 0
