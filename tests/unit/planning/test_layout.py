"""A local run or a cluster is laid out by its CPUs and GPUs; a layout that could never start is refused."""

from __future__ import annotations

import pytest

from tonearm.errors import ClusterError
from tonearm.planning.layout import Layout, plan, stuck


def test_a_local_machine_scores_with_all_its_cores() -> None:
    layout = plan([{"CPU": 4.0}], None, is_local=True)
    assert layout.num_scorers == 1
    assert layout.scorer_cpus < 1, "a whole CPU would let Ray fuse decoding into scoring"


def test_one_scorer_per_gpu() -> None:
    layout = plan([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}], None, is_local=False)
    assert (layout.num_scorers, layout.scorer_gpus) == (4, 1.0)


def test_more_workers_than_gpus_share_them() -> None:
    layout = plan([{"CPU": 16.0, "GPU": 1.0}], 2, is_local=False)
    assert (layout.num_scorers, layout.scorer_gpus) == (2, 0.5)


@pytest.mark.parametrize(("nodes", "workers"), [([{"CPU": 1.0}], 1), ([{"CPU": 2.0}], 2), ([], None)])
def test_actors_that_would_take_every_cpu_are_refused(nodes: list[dict[str, float]], workers: int | None) -> None:
    with pytest.raises(ClusterError, match=r"--workers \d"):
        plan(nodes, workers, is_local=False)


def test_cpu_nodes_leave_the_gpu_node_its_cpus() -> None:
    layout = plan([{"CPU": 1.0, "GPU": 1.0}, {"CPU": 2.0}], None, is_local=False)
    assert layout.num_scorers == 1


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
def test_a_run_continues_while_the_remaining_nodes_suffice(
    nodes: list[dict[str, float]], layout: Layout, why: str | None
) -> None:
    found = stuck(nodes, layout)
    assert (found is None) if why is None else (found is not None and why in found)
