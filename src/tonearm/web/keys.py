"""API keys: random, shown once, kept only as SHA-256 digests, compared in constant time.

A key has 256 random bits, so a plain digest of it cannot be reversed by guessing, as that of a password could.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from tonearm.errors import SettingsError

KEYS_VARIABLE = "TONEARM_API_KEYS"
FILE_VARIABLE = "TONEARM_API_KEY_FILE"
_LINE = re.compile(r"([A-Za-z0-9._@-]+):([0-9a-f]{64})")


def new_key(name: str) -> tuple[str, str]:
    """Return a new key and the line ``NAME:SHA256`` that lets it in.

    Raises:
        SettingsError: a name with other characters than letters, digits and ``._@-``.
    """
    key = f"ta-{secrets.token_urlsafe(32)}"
    line = f"{name}:{digest(key)}"
    _parse(line, "--new-key")
    return key, line


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(lines: Sequence[str], file: str | None) -> tuple[str, ...]:
    """Return the lines ``NAME:SHA256`` of the settings, of ``file`` and of the environment.

    The environment's are ``TONEARM_API_KEYS``, separated by commas or spaces, and the file ``TONEARM_API_KEY_FILE``.

    Raises:
        SettingsError: a line of another form, or a file that cannot be read.
    """
    found = [_parse(line, "serve.api_keys") for line in lines]
    found += [_parse(line, KEYS_VARIABLE) for line in re.split(r"[,\s]+", os.environ.get(KEYS_VARIABLE, "")) if line]
    path = file or os.environ.get(FILE_VARIABLE)
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the API key file {path} cannot be read ({error})") from None
        stripped = [line.partition("#")[0].strip() for line in text.splitlines()]
        found += [_parse(line, path) for line in stripped if line]
        if not found:
            raise SettingsError(f"the API key file {path} has no key; make one with `tonearm serve --new-key NAME`")
    return tuple(dict.fromkeys(found))


def holder(key: str, lines: Sequence[str]) -> str | None:
    """Return the name of the key's holder, or None for a key that is not among ``lines``; in constant time."""
    given, found = digest(key), None
    for line in lines:
        name, _, known = line.rpartition(":")
        if hmac.compare_digest(given, known):
            found = name
    return found


def _parse(line: str, where: str) -> str:
    # The line itself is not shown: somebody may have written the key where its digest belongs.
    if not _LINE.fullmatch(line):
        raise SettingsError(
            f"{where}: got a line that is not NAME:SHA256, expected what `tonearm serve --new-key NAME` prints"
        )
    return line
