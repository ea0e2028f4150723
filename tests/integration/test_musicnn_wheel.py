"""The published musicnn: fetched from the package index as a user would, and run as its authors' graph runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import caches
from tests.commands import read_tracks, tonearm
from tests.musicnn_wheel import windows
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.musicnn import named, wheel
from tonearm.models.openvino import cache as openvino

pytestmark = pytest.mark.slow
GOLDEN = np.load(Path(__file__).parent.parent / "data" / "musicnn_golden.npz")
MODELS = {"musicnn": "MTT_musicnn", "musicnn-msd": "MSD_musicnn"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with both models."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        caches.keep_in(patch, folder)
        for name in MODELS:
            try:
                wheel.add(name)
            except CheckpointError as error:
                if "cannot be fetched" not in error.message:
                    raise
                pytest.skip(f"the package index has no musicnn, or cannot be reached: {error.message}")
        yield folder


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_the_wheels_own_graph_says(name: str, runtime: str, cache: Path) -> None:
    """Logits and embeddings of TensorFlow's run of the published graph and weights, within 1e-4."""
    scores = Classifier.load(name, runtime=runtime, is_multi=True).score(list(windows()))
    np.testing.assert_allclose(scores.logits, GOLDEN[f"{MODELS[name]}/logits"], atol=1e-4)
    np.testing.assert_allclose(scores.embedding, GOLDEN[f"{MODELS[name]}/embedding"], atol=1e-4)


def test_it_labels_real_music_in_any_head(cache: Path, shared_audio: Path, tmp_path: Path) -> None:
    """A run with one in the tags' head and the other beside it: ragtime is piano, a string orchestra classical."""
    recordings = shared_audio / "librosa" / "audio"
    sources = [next(recordings.glob(pattern)) for pattern in ("*ragtime.ogg", "Hungarian*orchestra).ogg")]
    heads = ["--tag-model", "musicnn", "--genre-model", "none", "--head", "mood=musicnn-msd:multi"]
    run = tonearm("tag", *sources, "--out", tmp_path / "out", *heads)
    assert run.returncode == 0, run.stderr
    rows = {Path(row["uri"]).name[:6]: row for row in read_tracks(tmp_path / "out").to_pylist()}
    assert rows["442789"]["tags"][0]["label"] == "piano" and rows["442789"]["tags"][0]["score"] > 0.6
    assert {tag["label"] for tag in rows["Hungar"]["tags"][:2]} == {"classical", "violin"}
    for row in rows.values():
        names = [row[column].partition("@")[0] for column in ("tag_model", "mood_model")]
        assert names == ["musicnn", "musicnn-msd"]
        assert len(row["tag_embedding"]) == len(row["mood_embedding"]) == 200
        assert {tag["label"] for tag in row["mood_tags"]} <= set(_labels(cache, "musicnn-msd"))


def test_int8_can_be_tried(cache: Path) -> None:
    """Quantized, it compiles and says much the same; whether that is near enough is decided on a library's windows."""
    name, folder = "musicnn", named.folder_of("musicnn")
    revision = describe_checkpoint(name).revision
    converted = openvino.convert(name, folder, revision, revision=None, allow_pickle=False, num_threads=2)
    many = np.concatenate([windows() * scale for scale in (1.0, 0.7, 0.5)])
    verdict = openvino.quantize(converted, many, num_calibrated=6, is_guarded=True, is_multi=True, num_threads=2)
    assert verdict.num_checked == 12 and verdict.top1_agreement > 0.5 and verdict.largest_move < 0.3


def test_without_a_network_one_line_says_how(tmp_path: Path) -> None:
    """An index that cannot be reached: the command ends with what to do, and the cache is as it was."""
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": ""}
    run = tonearm(
        "models", "add", "musicnn", TONEARM_CACHE=str(tmp_path / "cache"), XDG_CACHE_HOME=str(tmp_path), **offline
    )
    assert run.returncode == 2 and not run.stdout
    (line,) = run.stderr.splitlines()
    assert wheel.FILE in line and "--wheel FILE" in line
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def _labels(cache: Path, name: str) -> list[str]:
    folder = named.find_added(name)
    assert folder is not None and cache in folder.parents
    return list(json.loads((folder / "config.json").read_text())["id2label"].values())
