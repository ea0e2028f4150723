"""``tonearm export``: the rows of a destination in the forms that other programs read.

One row for each listed track, streamed batch by batch; a file appears whole or not at all, locally and on object
storage alike. CSV and JSON Lines hold every track, the failed ones too; labels and playlists only those that are ok.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Sequence
from typing import cast

from tonearm.errors import UsageError
from tonearm.exports.exporter import Exporter, ExportRequest, check_score, head_by
from tonearm.exports.output import check_output
from tonearm.exports.registry import EXPORTERS
from tonearm.exports.registry import kind_of as kind_of
from tonearm.runs.rows import track_rows
from tonearm.wording import counted

# Flags that a format without them has always taken without a word.
UNUSED = ("by", "min_score", "include_embeddings")


@dataclasses.dataclass(frozen=True)
class ExportCounts:
    """What one export wrote: ``num_tracks`` tracks into ``num_files`` files at ``output``.

    Attributes:
        num_unlisted: tracks that were left out because they are no longer listed.
        notes: lines that a person should see.
    """

    kind: str
    output: str
    num_tracks: int
    num_files: int
    num_unlisted: int = 0
    notes: tuple[str, ...] = ()


def export(
    destination: str,
    kind: str,
    output: str,
    *,
    where: str | None = None,
    all_versions: bool = False,
    overwrite: bool = False,
    **options: object,
) -> ExportCounts:
    """Write the tracks of ``destination`` to ``output`` as ``kind``.

    Args:
        kind: ``csv`` (one line per track, best tags joined as ``label:score; ...``), ``jsonl`` (whole rows),
            ``audacity`` (a folder with one label file per track), ``m3u`` (a folder with one playlist per label),
            ``embeddings`` (Parquet, one row per track), or what another package has added.
        output: a path or object-store URL; a folder for ``audacity`` and ``m3u``.
        where: only the tracks for which this DuckDB expression over the columns of a row is true; see ``rows.where``.
        all_versions: also tracks that are no longer listed: deleted and renamed files, and changed ones as they were.
        overwrite: replace what is there; other files of a folder stay.
        options: those of the exporter, such as ``by``, ``min_score``, ``include_embeddings`` and ``dim``; see the class
            of the format. None and False are what was not given.

    Raises:
        UsageError: an unknown kind, an option that it does not have, a value that the option cannot have, or a
            ``where`` that is no such expression.
        DestinationError: no tracks, or the output is taken or cannot be written.
        PluginError: the package that has added the kind cannot be used.
    """
    exporter_class = EXPORTERS.get(kind) if isinstance(kind, str) else None
    if exporter_class is None:
        near = difflib.get_close_matches(str(kind), EXPORTERS.names(), n=1)
        advice = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"got export kind {kind!r}; {advice}expected one of {', '.join(EXPORTERS.names())}")
    with EXPORTERS.using(kind):
        make = cast(Callable[..., Exporter], exporter_class)
        exporter = make(**_taken(kind, exporter_class, options))
        # Before any row is read: an output that is taken should not cost a pass over the library.
        check_output(output, is_folder=exporter_class.is_folder, overwrite=overwrite)
        rows = track_rows.listed_rows(destination, unlisted=all_versions)
        if where is not None:
            from tonearm.runs.rows.narrowing import narrow

            rows = narrow(destination, rows, where)
        if (by := options.get("by")) is not None:
            head_by(str(by), rows.heads)
        num_tracks, num_files = exporter.write(ExportRequest(destination, output, rows))
    notes = tuple(filter(None, [EXPORTERS.refused_claim(kind)]))
    return ExportCounts(kind, output, num_tracks, num_files, rows.num_unlisted, notes)


def named_options(given: Sequence[str]) -> dict[str, object]:
    """Return options that are written as ``NAME=VALUE``; a value is JSON, or text where it is none.

    Raises:
        UsageError: one is not of that form.
    """
    options: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"got --option {text}, expected NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _taken(kind: str, exporter: type[Exporter], options: dict[str, object]) -> dict[str, object]:
    """Return the options that the exporter takes."""
    if isinstance(min_score := options.get("min_score"), int | float):
        check_score(min_score)
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    known = inspect.signature(exporter).parameters
    for name, value in given.items():
        if name in known or name in UNUSED:
            continue
        others = [other for other, taker in EXPORTERS.builtin.items() if name in inspect.signature(taker).parameters]
        if name == "dim" and isinstance(value, int):
            refused = f"a projection to {counted(value, 'number')} for {kind}, which has none"
        else:
            refused = f"the option {name} for {kind}, which has {', '.join(known) or 'none'}"
        raise UsageError(f"got {refused}" + (f"; it goes with {', '.join(others)}" if others else ""))
    return {name: value for name, value in given.items() if name in known}
