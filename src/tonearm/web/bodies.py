"""Reading request bodies: bounded in bytes, in time and in silence, since a server knows nothing of its clients."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from tonearm.errors import RequestError
from tonearm.settings import ServeSettings
from tonearm.web.messages import ClassifyRequest, Parameters

M = TypeVar("M", bound=BaseModel)
# Types under which audio travels: browsers record video/webm, curl --data-binary calls everything a form, and many
# clients name none.
AUDIO_TYPES = (
    "audio/",
    "video/",
    "application/octet-stream",
    "application/ogg",
    "binary/octet-stream",
    "application/x-www-form-urlencoded",
)
# base64 takes four bytes for three, and the parameters some more.
JSON_SLACK_BYTES = 2**16


class BodyReader:
    """Reads the bodies of one app's requests, which together stay within ``max_buffered_bytes``."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.buffered_bytes = 0

    @contextmanager
    def budget(self) -> Iterator[list[int]]:
        """Count what is read in the block as held until it ends."""
        held = [0]
        try:
            yield held
        finally:
            self.buffered_bytes -= held[0]

    async def read(self, request: Request, held: list[int], *, max_bytes: int | None = None) -> bytes:
        """Return the whole body.

        Raises:
            RequestError: body_too_large, body_timeout, malformed (it broke off), busy (too much in memory).
        """
        limit = max_bytes or self.settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(int(declared), limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                stream = request.stream()
                while True:
                    async with asyncio.timeout(self.settings.body_idle_timeout_s):
                        part = await anext(stream, None)
                    if part is None:
                        return b"".join(parts)
                    size += len(part)
                    if size > limit:
                        raise _too_large(size, limit)
                    self._hold(held, len(part))
                    parts.append(part)
        except TimeoutError:
            raise RequestError(
                f"got {size:,} bytes of a body and then waited in vain, or too long in all (serve.body_timeout_s = "
                f"{self.settings.body_timeout_s:g}, serve.body_idle_timeout_s = {self.settings.body_idle_timeout_s:g})",
                code="body_timeout",
            ) from None
        except ClientDisconnect:
            raise RequestError(f"the body broke off after {size:,} bytes", code="malformed") from None

    async def read_json(self, request: Request, held: list[int], kind: type[M], max_bytes: int) -> M:
        """Return the body as a ``kind``.

        Raises:
            RequestError: as ``read`` does, and not_audio_type or malformed.
        """
        given = media_type(request)
        if given not in ("", "application/json"):
            raise RequestError(f"got the content type {given}, expected application/json", code="not_audio_type")
        return parse_json(await self.read(request, held, max_bytes=max_bytes), kind)

    async def read_audio(self, request: Request, held: list[int]) -> bytes:
        """Return a raw upload.

        Raises:
            RequestError: as ``read`` does, and not_audio_type.
        """
        check_audio_type(media_type(request))
        return await self.read(request, held)

    async def read_classify(self, request: Request, held: list[int]) -> tuple[bytes, Parameters]:
        """Return the audio and the parameters of the Hugging Face contract, raw or JSON.

        Raises:
            RequestError: as ``read`` does, and not_audio_type, malformed, bad_base64.
        """
        if media_type(request) != "application/json":
            return await self.read_audio(request, held), Parameters()
        limit = self.settings.max_body_bytes * 4 // 3 + JSON_SLACK_BYTES
        body = await self.read(request, held, max_bytes=limit)
        asked = parse_json(body, ClassifyRequest)
        try:
            data = base64.b64decode(asked.inputs, validate=True)
        except (binascii.Error, ValueError):
            raise RequestError("got `inputs` that are not base64", code="bad_base64") from None
        if len(data) > self.settings.max_body_bytes:
            raise _too_large(len(data), self.settings.max_body_bytes)
        return data, asked.parameters or Parameters()

    def _hold(self, held: list[int], num_bytes: int) -> None:
        if self.buffered_bytes + num_bytes > self.settings.max_buffered_bytes:
            raise RequestError(
                f"uploads in hand already take {self.buffered_bytes:,} of {self.settings.max_buffered_bytes:,} bytes",
                code="busy",
                retry_after_s=5.0,
            )
        held[0] += num_bytes
        self.buffered_bytes += num_bytes


def media_type(request: Request) -> str:
    """Return the content type without its parameters, in lower case; empty when none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_audio_type(given: str) -> None:
    """Refuse what says of itself that it is not audio.

    Raises:
        RequestError: not_audio_type.
    """
    if given and not given.startswith(AUDIO_TYPES):
        raise RequestError(f"got the content type {given}, expected audio", code="not_audio_type")


def parse_json(body: bytes, kind: type[M]) -> M:
    """Return ``body`` as a ``kind``.

    Raises:
        RequestError: malformed.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"{where + ': ' if where else ''}{first['msg']}", code="malformed") from None


def _too_large(num_bytes: int, limit: int) -> RequestError:
    return RequestError(
        f"got a body of {num_bytes:,} bytes or more, expected at most {limit:,} (serve.max_body_bytes)",
        code="body_too_large",
    )
