"""Bytes to waveform: any format FFmpeg reads, any rate and channel count, mono float32 at the models' rates.

Equal to ``librosa.load(path, sr=rate)`` within 1e-5 for WAV and FLAC (tests/parity/test_decode_parity.py): the mean of
the channels, then soxr at quality HQ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import soxr
from numpy.typing import NDArray

from tonearm.audio.readers import tags
from tonearm.audio.readers.container import AudioInfo, Source, open_source
from tonearm.audio.streams import Allocate, PcmStream, Spans, keep, ordinary
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError
from tonearm.wording import counted

__all__ = ["AudioInfo", "DecodeRequest", "DecodedTrack", "PcmStream", "decode", "decode_waveform"]

# A declared length within one per cent of the decoded one is the same, or within a frame or two: encoders pad, and
# headers round.
SHARE_TOLERANCE, PADDING_S = 0.99, 0.05

# Decoding in parts pays where it is at most this share of the track; beside each part so much more is resampled.
SAMPLED_SHARE, MARGIN_S = 0.5, 0.1

# A damaged file of which less than this decodes says nothing about the track.
LEAST_PARTIAL_S = 1.0


@dataclasses.dataclass(frozen=True)
class DecodedTrack:
    """A decoded track.

    ``decoded_share`` is 1.0, or the decoded part of the declared duration when the file broke off.
    """

    info: AudioInfo
    streams: tuple[PcmStream, ...]
    decoded_share: float

    def stream(self, sample_rate: int) -> PcmStream:
        """Return the audio at ``sample_rate``, one of the request's."""
        return next(stream for stream in self.streams if stream.sample_rate == sample_rate)

    @property
    def lengths(self) -> dict[int, int]:
        """The whole track's samples at each of the request's sample rates."""
        return {stream.sample_rate: stream.num_samples for stream in self.streams}


@dataclasses.dataclass(frozen=True)
class DecodeRequest:
    """What to keep of a track: the windows of ``plans``, at most ``max_scored_s`` seconds of each.

    A track of more than ``max_duration_s`` is refused as soon as that is known.
    """

    plans: tuple[WindowPlan, ...]
    max_scored_s: float
    max_duration_s: float | None = None

    def check_length(self, seconds: float) -> None:
        """Refuse what is too long.

        Raises:
            DecodeError: too_long.
        """
        if self.max_duration_s is not None and seconds > self.max_duration_s:
            raise DecodeError(
                f"got {seconds:,.0f} s of audio or more, expected at most {self.max_duration_s:g}", code="too_long"
            )

    def limited(self) -> tuple[WindowPlan, ...]:
        """Return the plans with ``max_windows`` low enough to hold ``max_scored_s``."""
        return tuple(plan.within(self.max_scored_s) for plan in self.plans)


def decode(
    data: bytes | memoryview, request: DecodeRequest, name: str = "", *, allocate: Allocate | None = None
) -> DecodedTrack:
    """Decode a track in this process.

    One native decode feeds every rate. Where ``max_windows`` wants little of a track, only that is decoded, as long as
    the file leaves no doubt that it is what a whole decode would give. A track that outgrows ``max_scored_s`` is
    counted to its end and decoded a second time for the windows alone, so a header's claim of its length is never
    trusted.

    Args:
        data: the encoded file.
        name: of the file, for the few formats that nothing else tells.
        allocate: gives the room to hold the result; ordinary memory by default.

    Raises:
        DecodeError: see ``tonearm.errors``.
    """
    allocate = allocate or ordinary
    source = open_source(data, name)
    plans = request.limited()
    limit_s, told_s = request.max_duration_s, source.declared_s
    if limit_s is not None and told_s is not None and told_s > limit_s and source.is_declared():
        request.check_length(told_s)
    read = _read_parts(source, plans) or _read_whole(source, plans, request)
    request.check_length(read.duration_s)
    streams = [
        keep(read.blocks_by_rate.pop(rate), read.spans_by_rate[rate], length, (source.sample_rate, rate), allocate)
        for rate, length in read.lengths.items()
    ]
    return DecodedTrack(_info(source, read.duration_s), tuple(streams), read.decoded_share)


@dataclasses.dataclass(frozen=True)
class _Read:
    """What was read of a track.

    Attributes:
        blocks_by_rate: the spans of each rate, one after the other, float32 [samples] a block.
        lengths: of the whole track, in samples of each rate.
        decoded_share: see ``DecodedTrack``.
    """

    blocks_by_rate: dict[int, list[NDArray[np.float32]]]
    spans_by_rate: dict[int, Spans]
    lengths: dict[int, int]
    duration_s: float
    decoded_share: float


