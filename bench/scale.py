"""A million rows through everything but a store and a model: what a row costs, and what grows with their number.

The reader hands out one short WAV, the scorer random logits and embeddings as large as the default models'.
Listing, Ray Data, the decoder's child, pooling, rows, marks, files, audit, resume and compaction are the real ones.

python -m bench.scale                        100,000 and 1,000,000 rows: more than an hour on two cores, 15 GB of disk
python -m bench.scale --rows 20000           as many as wanted
python -m bench.scale --rows 1000000 --tagged 6400   only so many through the run; the others' rows are copies of theirs
python -m bench.scale --folder DIR           keep what is written there; phases that are done there are not repeated
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from bench import machine
from bench.processor_time import ProcessorTime
from tonearm import demo
from tonearm.audio.decode import DecodedTrack
from tonearm.distributed.tagging import driver, pipeline, stages
from tonearm.distributed.tagging.counters import RunCounters
from tonearm.errors import TrackError
from tonearm.models.window_scores import WindowScores
from tonearm.own_process import peak_memory_bytes
from tonearm.runs import compaction
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import track_files, track_rows
from tonearm.runs.rows.ranking import among
from tonearm.runs.status import read_status
from tonearm.settings import FetchSettings, ModelSettings, TagSettings
from tonearm.sources.listing import TrackRef
from tonearm.storage import filesystems
from tonearm.tagging import RunFacts, Tagger, TagPlan
from tonearm.watchers import Watcher

ROWS = (100_000, 1_000_000)
CLIP_S = 0.5
# What the manifest says of a track; a real one of four minutes has so much.
TRACK_BYTES = 4_000_000
EMBEDDING_DIM = 768


class ClipReader:
    """Hands out the same clip for every track; in the place of ``ObjectReader``."""

    def __init__(self, _: FetchSettings) -> None:
        buffer = io.BytesIO()
        soundfile.write(buffer, np.sin(np.arange(int(16_000 * CLIP_S)) / 9), 16_000, format="WAV")
        self.data = buffer.getvalue()

    def read(self, ref: TrackRef) -> bytes:
        """Return the clip."""
        return self.data


def decode_clips(block: pa.Table, **given: Any) -> Iterator[pa.Table]:
    """Decode the clip for every track; on a worker, in the place of ``stages.decode_tracks``."""
    with mock.patch.object(stages, "ObjectReader", ClipReader):
        yield from stages.decode_tracks(block, **given)


class RandomTagger(Tagger):
    """Heads without weights: random logits and embeddings, pooled as a run pools them."""

    def score_windows(self, tracks: Sequence[DecodedTrack | TrackError]) -> list[dict[str, WindowScores] | TrackError]:
        """Return what each head says of each track's windows, in order."""
        random = np.random.default_rng()
        outcomes: list[dict[str, WindowScores] | TrackError] = []
        for track in tracks:
            if isinstance(track, TrackError):
                outcomes.append(track)
                continue
            scores = {}
            for head, plan in self.plans.items():
                shape = (len(list(self.windows(head, track))), len(plan.checkpoint.labels))
                embedding = random.standard_normal((shape[0], EMBEDDING_DIM), np.float32)
                scores[head] = WindowScores(random.standard_normal(shape, np.float32), embedding)
            outcomes.append(scores)
        return outcomes


class RandomScores(stages.ScoreTracks):
    """``ScoreTracks`` with a ``RandomTagger``."""

    def __init__(self, plan: TagPlan, facts: RunFacts, num_threads: int, counters: RunCounters) -> None:
        self.tagger = RandomTagger(plan.heads, {}, plan.models)
        self.facts, self.counters = facts, counters


