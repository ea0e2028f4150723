"""The card of a model folder, and how its run is described."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCard

RUN = {"workers": 1, "precision": "fp32", "why": "no GPU", "device": "cpu", "step_size": 4}


def card_of(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")