def _read_parts(source: Source, plans: tuple[WindowPlan, ...]) -> _Read | None:
    """Return a track of which only the windows were decoded, or None where it has to be decoded whole."""
    native = source.sample_rate
    sampled_s = sum((plan.max_windows or math.inf) * plan.window_s for plan in plans)
    if not native or source.declared_s is None or sampled_s > SAMPLED_SHARE * source.declared_s:
        return None
    with source.in_parts() as parts:
        if parts is None:
            return None
        num_native = parts.num_samples
        lengths = {rate: math.ceil(num_native * rate / native) for rate in _rates(plans)}
        if any(lengths[plan.sample_rate] < plan.min_samples for plan in plans):
            return None
        spans_by_rate = _spans(plans, lengths)
        cuts = [_Cut.around(span, native, rate, num_native) for rate in lengths for span in spans_by_rate[rate]]
        waveforms = parts.read([(cut.first, cut.last) for cut in cuts])
    if waveforms is None:
        return None
    blocks_by_rate: dict[int, list[NDArray[np.float32]]] = {rate: [] for rate in lengths}
    for cut, waveform in zip(cuts, waveforms, strict=True):
        blocks_by_rate[cut.rate].append(cut.resampled(waveform))
    duration_s = num_native / native
    return _Read(blocks_by_rate, spans_by_rate, lengths, duration_s, _decoded_share(source, duration_s))


def _read_whole(source: Source, plans: tuple[WindowPlan, ...], request: DecodeRequest) -> _Read:
    """Return a track that was decoded from its start to its end.

    Raises:
        DecodeError: corrupt, too_short, or too_long as soon as that is known.
    """
    budgets = {rate: int(request.max_scored_s * rate) for rate in _rates(plans)}
    whole = _read_all(source, list(budgets), budgets, request.check_length)
    lengths, duration_s = whole.lengths, whole.duration_s
    if not duration_s:
        raise DecodeError(
            f"{source.codec} stream without a sample that decodes ({counted(source.num_errors, 'damaged packet')})",
            code="corrupt",
        )
    share = _decoded_share(source, duration_s)
    if share < 1 and source.num_errors and duration_s < LEAST_PARTIAL_S:
        raise DecodeError(f"only {duration_s:.2f} s ({share:.0%}) of this {source.codec} stream decode", code="corrupt")
    for plan in plans:
        if lengths[plan.sample_rate] < plan.min_samples:
            got = f"{lengths[plan.sample_rate]} samples at {plan.sample_rate} Hz"
            raise DecodeError(f"got {got}, expected at least {plan.min_samples}", code="too_short")
    spans_by_rate = _spans(plans, lengths)
    missing = [rate for rate, blocks in whole.blocks_by_rate.items() if blocks is None]
    blocks_by_rate = _read_spans(source, missing, spans_by_rate) if missing else {}
    for rate, spans in spans_by_rate.items():
        blocks = whole.blocks_by_rate.pop(rate)
        if blocks is not None:
            blocks_by_rate[rate] = blocks if spans == ((0, lengths[rate]),) else _select(blocks, spans)
    return _Read(blocks_by_rate, spans_by_rate, lengths, duration_s, share)


def _rates(plans: tuple[WindowPlan, ...]) -> list[int]:
    return sorted({plan.sample_rate for plan in plans})


