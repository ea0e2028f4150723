"""A cluster that has shrunk is stuck where its scorers no longer fit, or leave no CPU to decode."""

from __future__ import annotations

import pytest

from tonearm.planning.layout import Layout, stuck

LOCAL = Layout(num_scorers=2, scorer_cpus=0.9, scorer_gpus=0.0, scorer_threads=1, num_cpus=4, is_local=False)


GPUS = Layout(num_scorers=4, scorer_cpus=0.9, scorer_gpus=1.0, scorer_threads=1, num_cpus=24, is_local=False)


@pytest.mark.parametrize(
    ("nodes", "layout", "why"),
    [
        ([{"CPU": 2.0}, {"CPU": 2.0}], LOCAL, None),
        ([{}, {"CPU": 2.0}], LOCAL, "hold every CPU"),  # both actors move in, and leave 0.2 of a CPU
        ([{}, {"CPU": 4.0}], LOCAL, None),
        ([{}], LOCAL, "no node is left that can score"),
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 16.0}], GPUS, None),
        ([{"CPU": 16.0}], GPUS, "no node is left that can score"),
        ([{"CPU": 1.0, "GPU": 1.0}], GPUS, "1 scoring worker holds every CPU"),
    ],
)
def test_what_is_left_of_a_cluster(nodes: list[dict[str, float]], layout: Layout, why: str | None) -> None:
    found = stuck(nodes, layout)
    assert (found is None) if why is None else (found is not None and why in found)
