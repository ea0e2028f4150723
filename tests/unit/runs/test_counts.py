"""What a head ran on is told of all workers, and of the one that fell back furthest where they differ."""

from __future__ import annotations

import pytest

from tonearm.runs.counts import of_workers

ON_GPU = {"runtime": "torch", "precision": "fp16", "device": "cuda", "note": "", "passes": "graphs"}
EAGER = {**ON_GPU, "passes": "eager", "note": "without graphs: a replay is off by 0.5"}
EXACT = {**ON_GPU, "precision": "fp32", "passes": "eager", "note": "not fp16: a score moves by 0.2"}
ON_CPU = {"runtime": "openvino", "precision": "fp32", "device": "cpu", "note": ""}


def test_alike_workers_are_one() -> None:
    assert of_workers([ON_CPU]) == of_workers([ON_CPU] * 3) == ON_CPU
    assert of_workers([EAGER] * 2) == EAGER


@pytest.mark.parametrize("order", [1, -1])
def test_the_worker_that_fell_back_furthest_is_told_with_the_others(order: int) -> None:
    workers = [ON_GPU, EAGER, EXACT, ON_GPU][::order]
    told = "1 of 4 workers, 1 in fp16 eager, 2 in fp16 graphs; not fp16: a score moves by 0.2"
    assert of_workers(workers) == {**EXACT, "note": told}
    told = "1 of 3 workers, 2 in fp16 graphs; without graphs: a replay is off by 0.5"
    assert of_workers([ON_GPU, ON_GPU, EAGER][::order]) == {**EAGER, "note": told}
