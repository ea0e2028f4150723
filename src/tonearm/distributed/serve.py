"""The server on Ray Serve.

::

    client ─► Ingress (HTTP, keys, limits) ─► Decoder (sandboxed children) ─► Genre, Tags (one forward pass for many)
              any number of replicas           CPU replicas                     a replica a GPU, or some threads

Bytes go from the ingress to a decoder once; windows go on as int16 (see ``audio.streams``); what comes back is small.
Every call between them gives its value or its error, since an exception raised in a batch would fail the whole batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from tonearm.distributed import cluster
from tonearm.distributed.decoder import Decoder
from tonearm.distributed.head import Head
from tonearm.distributed.replicas import REPLICA_ERRORS, ask
from tonearm.errors import ClusterError, TonearmError
from tonearm.library.allowed_uris import AllowedUris
from tonearm.models.pooling import Scored
from tonearm.models.runtimes import usable_cores
from tonearm.settings import ServeSettings
from tonearm.settings import build as build_settings
from tonearm.tagging import HeadPlan, TrackResult, plan_heads
from tonearm.web.gate import Gate, parse_rate
from tonearm.web.keys import read_keys
from tonearm.web.messages import View
from tonearm.web.telemetry import share

APP_NAME = "tonearm"
DRAIN_GRACE_S = 5.0
HEAD_NAMES = {"genre": "Genre", "tags": "Tags"}
INGRESS_REQUESTS = 1024
DECODER_REQUESTS = 256
# A head's queue beyond what it scores now: enough that the next batch is always full.
HEAD_REQUESTS = 256
CHECK_TIMEOUT_S = 20.0
CHECK_FRESH_S = 10.0
HEALTH: dict[str, Any] = {"health_check_period_s": 2.0, "health_check_timeout_s": 10.0}


class Ingress:
    """The HTTP face. Holds no model and decodes nothing, so a slow client costs it a coroutine and a buffer."""

    def __init__(
        self,
        settings: ServeSettings,
        plans: Mapping[str, HeadPlan],
        decoder: DeploymentHandle,
        heads: Mapping[str, DeploymentHandle],
        metrics_folder: Path,
    ) -> None:
        share(metrics_folder)
        self.settings = settings
        self.gate = Gate(settings)
        self.engine = ServeEngine(settings, plans, decoder, heads)

    def __serve_build_asgi_app__(self) -> Any:
        from tonearm.web.app import build_app

        return build_app(self.engine, self.settings, self.gate, sends_ids=False)

    async def drain(self, timeout_s: float) -> int:
        """Take on nothing more and wait for what is in hand; return how many requests are left."""
        self.gate.is_stopping = True
        ends = asyncio.get_running_loop().time() + timeout_s
        while self.gate.num_in_hand and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.05)
        return self.gate.num_in_hand


class ServeEngine:
    """An ``Engine`` that asks the other deployments."""

    def __init__(
        self,
        settings: ServeSettings,
        plans: Mapping[str, HeadPlan],
        decoder: DeploymentHandle,
        heads: Mapping[str, DeploymentHandle],
    ) -> None:
        self.plans = plans
        self.allowed = AllowedUris(settings.allow_uris)
        self.decoder = decoder
        self.heads = heads

    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        """Return what both heads say of a track."""
        return await ask(self.decoder.tag, data, max_windows)

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return what both heads say of the object at ``uri``."""
        self.allowed.check(uri)
        return await ask(self.decoder.tag_uri, uri, max_windows)

    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        """Return every label of one head with the mean over windows of its score, descending."""
        return await ask(self.decoder.classify, head, data, function, max_windows)

    async def view(self, data: bytes) -> View:
        """Return what the page draws of a track."""
        return await ask(self.decoder.view, data)

    async def check(self) -> dict[str, str]:
        """Return ``ok`` for each head that answers, else why it does not."""
        states = await asyncio.gather(*(self._check(handle) for handle in self.heads.values()))
        return dict(zip(self.heads, states, strict=True))

    async def _check(self, handle: DeploymentHandle) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await ask(handle.check, CHECK_FRESH_S)
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT_S:g} s"
        except TonearmError as error:
            return error.message
        except ray.exceptions.RayTaskError as error:
            return str(error).strip().splitlines()[-1][:200]
        return "ok"


