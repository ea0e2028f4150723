"""Synthetic rows of ``schema.TRACKS`` for tests: a destination without a run."""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tonearm.report.page import (
    MachineFacts,
    ManifestCounts,
    ModelFacts,
    ResultCounts,
    RunSummary,
    SpeedFacts,
    write_run,
)
from tonearm.runs.rows.schema import MANIFEST, TRACKS

GENRES = ("rock", "jazz", "hiphop", "classical", "disco", "blues", "metal", "country", "reggae", "pop")
TAGS = (
    "Music", "Guitar", "Drum kit", "Singing", "Bass guitar", "Piano", "Synthesizer", "Electronic music", "Rock music",
    "Violin, fiddle", "Choir", "Speech", "Applause", "Cymbal", "Saxophone", "Flute", "Percussion", "Happy music",
)  # fmt: skip
ARTISTS = ("Nina Vale", "The Harbour Lights", "坂本 ゆき", "Ólafur & Björk", "Marta Kowalska", "فرقة النجوم", None)
WORDS = ("blue", "river", "midnight", "paper", "golden", "slow", "northern", "summer", "glass", "train", "夜", "été")
FORMATS = (("mp3", 44100, 2), ("flac", 48000, 2), ("vorbis", 44100, 2), ("pcm_s16le", 44100, 1), ("opus", 48000, 2))
ERRORS = (
    ("corrupt", "no sample of the audio stream could be decoded"),
    ("not_audio", "no container or codec that FFmpeg knows"),
    ("too_short", "0.01 s of audio; the model needs at least 0.025 s"),
    ("decode_timeout", "decoding took longer than 300 s"),
)
STARTED = datetime.datetime(2025, 3, 9, 14, 5, 11, tzinfo=datetime.UTC)
RUN_ID = "20250309T140511-0a1b2c-9f3e"


