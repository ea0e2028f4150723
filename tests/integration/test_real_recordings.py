"""Whole runs over real recordings, the demo models over all of them and full-size models over some."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.checkpoints import save_full_size
from tests.commands import PeakMemory, read_tracks, start_tonearm
from tests.one_process import tonearm
from tests.servers.s3 import S3Server
from tonearm.sources.listing import list_tracks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LIMIT_BYTES = 2 * 2**30
NUM_FULL_SIZE = 4


def test_every_recording_has_one_row(shared_audio: Path, tmp_path: Path) -> None:
    """Hundreds of real and broken recordings: a row for each, with the code that the index names."""
    listed = {ref.uri for ref in list_tracks([str(shared_audio)])}
    run = tonearm("tag", shared_audio, "--out", tmp_path / "out", "--demo-models", timeout_s=1500)
    assert run.returncode == 0, run.stderr
    rows = {row["uri"]: row for row in read_tracks(tmp_path / "out").to_pylist()}
    table = pq.read_table(tmp_path / "out" / "tracks", columns=["track_key"])
    assert table.num_rows == len(listed) == len(set(table["track_key"].to_pylist()))
    assert set(rows) == listed
    with (shared_audio / "odd" / "index.csv").open(newline="") as file:
        odd = {str(shared_audio / "odd" / row["file"]): row for row in csv.DictReader(file)}
    wrong = {uri: rows[uri]["error_code"] for uri, row in odd.items() if uri in rows and not _fits(row, rows[uri])}
    assert not wrong
    elsewhere = Counter(row["status"] for uri, row in rows.items() if uri not in odd)
    assert set(elsewhere) == {"ok"}


def _fits(index: dict[str, str], row: dict[str, object]) -> bool:
    match index["expected"]:
        case "decodes":
            return row["status"] == "ok" or row["error_code"] == "too_short"
        case "partial":
            return row["status"] == "error" or float(str(row["coverage"])) < 1
        case _:
            return row["status"] == "error"


def test_full_size_models_from_a_bucket_to_a_bucket(
    s3: S3Server, shared_audio: Path, shared_facts: Path, tmp_path: Path
) -> None:
    """Full-size DistilHuBERT and AST, from bucket to bucket, no process above 2 GiB."""
    genre, tags = (save_full_size(tmp_path / kind, shared_facts, kind) for kind in ("genre", "tags"))
    # From three seconds to three quarters of a minute: every window of each is scored by both models.
    by_size = sorted((shared_audio / "librosa").rglob("*.hq.ogg"), key=lambda path: path.stat().st_size)
    files = by_size[: 2 * NUM_FULL_SIZE : 2]
    bucket = s3.bucket()
    for path in files:
        s3.fs.put_file(str(path), f"{bucket}/music/{path.name}")
    process = start_tonearm(
        *("tag", f"s3://{bucket}/music", "--out", f"s3://{bucket}/labels"),
        *("--genre-model", genre, "--tag-model", tags),
        **s3.env,
    )
    memory = PeakMemory(process.pid)
    memory.start()
    _, errors = process.communicate(timeout=1500)
    memory.ended.set()
    memory.join()
    assert process.returncode == 0, errors
    rows = []
    for path in s3.fs.glob(f"{bucket}/labels/tracks/*.parquet"):
        with s3.fs.open(path, "rb") as file:
            rows += pq.read_table(file).to_pylist()
    assert len(rows) == NUM_FULL_SIZE == len({row["track_key"] for row in rows})
    for row in rows:
        assert (row["status"], row["coverage"]) == ("ok", pytest.approx(1.0, abs=1e-6))
        assert (len(row["genre_embedding"]), len(row["tag_embedding"])) == (768, 768)
        assert (len(row["genre_scores"]), len(row["tags"])) == (10, 20)
    assert max(memory.peaks.values()) < LIMIT_BYTES, memory.peaks
