"""Ray for the time of a run: joined or started, checked to be large enough, polled, and left as it was."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import grpc
import ray  # whole before ``session`` has a second thread import parts of it
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from tonearm.distributed.cluster.joining import joined
from tonearm.distributed.cluster.joining import log_path as log_path
from tonearm.errors import ClusterError
from tonearm.planning.layout import Layout, TrainingLayout, plan, plan_training

POLL_S = 0.5
INLINE_BYTES = 2 * 2**20
T = TypeVar("T")


@contextlib.contextmanager
def background_poll(poll: Callable[[], None]) -> Iterator[None]:
    """Call ``poll`` every 0.5 s on a background thread while the block runs; errors of Ray are ignored."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            with contextlib.suppress(ray.exceptions.RayError):
                poll()

    thread = threading.Thread(target=watch, name="background_poll", daemon=True)
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
        num_workers: scoring actors; None for one per GPU, or without GPUs one per machine.

    Raises:
        ClusterError: the cluster cannot be reached or is too small.
    """
    # Ray's processes take seconds to start, and importing Ray Data takes a second: done side by side.
    threading.Thread(target=importlib.import_module, args=["ray.data"], name="importing", daemon=True).start()
    with joined(num_workers, verbose) as is_local:
        layout_for = functools.partial(plan, num_workers=num_workers, is_local=is_local)
        with _planned(lambda: layout_for(node_resources()), num_workers, is_local=is_local) as layout:
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
    place = {"GPU": 1} if os.environ.get("TONEARM_SCORE_ON") == "GPU" else {"CPU": 2}
    # Not at the top: it imports prometheus_client, which a server may not have before ``telemetry.share``.
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[place] * (num_workers or 1))
    try:
        yield _awaited(layout, wait_s)
    finally:
        # A request stands until the next one: without this the cluster would keep the run's nodes.
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
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def training_session(num_workers: int | None, *, verbose: bool = False) -> Iterator[TrainingLayout]:
    """Join or start Ray as ``session`` does, for a training run.

    Args:
        num_workers: None for one per GPU, or without GPUs one.

    Raises:
        ClusterError: the cluster cannot be reached or is too small.
    """
    with joined(num_workers, verbose) as is_local:
        layout_for = functools.partial(plan_training, num_workers=num_workers, is_local=is_local)
        with _planned(lambda: layout_for(node_resources()), num_workers, is_local=is_local) as layout:
            yield layout


def ray_head_address() -> tuple[str, int]:
    """Return where the head of the cluster listens."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def spilled_bytes() -> int:
    """Return how much the object stores of the cluster have written to disk for want of memory so far."""
    try:
        reply = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address))
    except (ray.exceptions.RayError, grpc.RpcError, RuntimeError, OSError):
        return 0  # a figure for people: no run fails for it
    return int(reply.store_stats.spilled_bytes_total)