class Notes(Watcher):
    """Notes when tagging starts, and the driver's memory at each tenth of the rows."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.listed_s = 0.0
        self.num_tracks = 1
        self.memory: dict[int, int] = {}

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Note how long listing and looking for what is done took."""
        self.listed_s = time.perf_counter() - self.begun
        self.num_tracks = num_tracks

    def progress(self, counts: Any) -> None:
        """Note the resident memory now."""
        self.memory[10 * counts.num_tracks // self.num_tracks] = psutil.Process().memory_info().rss


def write_source(path: Path, num_rows: int) -> None:
    """Write a table of ``num_rows`` tracks that a bucket could hold."""
    fields = pa.schema({"uri": pa.string(), "size_bytes": pa.int64(), "etag": pa.string()})
    with pq.ParquetWriter(path, fields) as writer:
        for start in range(0, num_rows, 50_000):
            numbers = range(start, min(num_rows, start + 50_000))
            uris = [f"s3://records/{n // 5000:04d}/{n:08d} a track of a record.flac" for n in numbers]
            etags = [f"{n:032x}" for n in numbers]
            writer.write_table(pa.table({"uri": uris, "size_bytes": [TRACK_BYTES] * len(uris), "etag": etags}))


def _tag(folder: Path, limit: int | None = None) -> dict[str, Any]:
    settings = TagSettings(models=ModelSettings(**demo.models()), workers=1, limit=limit)  # type: ignore[arg-type]
    notes, processors = Notes(), ProcessorTime()
    processors.start()
    source, out = str(folder / "source.parquet"), str(folder / "out")
    with (
        mock.patch.object(pipeline, "decode_tracks", decode_clips),
        mock.patch.object(pipeline, "ScoreTracks", RandomScores),
    ):
        outcome = driver.tag_library([source], out, settings, notes)
    processors.ended.set()
    processors.join()
    counts = outcome.counts
    found: dict[str, Any] = {"exact": outcome.audit.is_exact, "listed_s": notes.listed_s}
    if counts is not None:
        found |= {"span_s": counts.span_s, "busy_s": counts.busy_s, "cpu_s": processors.by_kind()}
        found["memory"] = notes.memory
    return found


def _tag_some(folder: Path) -> dict[str, Any]:
    return _tag(folder, json.loads((folder / "tagged").read_text()))


def _copy(folder: Path) -> dict[str, Any]:
    """Write a row for every track of the source that has none: what a tagged one's says, in files as large."""
    place = Destination.of(str(folder / "out"))
    with run_lock.held(place) as hold:
        standing = np.sort(track_rows.listed_rows(place.url).keys)
        listed = manifest.write_manifest(
            [str(folder / "source.parquet")], place.manifest, term=hold.term, check=hold.check
        )
        pattern = pq.read_table(max(track_files.finished(place.url), key=lambda file: file.size_bytes).path)
        num_files = 0
        for part in listed.parts:
            tracks = filesystems.read_table(part)
            tracks = tracks.filter(pa.array(~among(tracks["track_key"].to_numpy(), standing)))
            for start in range(0, tracks.num_rows, pattern.num_rows):
                some = tracks.slice(start, pattern.num_rows)
                rows = pattern.slice(0, some.num_rows)
                for name in some.column_names:
                    rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), some[name])
                filesystems.write_table(f"{place.tracks}/copied-{num_files:06d}.parquet", rows)
                num_files += 1
    return {"files": num_files}


def _files(folder: Path) -> dict[str, Any]:
    sizes = [file.size_bytes for file in track_files.finished(str(folder / "out"))]
    return {"files": len(sizes), "bytes": sum(sizes), "smallest": min(sizes), "largest": max(sizes)}


def _status(folder: Path) -> dict[str, Any]:
    found = read_status(str(folder / "out"))
    return {"num_done": found.num_done, "state": found.state}


def _compact(folder: Path) -> dict[str, Any]:
    return vars(compaction.compact(Destination.of(str(folder / "out"))))


def _latest(folder: Path) -> dict[str, Any]:
    return {"tracks": len(track_rows.listed_rows(str(folder / "out")).keys)}


PHASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tag": _tag,
    "tag some": _tag_some,
    "copy": _copy,
    "files": _files,
    "resume": _tag,
    "status": _status,
    "compact": _compact,
    "files after": _files,
    "resume after": _tag,
    "latest": _latest,
}


def _phase(name: str, folder: Path) -> None:
    """Run one phase in this process and print what it took."""
    begun = time.perf_counter()
    found = PHASES[name](folder)
    wall_s = time.perf_counter() - begun
    (folder / f"{name}.json").write_text(json.dumps(found | {"wall_s": wall_s, "peak": peak_memory_bytes()}))


