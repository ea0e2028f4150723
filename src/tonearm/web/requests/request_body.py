"""Reading request bodies: bounded in bytes, in time and in silence, since a server knows nothing of its clients."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from tonearm.errors import RequestError
from tonearm.settings import ServeSettings
from tonearm.storage.content_coding import Unpacker, supported, unpacker
from tonearm.web.messages import FormFields, Function, Parameters
from tonearm.web.requests import forms, json_bodies
from tonearm.web.requests.buffers import Buffer, Held, Pool, too_large

M = TypeVar("M", bound=BaseModel)
FORM = "multipart/form-data"
# What says of itself that it is not audio. Of all others the bytes decide: browsers record video/webm, curl
# --data-binary calls everything a form, others say text/plain or application/x-something, and many say nothing.
NOT_AUDIO = ("text/", "image/", "font/", "model/", "message/", "multipart/")
NOT_AUDIO_TYPES = tuple(
    f"application/{name}"
    for name in ("json", "ld+json", "problem+json", "xml", "xhtml+xml", "pdf", "zip", "gzip", "javascript", "wasm")
)
# Types that clients give without meaning them.
UNTOLD = ("", "text/plain", "application/x-www-form-urlencoded")
# Unpacked pieces between two looks at other requests.
PIECES_IN_A_ROW = 16


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file's bytes, and what its body asks besides."""

    data: bytes
    top_k: int | None = None
    function_to_apply: Function | None = None
    max_windows: int | None = None


class BodyReader:
    """Reads the bodies of one app's requests, which together stay within ``max_buffered_bytes``."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.pool = Pool(settings.max_buffered_bytes)

    def budget(self) -> AbstractContextManager[Held]:
        """Count what is read in the block as held until it ends."""
        return self.pool.holding()

    async def read(self, request: Request, held: Held, *, max_bytes: int | None = None) -> bytes:
        """Return the whole body.

        Raises:
            RequestError: body_too_large, body_timeout, malformed (it broke off, or is not packed as it says),
                unknown_coding, busy (too much in memory).
        """
        limit = max_bytes or self.settings.max_body_bytes
        buffer = Buffer(held, limit)
        await self._receive(request, buffer.write, limit)
        return buffer.value()

    async def read_json(self, request: Request, held: Held, kind: type[M], max_bytes: int, max_strings: int) -> M:
        """Return the body as a ``kind``; it stays counted as held.

        Raises:
            RequestError: as ``read`` does, and not_audio_type or malformed.
        """
        given = media_type(request)
        if given and not is_json(given):
            raise RequestError(f"got the content type {given}, expected application/json", code="not_audio_type")
        body = await self.read(request, held, max_bytes=max_bytes)
        json_bodies.check_strings(body, max_strings)
        held.take(len(body))
        asked = json_bodies.parse_json(body, kind)
        held.give(len(body))  # the text, which ends with this frame
        return asked

    async def read_audio(self, request: Request, held: Held) -> Upload:
        """Return an upload: a file's bytes, or a form with a file.

        Raises:
            RequestError: as ``read`` does, and not_audio_type.
        """
        if media_type(request) == FORM:
            return await self._read_form(request, held)
        check_audio_type(media_type(request))
        return Upload(await self.read(request, held))

    async def read_classify(self, request: Request, held: Held) -> Upload:
        """Return an upload, or the audio and the parameters of the Hugging Face contract's JSON.

        Raises:
            RequestError: as ``read`` does, and not_audio_type, malformed, bad_base64.
        """
        given = media_type(request)
        if not is_json(given):
            upload = await self.read_audio(request, held)
            if given not in UNTOLD or not upload.data[:64].lstrip().startswith(b"{"):
                return upload
            body = upload.data  # no audio file begins so
            del upload
        else:
            # base64 takes four bytes for three, and some more where it has line breaks.
            limit = self.settings.max_body_bytes * 3 // 2 + json_bodies.SLACK_BYTES
            body = await self.read(request, held, max_bytes=limit)
        buffer = Buffer(held, self.settings.max_body_bytes)
        parameters = await json_bodies.read_classify(body, buffer.write)
        held.give(len(body))
        return _upload(buffer, parameters)

    async def _read_form(self, request: Request, held: Held) -> Upload:
        buffer = Buffer(held, self.settings.max_body_bytes)
        form = forms.FormReader(request.headers["content-type"], buffer, check_audio_type)
        try:
            await self._receive(request, form.write, self.settings.max_body_bytes + forms.SLACK_BYTES)
            return _upload(buffer, form.finish())
        finally:
            form.close()

    async def _receive(self, request: Request, write: Callable[[bytes], None], limit: int) -> None:
        """Write the body as it comes, with its content coding undone; neither form may be longer than ``limit``."""
        declared = request.headers.get("content-length", "")
        # A length that is false or missing decides nothing: what comes is counted below.
        if re.fullmatch("[0-9]{1,18}", declared) and int(declared) > limit:
            raise too_large(int(declared), limit)
        unpacking = content_unpacker(request)
        loop, stream, size = asyncio.get_running_loop(), request.stream(), 0
        deadline = loop.time() + self.settings.body_timeout_s
        try:
            while True:
                # Two limits: a client that sends a byte now and then is never silent, and would be read without end.
                async with asyncio.timeout_at(min(deadline, loop.time() + self.settings.body_idle_timeout_s)):
                    part = await anext(stream, None)
                if part is None:
                    break
                size += len(part)
                if size > limit:
                    raise too_large(size, limit)
                if unpacking is None:
                    write(part)
                else:
                    await unpacking.feed(part, write, limit)
            if unpacking is not None:
                unpacking.end()
        except TimeoutError:
            raise RequestError(
                f"got {size:,} bytes of a body and then waited in vain, or too long in all (serve.body_timeout_s = "
                f"{self.settings.body_timeout_s:g}, serve.body_idle_timeout_s = {self.settings.body_idle_timeout_s:g})",
                code="body_timeout",
            ) from None
        except ClientDisconnect:
            raise RequestError(f"the body broke off after {size:,} bytes", code="malformed") from None


class Unpacking:
    """A request's content coding, undone in small pieces as the body comes."""

    def __init__(self, coding: str, inner: Unpacker) -> None:
        self.coding = coding
        self.inner = inner
        self.size = 0

    async def feed(self, part: bytes, write: Callable[[bytes], None], limit: int) -> None:
        """Write what ``part`` unpacks to.

        Raises:
            RequestError: malformed; body_too_large as soon as there is more than ``limit`` of it.
        """
        try:
            for number, piece in enumerate(self.inner.feed(part), 1):
                self.size += len(piece)
                if self.size > limit:
                    raise too_large(self.size, limit)
                write(piece)
                if number % PIECES_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except (ValueError, zlib.error) as error:
            raise self._malformed(error) from None

    def end(self) -> None:
        """Note that there is no more.

        Raises:
            RequestError: malformed.
        """
        try:
            self.inner.end()
        except EOFError as error:
            raise self._malformed(error) from None

    def _malformed(self, error: Exception) -> RequestError:
        return RequestError(f"the body is not {self.coding}, as its Content-Encoding says ({error})", code="malformed")


