"""A decoded track's samples as they are kept: int16 and a scale, or float32 where int16 would be heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.windows import dequantize, quantization_scale, quantize_block

Spans: TypeAlias = tuple[tuple[int, int], ...]
Samples: TypeAlias = NDArray[Any]  # int16 or float32
Allocate: TypeAlias = Callable[[int, np.dtype[Any]], NDArray[Any]]

INT16, FLOAT32 = np.dtype(np.int16), np.dtype(np.float32)

# 70 minutes at 16 kHz, a quarter of a GiB: longer ones stay int16, whatever their rate was.
MOST_FLOATS = 2**26


@dataclasses.dataclass(frozen=True)
class PcmStream:
    """A track at one sample rate: only the spans that windows need.

    Attributes:
        sample_rate: Hz.
        num_samples: of the whole track at this rate.
        pcm: int16 or float32 [kept], the spans one after the other.
        scale: ``pcm * scale`` is the waveform.
        spans: the kept ``[start, stop)`` in samples of the track, ascending, disjoint.
    """

    sample_rate: int
    num_samples: int
    pcm: Samples
    scale: float
    spans: Spans

    @classmethod
    def of(cls, header: Mapping[str, Any], pcm: Samples) -> PcmStream:
        """Return the stream of what ``header`` gave and its samples."""
        spans = tuple((start, stop) for start, stop in header["spans"])
        return cls(header["sample_rate"], header["num_samples"], pcm, header["scale"], spans)

    def header(self) -> dict[str, Any]:
        """Return all but the samples, as JSON takes it; ``dtype`` is the name of the samples' type."""
        return {
            "sample_rate": self.sample_rate,
            "num_samples": self.num_samples,
            "scale": self.scale,
            "spans": self.spans,
            "dtype": self.pcm.dtype.name,
        }

    @property
    def peak(self) -> float:
        """The largest deviation from zero of what is kept, 1.0 at full scale."""
        return max(float(self.pcm.max(initial=0)), -float(self.pcm.min(initial=0))) * self.scale

    def window(self, start: int, length: int) -> NDArray[np.float32]:
        """Return float32 [<= length] from sample ``start`` of the track.

        Raises:
            IndexError: the window was not among those the track was decoded for.
        """
        return dequantize(self.levels(start, length), self.scale)

    def levels(self, start: int, length: int) -> Samples:
        """Return a window as it is kept, to be multiplied by ``scale``; otherwise as ``window``."""
        stop = min(start + length, self.num_samples)
        begin = self._place(start, stop)
        if begin is None:
            raise IndexError(f"samples {start} to {stop} were not kept; the track was decoded for other windows")
        return self.pcm[begin : begin + stop - start]

    def keeps(self, start: int, length: int) -> bool:
        """Return whether the window is kept."""
        return self._place(start, min(start + length, self.num_samples)) is not None

    def _place(self, start: int, stop: int) -> int | None:
        offset = 0
        for first, last in self.spans:
            if first <= start and stop <= last:
                return offset + start - first
            offset += last - first
        return None


def ordinary(num_samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return room for samples in ordinary memory."""
    return np.empty(num_samples, dtype)


def keep(
    blocks: list[NDArray[np.float32]], spans: Spans, num_samples: int, rates: tuple[int, int], allocate: Allocate
) -> PcmStream:
    """Return the stream of ``blocks``, which are the spans one after the other, and empty the list.

    A track of a lower rate has nothing in the bands above its own: there, the rounding of int16 would be all that a
    model sees, thirty decibels above what the resampler leaves. Such a one stays float32.

    Args:
        blocks: float32 [samples] each.
        num_samples: of the whole track.
        rates: the file's sample rate and the stream's.
        allocate: gives the room to keep them in, whatever that holds.
    """
    native, rate = rates
    num_kept = sum(stop - start for start, stop in spans)
    is_float = 0 < native < rate and num_kept <= MOST_FLOATS
    peak = 0.0 if is_float else max((float(np.abs(block).max(initial=0.0)) for block in blocks), default=0.0)
    scale = 1.0 if is_float else quantization_scale(peak)
    pcm = allocate(num_kept, FLOAT32 if is_float else INT16)
    position = 0
    blocks.reverse()
    while blocks:  # popped, so that a long track is never held twice
        block = blocks.pop()
        pcm[position : position + len(block)] = block if is_float else quantize_block(block, scale)
        position += len(block)
    pcm[position:] = 0  # the room may hold another track's samples
    return PcmStream(rate, num_samples, pcm, scale, spans)
