"""``tonearm.Tagger`` and ``tonearm.tag_file``: what the heads say of single files, in this process and without Ray.

Files are decoded in a child process with a deadline, as in a run, so that a broken file cannot end this one.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import numbers
import os
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Unpack

import numpy as np
import soundfile
from numpy.typing import NDArray

from tonearm.api import flags as flags_
from tonearm.api.flags import ScoreFlags, Source
from tonearm.audio.decode import DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.errors import TrackError, UsageError
from tonearm.settings import TagSettings
from tonearm.sources.listing import FILES, SourceStream
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import shown
from tonearm.tagging import HeadPlan, TagPlan, decode_request, every_model, load_head, plan_heads, with_fallbacks
from tonearm.tagging import Tagger as Scorer
from tonearm.web.messages import TrackResult
from tonearm.web.results import to_message

# A path or URL, a file's bytes, or samples.
Audio = Source | bytes | NDArray[Any]
MOST_CHANNELS = 64
# Hz. A longer resampling filter takes minutes for a few samples, and below there is nothing to hear.
LOWEST_RATE = 1000
INT_SCALES = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


class Tagger:
    """Both heads, loaded; call it with a path, a URL, a file's bytes or an array of samples.

    >>> with Tagger(demo_models=True) as tagger:  # doctest: +SKIP
    ...     tagger("song.mp3").genre

    It may be called from several threads; they take turns. A pickled one is loaded again from its settings.

    Args:
        flags: see ``api.flags.ScoreFlags``.

    Raises:
        UsageError: models that cannot be used, or settings that do not go together.
    """

    def __init__(self, **flags: Unpack[ScoreFlags]) -> None:
        settings = flags_.tag_settings(flags, ScoreFlags, verb="Tagger")
        self._open(settings)

    @classmethod
    def of(cls, settings: TagSettings) -> Tagger:
        """Return the tagger of settings that are made already."""
        tagger = cls.__new__(cls)
        tagger._open(settings)
        return tagger

    def _open(self, settings: TagSettings) -> None:
        self.settings = settings
        plans = plan_heads(settings.models, max_windows=settings.max_windows, max_scored_s=settings.decode.max_scored_s)
        plans = with_fallbacks(plans, settings.fallback, settings.models)
        self._sandbox, self._lock = DecodeSandbox(settings.decode), threading.Lock()
        # Its process takes as long to start as the models to load, on another core.
        starting = threading.Thread(target=self._start, args=[decode_request(plans, 1.0)], name="sandbox", daemon=True)
        starting.start()
        self._plan = TagPlan(plans, settings.models, settings.decode.max_scored_s)
        # One file has few windows: converting a model or several passes at a time would cost more than they gain.
        loaded = {name: load_head(name, plan, settings.models) for name, plan in every_model(plans).items()}
        self._scorer = Scorer(plans, loaded, settings.models)
        starting.join()

    def _start(self, request: DecodeRequest) -> None:
        """Decode something short."""
        with contextlib.suppress(TrackError):
            self._sandbox.decode(as_wave(np.zeros(1600, np.float32), 16000), request, "samples.wav")

    def __call__(self, audio: Audio, sample_rate: int | None = None) -> TrackResult:
        """Return what the heads say of one track.

        Args:
            audio: a path, a URL, an encoded file's bytes, or samples: float in [-1, 1] or int16 or int32, [samples] or
                [channels, samples] as ``librosa.load`` gives them.
            sample_rate: of samples, in Hz.

        Raises:
            SourceError: there is no such file.
            TrackError: it cannot be read, decoded or scored.
            UsageError: a folder or a list of tracks, or samples of another form.
        """
        if isinstance(audio, np.ndarray):
            return self._tag(as_wave(audio, sample_rate), "samples.wav")
        if not isinstance(audio, str | os.PathLike | bytes | bytearray | memoryview):
            raise UsageError(
                f"got audio of the type {type(audio).__name__}, expected a path, a URL, the bytes of a file, or "
                "samples as a NumPy array with sample_rate"
            )
        if sample_rate is not None:
            raise UsageError(f"got sample_rate={sample_rate} with a file, which says its own; leave it out")
        if isinstance(audio, bytes | bytearray | memoryview):
            return self._tag(bytes(audio), "")
        ref = one_track(os.fsdecode(audio))
        return self._tag(ObjectReader(self.settings.fetch).read(ref), ref.uri)

    @property
    def heads(self) -> Mapping[str, HeadPlan]:
        """The heads that are on, with their models and windows."""
        return self._plan.heads

    def _tag(self, data: bytes, name: str) -> TrackResult:
        with self._lock:
            decoded = self._sandbox.decode(data, decode_request(self.heads, self._plan.max_scored_s), name)
            (outcome,) = self._scorer.score([decoded])
        if isinstance(outcome, TrackError):
            raise outcome
        return to_message(outcome, self.heads, embeddings=True)

    def close(self) -> None:
        """End the child process that decodes."""
        self._sandbox.close()

    def __reduce__(self) -> tuple[object, ...]:
        # A pickle carries the settings; the other process loads the models and starts a decoder of its own.
        return Tagger.of, (self.settings,)

    def __enter__(self) -> Tagger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def tag_file(audio: Audio, sample_rate: int | None = None, **flags: Unpack[ScoreFlags]) -> TrackResult:
    """Return what the heads say of one track; the models stay loaded for the next call with the same flags.

    Args:
        audio, sample_rate: as for ``Tagger``.
        flags: see ``api.flags.ScoreFlags``.

    Raises:
        UsageError: models that cannot be used, a folder, or samples of another form.
        TrackError: the track cannot be read, decoded or scored.
    """
    return _KEPT.tagger(flags_.tag_settings(flags, ScoreFlags, verb="tag_file"))(audio, sample_rate)


class _Kept:
    """The tagger of the last settings that ``tag_file`` was called with."""

    def __init__(self) -> None:
        self._last: Tagger | None = None
        self._lock = threading.Lock()

    def tagger(self, settings: TagSettings) -> Tagger:
        with self._lock:
            if self._last is None or self._last.settings != settings:
                self.close()
                self._last = Tagger.of(settings)
            return self._last

    def close(self) -> None:
        if self._last is not None:
            self._last.close()
            self._last = None


_KEPT = _Kept()
atexit.register(_KEPT.close)


def one_track(source: str) -> TrackRef:
    """Return the track that a path or URL names by itself.

    Raises:
        SourceError: there is none, or it cannot be read.
        UsageError: a folder, a glob, a table or a data set.
    """
    if not source:
        raise UsageError("got an empty path, expected a file or a URL")
    stream = SourceStream(source)
    if stream.listing != FILES or stream.first is None:
        kind = "a folder" if stream.folder else "no single audio file"
        raise UsageError(
            f"{shown(source)} is {kind}, expected one track; to tag all that is in it, into rows and a report, give "
            "--out RUN (in Python: tonearm.tag(SOURCE, out=RUN))"
        )
    return stream.first


def as_wave(samples: NDArray[Any], sample_rate: int | None) -> bytes:
    """Return samples as a file of 32-bit floats, which is decoded as any other file is.

    Raises:
        UsageError: no sample rate, or samples of another form.
    """
    if not isinstance(sample_rate, numbers.Real) or isinstance(sample_rate, bool) or not _is_rate(sample_rate):
        raise UsageError(
            f"got samples with sample_rate={sample_rate!r}, expected their rate in whole Hz, at least {LOWEST_RATE}, "
            "such as 44100"
        )
    if np.ma.is_masked(samples):
        raise UsageError("got samples of which some are masked; fill them first, such as samples.filled(0)")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[0] <= MOST_CHANNELS):
        advice = "; transpose them" if samples.ndim == 2 and 1 <= samples.shape[1] <= MOST_CHANNELS else ""
        raise UsageError(
            f"got samples of the shape {samples.shape}, expected [samples] or [channels, samples] with at most "
            f"{MOST_CHANNELS} channels{advice}"
        )
    if samples.dtype.kind == "i" and samples.dtype.newbyteorder("=") in INT_SCALES:
        samples = samples / INT_SCALES[samples.dtype.newbyteorder("=")]
    elif samples.dtype.kind != "f":
        raise UsageError(f"got samples of {samples.dtype}, expected float in [-1, 1], int16 or int32")
    with np.errstate(over="ignore"):  # a float64 that float32 cannot hold becomes infinite, and is refused below
        samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise UsageError("got samples that are not all finite numbers")
    file = io.BytesIO()
    # RF64 holds more than 4 GiB; subtype FLOAT keeps what is louder than full scale.
    soundfile.write(file, samples.T, int(sample_rate), format="RF64", subtype="FLOAT")
    return file.getvalue()


def _is_rate(number: float) -> bool:
    """Return whether a number is a rate of sound that a WAV file can state: a whole one of Hz, at most 31 bits."""
    return LOWEST_RATE <= float(number) < 2**31 and float(number).is_integer()
