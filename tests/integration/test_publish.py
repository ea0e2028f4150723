"""``tonearm publish`` against a server that speaks the Hub's HTTP, and the Space that it writes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

from tests.checkpoints import save_small
from tests.commands import tonearm
from tests.servers.hub import Hub, running_hub

CARD = """---
library_name: transformers
model-index:
- name: hubert on sounds
  results:
  - task: {type: audio-classification}
    dataset: {name: sounds, type: sounds}
    metrics:
    - {type: accuracy, value: 0.9}
---
# hubert on sounds

`pipeline("audio-classification", model="MODEL")`
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_small(tmp_path / "model", "hubert", num_labels=3)
    (folder / "README.md").write_text(CARD)
    (folder / "tonearm.json").write_text('{"window_s": 2.0}')
    facts = {"source": "/home/somebody/sounds", "settings": {"model": "/home/somebody/base", "cache": "/scratch"}}
    (folder / "metrics.json").write_text(json.dumps(facts))
    (folder / "confusion.png").write_bytes(b"\x89PNG")
    (folder / "tensorboard").mkdir()
    (folder / "notes.txt").write_text("mine")
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(hub: Hub, tmp_path: Path, token: str | None = None) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token if token is None else token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }


@pytest.mark.slow
def test_model_card_and_extractor_go_to_the_hub_and_come_back(hub: Hub, model: Path, tmp_path: Path) -> None:
    """A model that was published is loaded from the Hub again, with its card and its extractor."""
    run = tonearm(
        *("publish", model, "me/sounds", "--license", "mit", "--dataset", "marsyas/gtzan", "--tag", "music"),
        *("--base-model", "ntu-spml/distilhubert", "--private"),
        **environment(hub, tmp_path),
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().splitlines()[-1] == f"{hub.url}/me/sounds"
    sent = hub.repos["me/sounds"]
    assert set(sent) == {
        "README.md", "config.json", "confusion.png", "metrics.json", "model.safetensors", "preprocessor_config.json",
        "tonearm.json",
    }  # fmt: skip
    assert hub.private["me/sounds"]
    assert sent["model.safetensors"] == (model / "model.safetensors").read_bytes()
    card = ModelCard(sent["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.datasets == ["marsyas/gtzan"]
    assert card.data.base_model == "ntu-spml/distilhubert"
    assert card.data.pipeline_tag == "audio-classification"
    assert card.data.eval_results[0].metric_value == 0.9
    assert 'model="me/sounds"' in card.text
    assert b"somebody" not in sent["metrics.json"]
    assert b"scratch" not in sent["metrics.json"]

    # What was published is what another machine loads by its name.
    shown = tonearm("models", "--genre-model", "me/sounds", "--tag-model", "none", **environment(hub, tmp_path))
    assert shown.returncode == 0, shown.stderr + shown.stdout
    assert "windows of 2 s" in shown.stdout
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 40000), 16000)
    drawn = tonearm(
        *("plot", tmp_path / "a.wav", "--timeline", "--out", tmp_path / "pictures"),
        *("--genre-model", "me/sounds", "--tag-model", "none"),
        **environment(hub, tmp_path),
    )
    assert drawn.returncode == 0, drawn.stderr


@pytest.mark.slow
def test_publishing_again_is_another_commit(hub: Hub, model: Path, tmp_path: Path) -> None:
    """Publishing a model twice makes two commits, each with its message."""
    for message in ("first", "second"):
        run = tonearm("publish", model, "me/sounds", "--message", message, **environment(hub, tmp_path))
        assert run.returncode == 0, run.stderr
    assert hub.messages == ["first", "second"]


def test_a_dry_run_sends_nothing(hub: Hub, model: Path, tmp_path: Path) -> None:
    run = tonearm("publish", model, "me/sounds", "--dry-run", **environment(hub, tmp_path))
    assert run.returncode == 0, run.stderr
    assert not hub.repos
    assert "model.safetensors" in run.stdout
    assert "notes.txt" not in run.stdout
    assert re.search(rf"model\.safetensors +{(model / 'model.safetensors').stat().st_size:,} bytes", run.stdout)


@pytest.mark.parametrize(
    ("repo", "token", "message"),
    [
        ("me/sounds", "wrong", "the Hub refused (401); give a token"),
        ("sounds", None, "got the repository 'sounds', expected OWNER/NAME"),
    ],
)
def test_what_the_hub_would_refuse(
    repo: str, token: str | None, message: str, hub: Hub, model: Path, tmp_path: Path
) -> None:
    run = tonearm("publish", model, repo, **environment(hub, tmp_path, token))
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_hub_that_is_not_there(hub: Hub, model: Path, tmp_path: Path) -> None:
    run = tonearm("publish", model, "me/sounds", **(environment(hub, tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}))
    assert run.returncode == 2
    assert "the Hub could not be reached" in run.stderr


@pytest.mark.slow
def test_the_space_starts_and_answers(model: Path, tmp_path: Path) -> None:
    """The Space that is written starts with its own requirements and classifies a clip."""
    run = tonearm("publish", model, "me/sounds", "--dry-run", "--space", tmp_path / "space")
    assert run.returncode == 0, run.stderr
    assert {path.name for path in (tmp_path / "space").iterdir()} == {
        "app.py", "requirements.txt", "packages.txt", "README.md"
    }  # fmt: skip
    front = ModelCard.load(tmp_path / "space" / "README.md", ignore_metadata_errors=True).data.to_dict()
    assert front["sdk"] == "gradio"
    assert front["app_file"] == "app.py"
    assert front["models"] == ["me/sounds"]
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", rng.normal(0, 0.1, 5 * 16000), 16000)
    named = {
        "MODEL": str(model),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_PORT": str(free_port()),
        "GRADIO_TEMP_DIR": str(tmp_path / "gradio"),
        "HF_HUB_OFFLINE": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-u", "app.py"],
        cwd=tmp_path / "space",
        env=os.environ | named,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if match := re.search(r"(http://127\.0\.0\.1:\d+)", line):
                break
        else:
            raise AssertionError("".join(said))
        page = httpx2.get(match[1], timeout=60)
        assert page.status_code == 200
        from gradio_client import Client, handle_file

        answer = Client(match[1], verbose=False).predict(handle_file(str(tmp_path / "a.wav")), api_name="/classify")
        scores = {row["label"]: row["confidence"] for row in answer["confidences"]}
        assert set(scores) == {"label 0", "label 1", "label 2"}
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-3)
    finally:
        process.kill()
        process.communicate()


def test_an_app_that_is_there_is_not_replaced(model: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    run = tonearm("publish", model, "me/sounds", "--dry-run", "--space", tmp_path)
    assert run.returncode == 2
    assert "holds an app.py already" in run.stderr
    assert (tmp_path / "app.py").read_text() == "mine"
