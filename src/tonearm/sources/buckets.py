"""Listing object stores page by page; no more than one page is held."""

from __future__ import annotations

import datetime
import email.utils
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tonearm.errors import FetchError, SourceError
from tonearm.sources import bucket_reads
from tonearm.sources.extensions import AUDIO_EXTENSIONS, SYSTEM, extension_of, is_below_system
from tonearm.sources.source import LabelledRows, ReadLimits, Shape
from tonearm.sources.track_ref import TrackRef, from_seconds, make_ref, to_utc
from tonearm.storage import filesystems, http_objects
from tonearm.storage.globs import glob_matcher, split_glob
from tonearm.storage.instances import READ_TIMEOUT_S, s3_filesystem
from tonearm.storage.store_errors import diagnose, http_failure
from tonearm.storage.uris import WILDCARDS, scheme, shown, split_bucket, to_unicode

if TYPE_CHECKING:
    pass

Entry = tuple[str, int | None, str | None, datetime.datetime | None]


def list_s3(source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    """Yield the tracks of one object, of all below a prefix, or of all that match a glob.

    ``s3://b/music`` is the object of that name, else the folder ``music/``; it never takes ``musical/a.mp3`` with it.

    Raises:
        SourceError: there is nothing there, or the bucket cannot be listed.
    """
    bucket, key = split_bucket(source)
    if not bucket:
        raise SourceError(f"got {source}, expected a bucket: s3://BUCKET/PREFIX")
    if key and not key.endswith("/"):
        first = next(_s3_objects(bucket, key, max_keys=1), None)
        if first is not None and first[0] == key:
            return iter([_ref(f"s3://{bucket}/", first)])
    folder = key if not key or key.endswith("/") else key + "/"
    entries = _unless_empty(_s3_objects(bucket, folder))
    if entries is not None:
        return _below(f"s3://{bucket}/", folder, entries, skipped)
    if not WILDCARDS.search(key):
        raise SourceError(
            f"nothing at {shown(source)}; expected an object of that name or objects below it: check the spelling"
        )

    def is_folder(path: str) -> bool:
        return next(_s3_objects(bucket, path.rstrip("/") + "/", max_keys=1), None) is not None

    folder, pattern = split_glob(key, is_folder)
    wild = WILDCARDS.search(pattern)
    begin = pattern if wild is None else pattern[: wild.start()]
    matches = glob_matcher(pattern)
    matching = (entry for entry in _s3_objects(bucket, folder + begin) if matches(entry[0][len(folder) :]))
    return _below(f"s3://{bucket}/", folder, matching, skipped)


def _s3_objects(bucket: str, prefix: str, *, max_keys: int = 1000) -> Iterator[Entry]:
    filesystem = s3_filesystem()
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": max_keys}
    while True:
        try:
            page = filesystem.call_s3("list_objects_v2", **request)
        except filesystems.store_errors("s3") as error:
            raise unlisted(f"s3://{bucket}", error) from None
        for entry in page.get("Contents", ()):
            yield entry["Key"], entry["Size"], (entry.get("ETag") or "").strip('"') or None, entry.get("LastModified")
        if not page.get("IsTruncated"):
            return
        if not page.get("NextContinuationToken"):
            raise SourceError(
                f"the listing of s3://{bucket} breaks off: the store says that there is more, and not where"
            )
        request["ContinuationToken"] = page["NextContinuationToken"]


def list_other(source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
    """Yield the tracks of one object or below a prefix of any other fsspec store, folder by folder.

    Raises:
        SourceError: there is nothing there, or the store cannot be listed.
    """
    place = filesystems.locate(source)
    filesystem, path, prefix = place.store, place.path.strip("/"), f"{place.address.scheme}://"
    try:
        if filesystem.isfile(path):
            return iter([_ref(prefix, _entry(filesystem.info(path)))])
        base, pattern = path, ""
        if WILDCARDS.search(path) and not filesystem.isdir(path):
            base, pattern = split_glob(path, filesystem.isdir)
    except filesystems.store_errors(place.address.scheme) as error:
        raise unlisted(place.address.shown, error) from None
    entries = _unless_empty(_walk(place, base.rstrip("/")))
    if entries is None:
        raise SourceError(
            f"nothing at {place.address.shown}; expected an object of that name or objects below it: check the spelling"
        )
    if pattern:
        matches = glob_matcher(pattern)
        entries = (entry for entry in entries if matches(entry[0][len(base) :]))
    return _below(prefix, base, entries, skipped)


def _walk(place: filesystems.Place, path: str) -> Iterator[Entry]:
    try:
        for _, _, files in place.store.walk(path, detail=True):
            yield from (_entry(info) for _, info in sorted(files.items()))
    except filesystems.store_errors(place.address.scheme) as error:
        raise unlisted(place.address.shown, error) from None


def _entry(info: dict[str, Any]) -> Entry:
    times = (info.get(name) for name in ("mtime", "updated", "last_modified", "LastModified", "created"))
    modified: Any = next((time for time in times if time), None)
    if isinstance(modified, str):
        try:
            modified = datetime.datetime.fromisoformat(modified)
        except ValueError:
            modified = None
    elif isinstance(modified, int | float):
        modified = from_seconds(modified)
    etag = info.get("etag") or info.get("ETag") or info.get("md5Hash")
    return info["name"].strip("/"), info.get("size"), str(etag).strip('"') if etag else None, modified


def web_object(url: str) -> TrackRef:
    """Return the ref of one ``https://`` object, by the headers of a GET.

    Where the server refuses it, or fails now but may not later, the ref is the address alone: reading it says why.

    Raises:
        SourceError: it is no web address, the server has no such object or cannot be reached.
    """
    url = to_unicode(url)
    try:
        answer = http_objects.get_headers(url, timeout_s=READ_TIMEOUT_S)
    except FetchError as error:
        if error.code == "not_found":
            raise SourceError(f"{error.message}; check the address") from None
        return make_ref(url)
    except filesystems.store_errors("https") as error:
        raise unlisted(shown(url), error) from None
    failure = http_failure(answer.status)
    if answer.status >= 400 and not failure.is_transient and failure.kind != "access_denied":
        raise SourceError(f"{shown(url)} answers HTTP {answer.status}, expected an audio file; check the address")
    if answer.status not in http_objects.WHOLE:
        return make_ref(url)
    modified = http_time(answer.headers.get("Last-Modified", ""))
    return make_ref(url, http_objects.size_bytes(answer.headers), http_objects.etag(answer.headers), modified)


def http_time(text: str) -> datetime.datetime | None:
    """Return an HTTP date as UTC, None for what is no date: servers send ``0``, ``never`` and years of six digits."""
    try:
        return to_utc(email.utils.parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def unlisted(place: str, error: BaseException) -> SourceError:
    """Return why ``place`` cannot be listed, as one line with what to do."""
    failure = diagnose(error)
    match failure.kind:
        case "no_bucket":
            return SourceError(f"no bucket {place} ({failure.reason}); check its name, the region and AWS_ENDPOINT_URL")
        case "not_found":
            return SourceError(f"nothing at {place} ({failure.reason}); check the name")
        case "access_denied":
            return SourceError(
                f"{place} may not be read ({failure.reason}); check the keys and what they are allowed to do"
            )
        case "no_credentials":
            advice = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return SourceError(f"no credentials for {place} ({failure.reason}); {advice}")
        case "unreachable" | "timeout":
            return SourceError(f"{place} cannot be reached ({failure.reason}); check the network and AWS_ENDPOINT_URL")
    return SourceError(f"{place} cannot be listed ({failure.reason}); check the address")


def _unless_empty(entries: Iterator[Entry]) -> Iterator[Entry] | None:
    first = next(entries, None)
    return None if first is None else itertools.chain([first], entries)


def _below(place: str, folder: str, entries: Iterable[Entry], skipped: Counter[str]) -> Iterator[TrackRef]:
    start = len(folder)
    for entry in entries:
        key = entry[0]
        if key.endswith("/"):  # a folder's zero-byte marker
            continue
        if is_below_system(key[start:].split("/")):
            skipped[SYSTEM] += 1
            continue
        extension = extension_of(key)
        if extension in AUDIO_EXTENSIONS:
            yield _ref(place, entry)
        else:
            skipped[extension] += 1


def _ref(place: str, entry: Entry) -> TrackRef:
    key, size_bytes, etag, modified = entry
    return make_ref(to_unicode(f"{place}{key}"), size_bytes, etag, None if modified is None else to_utc(modified))


class _Store:
    """Objects below a prefix, which have names only."""

    has_ranges = True
    shape: Shape = "prefix"

    def labelled(self, source: str, label_by: str | None, columns: Sequence[str]) -> LabelledRows | None:
        """Return None: objects have names only."""
        return None


class S3(_Store):
    """Amazon S3 and what speaks as it does."""

    schemes = ("s3",)

    def matches(self, source: str) -> bool:
        """Return whether it is an ``s3://`` URL."""
        return scheme(source) == "s3"

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield the tracks, see ``list_s3``."""
        return list_s3(source, skipped)

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Return an object's bytes."""
        return bucket_reads.read_s3(ref, limits)


class OtherStore(_Store):
    """Google's and Azure's stores, and the memory of this process."""

    schemes = (*filesystems.EXTRAS, "memory")

    def matches(self, source: str) -> bool:
        """Return whether it is a URL of one of these."""
        return scheme(source) in self.schemes

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield the tracks, see ``list_other``."""
        return list_other(source, skipped)

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Return an object's bytes."""
        return bucket_reads.read_other(ref, limits)


class WebObject(_Store):
    """One object of the web."""

    schemes = ("https", "http")
    has_ranges = False
    shape: Shape = "object"

    def matches(self, source: str) -> bool:
        """Return whether it is a web address."""
        return scheme(source) in self.schemes

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield the one track, see ``web_object``."""
        return iter([web_object(source)])

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Return an object's bytes."""
        return bucket_reads.read_http(ref, limits)
