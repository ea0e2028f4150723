"""A typed client of ``tonearm serve``, for programs that do not want to know HTTP.

>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     print(client.tag("song.mp3").genre)
...     for line in client.bulk(["s3://records/a.flac", "s3://records/b.flac"]):
...         print(line.uri, line.status)
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import email.utils
import os
import urllib.parse
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, TypeVar

import httpx
import tenacity
from pydantic import BaseModel

from tonearm.errors import ApiError
from tonearm.web.messages import BulkLine, BulkRequest, Embeddings, ErrorBody, Label, Labels, TrackResult
from tonearm.wording import counted

Audio = bytes | str | os.PathLike[str] | BinaryIO
M = TypeVar("M", bound=BaseModel)
# Full, starting or stopping, or asked too often: what passes by itself.
PASSING = (429, 503)
FIRST_WAIT_S, MAX_WAIT_S = 0.5, 60.0


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often a request is sent again that the server had no room for, or that got no answer.

    Attributes:
        num_attempts: all together.
        max_wait_s: between two of them; a longer ``Retry-After`` is not waited for.
    """

    num_attempts: int = 6
    max_wait_s: float = MAX_WAIT_S


class _Call(Generic[M]):
    """One request, and what its answer is read as."""

    def __init__(self, path: str, audio: Audio, answer: type[M], params: dict[str, str]) -> None:
        self.path, self.answer, self.params = path, answer, params
        self.content = _bytes(audio)

    def request(self) -> dict[str, Any]:
        headers = {"Content-Type": "application/octet-stream"}
        return {"url": self.path, "content": self.content, "params": self.params, "headers": headers}

    def read(self, response: httpx.Response) -> M:
        if response.is_error:
            raise _api_error(response)
        return self.answer.model_validate_json(response.content)


class _Base:
    def __init__(self, api_key: str | None, retries: Retries, timeout_s: float) -> None:
        key = (api_key or os.environ.get("TONEARM_API_KEY", "")).strip()  # of a file, with its line's end
        self._retries = retries
        self._options: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            # Scoring may take minutes; to reach a server that is there does not.
            "timeout": httpx.Timeout(timeout_s, connect=10.0),
        }

    def _retrying(self) -> dict[str, Any]:
        return {
            "stop": tenacity.stop_after_attempt(self._retries.num_attempts),
            "wait": self._wait_s,
            "retry": tenacity.retry_if_exception(self._may_pass),
            "reraise": True,
        }

    def _may_pass(self, error: BaseException) -> bool:
        if isinstance(error, ApiError):
            wait_s = error.retry_after_s or 0.0
            return error.status in PASSING and wait_s <= self._retries.max_wait_s
        # A URL without http:// stays wrong however often it is tried.
        return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, ApiError) and error.retry_after_s is not None:
            return error.retry_after_s
        return float(tenacity.wait_exponential_jitter(FIRST_WAIT_S, self._retries.max_wait_s)(state))


class Client(_Base):
    """Asks a server; usable from several threads.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        api_key: ``TONEARM_API_KEY`` by default.
        timeout_s: without a byte from the server, which may be scoring hours of audio.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, retries: Retries = Retries(), timeout_s: float = 900.0
    ) -> None:
        super().__init__(api_key, retries, timeout_s)
        self._http = httpx.Client(base_url=url, **self._options)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def tag(self, audio: Audio, *, max_windows: int | None = None, embeddings: bool = False) -> TrackResult:
        """Return what the models hear in a file.

        Args:
            audio: the file's bytes, its path, or an open binary file.

        Raises:
            ApiError: what the server answered instead.
            httpx.TransportError: it did not answer.
        """
        return self._send(_tag(audio, max_windows, embeddings))

    def embed(self, audio: Audio, *, max_windows: int | None = None) -> Embeddings:
        """Return a file's embeddings; otherwise as ``tag``."""
        return self._send(_embed(audio, max_windows))

    def classify(
        self,
        name: str,
        audio: Audio,
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        max_windows: int | None = None,
    ) -> list[Label]:
        """Return what one head says of a file, the highest score first.

        Args:
            name: of a head that the server has, such as ``genre``.
            audio: as for ``tag``.
            top_k: how many labels; 5 by default.
            function_to_apply: ``softmax``, ``sigmoid`` or ``none``; the head's own by default.

        Raises:
            ApiError, httpx.TransportError: as ``tag``.
        """
        return (self._send(_classify(name, audio, top_k, function_to_apply, max_windows))).root

    def bulk(self, uris: Iterable[str], *, max_windows: int | None = None) -> Iterator[BulkLine]:
        """Yield one line for each URI in the order in which they are done; failed ones have ``status == "error"``.

        When the connection breaks after some lines, the URIs that have none yet are asked for again.

        Raises:
            ApiError, httpx.TransportError: as ``tag``.
        """
        left = _Left(uris, max_windows)
        while left:
            response = tenacity.Retrying(**self._retrying())(self._open, left.request())
            try:
                for text in response.iter_lines():
                    yield left.take(text)
                left.check_end()
            except httpx.TransportError:
                left.check_progress()
            finally:
                response.close()

    def _open(self, request: dict[str, Any]) -> httpx.Response:
        response = self._http.send(self._http.build_request(**request), stream=True)
        if response.is_error:
            response.read()
            response.close()
            raise _api_error(response)
        return response

    def _send(self, call: _Call[M]) -> M:
        return tenacity.Retrying(**self._retrying())(lambda: call.read(self._http.post(**call.request())))


