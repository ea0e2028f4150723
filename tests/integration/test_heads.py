"""Heads besides genre and tags, with real models: added to a finished destination, interrupted, and served."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import tonearm
from tests.checkpoints import save_small
from tests.commands import finished_files, read_tracks, start_tonearm, wait_for
from tests.one_process import tonearm as run_tonearm
from tests.serving import Server, noise, serving
from tonearm.demo import models as built_in
from tonearm.errors import ApiError, UsageError
from tonearm.heads import head_of

NUM_SONGS = 6
LABELS = {"label 0", "label 1", "label 2"}


@pytest.fixture(scope="module")
def library(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "library"
    folder.mkdir()
    whole = [path for path in sorted(songs.rglob("*")) if path.suffix in (".mp3", ".flac", ".wav", ".ogg")]
    for number, path in enumerate(whole[:NUM_SONGS]):
        shutil.copy(path, folder / f"{number} {path.name}")
    return folder


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The flags of each further head, every one with a small model of its own."""
    folder = tmp_path_factory.mktemp("models")
    kinds = {"mood": ("hubert", "single"), "instruments": ("wav2vec2", "multi"), "vectors": ("hubert", "embedding")}
    made = {}
    for number, (name, (family, activation)) in enumerate(kinds.items()):
        model = save_small(folder / name, family, num_labels=3, seed=number)
        made[name] = ["--head", f"{name}={model}:{activation}"]
    return made


def last_run(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(max((out / "runs").iterdir()).read_text())
    return found


def columns(out: Path) -> dict[int, dict[str, Any]]:
    return {row["track_key"]: row for row in read_tracks(out).to_pylist()}


def close(one: Any, other: Any) -> bool:
    """Return whether two values are alike but for the last bits of numbers, which depend on a window's batch."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(close(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, abs=1e-5)
    return bool(one == other)


@pytest.mark.slow
def test_a_finished_library_gets_heads_and_scores_them_alone(
    library: Path, flags: dict[str, list[str]], tmp_path: Path
) -> None:
    """Rows are those of a run from nothing with all heads, and no run but the first has loaded the genre's model."""
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    demo = ["--demo-models", "--max-error-rate", "0.5"]
    assert run_tonearm("tag", library, "--out", out, *demo).returncode == 0
    before, given = columns(out), []
    for name, flag in flags.items():
        given += flag
        run = run_tonearm("tag", library, "--out", out, *demo, *given)
        assert run.returncode == 0, run.stderr
        said = last_run(out)
        models = {"genre": said["genre_model"], "tags": said["tag_model"], **said["head_models"]}
        assert {head for head, model in models.items() if model["runtime"]} == {name}, "which the workers have noted"
    assert run_tonearm("tag", library, "--out", fresh, *demo, *given).returncode == 0
    rows = columns(out)
    for key, row in columns(fresh).items():
        assert {name: rows[key][name] for name in before[key]} == before[key]
        assert close(rows[key], row), "as one run with all of them says"
    good = [row for row in rows.values() if row["status"] == "ok"]
    assert len(good) == NUM_SONGS and {row["mood"] for row in good} <= LABELS
    for row in good:
        assert sum(each["score"] for each in row["mood_scores"]) == pytest.approx(1.0, abs=1e-5)
        assert {each["label"] for each in row["instruments_tags"]} == LABELS
        assert len(row["mood_windows"]) >= 1 and len(row["vectors_embedding"]) == 48
    moody = tonearm.open(out).tracks(where=f"mood = '{good[0]['mood']}' AND mood_score > 0")
    assert len(moody) == sum(row["mood"] == good[0]["mood"] for row in good)
    assert {"mood_model", "vectors_embedding"} <= set(moody.arrow().schema.names)
    with pytest.raises(UsageError, match="did you mean mood"):
        tonearm.open(out).tracks(where="mod = 'calm'")
    report = (out / "report.html").read_text()
    assert 'id="head-mood"' in report and 'id="head-instruments"' in report
    assert run_tonearm("tag", library, "--out", out, *demo, "--rescore", "mood", *given).returncode == 0
    assert columns(out) == rows, "the same settings are no reason"


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(library: Path, flags: dict[str, list[str]], tmp_path: Path) -> None:
    """Killed while the head is added; the next run adds it to the rest, and rows are those of one run."""
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    (tmp_path / "few.toml").write_text("tracks_per_block = 1\n")
    demo = ["--demo-models", "--config", tmp_path / "few.toml"]
    assert run_tonearm("tag", library, "--out", out, *demo).returncode == 0
    num_before = len(finished_files(out))
    run = start_tonearm("tag", str(library), "--out", str(out), *map(str, demo), *flags["mood"])
    wait_for(lambda: len(finished_files(out)) > num_before, what="a file of rows", run=run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    done = run_tonearm("tag", library, "--out", out, *demo, *flags["mood"])
    assert done.returncode == 0, done.stderr
    assert run_tonearm("tag", library, "--out", fresh, *demo, *flags["mood"]).returncode == 0
    assert len(columns(out)) == NUM_SONGS
    assert close(columns(out), columns(fresh))


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("genre=x", "got a head called genre, which is taken"),
        ("Mood=x", "got a head called 'Mood'"),
        ("mood", "expected NAME=MODEL"),
        ("mood=/no/such/folder", "no model folder /no/such/folder"),
    ],
)
def test_bad_heads_are_one_line_before_any_work(library: Path, tmp_path: Path, flag: str, says: str) -> None:
    run = run_tonearm("tag", library, "--out", tmp_path / "out", "--demo-models", "--head", flag)
    assert run.returncode == 2 and says in run.stderr
    assert len([line for line in run.stderr.splitlines() if line.strip()]) <= 2, "the notice of the demo and one line"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.parquet"))


