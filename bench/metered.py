"""``tonearm tag`` and a loop without Ray, with the processor time of decoding, features and passes written down.

python -m bench.metered tag METER [arguments of tonearm]        the command itself, its two operators metered
python -m bench.metered loop METER MODEL PRECISION FILE...      the same work in one process and its decoder's child

METER is a folder that each process writes lines of JSON to, one a track for decoding and one a block for scoring.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pyarrow as pa

from bench.processor_time import processor_s
from tonearm.audio.decode import DecodedTrack
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.distributed.tagging import pipeline, stages
from tonearm.errors import TrackError
from tonearm.models.exported import runtime as exported_runtime
from tonearm.models.openvino import runtime as openvino_runtime
from tonearm.settings import DecodeSettings, ModelSettings
from tonearm.sources.listing import TrackRef, list_tracks
from tonearm.tagging import RunFacts, Tagger, decode_request, to_table

# Where the workers, which inherit it, write.
METER = "TONEARM_BENCH_METER"
MAX_SCORED_S = 14400.0
T = TypeVar("T")


def write_line(kind: str, **figures: Any) -> None:
    """Add a line to this process's file of the folder that ``METER`` names."""
    with Path(os.environ[METER], f"{kind}-{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\n")


class ScoringMeter:
    """The processor time that a tagger of this process takes for features and for the passes.

    Features are computed by the thread that asks for them; whatever else this process computes while windows are
    scored, also threads that wait by spinning, is the forward pass's.
    """

    def __init__(self, tagger: Tagger) -> None:
        runtimes = {facts["runtime"] for facts in tagger.describe().values()}
        if runtimes != {"openvino"}:
            raise RuntimeError(
                f"got heads on {', '.join(sorted(runtimes))}, and only features for openvino are metered"
            )
        self.features_s = self.scoring_s = 0.0
        for runtime in (openvino_runtime, exported_runtime):
            runtime.network_inputs = self._of_thread(runtime.network_inputs)  # type: ignore[attr-defined]
        tagger.score_windows = self._of_process(tagger.score_windows)  # type: ignore[method-assign]

    def take(self) -> dict[str, float]:
        """Return the seconds since the last call."""
        taken = {"features": self.features_s, "forward": self.scoring_s - self.features_s}
        self.features_s = self.scoring_s = 0.0
        return taken

    def _of_thread(self, work: Callable[..., T]) -> Callable[..., T]:
        def metered(*given: Any, **named: Any) -> T:
            started = time.thread_time()
            made = work(*given, **named)
            self.features_s += time.thread_time() - started
            return made

        return metered

    def _of_process(self, work: Callable[..., T]) -> Callable[..., T]:
        def metered(*given: Any, **named: Any) -> T:
            started = time.process_time()
            made = work(*given, **named)
            self.scoring_s += time.process_time() - started
            return made

        return metered


class MeteredScores(stages.ScoreTracks):
    """``ScoreTracks`` that writes down what each block took, and first what loading did."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.meter = ScoringMeter(self.tagger)
        write_line("loading", seconds=time.process_time(), **self.tagger.describe())

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score one block."""
        table = super().__call__(block)
        write_line("score", num_tracks=len(table), **self.meter.take())
        return table


class MeteredLoader(TrackLoader):
    """``TrackLoader`` that writes down what each track took of the decoder's child."""

    def decode(self, data: bytes | TrackError, ref: TrackRef) -> DecodedTrack | TrackError:
        """Decode what ``fetch`` returned."""
        pid = self.sandbox.child_pid
        before = processor_s(pid) if pid is not None else 0.0
        outcome = super().decode(data, ref)
        after = self.sandbox.child_pid
        if after is not None:
            write_line(
                "decode", format=Path(ref.uri).suffix[1:], is_first=after != pid, decode=processor_s(after) - before
            )
        return outcome


def decode_metered(block: pa.Table, **given: Any) -> Iterator[pa.Table]:
    """Decode as ``stages.decode_tracks`` does; on a worker, in its place."""
    with mock.patch.object(stages, "TrackLoader", MeteredLoader):
        yield from stages.decode_tracks(block, **given)


def tag(arguments: Sequence[str]) -> None:
    """Run ``tonearm`` with its operators metered."""
    from tonearm.cli import main as command

    with (
        mock.patch.object(pipeline, "decode_tracks", decode_metered),
        mock.patch.object(pipeline, "ScoreTracks", MeteredScores),
        mock.patch.object(sys, "argv", ["tonearm", *arguments]),
        contextlib.suppress(SystemExit),
    ):
        command()


def loop(model: str, precision: str, files: Sequence[str]) -> None:
    """Tag files one after the other in this process."""
    settings = ModelSettings(genre_model=None, tag_model=model, precision=precision, int8_guard=False)
    tagger = Tagger.load(settings)
    meter = ScoringMeter(tagger)
    heads = [head_plan.head for head_plan in tagger.plans.values()]
    with DecodeSandbox(DecodeSettings()) as sandbox:
        loader = MeteredLoader(_FromFile(), sandbox, decode_request(tagger.plans, MAX_SCORED_S))  # type: ignore[arg-type]
        for ref in list_tracks(files):
            started = time.process_time()
            track = loader.load(ref)
            scores = tagger.score_windows([track])
            to_table([ref], tagger.pooled([track], scores), RunFacts("", ""), heads)
            stage_s = meter.take()
            other_s = time.process_time() - started - sum(stage_s.values())
            write_line("score", num_tracks=1, other=other_s, **stage_s)


class _FromFile:
    """Reads a local file; in the place of ``ObjectReader``."""

    def read(self, ref: TrackRef) -> bytes:
        return Path(ref.uri).read_bytes()


def main(arguments: Sequence[str]) -> None:
    """Run one of the two."""
    kind, os.environ[METER], *rest = arguments
    if kind == "tag":
        tag(rest)
    else:
        loop(rest[0], rest[1], rest[2:])


if __name__ == "__main__":
    from bench import metered  # by its name, which the workers import it by

    metered.main(sys.argv[1:])
