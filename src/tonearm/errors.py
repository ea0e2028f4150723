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
    │   └── TrainingError            training              2   400   a training that cannot continue as set up
    ├── TrackError                   (see TRACK_CODES)     3  see table   one track failed; in a run the others continue
    │   ├── FetchError               not_found, access_denied, fetch_failed, fetch_timeout, too_large, changed
    │   ├── DecodeError              empty_file, not_audio, no_audio, corrupt, too_short, too_long,
    │   │                            decode_timeout, decode_crashed, decode_memory
    │   └── ScoreError               score_failed
    ├── RequestError                 (see REQUEST_CODES)   –  see table   a request that a server does not fulfil
    ├── ApiError                     the server's code     –   as answered   what tonearm.Client was answered
    ├── TooManyFailures              too_many_failures     3     –   more failed tracks than max_error_rate allows
    ├── Incomplete                   incomplete            1     –   the audit found a track without its row: a bug
    └── Stopped                      stopped               4     –   ended early; the same command resumes

A ``TrackError`` becomes a row with ``status = "error"`` in a batch, and a JSON body in the server.
"""

from __future__ import annotations

from collections.abc import Iterator

from tonearm import error_codes

# code → HTTP status that a server answers for it
TRACK_CODES: dict[str, int] = {code: entry.status for code, entry in error_codes.TRACK.items()}

# code → (HTTP status, what the client can do) of the server's own answers; TRACK_CODES are answered too
REQUEST_CODES: dict[str, tuple[int, str]] = {
    code: (entry.status, entry.hint or "") for code, entry in error_codes.REQUEST.items()
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

    # Exceptions are pickled by their arguments, and the code is none; workers send them to the driver.
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
    """A training run that cannot continue with these settings: a loss that is not a number, labels that do not fit."""

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


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says, which after a traceback is the error itself; else its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def causes(error: BaseException | None, attribute: str | None = None) -> Iterator[BaseException]:
    """Yield an error, what caused it, what caused that, and so on.

    Args:
        attribute: where a library keeps a cause of its own, which is then followed first.
    """
    # Causes may form a circle.
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = getattr(error, attribute, None) if attribute else None
        error = wrapped or error.__cause__ or error.__context__
