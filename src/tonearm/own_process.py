"""Processes of tonearm's own in Python, for which other people's files in the current folder are no modules."""

from __future__ import annotations

import os
import sys


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of tonearm."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment in which that module finds what this process has imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(_search_path()), "PYTHONSAFEPATH": "1", **changes}


def _search_path() -> list[str]:
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it has been deleted
        here = ""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    places = [os.path.abspath(place) for place in sys.path if place]
    return [place for place in places if place != here or place == own]
