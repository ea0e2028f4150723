"""Exported graphs as a person uses them: added, tagged with, served, judged; and YAMNet on real sound."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import librosa
import numpy as np
import openvino
import pytest
import soundfile
from bench.distill import GROUPS

import tonearm
from tests import caches
from tests.commands import read_tracks
from tests.graphs import LABELS, NUM_FEATURES, NUM_SAMPLES, RATE, expected_scores, save_described
from tests.one_process import tonearm as run_tonearm
from tests.servers.s3 import S3Server
from tests.serving import serving
from tonearm.models.calibration import read_sidecar
from tonearm.models.classifier import Classifier
from tonearm.models.exported.add import add

NUM_CLIPS, WINDOW, HOP = 320, 15_600, 7_800
NUM_EACH = 6


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        caches.keep_in(patch, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of four levels, a folder each, at the rate of the small graph; some of it shorter than a window."""
    folder, rng = tmp_path_factory.mktemp("levels"), np.random.default_rng(0)
    for place, label in enumerate(LABELS):
        (folder / label).mkdir()
        for number in range(NUM_EACH):
            sound = rng.uniform(-1, 1, 2500 + 1700 * number).astype(np.float32) * np.float32(0.02 * 5 ** (place / 1.5))
            soundfile.write(folder / label / f"{number}.wav", sound, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_described(tmp_path_factory.mktemp("models") / "level", hop_s=0.25)


def rows_of(waveform: Any) -> Any:
    """Return the windows that the head scores, as its description says."""
    last, hop = len(waveform) - NUM_SAMPLES, RATE // 4
    starts = [*range(0, last, hop), last] if last > 0 else [0]
    return np.stack([np.pad(waveform[a : a + NUM_SAMPLES], (0, max(0, -last))) for a in starts])


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


@pytest.mark.slow
def test_yamnet_scores_the_same_in_a_run_as_alone(shared_models: Path, shared_audio: Path, tmp_path: Path) -> None:
    """YAMNet on ESC-10 by groups of classes: 0.93 or more, within two clips of OpenVINO called directly."""
    yamnet = shared_models / "yamnet"
    added = run_tonearm(
        *("models", "add", yamnet / "yamnet.tflite", "--labels", yamnet / "classes.csv", "--out", tmp_path / "yamnet"),
        *("--front-end", "waveform", "--rate", "16000", "--hop", str(HOP / 16000), "--licence", "Apache-2.0"),
    )
    assert added.returncode == 0, added.stderr
    (tmp_path / "all.toml").write_text("[models]\ntop_tags = 521\n")
    tagged = run_tonearm(
        *("tag", shared_audio / "esc10", "--out", tmp_path / "out", "--genre-model", "none"),
        *("--tag-model", tmp_path / "yamnet", "--config", tmp_path / "all.toml"),
    )
    assert tagged.returncode == 0, tagged.stderr
    rows = read_tracks(tmp_path / "out").to_pylist()
    assert len(rows) == NUM_CLIPS
    through = {}
    for row in rows:
        assert len(row["tags"]) == 521 and len(row["tag_embedding"]) == 1024
        through[row["uri"]] = _group({tag["label"]: tag["max_score"] for tag in row["tags"]})
    direct = _direct(yamnet, list(through))
    classes = {uri: Path(uri).parent.name for uri in through}
    right = sum(through[uri] == classes[uri] for uri in through)
    assert right / NUM_CLIPS >= 0.93
    assert sum(through[uri] != direct[uri] for uri in through) <= 2


def test_yamnet_says_the_same_each_time_it_is_loaded(shared_models: Path, tmp_path: Path) -> None:
    yamnet = shared_models / "yamnet"
    add(
        yamnet / "yamnet.tflite",
        labels=yamnet / "classes.csv",
        front_end="waveform",
        rate=16000,
        out=tmp_path / "yamnet",
    )
    window = np.random.default_rng(1).normal(0, 0.1, WINDOW).astype(np.float32)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    direct = openvino.Core().compile_model(yamnet / "yamnet.tflite", "CPU", settings)([window])[0]
    for _ in range(6):
        classifier = Classifier.load(str(tmp_path / "yamnet"), num_threads=2, is_multi=True)
        found = sigmoid(classifier.score([window] * 4).logits)
        np.testing.assert_allclose(found, np.repeat(direct, 4, axis=0), atol=1e-4)


def _group(scores: dict[str, float]) -> str:
    return max(GROUPS, key=lambda name: max(scores[label] for label in GROUPS[name]))


def _direct(yamnet: Path, uris: list[str]) -> dict[str, str]:
    """Return the best group of each clip by the file itself in OpenVINO, on the same windows."""
    with (yamnet / "classes.csv").open(newline="") as file:
        labels = [row["display_name"] for row in csv.DictReader(file)]
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(yamnet / "yamnet.tflite", "CPU", settings).create_infer_request()
    found = {}
    for uri in uris:
        waveform, _ = librosa.load(uri, sr=16000)
        last, best = len(waveform) - WINDOW, np.zeros(521, np.float32)
        for start in [*range(0, last, HOP), last]:
            request.infer([waveform[start : start + WINDOW]])
            best = np.maximum(best, request.get_output_tensor(0).data[0])
        found[uri] = _group(dict(zip(labels, best.tolist(), strict=True)))
    return found


def test_one_file_in_any_head(model: Path, collection: Path) -> None:
    path = collection / "high" / "5.wav"
    waveform, _ = soundfile.read(path, dtype="float32")
    logits, features = expected_scores(rows_of(waveform))
    found = tonearm.tag_file(path, genre_model=model, tag_model=model / "wave.xml", heads={"level": f"{model}:multi"})
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found.genre_scores is not None and found.tags is not None
    assert {each.label: each.score for each in found.genre_scores} == {
        label: pytest.approx(float(score), abs=1e-3) for label, score in zip(LABELS, shares.mean(axis=0), strict=True)
    }
    means, highest = sigmoid(logits).mean(axis=0), sigmoid(logits).max(axis=0)
    wanted = {label: (means[place], highest[place]) for place, label in enumerate(LABELS)}
    for tags in (found.tags, found.heads["level"].tags or ()):
        assert {tag.label for tag in tags} == set(LABELS)
        for tag in tags:
            assert (tag.score, tag.max_score) == pytest.approx(wanted[tag.label], abs=1e-3)
    assert found.tag_embedding == pytest.approx(features.mean(axis=0), abs=1e-3)
    assert len(found.windows) == len(logits)
    few = tonearm.tag_file(path, genre_model="none", tag_model=model, max_windows=2)
    assert len(few.windows) == 2


def test_a_model_in_a_bucket(s3: S3Server, model: Path, collection: Path) -> None:
    bucket = s3.bucket()
    for path in model.iterdir():
        s3.fs.put_file(str(path), f"{bucket}/models/level/{path.name}")
    here, clip = (
        tonearm.tag_file(collection / "loud" / "3.wav", genre_model="none", tag_model=model),
        collection / "loud",
    )
    for source in (f"s3://{bucket}/models/level", f"s3://{bucket}/models/level/wave.xml"):
        found = tonearm.tag_file(clip / "3.wav", genre_model="none", tag_model=source)
        assert found.tags == here.tags
        assert str(found.tag_model).partition("@")[2] == str(here.tag_model).partition("@")[2]


def test_it_is_served(model: Path, collection: Path) -> None:
    clip = (collection / "loud" / "4.wav").read_bytes()
    wanted = tonearm.tag_file(clip, genre_model="none", tag_model=model)
    flags = ["--genre-model", "none", "--tag-model", model, "--head", f"level={model / 'wave.xml'}:single"]
    with serving(*flags, models=False) as server:
        ranked = httpx.post(f"{server.url}/models/tags", content=clip, timeout=60).raise_for_status().json()
        assert wanted.tags is not None
        scores = {tag.label: tag.score for tag in wanted.tags}
        assert {each["label"]: pytest.approx(each["score"], abs=1e-5) for each in ranked} == scores
        level = httpx.post(f"{server.url}/models/level", content=clip, timeout=60).raise_for_status().json()
        assert sum(each["score"] for each in level) == pytest.approx(1.0, abs=1e-5)
        told = httpx.post(f"{server.url}/v1/tag", content=clip, timeout=60).raise_for_status().json()
        assert told["heads"]["level"]["label"] == level[0]["label"]
        assert {tag["label"]: pytest.approx(tag["score"], abs=1e-5) for tag in told["tags"]} == scores
        vectors = httpx.post(f"{server.url}/v1/embed", content=clip, timeout=60).raise_for_status().json()
        assert len(json.dumps(vectors)) > NUM_FEATURES


@pytest.mark.slow
def test_it_is_judged_and_calibrated_and_tags_a_library(model: Path, collection: Path, tmp_path: Path) -> None:
    """Evaluation says what the graph itself says, and a calibration leaves the description whole."""
    mine = shutil.copytree(model, tmp_path / "level")
    values = json.loads((mine / "tonearm.json").read_text())
    (mine / "tonearm.json").write_text(json.dumps({**values, "from_tomorrow": {"kept": True}}))
    found = tonearm.evaluate(mine / "wave.xml", collection, multi_label=False, calibrate=True, workers=1)
    right = []
    for path in sorted(collection.rglob("*.wav")):
        waveform, _ = soundfile.read(path, dtype="float32")
        logits, _ = expected_scores(rows_of(waveform))
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        right.append(LABELS[int(shares.mean(axis=0).argmax())] == path.parent.name)
    assert found.figures["track"]["accuracy"] == pytest.approx(np.mean(right))
    after = json.loads((mine / "tonearm.json").read_text())
    assert (after["model"]["labels"], after["from_tomorrow"]) == (list(LABELS), {"kept": True})
    assert (read_sidecar(mine).calibration is not None) == found.is_calibration_kept
    tagged = run_tonearm(
        *("tag", collection, "--out", tmp_path / "out", "--genre-model", "none", "--tag-model", mine),
        *("--precision", "int8", "--head", f"level={mine}:single", "--max-error-rate", "0"),
    )
    assert tagged.returncode == 0, tagged.stderr
    assert (
        "not int8: level is an exported graph, whose weights stay as they are stored" in tagged.stdout + tagged.stderr
    )
    rows = read_tracks(tmp_path / "out").to_pylist()
    assert len(rows) == NUM_EACH * len(LABELS)
    assert {len(row["level_embedding"]) for row in rows} == {NUM_FEATURES}


def test_bad_models_are_one_line_before_any_work(model: Path, collection: Path, tmp_path: Path) -> None:
    few = shutil.copytree(model, tmp_path / "few")
    values: dict[str, Any] = json.loads((few / "tonearm.json").read_text())
    bad = {
        "got 3 labels, and its output scores": {
            **values["model"],
            "labels": ["a", "b", "c"],
            "scores_output": "scores",
        },
        "has no front_end, and nothing else says what wave.xml takes": {**values["model"], "front_end": None},
    }
    for says, described in bad.items():
        (few / "tonearm.json").write_text(json.dumps({**values, "model": described}))
        _refused(few, collection, tmp_path, says)
    (few / "tonearm.json").write_text(json.dumps({**values, "schema": 9}))
    _refused(few, collection, tmp_path, "has schema 9, and this tonearm knows schemas up to 1")
    (few / "tonearm.json").write_text(json.dumps(values))
    (few / "wave.xml").write_bytes((few / "wave.xml").read_bytes()[:500])
    _refused(few, collection, tmp_path, "OpenVINO cannot read it")
    (few / "tonearm.json").unlink()
    _refused(few, collection, tmp_path, "wave.xml is not described")


def _refused(model: Path, collection: Path, tmp_path: Path, says: str) -> None:
    run = run_tonearm(
        *("tag", collection, "--out", tmp_path / "out", "--genre-model", "none", "--tag-model", model),
    )
    assert run.returncode == 2 and says in run.stderr, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_models_add_says_what_it_has_found(model: Path, tmp_path: Path) -> None:
    for path in model.glob("wave.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(["label", *LABELS]))
    given = ["--labels", tmp_path / "labels.csv", "--activation", "sigmoid", "--scores-output", "scores"]
    run = run_tonearm("models", "add", tmp_path / "wave.xml", *given)
    assert run.returncode == 2 and "the front end is not described: its input wave has the shape" in run.stderr
    run = run_tonearm("models", "add", tmp_path / "wave.xml", *given, "--front-end", "waveform", "--rate", str(RATE))
    assert run.returncode == 0, run.stderr
    assert "wave.xml: 4 labels (multi-label), windows of 0.5 s at 8,000 Hz, an embedding of 6 numbers" in run.stdout
    assert "of a synthesized sound it says: " in run.stdout
    shown = run_tonearm("models", "--genre-model", "none", "--tag-model", tmp_path)
    assert shown.returncode == 0 and "exported-xml" in shown.stdout
    missing = run_tonearm("models", "add", "no-such-model")
    assert missing.returncode == 2 and "no-such-model is no file" in missing.stderr
