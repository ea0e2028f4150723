"""The small architectures are made for the window that they are trained on."""

from __future__ import annotations

import pytest

from tonearm.training.fit.initial import read_initial_model
from tonearm.training.fit.initial_weights import Classifier, empty_model, load_initial_model


@pytest.mark.parametrize(("name", "frames"), [("small-ast", 512), ("small-hubert", None)])
def test_small_architectures_are_made_for_the_window(name: str, frames: int | None) -> None:
    initial, head = read_initial_model(name, from_scratch=True), Classifier(["a", "b"], True, 5.0)
    model, extractor = load_initial_model(initial, head, seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == empty_model(initial, head).num_parameters < 1_000_000
    assert model.config.problem_type == "multi_label_classification"
    if frames is not None:
        assert model.config.max_length == extractor.max_length == frames
    again = load_initial_model(initial, head, seed=0).model
    assert all((one == two).all() for one, two in zip(model.parameters(), again.parameters(), strict=True))
