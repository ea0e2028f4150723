"""Training from a bucket to a bucket, and the model used from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.checkpoints import save_small
from tests.commands import read_tracks
from tests.labelled import write_folders
from tests.one_process import tonearm
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.slow


def test_a_collection_in_a_bucket_becomes_a_model_in_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    """A collection in a bucket becomes a model in a bucket."""
    folder = write_folders(tmp_path / "sounds", clips=12)
    bucket = s3.bucket()
    s3.put(bucket, {f"sounds/{path.parent.name}/{path.name}": path.read_bytes() for path in folder.rglob("*.wav")})
    start = save_small(tmp_path / "base", "hubert")
    s3.put(bucket, {f"base/{path.name}": path.read_bytes() for path in start.iterdir()})
    out = f"s3://{bucket}/models/sounds"
    command = (
        *("train", f"s3://{bucket}/sounds", "--out", out, "--model", f"s3://{bucket}/base", "--new-head"),
        *("--window-s", "1", "--epochs", "2", "--set", "checkpoint_steps=2"),
    )
    own = {**s3.env, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = tonearm(*command, **own)
    assert run.returncode == 0, run.stderr
    names = {name.removeprefix(f"{bucket}/models/sounds/") for name in s3.fs.find(f"{bucket}/models/sounds")}
    assert {"config.json", "model.safetensors", "README.md", "metrics.json", "confusion.png", "tonearm.json"} <= names
    assert any(name.startswith("tensorboard/events") for name in names)
    assert not any(name.startswith(".training") for name in names)
    facts = json.loads(s3.fs.cat_file(f"{bucket}/models/sounds/metrics.json"))
    assert facts["split"]["train"] == 32
    again = tonearm(*command, **own)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout

    tagged = tonearm(
        "tag", folder / "bird", "--out", tmp_path / "tags", "--genre-model", out, "--tag-model", "none", **own
    )
    assert tagged.returncode == 0, tagged.stderr
    rows = read_tracks(tmp_path / "tags").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["genre"] for row in rows} <= {"bird", "cello", "drone"}