def _spans(plans: tuple[WindowPlan, ...], lengths: dict[int, int]) -> dict[int, Spans]:
    """Return by rate the spans that the windows of a track of these lengths need."""
    return {rate: _union([plan for plan in plans if plan.sample_rate == rate], lengths) for rate in lengths}


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A part of the track at its own rate, and the samples at another rate that come out of it."""

    first: int
    last: int
    native: int
    rate: int
    skip: int
    count: int

    @classmethod
    def around(cls, span: tuple[int, int], native: int, rate: int, num_native: int) -> _Cut:
        """Return the cut for a span, begun where both rates meet, with what the resampler looks at on either side."""
        start, stop = span
        if native == rate:
            return cls(start, stop, native, rate, 0, stop - start)
        step = math.gcd(native, rate)
        up, down = rate // step, native // step
        margin = math.ceil(MARGIN_S * rate / up)
        begin = max(0, start // up - margin)
        last = min(num_native, (stop // up + 1 + margin) * down)
        return cls(begin * down, last, native, rate, start - begin * up, stop - start)

    def resampled(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        resampler = _Resampler(self.rate)
        pieces = [*resampler.push(part, self.native), *resampler.finish()]
        return np.concatenate(pieces)[self.skip : self.skip + self.count]


def decode_waveform(data: bytes | memoryview, sample_rate: int | None = None) -> tuple[NDArray[np.float32], AudioInfo]:
    """Return a whole track as mono float32 [samples], at ``sample_rate`` or its own, and its description.

    Raises:
        DecodeError: see ``tonearm.errors``.
    """
    source = open_source(data)
    rate = sample_rate or 0
    if not rate:
        rate = source.sample_rate or next((native for _, native in source.blocks()), 0)
    if not rate:
        raise DecodeError(f"{source.codec} stream without a sample that decodes", code="corrupt")
    whole = _read_all(source, [rate], {rate: 2**62})
    if not whole.duration_s:
        raise DecodeError(f"{source.codec} stream without a sample that decodes", code="corrupt")
    waveform = np.concatenate(whole.blocks_by_rate[rate] or [np.empty(0, np.float32)])
    return waveform, _info(source, whole.duration_s)


class _Resampler:
    """One output rate; feeds on blocks whose own rate may change on the way."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.native = 0
        self.num_in = self.num_out = 0
        self.stream: soxr.ResampleStream | None = None

    def push(self, block: NDArray[np.float32], native: int) -> Iterator[NDArray[np.float32]]:
        if native != self.native:
            yield from self.finish()
            self.native = native
            if native != self.sample_rate:
                self.stream = soxr.ResampleStream(native, self.sample_rate, 1, dtype="float32", quality="HQ")
        self.num_in += len(block)
        yield from self._limited(block if self.stream is None else self.stream.resample_chunk(block))

    def finish(self) -> Iterator[NDArray[np.float32]]:
        if self.stream is not None:
            yield from self._limited(self.stream.resample_chunk(np.empty(0, np.float32), last=True))
            short = self._length() - self.num_out
            if short > 0:
                yield np.zeros(short, np.float32)
        self.stream, self.num_in, self.num_out = None, 0, 0

    def _length(self) -> int:
        return math.ceil(self.num_in * self.sample_rate / self.native)

    def _limited(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        # librosa's length, ceil(n * ratio): soxr may give a sample more or less.
        block = block[: self._length() - self.num_out] if self.stream is not None else block
        self.num_out += len(block)
        if len(block):
            yield block


def _resampled(source: Source, rates: list[int]) -> Iterator[tuple[int, NDArray[np.float32], float]]:
    """Yield ``(rate, block, seconds of source read by now)``."""
    resamplers = [_Resampler(rate) for rate in rates]
    read_s = 0.0
    for block, native in source.blocks():
        read_s += len(block) / native
        for resampler in resamplers:
            for piece in resampler.push(block, native):
                yield resampler.sample_rate, piece, read_s
    for resampler in resamplers:
        for piece in resampler.finish():
            yield resampler.sample_rate, piece, read_s


@dataclasses.dataclass(frozen=True)
class _WholeRead:
    """A track read to its end: by rate its blocks, None where they outgrew the budget, and its length in samples."""

    blocks_by_rate: dict[int, list[NDArray[np.float32]] | None]
    lengths: dict[int, int]
    duration_s: float


def _read_all(
    source: Source, rates: list[int], budgets: dict[int, int], check: Callable[[float], None] = lambda seconds: None
) -> _WholeRead:
    blocks_by_rate: dict[int, list[NDArray[np.float32]] | None] = {rate: [] for rate in rates}
    lengths = dict.fromkeys(rates, 0)
    duration_s = 0.0
    for rate, block, read_s in _resampled(source, rates):
        lengths[rate] += len(block)
        duration_s = read_s
        check(duration_s)
        if lengths[rate] > budgets[rate]:
            blocks_by_rate[rate] = None
        blocks = blocks_by_rate[rate]
        if blocks is not None:
            blocks.append(block)
    return _WholeRead(blocks_by_rate, lengths, duration_s)


def _read_spans(
    source: Source, rates: list[int], spans_by_rate: dict[int, Spans]
) -> dict[int, list[NDArray[np.float32]]]:
    blocks_by_rate: dict[int, list[NDArray[np.float32]]] = {rate: [] for rate in rates}
    position = dict.fromkeys(rates, 0)
    for rate, block, _ in _resampled(source, rates):
        first, position[rate] = position[rate], position[rate] + len(block)
        for start, stop in spans_by_rate[rate]:
            if start < position[rate] and stop > first:
                blocks_by_rate[rate].append(block[max(0, start - first) : stop - first].copy())
    return blocks_by_rate


def _union(plans: list[WindowPlan], lengths: Mapping[int, int]) -> Spans:
    edges = sorted(
        (int(start), int(min(start + plan.window_samples, lengths[plan.sample_rate])))
        for plan in plans
        for start in plan.starts_in(lengths)
    )
    merged: list[tuple[int, int]] = []
    for start, stop in edges:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def _select(blocks: list[NDArray[np.float32]], spans: Spans) -> list[NDArray[np.float32]]:
    whole = np.concatenate(blocks)
    return [whole[start:stop] for start, stop in spans]


def _info(source: Source, duration_s: float) -> AudioInfo:
    fields = tags.decoded(source.metadata, may_be_wrong=source.says_latin_1)

    def text(name: str) -> str | None:
        value = fields.get(name, "").replace("\x00", "").strip()
        return value or None

    artist = text("artist") or text("album_artist")
    return AudioInfo(
        duration_s, source.sample_rate, source.channels, source.codec, text("title"), artist, text("album")
    )


def _decoded_share(source: Source, duration_s: float) -> float:
    share, missing_s = source.shown_share, 0.0
    is_short = source.declared_s is not None and duration_s < SHARE_TOLERANCE * source.declared_s
    if (is_short or source.lost_s) and source.is_declared():
        missing_s = (source.declared_s or 0.0) - duration_s
    elif source.lost_s:
        missing_s = source.lost_s
    if missing_s > PADDING_S:
        share = min(share, duration_s / (duration_s + missing_s))
    return share if share < SHARE_TOLERANCE else 1.0