def measure(num_rows: int, folder: Path, num_tagged: int | None = None) -> dict[str, dict[str, Any]]:
    """Run every phase that has not run in ``folder``, each in a process of its own; return what they took.

    Args:
        num_tagged: so many go through the run, and the others' rows are copies of theirs; None for all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "source.parquet").exists():
        write_source(folder / "source.parquet", num_rows)
    if num_tagged is not None:
        (folder / "tagged").write_text(json.dumps(num_tagged))
    found = {}
    for name in PHASES:
        if name in (("tag some", "copy") if num_tagged is None else ("tag",)):
            continue
        place = folder / f"{name}.json"
        if not place.exists():
            subprocess.run([sys.executable, "-m", "bench.scale", "--phase", name, "--folder", str(folder)], check=True)
        found[name] = json.loads(place.read_text())
    return found


def show(results: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Return the figures as Markdown."""
    lines = [f"| | {' | '.join(f'{rows:,} rows' for rows in results)} |", "|---|" + "---:|" * len(results)]
    if all("tag" in found for found in results.values()):
        lines += _show_run(results)

    def add(name: str, value: Callable[[dict[str, dict[str, Any]]], str]) -> None:
        lines.append(f"| {name} | {' | '.join(value(found) for found in results.values())} |")

    add("files of tracks/", lambda f: _sizes(f["files"]))
    add("the finished run again", lambda f: f"{_s(f['resume'])}, {_mib(f['resume']['peak'])}")
    add("`tonearm status`", lambda f: f"{_s(f['status'])}, {_mib(f['status']['peak'])}")
    add("`tonearm compact`", lambda f: f"{_s(f['compact'])}, {_mib(f['compact']['peak'])}")
    add("files after it", lambda f: _sizes(f["files after"]))
    add("the finished run again", lambda f: f"{_s(f['resume after'])}, {_mib(f['resume after']['peak'])}")
    add("which rows count", lambda f: f"{_s(f['latest'])}, {_mib(f['latest']['peak'])}")
    return "\n".join(lines)


def _show_run(results: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    lines: list[str] = []

    def add(name: str, value: Callable[[int, dict[str, dict[str, Any]]], str]) -> None:
        lines.append(f"| {name} | {' | '.join(value(rows, found) for rows, found in results.items())} |")

    def ms(seconds: float, rows: int) -> str:
        return f"{1000 * seconds / rows:.2f} ms"

    add(
        "listing the table and planning",
        lambda n, f: f"{f['tag']['listed_s']:.0f} s, {ms(f['tag']['listed_s'], n)} a row",
    )
    add("running", lambda n, f: f"{f['tag']['span_s']:.0f} s, {n / f['tag']['span_s']:.0f} rows a second")
    add("processor time a row", lambda n, f: ms(sum(f["tag"]["cpu_s"].values()), n) if f["tag"]["cpu_s"] else "")
    for kind in next(iter(results.values()))["tag"]["cpu_s"]:
        add(f"– {kind}", lambda n, f, kind=kind: ms(f["tag"]["cpu_s"][kind], n) if f["tag"]["cpu_s"] else "")  # type: ignore[misc]
    add("driver's memory at a tenth, at the end", lambda n, f: _memory(f["tag"]["memory"]))
    return lines


def _s(phase: dict[str, Any]) -> str:
    return f"{phase['wall_s']:.{1 if phase['wall_s'] < 20 else 0}f} s"


def _memory(by_tenth: dict[str, int]) -> str:
    places = sorted(by_tenth, key=int)
    return f"{_mib(by_tenth['1' if '1' in by_tenth else places[0]])}, {_mib(by_tenth[places[-1]])}"


def _sizes(files: dict[str, Any]) -> str:
    return f"{files['files']:,} of {files['smallest'] / 1e6:.1f} to {files['largest'] / 1e6:.1f} MB"


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"


def main() -> int:
    """Print the table; return 1 when a row is missing or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--tagged", type=int, help="so many go through the run; the others' rows are copies")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--phase", choices=list(PHASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        _phase(arguments.phase, arguments.folder)
        return 0
    with tempfile.TemporaryDirectory(prefix="tonearm-scale-") as temporary:
        base = arguments.folder or Path(temporary)
        results = {rows: measure(rows, base / str(rows), arguments.tagged) for rows in arguments.rows or ROWS}
    print(f"Machine: {machine.describe()}\n\n{show(results)}")
    phases = [found[name] for found in results.values() for name in ("resume", "resume after")]
    return 0 if all(phase["exact"] for phase in phases) else 1


if __name__ == "__main__":
    sys.exit(main())
