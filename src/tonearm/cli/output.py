"""Where what a verb says goes: prose to standard output, or with ``--json`` one document there and prose to stderr."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

from tonearm.storage.uris import visible


class Output:
    """What a verb prints with.

    Args:
        as_json: ``--json`` was given.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @property
    def prose(self) -> TextIO:
        """Where sentences and tables for people go."""
        return sys.stderr if self.as_json else sys.stdout

    def say(self, line: str = "") -> None:
        """Print a line for people."""
        print(visible(line), file=self.prose)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print names and what is said of each, a line each."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        for name, text in rows:
            table.add_row(name, visible(text))
        # soft_wrap: a path that is broken over lines cannot be copied. No markup: names may hold brackets.
        Console(file=self.prose, highlight=False, soft_wrap=True, markup=False, emoji=False).print(table)

    def result(self, document: object) -> None:
        """Print the verb's result, where JSON was asked for."""
        if self.as_json:
            print(json_text(document))


def json_text(document: object) -> str:
    """Return strict JSON: dataclasses as objects, times as ISO 8601, and null for a number that is none."""
    return json.dumps(_plain(document), ensure_ascii=False, indent=1, allow_nan=False)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if isinstance(value, float):  # numpy's too
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime.date):
        return value.isoformat()
    as_python = getattr(value, "tolist", None)  # of numpy's arrays and other numbers
    return _plain(as_python()) if callable(as_python) else str(value)
