"""A source of tones: toy://3 has three tracks, one and two and three hundred Hz high."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import soundfile

from tonearm.errors import FetchError
from tonearm.sources.source import LabelledRows, ReadLimits
from tonearm.sources.track_ref import TrackRef, make_ref


class Toy:
    schemes = ("toy",)
    has_ranges = False
    shape = "list"

    def matches(self, source: str) -> bool:
        return source.removeprefix("toy://").isdigit()

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        for number in range(int(source.removeprefix("toy://"))):
            yield make_ref(f"toy://tone/{number + 1}")

    def labelled(self, source: str, label_by: str | None, columns: Sequence[str]) -> LabelledRows:
        return LabelledRows(
            ((ref, {"pitch": ref.uri[-1]}) for ref in self.list(source, Counter())), label_by or "pitch"
        )

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        number = ref.uri.removeprefix("toy://tone/")
        if not number.isdigit():
            raise FetchError(f"{ref.uri} is no tone; expected toy://tone/NUMBER", code="not_found")
        file = io.BytesIO()
        time_s = np.arange(5 * 16000) / 16000
        soundfile.write(file, 0.3 * np.sin(2 * np.pi * 100 * int(number) * time_s), 16000, format="WAV")
        return file.getvalue()
