"""The HTTP face: routes in, an ``Engine`` behind them. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.types import Receive, Scope, Send

from tonearm import __version__, demo
from tonearm.audio.windows import lower_limit
from tonearm.errors import RequestError
from tonearm.heads import Activation
from tonearm.runs.rows import telling_tags
from tonearm.settings import ServeSettings
from tonearm.tagging import TrackResult as Result
from tonearm.web import messages
from tonearm.web.bulk import bulk_lines
from tonearm.web.engines.engine import Engine
from tonearm.web.error_responses import add_handlers, documented
from tonearm.web.openapi import AUDIO_BODY, BULK_BODY, CLASSIFY_BODY, described
from tonearm.web.request_log import Observe
from tonearm.web.requests.admission import Gate
from tonearm.web.requests.entrance import Cors, Entrance, RootPath
from tonearm.web.requests.request_body import BodyReader
from tonearm.web.results import to_embeddings, to_message
from tonearm.web.telemetry import AccessLog, metrics

T = TypeVar("T")
Asked = TypeVar("Asked")
FUNCTIONS: dict[Activation, messages.Function] = {"single": "softmax", "multi": "sigmoid", "embedding": "none"}
DEFAULT_TOP_K = 5
HEALTH_FRESH_S = 2.0
# A URI is at most 4,096 characters, of up to six bytes each where JSON escapes them.
URI_BYTES = 2**15
MaxWindows = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="At most this many windows per head, spread evenly.")
]
TopK = Annotated[int | None, Query(ge=1, description="How many labels; 5 by default.")]
FunctionToApply = Annotated[
    messages.Function | None, Query(description="softmax for the genre and sigmoid for the tags by default.")
]
# Only for the document: ``Gate`` is who looks at keys.
BEARER = HTTPBearer(auto_error=False, description="An API key.")
UPLOAD_ERRORS = documented(400, 401, 403, 408, 413, 415, 422, 429, 431, 503)
READ_ERRORS = documented(400, 401, 403, 431)


def build_app(engine: Engine, settings: ServeSettings, gate: Gate, *, sends_ids: bool = True) -> FastAPI:
    """Return the app over ``engine``.

    Args:
        sends_ids: False behind Ray Serve's proxy, which answers with the request's id by itself.
    """
    # FastAPI's own /docs loads its script from elsewhere.
    app = FastAPIOffline(
        title="tonearm",
        version=__version__,
        summary="Genre, AudioSet tags, embeddings and a timeline of any audio file.",
        redoc_url=None,
        redirect_slashes=False,
        favicon_url="page/icon.svg",
        static_url="/swagger",
    )
    add_handlers(app)
    # The last one added is the outermost: paths are put right first, and refusals are logged as well.
    app.add_middleware(Entrance, gate=gate)
    app.add_middleware(Cors, gate=gate)
    app.add_middleware(Observe, access_log=AccessLog(settings.access_log), sends_ids=sends_ids)
    app.add_middleware(RootPath, root_path=settings.root_path)
    service = Service(engine, settings, gate)
    _add_scoring(app, service)
    _add_operation(app, service)
    _add_pages(app)
    app.openapi = functools.partial(described, app.openapi)  # type: ignore[method-assign]
    return app


class Service:
    """What the routes share: reading, admission, the deadline."""

    def __init__(self, engine: Engine, settings: ServeSettings, gate: Gate) -> None:
        self.engine = engine
        self.settings = settings
        self.gate = gate
        self.reader = BodyReader(settings)
        self.health: tuple[float, dict[str, str]] = (float("-inf"), {})
        self.health_lock = asyncio.Lock()

    async def enter(self, request: Request) -> None:
        """Let a request to the models in.

        Raises:
            RequestError: unauthorized, rate_limited, busy or stopping.
        """
        await self.identify(request)
        self.gate.meter(request.state.who)
        self.gate.check_room()

    async def identify(self, request: Request) -> None:
        """Let an operator's request in.

        Raises:
            RequestError: unauthorized.
        """
        request.state.who = self.gate.identify(request)

    async def within(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Return what ``work(*arguments)`` gives, in a place of its own and before the deadline.

        Raises:
            RequestError: busy, stopping or unavailable.
        """
        try:
            with self.gate.place(), metrics().in_hand.track_inprogress():
                async with asyncio.timeout(self.settings.request_timeout_s) as limit:
                    with self.gate.deadline(limit):
                        return await work(*arguments)
        except TimeoutError:
            if self.gate.is_stopping:
                raise RequestError(
                    "this server is being stopped, and this was not done in time", code="stopping", retry_after_s=10.0
                ) from None
            raise RequestError(
                f"not done within serve.request_timeout_s = {self.settings.request_timeout_s:g}",
                code="unavailable",
                retry_after_s=30.0,
            ) from None

    def windows(self, asked: int | None) -> int | None:
        """Return the limit that holds for a request."""
        return lower_limit(asked, self.settings.max_windows)

    def message(self, result: Result, *, embeddings: bool = False) -> messages.TrackResult:
        """Return a result as it travels."""
        return to_message(result, self.engine.plans, embeddings=embeddings)

    def embeddings(self, result: Result) -> messages.Embeddings:
        """Return a result's embeddings as they travel."""
        return to_embeddings(result, self.engine.plans)

    async def check(self) -> dict[str, str]:
        """Return the health of each head, asked again at most every two seconds."""
        # Probes that come together share one check.
        async with self.health_lock:
            if time.monotonic() - self.health[0] > HEALTH_FRESH_S:
                self.health = (time.monotonic(), await self.engine.check())
            return self.health[1]


