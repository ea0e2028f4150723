"""Where bytes are kept: local folders and object stores through fsspec, one configuration for all of them.

``s3://`` goes through s3fs, with the usual AWS variables, profiles and roles, and AWS_ENDPOINT_URL for other vendors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from tonearm import extras
from tonearm.errors import DestinationError, SourceError, TonearmError
from tonearm.storage.atomic import beside, replacing
from tonearm.storage.instances import instance, s3_filesystem
from tonearm.storage.store_errors import diagnose
from tonearm.storage.uris import SCHEME as SCHEME
from tonearm.storage.uris import Address, scrubbed
from tonearm.storage.uris import is_local as is_local
from tonearm.storage.uris import scheme as scheme

EXTRAS = {"gs": "gcs", "az": "azure"}
# File systems without hard links: exFAT, SMB, buckets that are mounted.
NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
KNOWN = "s3://, gs://, az://, https:// and paths"


@dataclasses.dataclass(frozen=True)
class Place:
    """An address and the fsspec file system that it is in; ``path`` is as that file system takes it."""

    address: Address
    store: Any
    path: str


def locate(url: str) -> Place:
    """Return the place at ``url``.

    Raises:
        SourceError: an unknown scheme, or one whose package is not installed.
    """
    address = Address.parse(url)
    kind = address.scheme
    if kind == "file":
        return Place(address, instance("file"), address.path)
    if kind == "s3":
        return Place(address, s3_filesystem(), address.path.rstrip("/"))
    try:
        store = instance(kind)
    except ValueError:
        raise SourceError(f"{address.shown}: unknown scheme {kind}://; expected one of {KNOWN}") from None
    except ImportError:
        if kind in EXTRAS:
            extras.require(EXTRAS[kind], f"{address.shown}: {kind}://", SourceError)
        raise SourceError(
            f"{address.shown}: {kind}:// needs a package that is not installed; install the fsspec package for {kind}://"
        ) from None
    return Place(address, store, store._strip_protocol(url))


class ObjectStoreHandler(FSSpecHandler):
    """An object store for pyarrow: folders are not made, since there are none; s3fs would make a missing bucket."""

    def create_dir(self, path: str, recursive: bool) -> None:
        """Do nothing."""

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """Return what is in a folder."""
        try:
            files: list[FileInfo] = super().get_file_info_selector(selector)
        except NotADirectoryError:
            # pyarrow takes what is no folder at its first look and is there at its second for a file. It may have come
            # into being in between.
            files = super().get_file_info_selector(selector)
        return files


class ArrowPath(NamedTuple):
    """A place as pyarrow and Ray Data take it: a file system and the path in it."""

    filesystem: FileSystem
    path: str


def arrow_filesystem(url: str) -> ArrowPath:
    """Return where ``url`` is for pyarrow and Ray Data.

    Raises:
        SourceError: an unknown scheme, or one whose package is not installed.
    """
    place = locate(url)
    if place.address.is_local:
        return ArrowPath(LocalFileSystem(), place.path)
    return ArrowPath(PyFileSystem(ObjectStoreHandler(place.store)), place.path)


def read_bytes(url: str, *, max_bytes: int | None = None) -> bytes:
    """Return the object.

    Args:
        max_bytes: return no more than so many from its start; None for all of it.

    Raises:
        FileNotFoundError: there is none.
    """
    place = locate(url)
    if max_bytes is None:
        data: bytes = place.store.cat_file(place.path)
        return data
    try:
        data = place.store.cat_file(place.path, start=0, end=max_bytes)
    except store_errors(place.address.scheme) as error:
        if _answer(error) not in ("InvalidRange", "416"):
            raise
        return b""  # S3 has no range of an object without bytes
    return data[:max_bytes]


def read_table(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of one Parquet object, read whole.

    Raises:
        FileNotFoundError: there is none.
    """
    return pq.read_table(io.BytesIO(read_bytes(url)), columns=None if columns is None else list(columns))


def exists(url: str) -> bool:
    """Return whether there is an object or folder at ``url``."""
    place = locate(url)
    return bool(place.store.exists(place.path))


def list_files(url: str) -> list[str]:
    """Return the names of the files directly in a folder, sorted; none where there is no folder.

    Raises:
        DestinationError: the place is refused or cannot be reached.
    """
    place = locate(url)
    with _reading(place.address):
        try:
            entries = place.store.ls(place.path, detail=True)
        except FileNotFoundError:
            return []
    return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file")


def delete(url: str) -> None:
    """Remove an object; nothing happens where there is none.

    Raises:
        DestinationError: the place is read-only or refused.
    """
    place = locate(url)
    try:
        place.store.rm_file(place.path)
    except FileNotFoundError:
        return
    except store_errors(place.address.scheme) as error:
        raise _unwritten(place.address, error, "deleted") from None


def write_text(url: str, text: str) -> None:
    """Write an object whole or not at all, its folders included.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    write_bytes(url, text.encode())


def write_bytes(url: str, data: bytes) -> None:
    """Write an object whole or not at all, its folders included.

    A local file is written beside its place and renamed; an object store shows an object only when it is complete.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    place = locate(url)
    with _writing(place.address):
        if not place.address.is_local:
            place.store.pipe_file(place.path, data)
            return
        with replacing(Path(place.path)) as partial:
            partial.write_bytes(data)


