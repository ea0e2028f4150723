"""The server on Ray Serve: for clusters, and for machines with CUDA cards.

::

    client ─► listener (HTTP, keys, limits) ─► Decoder (sandboxed children) ─► Genre, Tags, Head_NAME (a pass for many)
              in the process of the command     CPU replicas                   a replica a GPU, or some threads

Under ``serve deploy`` there is no such process: an Ingress deployment takes the listener's place, behind Ray Serve's
own proxy. Bytes go to a decoder once; windows go on as int16 (see ``audio.streams``); what comes back is small. Every
call between them gives its value or its error, since an exception that crosses Ray loses its type and its brevity.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from tonearm import demo
from tonearm.distributed.cluster import session
from tonearm.distributed.serving.calls import ask
from tonearm.distributed.serving.decoder import Decoder
from tonearm.distributed.serving.head import Head
from tonearm.errors import ClusterError, TonearmError, last_line
from tonearm.heads import PUBLISHED
from tonearm.models.pooling import Scored
from tonearm.models.runtimes import usable_cores
from tonearm.settings import ServeSettings
from tonearm.settings import build as build_settings
from tonearm.storage.allowed_uris import AllowedUris
from tonearm.tagging import HeadPlan, TrackResult
from tonearm.web.app import build_app
from tonearm.web.engines.engine import CHECK_FRESH_S, states
from tonearm.web.engines.process_engine import prepared
from tonearm.web.messages import View
from tonearm.web.requests.admission import Gate
from tonearm.web.telemetry import share

if TYPE_CHECKING:
    from fastapi import FastAPI

APP_NAME = "tonearm"
INGRESS_REQUESTS = 1024
DECODER_REQUESTS = 256
# A head's queue beyond what it scores now: enough that the next batch is always full.
HEAD_REQUESTS = 256
# A replica says from memory what it runs on, or is dead.
ANSWERS_IN_S = 2.0
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
        self.engine = RayEngine(settings, plans, decoder, heads)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self.engine, self.settings, self.gate, sends_ids=False)


class RayEngine:
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
        """Return the results of all heads for a track."""
        return await ask(self.decoder.tag, data, max_windows)

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return the results of all heads for the object at ``uri``."""
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
        checks = {head: ask(handle.check, CHECK_FRESH_S) for head, handle in self.heads.items()}
        return await states(checks, (ray.exceptions.RayTaskError,), _last_line)

    async def runs_on(self) -> dict[str, dict[str, str]]:
        """Return what each head that answers runs on; of several replicas one is asked."""
        answers = await asyncio.gather(*map(_runs_on, self.heads.values()))
        return {head: answer for head, answer in zip(self.heads, answers, strict=True) if answer is not None}


async def _runs_on(handle: DeploymentHandle) -> dict[str, str] | None:
    # A list of the models is of use without it, and /healthz says what is wrong with a model.
    with contextlib.suppress(TonearmError, TimeoutError):
        async with asyncio.timeout(ANSWERS_IN_S):
            answer: dict[str, str] = await ask(handle.runs_on)
            return answer
    return None


def _last_line(error: Exception) -> str:
    return last_line(error)[:200]


def deployment_name(head: str) -> str:
    """Return what the deployment of a head is called: ``Genre``, ``Tags``, or ``Head_NAME``."""
    return head.capitalize() if head in PUBLISHED else f"Head_{head}"


def build(arguments: dict[str, Any]) -> Application:
    """Return the application for ``serve run`` and ``serve deploy``.

    Args:
        arguments: the fields of ``ServeSettings``, nested as in a TOML file, and ``demo_models``.

    Raises:
        TonearmError: settings or checkpoints that cannot be used, before anything starts.
    """
    values = dict(arguments)
    if values.pop("demo_models", False):
        values["models"] = {**values.get("models", {}), **demo.models()}
    return application(build_settings(ServeSettings, values, where="args"))


def application(settings: ServeSettings) -> Application:
    """Return the deployments of one server on a cluster.

    Raises:
        TonearmError: settings or checkpoints that cannot be used.
    """
    settings, plans = prepared(settings)
    folder = _metrics_folder()
    parts = _deployments(settings, plans, folder, num_gpus=0.0)
    return serve.deployment(
        name="Ingress", max_ongoing_requests=INGRESS_REQUESTS, ray_actor_options={"num_cpus": 0}, **HEALTH
    )(serve.ingress()(Ingress)).bind(settings, plans, parts.decoder, parts.heads, folder)


class _Deployments(NamedTuple):
    """What decodes, which calls what scores, by head."""

    decoder: Application
    heads: dict[str, Application]


def _deployments(settings: ServeSettings, plans: dict[str, HeadPlan], folder: Path, *, num_gpus: float) -> _Deployments:
    num_threads = settings.threads or usable_cores()
    batching = {"batch_windows": settings.batch_windows, "batch_wait_s": settings.batch_wait_s}
    heads = {
        head: serve.deployment(
            name=deployment_name(head),
            max_ongoing_requests=HEAD_REQUESTS,
            ray_actor_options={"num_cpus": 0, "num_gpus": num_gpus},
            user_config=batching,
            **HEALTH,
        )(Head).bind(head, plan, settings, num_threads, folder)
        for head, plan in plans.items()
    }
    decoder = serve.deployment(
        name="Decoder", max_ongoing_requests=DECODER_REQUESTS, ray_actor_options={"num_cpus": 0}, **HEALTH
    )(Decoder).bind(settings, plans, heads, folder)
    return _Deployments(decoder, heads)


@contextlib.contextmanager
def engine(
    settings: ServeSettings, plans: dict[str, HeadPlan], metrics_folder: Path
) -> Iterator[Callable[[], RayEngine]]:
    """Start the deployments on the Ray that is there or a local one; end them with the block.

    Args:
        settings, plans: as ``process_engine.prepared`` gives them.

    Yields:
        what makes the engine, to be called in the event loop that it is for.

    Raises:
        ClusterError: it does not start.
    """
    share(metrics_folder)
    with session.serving_session(verbose=settings.verbose):
        gpus = ray.cluster_resources().get("GPU", 0.0)
        parts = _deployments(settings, plans, metrics_folder, num_gpus=min(1.0, gpus / len(plans)))
        serve.start(proxy_location="Disabled")
        try:
            handle = _run(parts.decoder)
            heads = {head: serve.get_deployment_handle(deployment_name(head), APP_NAME) for head in plans}
            yield lambda: RayEngine(settings, plans, handle, heads)
        finally:
            serve.shutdown()


def _run(app: Application) -> DeploymentHandle:
    try:
        return serve.run(app, name=APP_NAME, route_prefix=None)
    except (RuntimeError, TimeoutError) as error:
        reason = str(error).strip().splitlines()
        raise ClusterError(
            f"the server did not start: {reason[-1] if reason else type(error).__name__}; give --verbose for more"
        ) from error


def _metrics_folder() -> Path:
    name = ray.get_runtime_context().gcs_address if ray.is_initialized() else "local"
    return Path(tempfile.gettempdir()) / f"tonearm-metrics-{os.geteuid()}-{re.sub(r'[^0-9a-zA-Z]', '-', name)}"
