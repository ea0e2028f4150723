"""Where an export goes: files that appear whole or not at all, locally and on object storage alike."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast

from tonearm.errors import DestinationError
from tonearm.runs.destination import check_form
from tonearm.storage import filesystems
from tonearm.storage.atomic import replacing


def check_output(output: str, *, is_folder: bool, overwrite: bool) -> None:
    """Refuse an output that is taken, or of the wrong kind.

    Raises:
        DestinationError: a file where a folder must be or the reverse, or something is there and may not be replaced.
    """
    check_form(output, "OUTPUT")
    with filesystems.writing(output):
        place = filesystems.locate(output)
        if not place.store.exists(place.path):
            return
        if place.store.isdir(place.path):
            is_empty, is_right = not place.store.ls(place.path, detail=False), is_folder
        else:
            is_empty, is_right = not place.store.size(place.path), not is_folder
    if not is_right:
        got, expected = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise DestinationError(f"{output} is {got}, expected the name of {expected} for this kind of export")
    if not is_empty and not overwrite:
        raise DestinationError(
            f"{output} exists already and is not empty; give another name, or --overwrite to replace it"
        )


@contextlib.contextmanager
def whole_file(url: str) -> Iterator[TextIO]:
    """Give a UTF-8 text file that appears at ``url`` when the block ends well, and never otherwise.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    with _whole(url, lambda path: path.open("w", encoding="utf-8", newline="")) as file:
        yield cast(TextIO, file)


@contextlib.contextmanager
def whole_binary(url: str) -> Iterator[BinaryIO]:
    """Give a binary file that appears at ``url`` when the block ends well, and never otherwise.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    with _whole(url, lambda path: path.open("wb")) as file:
        yield cast(BinaryIO, file)


@contextlib.contextmanager
def _whole(url: str, open_: Callable[[Path], IO]) -> Iterator[IO]:
    place = filesystems.locate(url)
    with filesystems.writing(url):
        if place.address.is_local:
            # Closed before it is renamed: a full disk may say so only when the last bytes are flushed.
            with replacing(Path(place.path)) as partial, open_(partial) as file:
                yield file
            return
        # Only a finished export is uploaded: one that fails must leave no object.
        with tempfile.TemporaryDirectory(prefix="tonearm-") as folder:
            local = Path(folder) / "export"
            with open_(local) as file:
                yield file
            place.store.put_file(str(local), place.path)


def write_texts(folder: str, texts: dict[str, str]) -> None:
    """Write each text as ``folder/name``, whole or not at all; on object storage many at a time.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    base = folder.rstrip("/") or "/"
    if filesystems.is_local(folder):
        for name, content in texts.items():
            filesystems.write_text(f"{base}/{name}", content)
        return
    place = filesystems.locate(base)
    with filesystems.writing(folder):
        # pipe sends many at a time; there are as many files as tracks.
        place.store.pipe({f"{place.path}/{name}": content.encode() for name, content in texts.items()})
