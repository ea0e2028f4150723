"""API keys: random, shown once, kept only as SHA-256 digests, compared in constant time.

A key has 256 random bits, so a plain digest of it cannot be reversed by guessing, as that of a password could.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tonearm.errors import SettingsError

KEYS_VARIABLE = "TONEARM_API_KEYS"
FILE_VARIABLE = "TONEARM_API_KEY_FILE"
_NAME = re.compile(r"[A-Za-z0-9._@-]+")
MAX_NAME = 64
_LINE = re.compile(rf"({_NAME.pattern}):([0-9A-Fa-f]{{64}})")
_DIGEST = re.compile(r"(?:.*[:\s])?[0-9A-Fa-f]{64}")
# What ``new_key`` makes, wherever in a pasted text it stands.
_KEY = re.compile(r"(?<![A-Za-z0-9_-])ta-[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
# Before what ``tonearm keys new`` prints.
KEY_LABEL = "key, shown this once:"
LINE_LABEL = "line for --api-key-file or TONEARM_API_KEYS:"
QUOTES = "\"'`\u2018\u2019\u201c\u201d"


class NewKey(NamedTuple):
    """An API key, which its client keeps, and the line ``NAME:SHA256`` that lets it in, which the server keeps."""

    key: str
    line: str


def new_key(name: str) -> NewKey:
    """Return a new key.

    Raises:
        SettingsError: a name with other characters than letters, digits and ``._@-``, or a long one, or one that looks
            like a flag.
    """
    if not _NAME.fullmatch(name) or name.startswith("-") or len(name) > MAX_NAME:
        raise SettingsError(
            f"got {name!r:.80} for a key's name, expected at most {MAX_NAME} letters, digits and any of . _ @ -, "
            "and no - at the start"
        )
    key = f"ta-{secrets.token_urlsafe(32)}"
    return NewKey(key, f"{name}:{digest(key)}")


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(lines: Sequence[str], file: str | None) -> tuple[str, ...]:
    """Return the lines ``NAME:SHA256`` of the settings, of ``file`` and of the environment.

    The environment's are ``TONEARM_API_KEYS``, separated by commas or spaces, and the file ``TONEARM_API_KEY_FILE``.

    Raises:
        SettingsError: a line of another form, or a file that cannot be read.
    """
    keys = [_parse(line, "serve.api_keys") for line in lines]
    # The line is often pasted with the label that it is printed behind.
    given = os.environ.get(KEYS_VARIABLE, "").replace(LINE_LABEL, " ")
    keys += [_parse(line, KEYS_VARIABLE) for line in re.split(r"[,\s]+", given) if line]
    path = file or os.environ.get(FILE_VARIABLE)
    if path:
        try:
            # Some editors begin a file with a byte order mark.
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the API key file {path} cannot be read ({error})") from None
        stripped = [line.partition("#")[0].strip() for line in text.splitlines()]
        keys += [_parse(line, f"{path}, line {number}") for number, line in enumerate(stripped, 1) if line]
        if not keys:
            raise SettingsError(f"the API key file {path} has no key; make one with `tonearm keys new NAME`")
    return tuple(dict.fromkeys(keys))


def given_keys(authorization: str, api_key: str) -> Iterator[str]:
    """Yield what may be the key in the two headers that can have one, the likeliest first.

    A bearer token decides alone. Basic authentication is often a proxy's own, so ``X-API-Key`` counts besides it.
    """
    kind, _, value = authorization.strip().partition(" ")
    if kind.lower() == "bearer":
        yield from _readings(value)
        return
    if kind.lower() == "basic":
        user, _, password = _basic(value).partition(":")
        yield from _readings(password)
        yield from _readings(user)
    elif kind.lower() != "digest":
        yield from _readings(authorization)
    scheme, _, value = api_key.strip().partition(" ")
    yield from _readings(value if scheme.lower() == "bearer" else api_key)


def is_digest(text: str) -> bool:
    """Return whether ``text`` is, or ends as, the line that lets a key in: a digest, of which no key can be made."""
    return _DIGEST.fullmatch(text.strip().strip(QUOTES)) is not None


def holder(key: str, lines: Sequence[str]) -> str | None:
    """Return the name of the key's holder, or None for a key that is not among ``lines``; in constant time."""
    given, match = digest(key), None
    # To the last line, whichever it is: the time must not tell which one matched.
    for line in lines:
        name, _, known = line.rpartition(":")
        if hmac.compare_digest(given, known):
            match = name
    return match


def _readings(text: str) -> Iterator[str]:
    """Yield a key as it was given, without quotes, and as it stands in a longer text that was pasted whole."""
    stripped = text.strip()
    bare = stripped.removeprefix(KEY_LABEL).strip().strip(QUOTES).strip()
    yield from dict.fromkeys(reading for reading in (stripped, bare, *_KEY.findall(stripped)[:1]) if reading)


def _basic(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _parse(line: str, where: str) -> str:
    # The line itself is not shown: somebody may have written the key where its digest belongs.
    bare = line.replace(LINE_LABEL, " ").strip().strip(QUOTES).strip()
    match = _LINE.fullmatch(bare)
    if match is not None:
        return f"{match[1]}:{match[2].lower()}"
    if _KEY.search(bare):
        raise SettingsError(
            f"{where}: got a key itself, expected its line NAME:SHA256, which `tonearm serve --new-key NAME` prints "
            "below it"
        )
    if is_digest(bare):
        raise SettingsError(f"{where}: got a digest without a name before it, expected NAME:SHA256")
    raise SettingsError(
        f"{where}: got a line that is not NAME:SHA256, expected what `tonearm serve --new-key NAME` prints"
    )