def create_bytes(url: str, data: bytes) -> None:
    """Write an object whole, its folders included, only if nothing is there.

    On disk exactly one of several that try at once succeeds, and so on S3 at AWS, GCS and Azure. Not every server is so
    strict: OpenStack Swift looks first and writes later, so that several succeed, and others ignore the condition or
    do not know it (then this is an ordinary write). Who rests on it looks again; see ``lock``.

    Raises:
        FileExistsError: something is there.
        DestinationError: the place is full, read-only or refused.
    """
    place = locate(url)
    if place.address.is_local:
        _create_file(place.address, data)
        return
    try:
        place.store.pipe_file(place.path, data, mode="create")
    except FileExistsError:
        raise
    except store_errors(place.address.scheme) as error:
        # s3fs makes EINVAL of a 412; 409: another is writing it at this moment.
        if _answer(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "OperationAborted"):
            raise FileExistsError(f"{place.address.shown} is there") from None
        is_unknown = _answer(error) in ("NotImplemented", "501") or isinstance(error, TypeError)  # an older fsspec
        if not is_unknown:
            raise _unwritten(place.address, error) from None
        write_bytes(url, data)


def _create_file(address: Address, data: bytes) -> None:
    """Create a file with all of its content at once: a link to a name that is taken is refused, on NFS too."""
    target, is_there = Path(address.path), False
    with _writing(address), beside(target) as partial:
        partial.write_bytes(data)
        try:
            os.link(partial, target)
        except FileExistsError:
            # On NFS the answer to a link that was made may be lost, and the same request sent again.
            is_there = not os.path.samefile(partial, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            is_there = not _create_exclusively(target, data)
    if is_there:
        raise FileExistsError(f"{address.shown} is there")


def _create_exclusively(target: Path, data: bytes) -> bool:
    """Return whether the file was created; its content follows a moment later."""
    try:
        file = target.open("xb")
    except FileExistsError:
        return False
    with file:
        file.write(data)
    return True


def _answer(error: BaseException) -> str:
    """Return the code of S3's answer that is behind ``error``, or ''."""
    for cause in (error, error.__cause__):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def write_table(url: str, table: pa.Table) -> None:
    """Write rows as one Parquet object, whole or not at all.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(url, buffer.getvalue())


def copy_files(folder: Path, url: str, *, last: str | None = None) -> list[str]:
    """Write each file directly in a local folder to ``url``, and return their names.

    Args:
        last: the file that says by being there that the others are.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    for path in sorted(paths, key=lambda path: path.name == last):
        write_bytes(f"{url.rstrip('/')}/{path.name}", path.read_bytes())
    return [path.name for path in paths]


def writing(url: str) -> contextlib.AbstractContextManager[None]:
    """Turn what can go wrong while writing to ``url`` into one line.

    Raises:
        DestinationError: the place is full, read-only, missing or refused.
    """
    return _writing(Address.parse(url))


@contextlib.contextmanager
def _writing(address: Address) -> Iterator[None]:
    try:
        yield
    except TonearmError:  # which says already what went wrong
        raise
    except store_errors(address.scheme) as error:
        raise _unwritten(address, error) from None


def reading(url: str) -> contextlib.AbstractContextManager[None]:
    """Turn what can go wrong while looking at a destination into one line.

    Raises:
        DestinationError: the place is refused or cannot be reached.
    """
    return _reading(Address.parse(url))


@contextlib.contextmanager
def _reading(address: Address) -> Iterator[None]:
    try:
        yield
    except TonearmError:  # which says already what went wrong
        raise
    except store_errors(address.scheme) as error:
        if isinstance(error, NotADirectoryError):
            raise DestinationError(
                f"{address.shown} cannot be used: a file is where a folder should be; give another place"
            ) from None
        failure = diagnose(error)
        advice = "check the keys, the network and AWS_ENDPOINT_URL" if address.scheme == "s3" else "check its rights"
        raise DestinationError(f"{address.shown} cannot be read ({failure.reason}); {advice}") from None


def _unwritten(address: Address, error: BaseException, what: str = "written") -> DestinationError:
    place, failure = address.shown, diagnose(error)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return DestinationError(f"no space left to write {place}; free some or give another place")
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return DestinationError(f"{place} cannot be written: a file is where a folder should be; give another place")
    match failure.kind:
        case "access_denied":
            advice = f"give a place {'you may write' if what == 'written' else 'where you may delete'}, or other keys"
        case "no_credentials":
            advice = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        case "no_bucket" | "not_found":
            advice = "create the bucket or folder first"
        case "unreachable" | "timeout":
            advice = "check the network and AWS_ENDPOINT_URL, then run the same command again"
        case _:
            advice = "give another place"
    return DestinationError(f"{place} cannot be {what} ({failure.reason}); {advice}")


def store_errors(kind: str) -> tuple[type[Exception], ...]:
    """Return what the libraries behind the scheme ``kind`` raise when a store fails."""
    if kind == "file":
        return (OSError,)
    if kind in ("s3", "http", "https"):
        import aiohttp
        from botocore.exceptions import BotoCoreError, ClientError

        return (OSError, BotoCoreError, ClientError, aiohttp.ClientError)
    return (Exception,)  # gcsfs and adlfs pass on the errors of four further packages


def reason(error: BaseException) -> str:
    """Return why a store refused, in one line and without credentials."""
    return scrubbed(str(error)) or type(error).__name__
