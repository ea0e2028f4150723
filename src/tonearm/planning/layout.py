"""How many workers a run has on the machines that there are, and of which size: sums, without Ray.

A run holds actors for its whole length. If they take every logical CPU, the tasks that list, decode and write never
start and the job never ends (https://github.com/ray-project/ray/issues/44687); ``plan`` refuses that beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

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
    """How a training run is spread over a cluster; every worker has ``threads`` to compute and decode with."""

    num_workers: int
    use_gpu: bool
    worker_cpus: float
    threads: int


def _placed(
    nodes: Sequence[Mapping[str, float]], num_scorers: int, scorer_cpus: float, *, on_gpus: bool
) -> tuple[int, float]:
    """Return how many scoring workers find a place, and the largest share of a node's CPUs that they leave."""
    free = [node.get("CPU", 0.0) for node in nodes if not on_gpus or node.get("GPU", 0.0)]
    others = [node.get("CPU", 0.0) for node in nodes if on_gpus and not node.get("GPU", 0.0)]
    num_placed = 0
    while num_placed < num_scorers and free and max(free) >= scorer_cpus:
        free[free.index(max(free))] -= scorer_cpus
        num_placed += 1
    return num_placed, max([*free, *others], default=0.0)


def stuck(nodes: Sequence[Mapping[str, float]], layout: Layout) -> str | None:
    """Return why a run of this layout cannot go on with the nodes that are left, or None when it can.

    Actors of a node that went are started wherever they fit, which may be on the CPUs that decode.
    """
    num_placed, largest = _placed(nodes, layout.num_scorers, layout.scorer_cpus, on_gpus=layout.scorer_gpus > 0)
    if not num_placed:
        return "no node is left that can score"
    if largest < 1:
        hold = counted(num_placed, "scoring worker", "holds", "hold")
        return f"{hold} every CPU that is left, and none is free to decode"
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
        threads, cpus, gpus = 1, SCORER_CPUS, 1.0 if scorers <= num_gpus else num_gpus / scorers
    elif is_local:
        threads, cpus, gpus = max(1, cores // scorers), SCORER_CPUS, 0.0
    else:
        threads = max(1, min(8, cores - 1))
        cpus, gpus = float(threads) if threads > 1 else SCORER_CPUS, 0.0
    num_placed, largest = _placed(nodes, scorers, cpus, on_gpus=num_gpus > 0)
    if num_placed < scorers:
        raise ClusterError(
            f"{counted(scorers, 'scoring worker')} of {counted(cpus, 'CPU')} {'does' if scorers == 1 else 'do'} not "
            f"fit: the cluster has {counted(num_cpus, 'CPU')} on {counted(len(nodes), 'node')} and place for "
            f"{num_placed}; give --workers {max(1, num_placed)} or a larger cluster"
        )
    if largest < 1:
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
    """Return the logical CPUs of a local Ray: more than cores, so that the actors' share does not slow decoding.

    Raises:
        ClusterError: more workers than cores.
    """
    cores = usable_cores()
    if num_workers is not None and num_workers > cores:
        raise ClusterError(
            f"{counted(num_workers, 'worker')} on {counted(cores, 'core')} would only take each other's time and "
            f"memory; give --workers {cores} or fewer, or a cluster with RAY_ADDRESS"
        )
    return cores + (num_workers or 1) + 1


def plan_training(nodes: Sequence[Mapping[str, float]], num_workers: int | None, *, is_local: bool) -> TrainingLayout:
    """Return how many training workers of which size there will be.

    Args:
        nodes: each machine's resources.

    Raises:
        ClusterError: they do not fit.
    """
    num_gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    workers = num_workers or num_gpus or 1
    if num_gpus:
        if workers > num_gpus:
            raise ClusterError(
                f"got {counted(workers, 'training worker')} for {counted(num_gpus, 'GPU')}, expected at most one a "
                f"GPU; give --workers {num_gpus}, or more GPUs"
            )
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
    return TrainingLayout(workers, False, 1.0, min(threads, cores))