class BulkResponse(StreamingResponse):
    """Lines as they come; the URIs stay counted as held until the answer has ended, however it does."""

    def __init__(self, lines: AsyncGenerator[bytes], held: contextlib.AbstractContextManager[object]) -> None:
        super().__init__(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})
        self.lines, self.held = lines, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; when its client leaves, the work for it ends now, not when somebody collects garbage."""
        with self.held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self.lines.aclose()


def one_of(name: str, query: Asked | None, body: Asked | None) -> Asked | None:
    """Return what a request asks, in its query or in its body.

    Raises:
        RequestError: malformed: they differ.
    """
    if query is not None and body is not None and query != body:
        raise RequestError(f"got {name} {query} in the query and {body} in the body, expected one", code="malformed")
    return body if query is None else query


def _add_scoring(app: FastAPI, service: Service) -> None:
    protected = [Depends(BEARER), Depends(service.enter)]
    reader, engine = service.reader, service.engine

    @app.post(
        "/models/{name}",
        response_model=list[messages.Label],
        dependencies=protected,
        responses={**UPLOAD_ERRORS, **documented(404)},
        openapi_extra=CLASSIFY_BODY,
    )
    async def classify(
        name: str,
        request: Request,
        top_k: TopK = None,
        function_to_apply: FunctionToApply = None,
        max_windows: MaxWindows = None,
    ) -> list[messages.Label]:
        """Classify audio as Hugging Face's inference API does; `InferenceClient(model=URL)` works unchanged.

        Scores are the mean over all windows of the upload. What both the query and the body ask must be the same.
        """
        known = [head for head, plan in engine.plans.items() if plan.head.activation != "embedding"]
        if name not in known:
            what = f"{name}, which has no labels (POST /v1/embed)" if name in engine.plans else repr(name[:80])
            raise RequestError(f"got the model {what}, expected {' or '.join(known)}", code="unknown_model")
        with reader.budget() as held:
            upload = await reader.read_classify(request, held)
            function = one_of("function_to_apply", function_to_apply, upload.function_to_apply)
            function = function or FUNCTIONS[engine.plans[name].head.activation]
            num_labels = one_of("top_k", top_k, upload.top_k) or DEFAULT_TOP_K
            limit = service.windows(one_of("max_windows", max_windows, upload.max_windows))
            ranked = await service.within(engine.classify, name, upload.data, function, limit)
        return [messages.Label(label=label, score=score) for label, score in ranked[:num_labels]]

    async def tagged(request: Request, max_windows: int | None) -> Result:
        with reader.budget() as held:
            upload = await reader.read_audio(request, held)
            limit = service.windows(one_of("max_windows", max_windows, upload.max_windows))
            return await service.within(engine.tag, upload.data, limit)

    @app.post("/v1/tag", dependencies=protected, responses=UPLOAD_ERRORS, openapi_extra=AUDIO_BODY)
    async def tag(request: Request, max_windows: MaxWindows = None, embeddings: bool = False) -> messages.TrackResult:
        """Say what the models hear in a file: genre, tags with their best windows, a timeline over the whole track."""
        return service.message(await tagged(request, max_windows), embeddings=embeddings)

    @app.post("/v1/embed", dependencies=protected, responses=UPLOAD_ERRORS, openapi_extra=AUDIO_BODY)
    async def embed(request: Request, max_windows: MaxWindows = None) -> messages.Embeddings:
        """Give a file's embeddings, the mean over its windows."""
        result = await tagged(request, max_windows)
        return service.embeddings(result)

    @app.post("/v1/view", dependencies=protected, responses=UPLOAD_ERRORS, openapi_extra=AUDIO_BODY)
    async def view(request: Request) -> messages.View:
        """Give what a page draws of a file: its envelope and spectrograms, whatever formats the browser knows."""
        with reader.budget() as held:
            upload = await reader.read_audio(request, held)
            return await service.within(engine.view, upload.data)

    _add_bulk(app, service, protected)


