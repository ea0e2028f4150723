"""Models that ``tonearm models add NAME`` can fetch by name; any other argument is a file.

A model is added by one entry of ``NAMED``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tonearm.models.musicnn import named


class AddNamed(Protocol):
    """Puts a named model where heads find it, and returns its folder."""

    def __call__(self, name: str, wheel: Path | None) -> Path:
        """Fetch the model.

        Args:
            name: its key in ``NAMED``.
            wheel: the package that holds it, where it cannot be fetched.

        Raises:
            CheckpointError: it is not to be had, or is not what was expected.
        """
        ...


def _add_musicnn(name: str, wheel: Path | None) -> Path:
    # Here, because it loads numpy, which would slow down every ``--help``.
    from tonearm.models.musicnn.wheel import add

    return add(name, wheel)


NAMED: Mapping[str, AddNamed] = dict.fromkeys(named.NAMES, _add_musicnn)