def make_row(number: int, random: np.random.Generator, **changes: Any) -> dict[str, Any]:
    """Return one ok row; ``changes`` replace its columns."""
    codec, rate, channels = FORMATS[random.integers(len(FORMATS))]
    duration_s = float(np.clip(random.lognormal(5.3, 0.45), 4, 4 * 3600))
    scores = random.dirichlet(np.full(len(GENRES), 0.15))
    order = np.argsort(-scores)
    num_windows = min(40, max(1, int(duration_s // 10.24)))
    tag_order = random.permutation(len(TAGS))
    tag_scores = np.sort(random.beta(0.5, 1.2, len(TAGS)))[::-1]
    title = " ".join(random.choice(WORDS, 2)).capitalize()
    row = {
        "track_key": int(random.integers(-(2**63), 2**63 - 1)),
        "uri": f"s3://records/{number // 12:05d}/{number % 12 + 1:02d} {title}.{codec[:4]}",
        "etag": f"{random.integers(2**63):016x}",
        "size_bytes": int(duration_s * 24_000),
        "modified": STARTED - datetime.timedelta(hours=int(random.integers(1, 9000))),
        "status": "ok",
        "duration_s": duration_s,
        "coverage": 1.0 if random.random() > 0.05 else 0.5,
        "sample_rate": rate,
        "channels": channels,
        "codec": codec,
        "title": title if random.random() > 0.1 else None,
        "artist": ARTISTS[random.integers(len(ARTISTS))],
        "album": "First pressing",
        "genre": GENRES[order[0]],
        "genre_score": float(scores[order[0]]),
        "genre_scores": [{"label": GENRES[place], "score": float(scores[place])} for place in order],
        "tags": [
            {"label": TAGS[place], "score": float(score), "max_score": float(score), "max_start_s": 0.0}
            for place, score in zip(tag_order, tag_scores, strict=True)
        ],
        "windows": [
            {
                "start_s": 10.24 * window,
                "end_s": min(10.24 * (window + 1), duration_s),
                "genre": GENRES[order[0] if window % 9 else order[1]],
                "genre_score": float(scores[order[0]]),
                "tags": [{"label": TAGS[tag_order[0]], "score": 0.8}, {"label": TAGS[tag_order[1]], "score": 0.3}],
            }
            for window in range(num_windows)
        ],
        "genre_embedding": random.standard_normal(8).astype(np.float32).tolist(),
        "tag_embedding": random.standard_normal(8).astype(np.float32).tolist(),
        "genre_model": "demo/genre@1234567",
        "tag_model": "demo/tags@89abcde",
        "tonearm_version": "0.1.0",
        "run_id": RUN_ID,
    }
    return row | changes


def make_error(number: int, random: np.random.Generator, **changes: Any) -> dict[str, Any]:
    """Return one row of a failed track."""
    row = make_row(number, random)
    kept = (
        "track_key",
        "uri",
        "etag",
        "size_bytes",
        "modified",
        "genre_model",
        "tag_model",
        "tonearm_version",
        "run_id",
    )
    code, message = ERRORS[random.integers(len(ERRORS))]
    return (
        {name: row[name] for name in kept} | {"status": "error", "error_code": code, "error_message": message} | changes
    )


def write_tracks(folder: str | Path, rows: Sequence[dict[str, Any]], *, name: str = "part-0.parquet") -> None:
    """Write ``rows`` as one file of ``folder/tracks``; missing columns are null."""
    target = Path(folder) / "tracks"
    target.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([{field: row.get(field) for field in TRACKS.names} for row in rows], schema=TRACKS)
    pq.write_table(table, target / name, compression="zstd")


def write_listing(folder: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the manifest of 0.1.0 that lists ``rows``, each with ``track_key`` and ``uri``, in two parts."""
    target = Path(folder) / "manifest"
    target.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    parts = [f"part-{number:05d}-{token}.parquet" for number in range(2)]
    for number, part in enumerate(parts):
        listed = [{name: row.get(name) for name in MANIFEST.names} for row in rows[number::2]]
        pq.write_table(pa.Table.from_pylist(listed, schema=MANIFEST), target / part)
    keys = np.sort(np.array([row["track_key"] for row in rows], "<i8"))
    digest = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
    marker = {"num_tracks": len(rows), "num_bytes": 0, "skipped": {}, "parts": parts, "digest": digest}
    (target / "_manifest.json").write_text(json.dumps(marker, indent=1))
    for path in target.glob("*.parquet"):
        if path.name not in parts:
            path.unlink()


def damage(path: Path, column: str) -> None:
    """Write over the first bytes of a column, so that everything else of the file can be read."""
    group = pq.read_metadata(path).row_group(0)
    chunks = [group.column(place) for place in range(group.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)


def make_tracks(folder: str | Path, num_rows: int, seed: int = 0, *, error_share: float = 0.04) -> None:
    """Write ``num_rows`` distinct tracks to ``folder/tracks``, at most 1,000 a file, some of them failed."""
    random = np.random.default_rng(seed)
    for start in range(0, num_rows, 1000):
        numbers = range(start, min(num_rows, start + 1000))
        rows = [make_error(n, random) if random.random() < error_share else make_row(n, random) for n in numbers]
        write_tracks(folder, rows, name=f"part-{start:07d}.parquet")


def make_run(folder: str | Path | None = None, **changes: Any) -> RunSummary:
    """Return a plausible run; written below ``folder`` when one is given."""
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "started": STARTED,
        "finished": STARTED + datetime.timedelta(seconds=1264),
        "wall_s": 1264.2,
        "command": "tonearm tag s3://records --out s3://labels/records --max-windows 12",
        "version": "0.1.0",
        "genre_model": ModelFacts(
            "sanchit-gandhi/distilhubert-finetuned-gtzan",
            "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
            "openvino",
            "bf16",
            30.0,
        ),
        "tag_model": ModelFacts(
            "MIT/ast-finetuned-audioset-10-10-0.4593",
            "f826b80d28226b62986cc218e5cec390b1096902",
            "openvino",
            "bf16",
            10.24,
        ),
        "settings": {"max_windows": 12, "models": {"batch_size": 8, "top_tags": 20}, "fetch": {"num_attempts": 5}},
        "machine": MachineFacts("AMD EPYC 7B13", 16, 64 * 2**30, ()),
        "manifest": ManifestCounts(1200, 7_400_000_000, {".jpg": 93, ".txt": 12, "": 2}),
        "results": ResultCounts(1153, 47, {"corrupt": 20, "not_audio": 15, "too_short": 12}, 262_000.0, 0.98),
        "speed": SpeedFacts(
            1200,
            262_000.0,
            0.95,
            207.2,
            1250.0,
            {"driver": 412 * 2**20, "decoder": 310 * 2**20, "scorer": 1900 * 2**20},
        ),
    }
    run = RunSummary(**values | changes)
    if folder is not None:
        write_run(str(folder), run)
    return run


def rows_of(folder: Path) -> pd.DataFrame:
    """Return every row in ``folder``/tracks."""
    return pq.read_table(folder / "tracks").to_pandas()