def content_unpacker(request: Request) -> Unpacking | None:
    """Return what undoes a request's content coding, or None where it has none.

    Raises:
        RequestError: unknown_coding.
    """
    given = [part.strip().lower() for line in request.headers.getlist("content-encoding") for part in line.split(",")]
    codings = [coding for coding in given if coding not in ("", "identity")]
    if not codings:
        return None
    # One within another would have to be bounded in between too, and nobody sends that.
    inner = unpacker(codings[0]) if len(codings) == 1 else None
    if inner is None:
        raise RequestError(
            f"got the content coding {', '.join(codings)[:80]}, expected one of {', '.join(supported())}",
            code="unknown_coding",
        )
    return Unpacking(codings[0], inner)


def media_type(request: Request) -> str:
    """Return the content type without its parameters, in lower case; empty when none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(given: str) -> bool:
    """Return whether a content type is JSON's."""
    return given in ("application/json", "text/json")


def check_audio_type(given: str) -> None:
    """Refuse what says of itself that it is not audio.

    Raises:
        RequestError: not_audio_type.
    """
    if given not in UNTOLD and (given.startswith(NOT_AUDIO) or given.startswith(NOT_AUDIO_TYPES)):
        raise RequestError(f"got the content type {given[:200]}, expected audio", code="not_audio_type")


def _upload(buffer: Buffer, asked: Parameters | FormFields) -> Upload:
    return Upload(
        buffer.value(),
        asked.top_k,
        asked.function_to_apply,
        asked.max_windows if isinstance(asked, FormFields) else None,
    )
