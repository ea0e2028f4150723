"""Which tensors of a graph are its scores and its embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from tests.graphs import (
    LABELS,
    NUM_FEATURES,
    NUM_SAMPLES,
    convert_graph,
    described,
    expected_scores,
    noise_windows,
    run_network,
    save_wave_graph,
)
from tonearm.models.exported.tensors import GraphError


@pytest.mark.parametrize("which", [1, "features"])
def test_outputs_are_named_or_counted(tmp_path: Path, which: int | str) -> None:
    values = described("wave.xml", scores_output=0, embedding_output=which)
    facts, out = convert_graph(save_wave_graph(tmp_path / "wave.xml"), values)
    assert (facts.scores_name, facts.embedding_name) == ("scores", "features")
    np.testing.assert_allclose(
        run_network(out, values, facts, noise_windows())[1], expected_scores(noise_windows())[1], rtol=1e-4, atol=1e-5
    )


def test_the_scores_are_their_own_embedding_where_there_is_no_other(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.float32)
    parts = ops.reshape(wave, np.array([-1, len(LABELS), NUM_SAMPLES // len(LABELS)], np.int64), False)
    scores = ops.reduce_max(parts, np.array([2]), False)
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml", compress_to_fp16=False)
    facts, out = convert_graph(tmp_path / "wave.xml", described("wave.xml"))
    assert (facts.embedding_name, facts.embedding_dim) == (None, len(LABELS))
    assert len(run_network(out, described("wave.xml"), facts, noise_windows())) == 1


@pytest.mark.parametrize(("ending", "is_multi"), [("sigmoid", True), ("softmax", False)])
def test_what_a_graph_ends_in_says_what_its_scores_are(tmp_path: Path, ending: str, is_multi: bool) -> None:
    path = save_wave_graph(tmp_path / "wave.xml", activation=ending)
    facts, _ = convert_graph(path, described("wave.xml", activation="none"))
    assert facts.scores == ("independent" if is_multi else "exclusive")
    assert facts.multi_label is is_multi
    assert facts.embedding_dim == NUM_FEATURES
    assert not convert_graph(path, described("wave.xml", activation="none", multi_label=False))[0].multi_label


def test_which_output_has_the_scores_must_be_clear(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(7)]
    with pytest.raises(GraphError, match=r"it has 2 outputs \(scores \[1, 4\], features \[1, 6\]\), of which 0 have"):
        convert_graph(save_wave_graph(tmp_path / "wave.xml"), described("wave.xml", labels=labels))


def test_an_output_whose_size_depends_on_the_sound_is_refused(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.float32)
    loud = ops.non_zero(ops.greater(wave, np.float32(0.1)))
    scores = ops.convert(loud, "f32")
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml", compress_to_fp16=False)
    with pytest.raises(GraphError, match="whatever the window, expected a size that is fixed"):
        convert_graph(tmp_path / "wave.xml", described("wave.xml"))