def build(arguments: dict[str, Any]) -> Application:
    """Return the application for ``serve run`` and ``serve deploy``.

    Args:
        arguments: the fields of ``ServeSettings``, nested as in a TOML file, and ``demo_models``.

    Raises:
        TonearmError: settings or checkpoints that cannot be used, before anything starts.
    """
    values = dict(arguments)
    if values.pop("demo_models", False):
        from tonearm import demo

        values["models"] = {**values.get("models", {}), **demo.models()}
    return application(build_settings(ServeSettings, values, where="args"))


def application(settings: ServeSettings) -> Application:
    """Return the deployments of one server on a cluster.

    Raises:
        TonearmError: settings or checkpoints that cannot be used.
    """
    return _deployments(*check(settings), _metrics_folder(), num_gpus=0.0)


def _deployments(settings: ServeSettings, plans: dict[str, HeadPlan], folder: Path, *, num_gpus: float) -> Application:
    num_threads = settings.threads or usable_cores()
    batching = {"batch_windows": settings.batch_windows, "batch_wait_s": settings.batch_wait_s}
    heads = {
        head: serve.deployment(
            name=HEAD_NAMES[head],
            max_ongoing_requests=HEAD_REQUESTS,
            ray_actor_options={"num_cpus": 0, "num_gpus": num_gpus},
            user_config=batching,
            **HEALTH,
        )(Head).bind(head, plan, settings, num_threads, folder)
        for head, plan in plans.items()
    }
    options = {"num_cpus": 0}
    decoder = serve.deployment(
        name="Decoder", max_ongoing_requests=DECODER_REQUESTS, ray_actor_options=options, **HEALTH
    )(Decoder).bind(settings, plans, heads, folder)
    return serve.deployment(name="Ingress", max_ongoing_requests=INGRESS_REQUESTS, ray_actor_options=options, **HEALTH)(
        serve.ingress()(Ingress)
    ).bind(settings, plans, decoder, heads, folder)


def check(settings: ServeSettings) -> tuple[ServeSettings, dict[str, HeadPlan]]:
    """Return the settings with all API keys read, and the heads; nothing is started.

    Raises:
        TonearmError: settings or checkpoints that cannot be used.
    """
    if settings.rate_limit:
        parse_rate(settings.rate_limit)
    AllowedUris(settings.allow_uris)
    plans = plan_heads(settings.models, max_windows=settings.max_windows, max_scored_s=settings.decode.max_scored_s)
    return dataclasses.replace(settings, api_keys=read_keys(settings.api_keys, settings.api_key_file)), plans


@contextlib.contextmanager
def running(settings: ServeSettings, metrics_folder: Path) -> Iterator[Callable[[float], int]]:
    """Start a server on the Ray that is there or a local one; end it with the block.

    Yields:
        what stops taking requests and waits for those in hand, so many seconds at most; gives how many are left.

    Raises:
        TonearmError: settings or checkpoints that cannot be used.
        ClusterError: it does not start.
    """
    settings, plans = check(settings)
    with cluster.serving_session(verbose=settings.verbose):
        gpus = ray.cluster_resources().get("GPU", 0.0)
        app = _deployments(settings, plans, metrics_folder, num_gpus=min(1.0, gpus / len(plans)))
        serve.start(http_options={"host": settings.host, "port": settings.port})
        try:
            handle = _run(app)
            yield functools.partial(_drain, handle)
        finally:
            serve.shutdown()


def _drain(handle: DeploymentHandle, timeout_s: float) -> int:
    try:
        num_left: int = handle.drain.remote(timeout_s).result(timeout_s=timeout_s + DRAIN_GRACE_S)
    except (TimeoutError, *REPLICA_ERRORS):
        return 0  # an ingress that does not answer has nothing in hand that could still be finished
    return num_left


def _run(app: Application) -> DeploymentHandle:
    try:
        return serve.run(app, name=APP_NAME, route_prefix="/")
    except (RuntimeError, TimeoutError) as error:
        reason = str(error).strip().splitlines()
        raise ClusterError(
            f"the server did not start: {reason[-1] if reason else type(error).__name__}; give --verbose for more"
        ) from error


def _metrics_folder() -> Path:
    name = ray.get_runtime_context().gcs_address if ray.is_initialized() else "local"
    return Path(tempfile.gettempdir()) / f"tonearm-metrics-{re.sub(r'[^0-9a-zA-Z]', '-', name)}"
