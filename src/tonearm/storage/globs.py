"""Globs over names that may themselves hold the characters of a glob, as ``[2001] Album`` does."""

from __future__ import annotations

import fnmatch
import itertools
import posixpath
import re
from collections.abc import Callable

from fsspec.utils import glob_translate

from tonearm.storage.uris import WILDCARDS

# Each part with a bracket is tried as a pattern and as it is written; that many parts have both readings.
MAX_READINGS = 6


def split_glob(pattern: str, is_folder: Callable[[str], bool]) -> tuple[str, str]:
    """Return the folder that ``pattern`` begins with, ``/`` at its end, and what of the pattern is below it.

    A part that is there under the very name is that folder: ``/[2001] Album/`` of ``/[2001] Album/*.mp3``.
    The last part stays a pattern.

    Args:
        is_folder: whether there is a folder at a path.
    """
    folder, parts = "", pattern.split("/")
    while len(parts) > 1:
        here = folder + parts[0]
        # A star always stands for every folder, even where one is itself called *.
        if WILDCARDS.search(parts[0]) and ("*" in parts[0] or "?" in parts[0] or not is_folder(here)):
            break
        folder, parts = here + "/", parts[1:]
    return folder, "/".join(parts)


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Return whether a path matches ``pattern``, or lies below one that does."""
    # The translation ends in \\Z; what lies below a match is let through before it.
    whole = re.compile("|".join(f"(?:{_translated(reading)})" for reading in _readings(pattern.rstrip("/"))))

    def matches(path: str) -> bool:
        if whole.match(path):
            return True
        while path := posixpath.dirname(path).rstrip("/"):
            if whole.match(path):
                return True
        return False

    return matches


def part_matches(name: str, part: str) -> bool:
    """Return whether one part of a path matches one part of a pattern."""
    return fnmatch.fnmatchcase(name, part) or ("[" in part and fnmatch.fnmatchcase(name, _literal(part)))


def _readings(pattern: str) -> list[str]:
    parts = pattern.split("/")
    with_brackets = [number for number, part in enumerate(parts) if "[" in part]
    if len(with_brackets) > MAX_READINGS:
        return [pattern, _literal(pattern)]
    options = [(part, _literal(part)) if "[" in part else (part,) for part in parts]
    return ["/".join(choice) for choice in itertools.product(*options)]


def _literal(part: str) -> str:
    return part.replace("[", "[[]")


def _translated(pattern: str) -> str:
    """Return the expression for a pattern.

    A bracket that is no class, such as ``[z-a]``, stands for itself, and ``a**`` for ``a*``.
    """
    try:
        expression = str(glob_translate(pattern))
        re.compile(expression)
    except (re.error, ValueError):
        parts = [part if part == "**" else re.sub(r"\*{2,}", "*", part) for part in _literal(pattern).split("/")]
        expression = str(glob_translate("/".join(parts)))
    return expression
