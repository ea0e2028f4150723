"""Every error that tonearm raises on purpose.

::

    TonearmError                     code               exit  HTTP
    ├── UsageError                   usage                 2   400   a flag, a setting or a combination that cannot work
    │   ├── SettingsError            settings              2   400   an unknown key or a value out of range
    │   ├── SourceError              source                2   400   a source that is missing, empty or unreadable
    │   ├── CheckpointError          checkpoint            2   400   a model folder or hub id that cannot be used
    │   ├── DestinationError         destination           2   400   an output that is taken, read-only or full
    │   ├── PluginError              plugin                2   400   a package that adds to tonearm and cannot be used
    │   ├── ClusterError             cluster               2   503   too few processors to run without a deadlock
    │   └── TrainingError            training              2   400   a training run that cannot go on as it was set up
    ├── TrackError                   (see TRACK_CODES)     3  see table   one track failed; in a run the others go on
    │   ├── FetchError               not_found, access_denied, fetch_failed, fetch_timeout, too_large, changed
    │   ├── DecodeError              empty_file, not_audio, no_audio, corrupt, too_short, too_long,
    │   │                            decode_timeout, decode_crashed, decode_memory
    │   └── ScoreError               score_failed
    ├── RequestError                 (see REQUEST_CODES)   –  see table   a request that a server does not fulfil
    ├── ApiError                     the server's code     –   as answered   what tonearm.Client was answered
    ├── TooManyFailures              too_many_failures     3     –   more failed tracks than max_error_rate allows
    ├── Incomplete                   incomplete            1     –   the audit found a track without its row: a bug
    └── Stopped                      stopped               4     –   ended early; the same command goes on from there

A ``TrackError`` becomes a row with ``status = "error"`` in a batch, and a JSON body in the server.
"""

from __future__ import annotations

# code → HTTP status that a server answers for it
TRACK_CODES: dict[str, int] = {
    "not_found": 404,  # the object is gone, or never was
    "access_denied": 403,  # the credentials may not read it
    "fetch_failed": 502,  # the store kept failing through all retries
    "fetch_timeout": 504,  # reading took longer than fetch.timeout_s
    "too_large": 413,  # more bytes than fetch.max_bytes
    "changed": 409,  # not the version that was listed
    "empty_file": 422,  # zero bytes
    "not_audio": 415,  # no container or codec that FFmpeg knows
    "no_audio": 415,  # a media file without an audio stream
    "corrupt": 422,  # an audio stream from which no sample could be decoded
    "too_short": 422,  # decoded, but less than one model frame
    "too_long": 413,  # longer than a server takes (serve.max_duration_s)
    "decode_timeout": 408,  # decoding took longer than decode.timeout_s
    "decode_crashed": 422,  # the native decoder died (its process, not ours)
    "decode_memory": 413,  # decoding asked for more than decode.max_memory_bytes
    "score_failed": 500,  # the model could not score the track's windows
}

# code → (HTTP status, what the client can do) of the server's own answers; TRACK_CODES are answered too
REQUEST_CODES: dict[str, tuple[int, str]] = {
    "malformed": (400, "see /docs for what this route takes"),
    "bad_base64": (400, "encode the file's bytes as base64 in `inputs`; a path or a URL is never read"),
    "unauthorized": (401, "send `Authorization: Bearer KEY`; the operator makes keys with `tonearm serve --new-key`"),
    "foreign_origin": (
        403,
        "open the server's own page, or have the operator allow it with `tonearm serve --allow-origin`, or make "
        "API keys",
    ),
    "uri_not_allowed": (403, "upload the file, or have the operator allow the prefix with `tonearm serve --allow-uri`"),
    "no_route": (404, "see /docs for the routes there are"),
    "unknown_model": (404, "see /v1/models for the models there are"),
    "no_method": (405, "see /docs for the methods of this route"),
    "body_timeout": (408, "send the body without a pause, or a smaller file"),
    "body_too_large": (413, "send a smaller file, or one of a lossy format"),
    "not_audio_type": (415, "send the file's bytes as the body, with an audio type or none, or in a form's file field"),
    "unknown_coding": (415, "send the body in a coding that Accept-Encoding names, or as it is"),
    "head_too_large": (431, "send fewer and shorter header lines"),
    "head_timeout": (408, "send the whole head of a request at once"),
    "rate_limited": (429, "wait as long as Retry-After says"),
    "busy": (503, "wait as long as Retry-After says, then send the same request again"),
    "unavailable": (503, "wait as long as Retry-After says, then send the same request again"),
    "stopping": (503, "the server is being stopped; send the request to another or wait for its return"),
}