class AsyncClient(_Base):
    """``Client`` for asyncio: the same methods, awaited."""

    def __init__(
        self, url: str, *, api_key: str | None = None, retries: Retries = Retries(), timeout_s: float = 900.0
    ) -> None:
        super().__init__(api_key, retries, timeout_s)
        self._http = httpx.AsyncClient(base_url=url, **self._options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def tag(self, audio: Audio, *, max_windows: int | None = None, embeddings: bool = False) -> TrackResult:
        """Return what the models hear in a file; see ``Client.tag``."""
        return await self._send(_tag(audio, max_windows, embeddings))

    async def embed(self, audio: Audio, *, max_windows: int | None = None) -> Embeddings:
        """Return a file's embeddings; see ``Client.tag``."""
        return await self._send(_embed(audio, max_windows))

    async def classify(
        self,
        name: str,
        audio: Audio,
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        max_windows: int | None = None,
    ) -> list[Label]:
        """Return what one head says of a file; see ``Client.classify``."""
        return (await self._send(_classify(name, audio, top_k, function_to_apply, max_windows))).root

    async def bulk(self, uris: Iterable[str], *, max_windows: int | None = None) -> AsyncIterator[BulkLine]:
        """Yield one line for each URI in the order in which they are done; see ``Client.bulk``."""
        left = _Left(uris, max_windows)
        while left:
            response: httpx.Response = await tenacity.AsyncRetrying(**self._retrying())(self._open, left.request())
            try:
                async for text in response.aiter_lines():
                    yield left.take(text)
                left.check_end()
            except httpx.TransportError:
                left.check_progress()
            finally:
                await response.aclose()

    async def _open(self, request: dict[str, Any]) -> httpx.Response:
        response = await self._http.send(self._http.build_request(**request), stream=True)
        if response.is_error:
            await response.aread()
            await response.aclose()
            raise _api_error(response)
        return response

    async def _send(self, call: _Call[M]) -> M:
        async def once() -> M:
            return call.read(await self._http.post(**call.request()))

        return await tenacity.AsyncRetrying(**self._retrying())(once)


class _Left:
    """The URIs of a bulk request that have no line yet; the same one may be there twice."""

    def __init__(self, uris: Iterable[str], max_windows: int | None) -> None:
        self.counts = collections.Counter(uris)
        self.max_windows = max_windows
        self.num_lines = 0

    def __bool__(self) -> bool:
        return self.counts.total() > 0

    def request(self) -> dict[str, Any]:
        # Of this answer: see ``check_progress``.
        self.num_lines = 0
        asked = BulkRequest(uris=list(self.counts.elements()), max_windows=self.max_windows)
        return {
            "method": "POST",
            "url": "/v1/bulk",
            "content": asked.model_dump_json(exclude_none=True),
            "headers": {"Content-Type": "application/json"},
        }

    def take(self, text: str) -> BulkLine:
        line = BulkLine.model_validate_json(text)
        self.counts[line.uri] -= 1
        self.num_lines += 1
        return line

    def check_end(self) -> None:
        if self:
            raise httpx.RemoteProtocolError(f"the answer ended with {counted(self.counts.total(), 'URI')} to go")

    def check_progress(self) -> None:
        """Raise again what ended the answer, unless it gave something first."""
        # Called where the error is handled. While answers bring lines, asking again gets on.
        if not self.num_lines:
            raise


def _tag(audio: Audio, max_windows: int | None, embeddings: bool) -> _Call[TrackResult]:
    params = {"embeddings": "true"} if embeddings else {}
    return _Call("/v1/tag", audio, TrackResult, params | _limit(max_windows))


def _embed(audio: Audio, max_windows: int | None) -> _Call[Embeddings]:
    return _Call("/v1/embed", audio, Embeddings, _limit(max_windows))


def _classify(
    name: str, audio: Audio, top_k: int | None, function_to_apply: str | None, max_windows: int | None
) -> _Call[Labels]:
    params = {"top_k": top_k, "function_to_apply": function_to_apply}
    asked = {name: str(value) for name, value in params.items() if value is not None}
    return _Call(f"/models/{urllib.parse.quote(name, safe='')}", audio, Labels, asked | _limit(max_windows))


def _limit(max_windows: int | None) -> dict[str, str]:
    return {"max_windows": str(max_windows)} if max_windows is not None else {}


def _bytes(audio: Audio) -> bytes:
    if isinstance(audio, bytes):
        return audio
    return Path(audio).read_bytes() if isinstance(audio, str | os.PathLike) else audio.read()


def _api_error(response: httpx.Response) -> ApiError:
    retry_after_s = _seconds(response.headers.get("Retry-After"))
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValueError:  # not tonearm's: a proxy before it
        return ApiError(
            f"HTTP {response.status_code} {response.reason_phrase} from {response.url}",
            code="http",
            status=response.status_code,
            retry_after_s=retry_after_s,
        )
    return ApiError(
        f"{body.error}; {body.hint} (HTTP {response.status_code}, request {body.request_id})",
        code=body.code,
        status=response.status_code,
        retry_after_s=retry_after_s,
    )


def _seconds(header: str | None) -> float | None:
    """Return what a ``Retry-After`` header, seconds or a date (RFC 9110, 10.2.3), means in seconds."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
