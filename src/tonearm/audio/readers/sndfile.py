"""Reading with libsndfile: plain WAV, several times faster than FFmpeg, and what FFmpeg reads wrongly or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

from tonearm.audio.readers.pcm import mix
from tonearm.audio.readers.source import Source, as_file, block_length

PCM_CODECS = {
    "PCM_U8": "pcm_u8",
    "PCM_16": "pcm_s16le",
    "PCM_24": "pcm_s24le",
    "PCM_32": "pcm_s32le",
    "FLOAT": "pcm_f32le",
    "DOUBLE": "pcm_f64le",
}
ANY = None
# By the first bytes, what FFmpeg reads otherwise: RIFX is noise to it, as are G.721, G.723 and NMS ADPCM, and the
# last frame of CAF's ALAC is cut. Everything else that is not plain WAV is FFmpeg's.
BETTER: dict[bytes, frozenset[str] | None] = {
    b"RIFX": ANY,
    b"RIFF": frozenset({*PCM_CODECS, "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"}),
    b".snd": frozenset({"G721_32", "G723_24", "G723_40"}),
    b"dns.": frozenset({"G721_32", "G723_24", "G723_40"}),
    b"caff": frozenset({"ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}),
    b"\xf0\x7e": ANY,
}
# What FFmpeg does not know at all. Nothing else: libsndfile looks for MP3 in whatever else it is given.
ALONE = (
    *(b"FORM", b"riff", b"MATLAB", b" paf", b"fap ", b"Extended Instrument:", b"ALawSoundFile**", b"\x01\x04"),
    *(b"\0\0\0\0\1\0\0\0\1\0\0\0", b"\0\0\3\xe8\0\0\0\1\0\0\0\1"),
)
HTK_HEADER = 12


@dataclasses.dataclass
class SndfileSource(Source):
    """A file that libsndfile reads."""

    data: bytes | memoryview = b""

    @classmethod
    def better(cls, data: bytes | memoryview, metadata: Mapping[str, str]) -> SndfileSource | None:
        """Return ``data`` opened where libsndfile reads it faster or better than FFmpeg."""
        for magic, kinds in BETTER.items():
            if bytes(data[: len(magic)]) == magic:
                return cls.open(data, metadata, kinds)
        return None

    @classmethod
    def alone(cls, data: bytes | memoryview) -> SndfileSource | None:
        """Return ``data`` opened where FFmpeg does not know it."""
        # HTK has no first bytes of its own; its header counts samples of two bytes.
        is_htk = len(data) > HTK_HEADER and 2 * int.from_bytes(data[:4], "big") + HTK_HEADER == len(data)
        return cls.open(data, {}) if is_htk or bytes(data[:20]).startswith(ALONE) else None

    @classmethod
    def open(
        cls, data: bytes | memoryview, metadata: Mapping[str, str], kinds: frozenset[str] | None = ANY
    ) -> SndfileSource | None:
        """Return ``data`` opened, or None where libsndfile does not know it, or it is of another kind."""
        try:
            with as_file(data) as encoded, soundfile.SoundFile(encoded) as file:
                if (kinds is not ANY and file.subtype not in kinds) or not file.frames:
                    return None
                return cls(
                    codec=PCM_CODECS.get(file.subtype, file.subtype.lower()),
                    sample_rate=file.samplerate,
                    channels=file.channels,
                    declared_s=file.frames / file.samplerate,
                    metadata=metadata or file.copy_metadata(),
                    data=data,
                )
        except soundfile.LibsndfileError:
            return None

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start."""
        self.num_errors = 0
        with as_file(self.data) as encoded, soundfile.SoundFile(encoded) as file:
            size = block_length(file.samplerate, file.channels)
            # As it is stored, where that is the cheapest to read.
            kind = "int16" if file.subtype == "PCM_16" else "float32"
            while True:
                try:
                    block = file.read(size, dtype=kind, always_2d=True)
                except soundfile.LibsndfileError:
                    self.num_errors += 1  # it ends in the midst of what is compressed together
                    return
                if not len(block):
                    return
                yield mix(block.T), file.samplerate

    @contextlib.contextmanager
    def in_parts(self) -> Iterator[_PlainSamples | None]:
        """Give what reads parts, which plain samples can be read in."""
        with as_file(self.data) as encoded, soundfile.SoundFile(encoded) as file:
            yield _PlainSamples(file) if file.subtype in PCM_CODECS else None


class _PlainSamples:
    """The samples of an open file."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self.num_samples: int = file.frames
        self._file = file

    def read(self, spans: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]] | None:
        """Return each ``[start, stop)``, or None where the file ends before."""
        parts = []
        for start, stop in spans:
            self._file.seek(start)
            block = self._file.read(stop - start, dtype="float32", always_2d=True)
            if len(block) != stop - start:
                return None
            parts.append(mix(block.T))
        return parts
