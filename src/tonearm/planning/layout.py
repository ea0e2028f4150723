"""Compute how many workers of which size a run has on the given machines. Arithmetic only; does not call Ray.

A run keeps its actors until it ends. If they take every logical CPU, the tasks that list, decode and write never start
and the job never ends (https://github.com/ray-project/ray/issues/44687); ``plan`` refuses that beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tonearm.errors import ClusterError
from tonearm.models.runtimes import count_gpus, usable_cores
from tonearm.wording import counted

# Below a whole CPU, so that Ray does not fuse decoding into the scoring actor, which would end their overlap.
SCORER_CPUS = 0.9


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a run is spread over a cluster."""

    num_scorers: int
    scorer_cpus: float
    scorer_gpus: float
    scorer_threads: int
    num_cpus: float
    is_local: bool


@dataclasses.dataclass(frozen=True)
class TrainingLayout:
    """How a training run is spread over a cluster; every worker computes and decodes with ``threads`` threads."""

    num_workers: int
    use_gpu: bool
    worker_cpus: float
    threads: int


class _Placement(NamedTuple):
    """How many scoring workers fit on the nodes, and the most CPUs that any one node then has free."""

    num_placed: int
    most_free_cpus: float


def _place_scorers(
    nodes: Sequence[Mapping[str, float]], num_scorers: int, scorer_cpus: float, *, on_gpus: bool
) -> _Placement:
    free_cpus = [node.get("CPU", 0.0) for node in nodes if not on_gpus or node.get("GPU", 0.0)]
    other_nodes_free = [node.get("CPU", 0.0) for node in nodes if on_gpus and not node.get("GPU", 0.0)]
    num_placed = 0
    # Always on the node with the most CPUs free: where that one is too small, so are the others.
    while num_placed < num_scorers and free_cpus and max(free_cpus) >= scorer_cpus:
        free_cpus[free_cpus.index(max(free_cpus))] -= scorer_cpus
        num_placed += 1
    return _Placement(num_placed, max([*free_cpus, *other_nodes_free], default=0.0))


def stuck(nodes: Sequence[Mapping[str, float]], layout: Layout) -> str | None:
    """Return why a run of this layout cannot continue on the nodes that are left, or None if it can.

    Ray restarts the actors of a lost node wherever they fit, which may be on the CPUs that decode.
    """
    placement = _place_scorers(nodes, layout.num_scorers, layout.scorer_cpus, on_gpus=layout.scorer_gpus > 0)
    if not placement.num_placed:
        return "no node is left that can score"
    if placement.most_free_cpus < 1:
        holders = counted(placement.num_placed, "scoring worker", "holds", "hold")
        return f"{holders} every CPU that is left, and none is free to decode"
    return None


def plan(nodes: Sequence[Mapping[str, float]], num_workers: int | None, *, is_local: bool) -> Layout:
    """Return how a run is laid out on ``nodes``.

    Args:
        nodes: each node's resources, as ``ray.nodes()`` gives them.

    Raises:
        ClusterError: the scoring actors do not fit, or would leave no whole CPU for the rest.
    """
    num_cpus = sum(node.get("CPU", 0.0) for node in nodes)
    num_gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    scorers = (
        num_workers or num_gpus or (1 if is_local else max(1, sum(1 for node in nodes if node.get("CPU", 0) >= 2)))
    )
    cores = usable_cores() if is_local else int(max((node.get("CPU", 0.0) for node in nodes), default=0))
    if num_gpus:
        # More workers than GPUs share them: Ray gives each a fraction.
        threads, cpus, gpus = 1, SCORER_CPUS, 1.0 if scorers <= num_gpus else num_gpus / scorers
    elif is_local:
        threads, cpus, gpus = max(1, cores // scorers), SCORER_CPUS, 0.0
    else:
        # One core of the node stays free to decode.
        threads = max(1, min(8, cores - 1))
        cpus, gpus = float(threads) if threads > 1 else SCORER_CPUS, 0.0
    placement = _place_scorers(nodes, scorers, cpus, on_gpus=num_gpus > 0)
    if placement.num_placed < scorers:
        raise ClusterError(
            f"{counted(scorers, 'scoring worker')} of {counted(cpus, 'CPU')} {'does' if scorers == 1 else 'do'} not "
            f"fit: the cluster has {counted(num_cpus, 'CPU')} on {counted(len(nodes), 'node')} and place for "
            f"{placement.num_placed}; give --workers {max(1, placement.num_placed)} or a larger cluster"
        )
    if placement.most_free_cpus < 1:
        raise ClusterError(
            f"{counted(scorers, 'scoring worker')} would take all {counted(num_cpus, 'CPU')} and leave none to list, "
            f"decode and write: the run would wait for ever; give --workers {max(1, scorers - 1)} or at least "
            f"{counted(scorers * cpus + 1, 'CPU')}"
        )
    return Layout(scorers, cpus, gpus, threads, num_cpus, is_local)


def plan_local(num_workers: int | None) -> Layout:
    """Return the layout of a run on a local Ray, without starting it.

    Raises:
        ClusterError: as ``session``.
    """
    node = {"CPU": float(local_cpus(num_workers))}
    if count := count_gpus():
        node["GPU"] = float(count)
    return plan([node], num_workers, is_local=True)


def local_cpus(num_workers: int | None) -> int:
    """Return how many logical CPUs a local Ray gets: more than there are cores, so that actors do not slow decoding.

    Raises:
        ClusterError: more workers than cores.
    """
    cores = usable_cores()
    if num_workers is not None and num_workers > cores:
        raise ClusterError(
            f"{counted(num_workers, 'worker')} on {counted(cores, 'core')} would only take each other's time and "
            f"memory; give --workers {cores} or fewer, or a cluster with RAY_ADDRESS"
        )
    # The scoring actors hold their logical CPUs for the whole run; as many as there are cores stay free to decode.
    return cores + (num_workers or 1) + 1


def plan_training(nodes: Sequence[Mapping[str, float]], num_workers: int | None, *, is_local: bool) -> TrainingLayout:
    """Return how many training workers there will be, and of which size.

    Args:
        nodes: each machine's resources, as ``ray.nodes()`` gives them.

    Raises:
        ClusterError: the workers do not fit.
    """
    num_gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    workers = num_workers or num_gpus or 1
    if num_gpus:
        if workers > num_gpus:
            raise ClusterError(
                f"got {counted(workers, 'training worker')} for {counted(num_gpus, 'GPU')}, expected at most one a "
                f"GPU; give --workers {num_gpus}, or more GPUs"
            )
        # The node with the fewest CPUs per GPU decides: all workers of Ray Train have the same size.
        cpus = min(node.get("CPU", 1.0) / node["GPU"] for node in nodes if node.get("GPU", 0.0))
        threads = max(1, min(8, int(cpus) - 1))
        return TrainingLayout(workers, True, float(threads), threads)
    cores = usable_cores() if is_local else int(max((node.get("CPU", 0.0) for node in nodes), default=0))
    total = sum(node.get("CPU", 0.0) for node in nodes)
    if workers > total:
        raise ClusterError(
            f"got {counted(workers, 'training worker')} for {counted(total, 'CPU')}, expected at most one a CPU; "
            f"give --workers {int(total)} or a larger cluster"
        )
    threads = max(1, cores // workers) if is_local else max(1, int(total) // workers)
    # One logical CPU each, so that all fit (see above); ``threads`` says what a worker really computes with.
    return TrainingLayout(workers, False, 1.0, min(threads, cores))