@pytest.fixture(scope="module", params=["process", "ray"])
def server(request: pytest.FixtureRequest, flags: dict[str, list[str]]) -> Iterator[Server]:
    given = [part for flag in flags.values() for part in flag]
    with serving("--engine", request.param, *given) as running:
        yield running


@pytest.mark.slow
def test_heads_are_served(server: Server) -> None:
    """In /models/NAME, in /v1/tag, in /v1/embed and in /metrics, each head with its own kind of answer."""
    clip = noise(5)
    with tonearm.Client(server.url) as client:
        ranked = client.classify("mood", clip)
        assert {each.label for each in ranked} == LABELS
        assert sum(each.score for each in ranked) == pytest.approx(1.0, abs=1e-5)
        assert len(client.classify("mood", clip, top_k=1)) == 1
        result = client.tag(clip, embeddings=True)
        mood, instruments, vectors = (result.heads[name] for name in ("mood", "instruments", "vectors"))
        assert (mood.label, mood.score) == (ranked[0].label, pytest.approx(ranked[0].score, abs=1e-6))
        assert mood.scores is not None and mood.windows is not None and mood.windows[0].label == mood.label
        independent = {each.label: each.score for each in client.classify("instruments", clip)}
        assert instruments.tags is not None and instruments.label is None
        assert {tag.label: pytest.approx(tag.score, abs=1e-6) for tag in instruments.tags} == independent
        assert vectors.embedding is not None and len(vectors.embedding) == 48
        assert (vectors.label, vectors.tags, vectors.windows) == (None, None, None)
        assert client.tag(clip).heads["mood"].embedding is None
        assert client.embed(clip).heads["vectors"].embedding == pytest.approx(vectors.embedding, abs=1e-5)
        with pytest.raises(ApiError, match="vectors, which has no labels") as refusal:
            client.classify("vectors", clip)
        assert refusal.value.code == "unknown_model"
    described = {entry["name"]: entry for entry in httpx.get(f"{server.url}/v1/models").json()}
    assert {name: entry["activation"] for name, entry in described.items()} == {
        "genre": "single",
        "tags": "multi",
        "mood": "single",
        "instruments": "multi",
        "vectors": "embedding",
    }
    assert set(httpx.get(f"{server.url}/healthz").json()["models"]) == set(described)
    assert server.metrics()['tonearm_windows_total{head="mood"}'] >= 1


def test_the_models_verb_shows_them(flags: dict[str, list[str]]) -> None:
    run = run_tonearm("models", "--demo-models", *flags["mood"])
    assert run.returncode == 0 and "mood" in run.stdout
    assert built_in()["genre_model"] in run.stdout.replace("\n", "")
    assert head_of("mood", "single").label == "mood"
