"""Joining the Ray of ``RAY_ADDRESS`` or starting one, quietly, whatever the place is like."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

import grpc
import ray
from ray._private import services
from ray._private.grpc_utils import init_grpc_channel

from tonearm import surroundings
from tonearm.distributed.cluster import local_ray
from tonearm.errors import ClusterError, first_line
from tonearm.planning.layout import local_cpus

STDOUT, STDERR = 1, 2
# Ray ends a driver that cannot reach the head node for this long, without a message. Raised from Ray's 60 s so that a
# run can say why it ends, and clean up, before that.
GCS_RECONNECT_TIMEOUT_S = 150
ANSWERS_IN_S = 6


@contextlib.contextmanager
def joined(num_workers: int | None, verbose: bool) -> Iterator[bool]:
    """Join or start Ray, its chatter in a log; yield whether it is a local one of this process.

    Raises:
        ClusterError: the cluster cannot be reached, or a local one does not start.
    """
    with contextlib.nullcontext() if verbose else _quiet(), _ray(num_workers, verbose) as is_local:
        yield is_local


@contextlib.contextmanager
def _ray(num_workers: int | None, verbose: bool) -> Iterator[bool]:
    already = ray.is_initialized()
    address = os.environ.get("RAY_ADDRESS")
    is_local = not address and (not already or _is_alone())
    try:
        if is_local and not already:
            surroundings.reach_directly([ray.util.get_node_ip_address()])
            local_ray.start(local_cpus(num_workers), verbose=verbose)
        elif not already:
            _join(str(address), verbose)
    except (OSError, RuntimeError, ValueError) as error:
        where = "a local Ray" if is_local else f"the Ray cluster at {address}"
        raise ClusterError(f"{where} could not be reached: {first_line(error)}; see `tonearm doctor`") from error
    try:
        yield is_local
    finally:
        if not already:
            ray.shutdown()
            local_ray.stop()


def _join(address: str, verbose: bool) -> None:
    # Before ``ray.init``, whose waiting for a head node that does not answer adds up to 400 s.
    check_answers(address)
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(GCS_RECONNECT_TIMEOUT_S))
    ray.init(
        address=address,
        job_config=local_ray.job_config(),
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
    )
    surroundings.reach_directly([node["NodeManagerAddress"] for node in ray.nodes()])


def check_answers(address: str) -> None:
    """Return once the head of the cluster at ``address``, as ``RAY_ADDRESS`` has it, answers.

    Raises:
        ClusterError: it does not within seconds.
        ConnectionError: ``auto`` finds no cluster.
    """
    place = services.canonicalize_bootstrap_address(address.removeprefix("ray://"))
    if place is None:
        raise ConnectionError("there is none here")
    host = place.rpartition(":")[0].strip("[]")
    surroundings.reach_directly([host])
    channel = init_grpc_channel(place, options=[("grpc.enable_http_proxy", 0)])
    try:
        grpc.channel_ready_future(channel).result(timeout=ANSWERS_IN_S)
    except grpc.FutureTimeoutError:
        raise ClusterError(
            f"got RAY_ADDRESS={address}, but no Ray cluster answers there within {ANSWERS_IN_S} s; start it, correct "
            "the address, or unset RAY_ADDRESS to use this machine alone"
        ) from None
    finally:
        channel.close()


def _is_alone() -> bool:
    """Return whether the Ray that this process has joined before is this machine's alone, as ``ray.init()`` gives."""
    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    return alive == [ray.get_runtime_context().get_node_id()]


_log_paths: list[str] = []


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what Ray and the libraries below write to stdout and stderr to a log file, which only a failed run leaves.

    What must still reach the terminal needs a copy of the descriptor, as ``api.progress.ProgressLine`` has one.
    """
    # Descriptors and not ``sys.stdout``: C++ writes to them too, and not every library has a switch for its messages.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # A name that cannot be guessed: otherwise another user could put a link there.
    log, path = tempfile.mkstemp(prefix=f"tonearm-ray-{os.getpid()}-", suffix=".log")
    _log_paths.append(path)
    with contextlib.ExitStack() as stack:
        for stream, number in ((sys.stdout, STDOUT), (sys.stderr, STDERR)):
            stream.flush()
            stack.callback(os.close, person := os.dup(number))
            stack.callback(os.dup2, person, number)
            stack.callback(stream.flush)
            os.dup2(log, number)
        os.close(log)
        yield
    with contextlib.suppress(OSError):
        os.unlink(path)


def log_path() -> str:
    """Return where Ray's own remarks go while a run is quiet, or last went."""
    return _log_paths[-1] if _log_paths else os.devnull
