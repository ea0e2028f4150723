"""The export formats by name; other packages add theirs by entry points of the group ``tonearm.exporters``."""

from __future__ import annotations

import posixpath

from tonearm.errors import UsageError
from tonearm.exports.audacity import Audacity
from tonearm.exports.csv import Csv
from tonearm.exports.embeddings import Embeddings
from tonearm.exports.exporter import Exporter
from tonearm.exports.jsonl import JsonLines
from tonearm.exports.m3u import Playlists
from tonearm.plugins import Registry

OWN: dict[str, type[Exporter]] = {
    "csv": Csv,
    "jsonl": JsonLines,
    "audacity": Audacity,
    "m3u": Playlists,
    "embeddings": Embeddings,
}
EXPORTERS: Registry[type[Exporter]] = Registry("tonearm.exporters", "exporter", OWN, Exporter)


def kind_of(output: str) -> str:
    """Return the kind that an output's ending stands for; tonearm's own come before those of other packages.

    Raises:
        UsageError: it stands for none.
    """
    ending = posixpath.splitext(output)[1].lower()
    endings = _endings(OWN)
    problems: list[str] = []
    if ending not in endings:
        outside = EXPORTERS.outside()
        problems, endings = outside.problems, _endings(OWN | outside.usable)
    if ending not in endings:
        raise UsageError(
            f"got {output}, whose ending is that of no export ({', '.join(endings)}); "
            f"give --format, one of {', '.join(EXPORTERS.names())}" + "".join(f". Also, {line}" for line in problems)
        )
    return endings[ending]


def _endings(exporters: dict[str, type[Exporter]]) -> dict[str, str]:
    endings: dict[str, str] = {}
    for kind, exporter in exporters.items():
        for ending in exporter.endings:
            endings.setdefault(ending, kind)
    return endings
