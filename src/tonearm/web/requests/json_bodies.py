"""JSON from strangers: small around what is long, so that reading it takes little more than its bytes.

A parsed ``[0,0,0,...]`` takes ten times and more of its bytes. Here only strings may be long.
"""

from __future__ import annotations

import asyncio
import binascii
import json
from collections.abc import Callable, Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tonearm.errors import RequestError
from tonearm.web.messages import ClassifyRequest, Parameters

M = TypeVar("M", bound=BaseModel)
# For all that is not a long string: keys, parameters, white space.
SLACK_BYTES = 2**16
# Of all that is no URI: keys, parameters and options have a handful.
MAX_QUOTES = 10_000
# Looked at before each quote; without a limit a body of backslashes would be read over and over.
MAX_BACKSLASHES = 64
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Stands for the long string while the rest is read; no base64.
PLACEHOLDER = "@"
ESCAPE_CHARACTERS = 6  # \u002b
PIECE_BYTES = 2**20
DATA_URL_CHARACTERS = 1024
PATH_CHARACTERS = 256
STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
WHITE_SPACE = b" \t\r\n\f\v"


def parse_json(body: bytes, kind: type[M]) -> M:
    """Return ``body`` as a ``kind``.

    Raises:
        RequestError: malformed.
    """
    try:
        return kind.model_validate_json(body.removeprefix(BYTE_ORDER_MARK))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid" and body and body.lstrip(WHITE_SPACE)[:1] not in b'{["':
            raise RequestError(
                f"{first['msg']}: it begins with {body[:8]!r}; audio is sent as the body with an audio content type, "
                "such as audio/mpeg, or with none",
                code="malformed",
            ) from None
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"{where + ': ' if where else ''}{first['msg']}", code="malformed") from None


def check_strings(body: bytes, max_strings: int) -> None:
    """Refuse JSON of more than ``max_strings`` strings, or with more around them than they need.

    Raises:
        RequestError: malformed.
    """
    # 32 bytes for the quotes, the comma and the white space of each.
    limit, around = SLACK_BYTES + 32 * max_strings, len(body)
    for count, (start, end) in enumerate(_strings(body, 4 * max_strings + MAX_QUOTES), 1):
        around -= end - start
        if count > max_strings + MAX_QUOTES:
            raise RequestError(f"got more than {max_strings:,} strings in the JSON", code="malformed")
    if around > limit:
        raise _too_much_around(around, limit)


async def read_classify(body: bytes, write: Callable[[bytes], None]) -> Parameters:
    """Return the parameters of a request with the Hugging Face contract's JSON, and write the audio in it.

    Raises:
        RequestError: malformed, bad_base64, and what ``write`` raises.
    """
    if len(body) <= SLACK_BYTES:
        asked = parse_json(body, ClassifyRequest)
        if len(asked.inputs) < PATH_CHARACTERS and asked.inputs.startswith("/"):
            raise _not_base64()  # a path of letters and slashes would be taken for it
        await _decode(iter([asked.inputs.encode("ascii", "replace")]), write)
        return asked.parameters or Parameters()
    strings = _strings(body, MAX_QUOTES)
    start, end = max(strings, key=lambda string: string[1] - string[0], default=(0, 0))
    around = len(body) - (end - start)
    if around > SLACK_BYTES:
        raise _too_much_around(around, SLACK_BYTES)
    asked = parse_json(body[:start] + PLACEHOLDER.encode() + body[end:], ClassifyRequest)
    # The longest string was another one, such as one in ``options``.
    if asked.inputs != PLACEHOLDER:
        raise _too_much_around(len(body) - len(asked.inputs), SLACK_BYTES)
    await _decode(_unescaped(body, start, end), write)
    return asked.parameters or Parameters()


def _strings(body: bytes, max_quotes: int) -> Iterator[tuple[int, int]]:
    """Yield where each string begins and ends, without its quotes; what is unfinished is the parser's to refuse."""
    start: int | None = None
    position = -1
    for _ in range(max_quotes):
        position = body.find(b'"', position + 1)
        if position < 0:
            return
        if start is None:
            start = position + 1
            continue
        tail = body[max(start, position - MAX_BACKSLASHES) : position]
        num_backslashes = len(tail) - len(tail.rstrip(b"\\"))
        if num_backslashes == MAX_BACKSLASHES:
            raise RequestError("got JSON with more backslashes in a row than any text has", code="malformed")
        if num_backslashes % 2 == 0:
            yield start, position
            start = None
    raise RequestError(f"got JSON with more than {max_quotes:,} quotes", code="malformed")


def _unescaped(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield a string's characters in pieces; some encoders write ``/`` and ``+`` with a backslash."""
    while start < end:
        piece = body[start : min(start + PIECE_BYTES, end)]
        if start + len(piece) < end:
            # Never within an escape, which the next piece could not begin with.
            cut = piece.find(b"\\", max(1, len(piece) - ESCAPE_CHARACTERS))
            piece = piece[:cut] if cut > 0 else piece
        start += len(piece)
        if b"\\" in piece:
            try:
                piece = json.loads(b'"' + piece + b'"').encode("ascii", "replace")
            except ValueError:
                raise _not_base64() from None
        yield piece


async def _decode(pieces: Iterator[bytes], write: Callable[[bytes], None]) -> None:
    """Write what base64 stands for: of either alphabet, with white space, padded or not, in a data URL or not."""
    left, is_padded, is_first = b"", False, True
    for piece in pieces:
        if is_first:
            piece, is_first = _without_data_url(piece), False
        characters = left + piece.translate(STANDARD_ALPHABET, WHITE_SPACE)
        bare = characters.rstrip(b"=")
        if b"=" in bare or (is_padded and bare):
            raise _not_base64()
        is_padded = is_padded or len(bare) < len(characters)
        num_whole = len(bare) // 4 * 4
        left = bare[num_whole:]
        write(_bytes(bare[:num_whole]))
        # Other requests get their turn after each megabyte.
        await asyncio.sleep(0)
    if left:
        write(_bytes(left + b"=" * (4 - len(left))))


def _bytes(characters: bytes) -> bytes:
    try:
        # Otherwise characters of no alphabet are passed over, and noise is decoded.
        return binascii.a2b_base64(characters, strict_mode=True)
    except binascii.Error:
        raise _not_base64() from None


def _without_data_url(text: bytes) -> bytes:
    head = text[:DATA_URL_CHARACTERS].lstrip(WHITE_SPACE)
    if head[:5].lower() != b"data:":
        return text
    kind, comma, _ = head.partition(b",")
    if not comma or not kind.lower().rstrip(WHITE_SPACE).endswith(b";base64"):
        raise RequestError("got a data URL in `inputs` that is not base64", code="bad_base64")
    return text[text.index(b",") + 1 :]


def _not_base64() -> RequestError:
    return RequestError("got `inputs` that are not base64", code="bad_base64")


def _too_much_around(num_bytes: int, limit: int) -> RequestError:
    return RequestError(
        f"got {num_bytes:,} bytes of JSON around its strings, expected at most {limit:,}", code="malformed"
    )
