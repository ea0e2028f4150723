"""Where processes of tonearm's own import from: never the current folder, whose files are other people's.

Python looks for modules where it was started, with ``-m`` and wherever ``PYTHONPATH`` has an empty entry, as in
``PYTHONPATH=$PYTHONPATH:/lib``. A ``random.py`` or ``numpy.py`` that lies beside somebody's music would be run.
"""

from __future__ import annotations

import os
import resource
import sys


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of tonearm."""
    # Without -P, -m puts the current folder first on the search path.
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment in which that module finds what this process has imported."""
    places = os.pathsep.join(_elsewhere([place for place in sys.path if place]))
    return {**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1", **changes}


def leave_current_folder() -> None:
    """Import nothing more from the current folder, in this process and in those that it starts."""
    sys.path[:] = _elsewhere([place for place in sys.path if place])
    if "PYTHONPATH" in os.environ:
        places = [place for place in os.environ["PYTHONPATH"].split(os.pathsep) if place]
        os.environ["PYTHONPATH"] = os.pathsep.join(_elsewhere(places))


def imported_folder() -> str | None:
    """Return the current folder where this process imports from it."""
    here = _here()
    return here if here and here in {os.path.realpath(place) for place in sys.path} else None


def _elsewhere(places: list[str]) -> list[str]:
    """Return the places that are not the current folder, absolute; tonearm's own stays."""
    here = _here()
    package_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not here:  # it was deleted, and nothing relative means anything
        return [place for place in places if os.path.isabs(place)]
    folders = [os.path.abspath(place) for place in places]
    return [place for place in folders if os.path.realpath(place) != here or place == package_folder]


def _here() -> str | None:
    try:
        return os.path.realpath(os.getcwd())
    except FileNotFoundError:
        return None


def peak_memory_bytes() -> int:
    """Return the largest resident set this process has had."""
    try:
        # Not getrusage alone: on Linux its peak includes that of the process that this one was forked from.
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