def _add_bulk(app: FastAPI, service: Service, protected: list[Any]) -> None:
    settings = service.settings

    @app.post(
        "/v1/bulk",
        dependencies=protected,
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "One JSON object per URI and line, in the order in which they are done.",
                "content": {"application/x-ndjson": {"schema": messages.BulkLine.model_json_schema()}},
            },
            **documented(400, 401, 403, 408, 413, 415, 429, 431, 503),
        },
        openapi_extra=BULK_BODY,
    )
    async def bulk(request: Request) -> StreamingResponse:
        """Tag many objects under the prefixes that the operator allows; one line for each, also when it fails."""
        with contextlib.ExitStack() as stack:
            held = stack.enter_context(service.reader.budget())
            limit = min(settings.max_bulk_uris * URI_BYTES, settings.max_body_bytes)
            asked = await service.reader.read_json(request, held, messages.BulkRequest, limit, settings.max_bulk_uris)
            if len(asked.uris) > settings.max_bulk_uris:
                raise RequestError(
                    f"got {len(asked.uris):,} URIs, expected at most {settings.max_bulk_uris:,} (serve.max_bulk_uris)",
                    code="malformed",
                )
            # One place for the whole request: `bulk_concurrency` bounds its URIs in progress.
            stack.enter_context(service.gate.place())
            stack.enter_context(metrics().in_hand.track_inprogress())
            # The answer outlives this function, and so must what is held for it.
            return BulkResponse(lines(asked), stack.pop_all())

    async def lines(asked: messages.BulkRequest) -> AsyncGenerator[bytes]:
        async def tag(uri: str) -> messages.TrackResult:
            return service.message(await service.engine.tag_uri(uri, service.windows(asked.max_windows)))

        async for line in bulk_lines(asked.uris, tag, concurrency=settings.bulk_concurrency):
            yield line


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", dependencies=[Depends(BEARER), Depends(service.identify)], responses=READ_ERRORS)
    async def models() -> list[messages.Head]:
        """Name the models that are served, their labels and what they run on."""
        runs_on = {head: messages.RunsOn(**how) for head, how in (await service.engine.runs_on()).items()}
        return [
            messages.Head(
                name=head,
                checkpoint=plan.checkpoint.name,
                revision=plan.checkpoint.revision,
                family=plan.checkpoint.family,
                labels=list(plan.checkpoint.labels),
                sample_rate=plan.windows.sample_rate,
                window_s=plan.window_s,
                embedding_dim=plan.checkpoint.embedding_dim,
                activation=plan.head.activation,
                function_to_apply=FUNCTIONS[plan.head.activation],
                telling_weights={
                    label: weight for label in plan.checkpoint.labels if (weight := telling_tags.weight(label)) != 1.0
                },
                is_demo=plan.checkpoint.revision in demo.revisions(),
                runs_on=runs_on.get(head),
            )
            for head, plan in service.engine.plans.items()
        ]

    @app.get(
        "/healthz",
        responses={
            503: {"model": messages.Health, "description": "A model does not answer"},
            **documented(400, 403, 431),
        },
    )
    async def healthz(response: Response) -> messages.Health:
        """Say whether every model answers; each is asked, unless it has just answered somebody."""
        states = await service.check()
        is_well = all(state == "ok" for state in states.values()) and not service.gate.is_stopping
        if not is_well:
            response.status_code = 503
            response.headers["Retry-After"] = "5"
        return messages.Health(status="ok" if is_well else "unavailable", models=states)

    @app.get(
        "/metrics",
        dependencies=[Depends(BEARER), Depends(service.identify)],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **READ_ERRORS},
    )
    async def prometheus() -> Response:
        """Give Prometheus's text format; scrapers send a key as a bearer token."""
        # It reads the files of all processes of the machine.
        text = await asyncio.to_thread(metrics().text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    page = Path(str(files("tonearm.web") / "page"))

    text = (page / "index.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        if not root:
            return FileResponse(page / "index.html")
        # Some proxies have no slash at its end, and what is relative would be beside it.
        return HTMLResponse(text.replace("<head>", f'<head>\n<base href="{html.escape(root)}/">', 1))

    app.mount("/page", StaticFiles(directory=page), name="page")
