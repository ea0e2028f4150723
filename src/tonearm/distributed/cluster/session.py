"""Joining or starting Ray, and the check that a run on it can finish.

A run holds actors for its whole length. If they take every logical CPU, the tasks that list, decode and write never
start and the job waits for ever (https://github.com/ray-project/ray/issues/44687); ``plan`` refuses that beforehand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from tonearm.distributed.cluster.joining import joined
from tonearm.distributed.cluster.joining import log_path as log_path
from tonearm.distributed.cluster.local_ray import local_cpus as local_cpus
from tonearm.errors import ClusterError
from tonearm.models.runtimes import count_gpus, usable_cores
from tonearm.wording import counted

# Below a whole CPU, so that Ray does not fuse decoding into the scoring actor, which would end their overlap.
SCORER_CPUS = 0.9
POLL_S = 0.5
INLINE_BYTES = 2 * 2**20
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a run is spread over a cluster."""

    num_scorers: int
    scorer_cpus: float
    scorer_gpus: float
    scorer_threads: int
    num_cpus: float
    is_local: bool


@contextlib.contextmanager
def polling(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` again and again on a thread of its own while the block runs; what Ray refuses is asked anew."""
    import ray

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            with contextlib.suppress(ray.exceptions.RayError):
                look()

    thread = threading.Thread(target=watch, name="polling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


@contextlib.contextmanager
def session(num_workers: int | None, *, verbose: bool = False) -> Iterator[Layout]:
    """Join the cluster of ``RAY_ADDRESS`` or start a local one; leave it as it was afterwards.

    Args:
        num_workers: scoring actors, or None for one a GPU and, without GPUs, one a machine.

    Raises:
        ClusterError: the cluster cannot be reached or is too small.
    """
    import ray  # noqa: F401  whole before a second thread imports parts of it

    # Ray's own processes take seconds to start, and Ray Data a second to import.
    threading.Thread(target=importlib.import_module, args=["ray.data"], name="importing", daemon=True).start()
    with joined(num_workers, verbose) as is_local:
        look = functools.partial(plan, num_workers=num_workers, is_local=is_local)
        with _planned(lambda: look(node_resources()), num_workers, is_local=is_local) as layout:
            yield layout


@contextlib.contextmanager
def _planned(layout: Callable[[], T], num_workers: int | None, *, is_local: bool) -> Iterator[T]:
    """Yield ``layout()``, once the cluster has grown enough for it.

    Where ``TONEARM_WAIT_FOR_WORKERS_S`` says that the cluster grows by itself, its autoscaler is asked to have a place
    for each worker as long as the block runs (``TONEARM_SCORE_ON`` says whether that is a GPU), and given so long for
    it; elsewhere what does not fit is refused at once.

    Raises:
        ClusterError: it does not fit.
    """
    wait_s = 0.0 if is_local else growth_s()
    if not wait_s:
        yield layout()
        return
    from ray.autoscaler.sdk import request_resources

    place = {"GPU": 1} if os.environ.get("TONEARM_SCORE_ON") == "GPU" else {"CPU": 2}
    request_resources(bundles=[place] * (num_workers or 1))
    try:
        yield _awaited(layout, wait_s)
    finally:
        request_resources(bundles=[])


def growth_s() -> float:
    """Return how long new nodes may take on a cluster that grows by itself; 0 on one that does not."""
    return float(os.environ.get("TONEARM_WAIT_FOR_WORKERS_S") or 0)


def _awaited(layout: Callable[[], T], wait_s: float) -> T:
    ends = time.monotonic() + wait_s
    while True:
        try:
            return layout()
        except ClusterError as error:
            if time.monotonic() >= ends:
                raise ClusterError(f"{error.message} (waited {wait_s:g} s for the cluster to grow)") from None
        time.sleep(POLL_S)


@contextlib.contextmanager
def serving_session(*, verbose: bool = False) -> Iterator[None]:
    """Join or start Ray as ``session`` does, for a server.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    # Clips and windows are some hundred kilobytes: sent along with the call they cost less than by way of the object
    # store (16% more requests a second, bench.serving on small models).
    os.environ.setdefault("RAY_max_direct_call_object_size", str(INLINE_BYTES))
    with joined(None, verbose):
        yield


def node_resources() -> list[Mapping[str, float]]:
    """Return the resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def plan_local(num_workers: int | None) -> Layout:
    """Return the layout of a run on a local Ray, without starting it.

    Raises:
        ClusterError: as ``session``.
    """
    node = {"CPU": float(local_cpus(num_workers))}
    if count := count_gpus():
        node["GPU"] = float(count)
    return plan([node], num_workers, is_local=True)


@dataclasses.dataclass(frozen=True)
class TrainingLayout:
    """How a training run is spread over a cluster; every worker has ``threads`` to compute and decode with."""

    num_workers: int
    use_gpu: bool
    worker_cpus: float
    threads: int


@contextlib.contextmanager
def training_session(num_workers: int | None, *, verbose: bool = False) -> Iterator[TrainingLayout]:
    """Join or start Ray as ``session`` does, for a training run.

    Args:
        num_workers: None for one a GPU and, without GPUs, one.

    Raises:
        ClusterError: the cluster cannot be reached or is too small.
    """
    with joined(num_workers, verbose) as is_local:
        look = functools.partial(plan_training, num_workers=num_workers, is_local=is_local)
        with _planned(lambda: look(node_resources()), num_workers, is_local=is_local) as layout:
            yield layout


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


def head_address() -> tuple[str, int]:
    """Return where the head of the cluster listens."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def spilled_bytes() -> int:
    """Return how much the object stores of the cluster have written to disk for want of memory so far."""
    import grpc
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    try:
        reply = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address))
    except (ray.exceptions.RayError, grpc.RpcError, RuntimeError, OSError):
        return 0  # a figure for people: no run fails for it
    return int(reply.store_stats.spilled_bytes_total)


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