class TonearmError(Exception):
    """An error with a message for a person.

    Args:
        message: what was got, what was expected, what to do; one line.
        code: a stable machine-readable word; the class's own unless given.
    """

    code = "error"
    exit_status = 1
    http_status = 500

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.code)


def _rebuild(kind: type[TonearmError], message: str, code: str) -> TonearmError:
    return kind(message, code=code)


class UsageError(TonearmError):
    """The command cannot work as given."""

    code, exit_status, http_status = "usage", 2, 400


class SettingsError(UsageError):
    """An unknown setting, or a value out of its range."""

    code = "settings"


class PluginError(UsageError):
    """What another package adds to tonearm cannot be used; the message names the package."""

    code = "plugin"


class SourceError(UsageError):
    """A source that is missing, holds no audio or cannot be read."""

    code = "source"


class CheckpointError(UsageError):
    """A checkpoint that is missing, is not an audio classifier or cannot be loaded safely."""

    code = "checkpoint"


class DestinationError(UsageError):
    """An output that cannot take this run's rows."""

    code = "destination"


class ClusterError(UsageError):
    """A cluster on which the run would never finish."""

    code, http_status = "cluster", 503


class TrainingError(UsageError):
    """A training run that cannot go on with these settings: a loss that is not a number, labels that do not fit."""

    code = "training"


class TrackError(TonearmError):
    """One track failed; ``code`` is a key of ``TRACK_CODES``."""

    exit_status = 3

    def __init__(self, message: str, *, code: str) -> None:
        if code not in TRACK_CODES:
            raise ValueError(f"got track error code {code!r}, expected one of {', '.join(TRACK_CODES)}")
        # It becomes a column, and a lone surrogate in it would cost every row that is written with it.
        super().__init__(message.encode("utf-8", "backslashreplace").decode(), code=code)

    @property
    def http_status(self) -> int:  # type: ignore[override]
        return TRACK_CODES[self.code]


class FetchError(TrackError):
    """The bytes of a track could not be read."""


class DecodeError(TrackError):
    """The bytes of a track could not be turned into a waveform."""


class ScoreError(TrackError):
    """A decoded track could not be scored."""


class RequestError(TonearmError):
    """A request to the server that it does not fulfil; ``code`` is a key of ``REQUEST_CODES``.

    Args:
        retry_after_s: for the ``Retry-After`` header.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s

    @property
    def http_status(self) -> int:  # type: ignore[override]
        return REQUEST_CODES[self.code][0]

    @property
    def hint(self) -> str:
        """What the client can do."""
        return REQUEST_CODES[self.code][1]


class ApiError(TonearmError):
    """What a server answered to ``tonearm.Client`` instead of a result.

    Args:
        code: the server's own word.
        status: of HTTP.
        retry_after_s: what its ``Retry-After`` said.
    """

    def __init__(
        self, message: str, *, code: str | None = None, status: int = 500, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after_s = retry_after_s


class TooManyFailures(TonearmError):
    """More tracks failed than the run allows; every row is written all the same."""

    code, exit_status = "too_many_failures", 3


class Incomplete(TonearmError):
    """The audit found rows missing or doubled."""

    code, exit_status = "incomplete", 1


class Stopped(TonearmError):
    """The run ended early and can be taken up again by the same command."""

    code, exit_status = "stopped", 4


def first_line(error: BaseException) -> str:
    """Return what an error says in a line; its kind where it says nothing, as a ``MemoryError`` often does."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
