"""What a store's error means, whichever library raised it."""

from __future__ import annotations

import dataclasses
import errno
import sys
from typing import Any, Literal

from tonearm.errors import causes
from tonearm.storage.uris import scheme, scrubbed, split_url

Kind = Literal[
    "no_bucket", "not_found", "access_denied", "no_credentials", "changed", "timeout", "unreachable", "other"
]

# The code of TRACK_CODES that a track gets when reading it ends so.
FETCH_CODES: dict[Kind, str] = {
    "no_bucket": "not_found",
    "not_found": "not_found",
    "access_denied": "access_denied",
    "no_credentials": "access_denied",
    "changed": "changed",
    "timeout": "fetch_failed",
    "unreachable": "fetch_failed",
    "other": "fetch_failed",
}
# Codes of a failed read that may lie with the store rather than with the object.
STORE_CODES = frozenset({"access_denied", "fetch_failed", "fetch_timeout"})
# Why a track's bytes may be there the next time.
READ_CODES = STORE_CODES | {"not_found", "changed"}
# What failed rows without a code are counted as.
NO_CODE = "unknown"
# What says that this process is broken, not a track: it must not make a failed row of every track that it is given.
BROKEN = (MemoryError, ImportError)
# What libraries raise for what they do not understand; the same again would end the same.
_NOT_UNDERSTOOD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
DENIED = {"AccessDenied", "Forbidden"}
# The credentials, not the object: a token may be renewed and a new key take a moment to be known everywhere.
UNRECOGNIZED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
}
MISSING = {"NoSuchKey", "NoSuchVersion", "NotFound", "404", "KeyTooLongError", "InvalidURI"}
GONE_ERRNO = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a store did not do what was asked.

    Attributes:
        kind: what it was.
        reason: a few words for a person, without credentials.
        is_transient: whether asking again may help.
    """

    kind: Kind
    reason: str
    is_transient: bool = False

    @property
    def fetch_code(self) -> str:
        return FETCH_CODES[self.kind]


def diagnose(error: BaseException) -> Failure:
    """Return what ``error``, of botocore, aiohttp, httpx, fsspec or the system, means."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore's ClientError; s3fs keeps it as the cause of an OSError
            return _s3_answer(response)
    for cause in causes(error):
        failure = _by_type(cause)
        if failure is not None:
            return failure
    reason = f"{type(error).__name__}: {_text(error)}".rstrip(": ")
    return Failure("other", reason, is_transient=not isinstance(error, _NOT_UNDERSTOOD))


def _text(error: BaseException) -> str:
    """Return what an error says; an error of a foreign library may fail even at that."""
    try:
        return scrubbed(str(error))
    except (*_NOT_UNDERSTOOD, OSError, RuntimeError):  # a message is never worth a run
        return ""


def http_failure(status: int, phrase: str = "") -> Failure:
    """Return what an HTTP status of 400 or more means."""
    reason = f"HTTP {status} {scrubbed(phrase)}".strip()
    if status in (404, 410):
        return Failure("not_found", reason)
    if status in (401, 403, 407):
        return Failure("access_denied", reason)
    if status == 412:
        return Failure("changed", reason)
    if status in (408, 425, 429) or status >= 500:
        return Failure("unreachable", reason, is_transient=True)
    return Failure("other", reason)


def _s3_answer(response: dict[str, Any]) -> Failure:
    answer = response.get("Error", {})
    code, status = str(answer.get("Code", "")), response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0
    reason = scrubbed(f"{code}: {answer.get('Message') or ''}").rstrip(": ")
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return Failure("no_bucket", reason)
    if code in MISSING:
        return Failure("not_found", reason)
    if code in DENIED | UNRECOGNIZED:
        return Failure("access_denied", reason, is_transient=code in UNRECOGNIZED)
    if code in ("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"):
        return Failure("unreachable", reason, is_transient=True)
    return dataclasses.replace(http_failure(status), reason=reason) if status >= 400 else Failure("other", reason)


def _by_type(error: BaseException) -> Failure | None:
    if isinstance(error, PermissionError):
        return Failure("access_denied", scrubbed(error.strerror or str(error)) or "permission denied")
    if isinstance(error, TimeoutError):
        return Failure("timeout", "no answer in time", is_transient=True)
    if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno in GONE_ERRNO):
        return Failure("not_found", scrubbed(error.strerror or str(error)) or "not found")
    name, module = type(error).__name__, type(error).__module__.partition(".")[0]
    if module in ("botocore", "aiobotocore"):
        return _botocore(error, name)
    if module == "httpx" and isinstance(error, sys.modules["httpx"].TransportError):
        kind: Kind = "timeout" if "Timeout" in name else "unreachable"
        return Failure(kind, _text(error) or name, is_transient=name not in ("UnsupportedProtocol", "ProxyError"))
    if module == "aiohttp" and isinstance(error, sys.modules["aiohttp"].ClientError):
        is_lasting = isinstance(error, ValueError)  # an InvalidURL
        reason = f"{name}: {_text(error)}".rstrip(": ")
        return Failure("not_found" if is_lasting else "unreachable", reason, is_transient=not is_lasting)
    if isinstance(error, ConnectionError):
        return Failure("unreachable", _text(error) or name, is_transient=True)
    return None


def _botocore(error: BaseException, name: str) -> Failure | None:
    exceptions = sys.modules["botocore.exceptions"]
    if name == "ParamValidationError":  # a bucket that no store can have, or no key
        return Failure("no_bucket", _text(error))
    credentials = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")
    if name in credentials or "Token" in name or "SSO" in name:
        return Failure("no_credentials", _text(error))
    if isinstance(error, exceptions.ReadTimeoutError | exceptions.ConnectTimeoutError):
        return Failure("timeout", "no answer in time", is_transient=True)
    if isinstance(error, exceptions.ConnectionError):  # its text holds the whole signed address
        address = str(getattr(error, "kwargs", {}).get("endpoint_url", ""))
        place = split_url(address).place.rpartition("@")[2]
        host = f"{scheme(address)}://{place}" if place else "the endpoint"
        return Failure("unreachable", f"no connection to {host}", is_transient=True)
    if isinstance(
        error, exceptions.HTTPClientError | exceptions.IncompleteReadError | exceptions.FlexibleChecksumError
    ):
        return Failure("unreachable", f"the connection broke ({name})", is_transient=True)
    return Failure("other", f"{name}: {_text(error)}")
