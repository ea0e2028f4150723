"""The kinds of sources; other packages add theirs by entry points of ``tonearm.sources``, named as their schemes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tonearm import extras
from tonearm.errors import SourceError
from tonearm.plugins import Registry
from tonearm.sources import hub_datasets
from tonearm.sources.buckets import S3, OtherStore, WebObject
from tonearm.sources.hub_datasets import DataSet
from tonearm.sources.local import LocalFiles
from tonearm.sources.source import Source
from tonearm.sources.tables import Table
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.uris import scheme, shown

# The first that matches counts.
KINDS: tuple[Source, ...] = (DataSet(), Table(), LocalFiles(), WebObject(), S3(), OtherStore())
OWN: dict[str, Source] = {name: kind for kind in KINDS for name in kind.schemes}
SOURCES: Registry[Source] = Registry("tonearm.sources", "source", OWN, Source, make=lambda source_class: source_class())


def source_of(source: str) -> Source:
    """Return what lists SOURCE.

    Raises:
        SourceError: nobody knows it, or it is empty.
        PluginError: a package that adds its scheme cannot be used.
    """
    if not source:
        # As a path it would be the current folder, and it is what a script's unset variable gives.
        raise SourceError("got the source '', expected a path or a URL; give . for the current folder")
    # Before packages: none may take over a path or a URL that tonearm reads.
    for kind in KINDS:
        if kind.matches(source):
            return kind
    name = scheme(source)
    outside = SOURCES.get(name)
    if outside is None:
        raise SourceError(f"{shown(source)}: unknown scheme {name}://; expected one of {filesystems.KNOWN}")
    with SOURCES.using(name):
        if not outside.matches(source):
            raise SourceError(f"{shown(source)} is not an address that the source {name!r} knows; check it")
    return outside


def check_extras(places: Iterable[str]) -> None:
    """Refuse sources and destinations that packages read which are not installed, before any of them is listed.

    Raises:
        SourceError: with the command that installs them.
    """
    for place in places:
        if KINDS[0].matches(place):
            hub_datasets.check_extra(place)
        elif (kind := scheme(place)) in filesystems.EXTRAS:
            extras.require(filesystems.EXTRAS[kind], f"{shown(place)}: {kind}://", SourceError)


def list_with(kind: Source, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    """Return the tracks of SOURCE, which is of this kind; see ``Source.list``."""
    return kind.list(source, skipped) if kind in KINDS else _guarded(kind, source, skipped)


def _guarded(kind: Source, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    with SOURCES.using(scheme(source)):
        yield from kind.list(source, skipped)


def reader_of(uri: str) -> Source | None:
    """Return what reads the object at ``uri``; None where nobody does.

    Further schemes of fsspec are not read: they would take code, other hosts or this machine's files.

    Raises:
        PluginError: a package that adds its scheme cannot be used.
    """
    return SOURCES.get(scheme(uri))
