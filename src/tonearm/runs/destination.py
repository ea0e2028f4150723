"""The paths inside a destination.

A destination holds::

    manifest/            the listed tracks, one row each
    tracks/*.parquet     the finished tracks; see ``ranking`` for which row of a track counts
    _checkpoint/groups.json    what decided the content of each group of columns; see ``groups``
    _checkpoint/FP/      Ray Data's marks, one per file of tracks/; FP stands for the groups that a run wrote
    _checkpoint/lock.json, terms/, may-delete  who writes there; see ``lock``
    _checkpoint/progress.json  how far the current run is; see ``progress``
    runs/RUN.json        what one invocation did
    report.html

Ray Data writes each file in two phases: a *pending* mark, the file, then the mark renamed. A track is done when a file
without a pending mark holds its row; everything else is done again.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from pathlib import Path

from pyarrow.fs import SubTreeFileSystem

from tonearm.errors import DestinationError
from tonearm.runs import places
from tonearm.storage import filesystems
from tonearm.storage.uris import SCHEME, local_path, shown, split_bucket

WRITABLE = ("s3", "gs", "az", "memory")
PLACES = "a folder, s3://, gs:// or az://BUCKET/PREFIX"
# A URL with one slash too few, such as s3:/bucket: as a path it would make a folder called "s3:" here.
MISSPELT = re.compile(r"(?i)(file|s3[an]?|gc?s|az|abfss?|https?|memory):/")


@dataclasses.dataclass(frozen=True)
class Destination:
    """One ``--out``, and the paths inside it."""

    url: str

    @classmethod
    def of(cls, url: str) -> Destination:
        """Return the destination at ``url``, with a local path made absolute.

        Raises:
            DestinationError: ``url`` cannot be a destination, such as ``https://`` or ``s3://`` without a bucket.
        """
        check_form(url)
        if filesystems.is_local(url):
            return cls(local_path(url))
        if filesystems.scheme(url) not in WRITABLE:
            raise DestinationError(f"got {shown(url)} as destination, expected {PLACES}")
        if not split_bucket(url).bucket:
            raise DestinationError(
                f"got {url} as destination, expected a bucket: {filesystems.scheme(url)}://BUCKET/PREFIX"
            )
        return cls(url)

    def join(self, *parts: str) -> str:
        return posixpath.join(self.url.rstrip("/") or "/", *parts)

    def rooted(self) -> SubTreeFileSystem:
        """Return a file system whose root is this destination.

        Ray Data parses paths as URLs: in a folder called ``what?`` it would take the rest of the path for a query, and
        it drops tabs from names. So it is given paths below this root, whose names tonearm chooses itself.
        """
        filesystem, path = filesystems.arrow_filesystem(self.url)
        return SubTreeFileSystem(path, filesystem)

    def below(self, url: str) -> str:
        """Return ``url``, which is inside this destination, as a path of ``rooted()``."""
        return url.removeprefix(self.join(""))

    def check_own(self) -> None:
        """Refuse folders that are symbolic links: deleting in them would delete files elsewhere.

        Raises:
            DestinationError: one of them is.
        """
        if not filesystems.is_local(self.url):
            return
        marks = Path(self.checkpoint())
        with filesystems.reading(self.url):
            inside = sorted(marks.iterdir()) if marks.is_dir() else []
            for folder in (marks, *map(Path, (self.manifest, self.tracks, self.join(places.RUNS))), *inside):
                if folder.is_symlink():
                    raise DestinationError(
                        f"{shown(str(folder))} is a link, and a run deletes files in it; nothing was done. Put "
                        "a folder in its place, or give the folder that holds what it leads to"
                    )

    @property
    def manifest(self) -> str:
        return self.join(places.MANIFEST)

    @property
    def tracks(self) -> str:
        return self.join(places.TRACKS)

    @property
    def report(self) -> str:
        return self.join(places.REPORT)

    def checkpoint(self, *parts: str) -> str:
        return self.join(places.CHECKPOINT, *parts)

    def run(self, run_id: str) -> str:
        return self.join(places.RUNS, f"{run_id}.json")


def check_form(url: str, flag: str = "the destination") -> None:
    """Refuse a URL or path that would be read as another place than the user means.

    Args:
        flag: what messages call it.

    Raises:
        DestinationError: neither a path nor a URL, a path that names a machine, or a name that is not UTF-8.
    """
    # An empty path would be the current folder.
    if not url.strip():
        raise DestinationError(f"got {flag} '{url}', expected {PLACES}")
    # Arrow and Parquet take names as UTF-8; a file system may hold others, which Python shows with surrogates.
    try:
        url.encode()
    except UnicodeEncodeError:
        raise DestinationError(f"got {flag} {shown(url)}, expected a name in UTF-8") from None
    if "\0" in url:
        raise DestinationError(f"got {flag} {shown(url)}, expected a name without the character NUL")
    form = SCHEME.match(url)
    if form is None and ("://" in url or MISSPELT.match(url)):
        raise DestinationError(f"got {flag} {shown(url)}, which is neither a path nor a URL; expected {PLACES}")
    if form is not None and filesystems.is_local(url) and split_bucket(url).bucket not in ("", "localhost"):
        raise DestinationError(
            f"got {flag} {shown(url)}, which names another machine; expected file:///FOLDER or a path"
        )
