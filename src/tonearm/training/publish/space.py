"""Write a Gradio Space for a model: four files that run on the Hub, or on any machine, without tonearm."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from tonearm.errors import DestinationError
from tonearm.models.checkpoint import CheckpointInfo
from tonearm.models.window_plan import plan_windows
from tonearm.storage import filesystems

# Versions are pinned: the Hub rebuilds a Space now and then, and it should then be the same as before.
GRADIO = "6.31.0"
PACKAGES = ("librosa", "torch", "transformers")
README = """---
title: {title}
emoji: 🎵
colorFrom: indigo
colorTo: pink
sdk: gradio
sdk_version: {gradio}
app_file: app.py
pinned: false
models:
- {repo}
---

Upload a track or record one; [{repo}](https://huggingface.co/{repo}) says {what}.
"""

APP = '''"""{title}: upload a track, see {what}."""

import os

import gradio as gr
import librosa
import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

MODEL = os.environ.get("MODEL", "{repo}")
WINDOW_S = {window_s:g}
MAX_WINDOWS = 20
NUM_SHOWN = 10

extractor = AutoFeatureExtractor.from_pretrained(MODEL)
model = AutoModelForAudioClassification.from_pretrained(MODEL).eval()
rate = extractor.sampling_rate


def windows(waveform):
    """Cut a track into windows, evenly spread where there are many; the last is shifted back, not padded."""
    length = int(WINDOW_S * rate)
    if len(waveform) <= length:
        return [waveform]
    starts = np.append(np.arange(0, len(waveform) - length, length), len(waveform) - length)
    if len(starts) > MAX_WINDOWS:
        starts = starts[np.linspace(0, len(starts) - 1, MAX_WINDOWS).round().astype(int)]
    return [waveform[start : start + length] for start in starts]


def classify(path):
    """Return label -> score, the mean over the track's windows."""
    if path is None:
        raise gr.Error("Upload a track first.")
    try:
        waveform, _ = librosa.load(path, sr=rate, mono=True)
    except Exception as error:
        raise gr.Error("This file could not be read as audio.") from error
    if len(waveform) < rate // 10:
        raise gr.Error("This clip is too short.")
    scores = []
    with torch.inference_mode():
        for window in windows(waveform):
            inputs = extractor(window, sampling_rate=rate, return_tensors="pt")
            logits = model(**inputs).logits[0]
            scores.append({activation})
    mean = torch.stack(scores).mean(dim=0)
    return {{model.config.id2label[index]: float(score) for index, score in enumerate(mean)}}


demo = gr.Interface(
    classify,
    gr.Audio(type="filepath", label="Track"),
    gr.Label(num_top_classes=min(NUM_SHOWN, model.config.num_labels), label="{label}"),
    title="{title}",
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
'''


def write_space(folder: Path, repo: str, info: CheckpointInfo, *, overwrite: bool = False) -> list[Path]:
    """Write app.py, requirements.txt, packages.txt and README.md.

    Args:
        repo: the model's repository, which need not exist yet.

    Raises:
        DestinationError: the folder has an app.py already, or cannot be written.
    """
    if (folder / "app.py").exists() and not overwrite:
        raise DestinationError(f"{folder} holds an app.py already; give another --space, or --overwrite")
    plan = plan_windows(info, None, None)
    facts = {
        "title": repo.rpartition("/")[2],
        "repo": repo,
        "what": "which tags it has" if info.multi_label else "which class it is",
        "label": "Tags" if info.multi_label else "Class",
        "window_s": plan.window_s,
        "activation": "logits.sigmoid()" if info.multi_label else "logits.softmax(dim=-1)",
        "gradio": GRADIO,
    }
    # The local part, such as +cpu, is not on PyPI.
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in PACKAGES}
    files = {
        "app.py": APP.format(**facts),
        "requirements.txt": "".join(f"{name}=={version}\n" for name, version in sorted(versions.items())),
        # Debian packages, which librosa reads audio with.
        "packages.txt": "ffmpeg\nlibsndfile1\n",
        "README.md": README.format(**facts),
    }
    with filesystems.writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    return [folder / name for name in sorted(files)]
