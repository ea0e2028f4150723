"""The labels of an exported graph, from the file that came with it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from tonearm.errors import CheckpointError
from tonearm.models.exported.description import check_labels

# Names of the columns with labels and with their places, in order of preference.
LABEL_COLUMNS = ("display_name", "label", "name", "class", "class_name")
PLACE_COLUMNS = ("index", "id")


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the labels of a file in the order of the scores.

    Args:
        path: a table (``.csv``, ``.tsv``) with a column ``display_name``, ``label``, ``name`` or ``class`` and perhaps
            an ``index``; a ``.json`` list, or object of places and labels; any other file has one label per line.

    Raises:
        CheckpointError: it cannot be read, or has no labels.
    """
    try:
        # Spreadsheets begin their UTF-8 with a byte order mark, which would become part of the first label.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CheckpointError(
            f"the labels {path} cannot be read ({reason}); give a CSV, a JSON list or a text with one label per line"
        ) from None
    try:
        labels = _parsed(text, path.suffix)
        check_labels(labels)
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise CheckpointError(f"the labels {path} cannot be used: the file {error}") from None
    return labels


def _parsed(text: str, suffix: str) -> tuple[str, ...]:
    if suffix == ".json":
        values = json.loads(text)
        if isinstance(values, dict):
            values = [values[place] for place in _ordered(list(values))]
        return tuple(str(label) for label in values)
    if suffix not in (".csv", ".tsv"):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    rows = [row for row in csv.reader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",") if row]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    if column is None:
        # One column without a known header is a plain list of labels, the first line included.
        if any(len(row) != 1 for row in rows):
            raise ValueError(f"has the columns {', '.join(header[:6])}, expected one of {', '.join(LABEL_COLUMNS)}")
        return tuple(row[0].strip() for row in rows)
    place = next((header.index(name) for name in PLACE_COLUMNS if name in header), None)
    labels = {row[place] if place is not None else str(number): row[column] for number, row in enumerate(rows[1:])}
    return tuple(labels[key] for key in _ordered(list(labels)))


def _ordered(places: Sequence[str]) -> list[str]:
    """Return the places 0, 1, 2, ... in their order."""
    if sorted(places) != sorted(str(number) for number in range(len(places))):
        raise ValueError(f"has the places {', '.join(sorted(places)[:6])} ..., expected 0 to {len(places) - 1}")
    return sorted(places, key=int)
