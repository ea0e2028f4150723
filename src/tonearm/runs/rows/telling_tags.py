"""Sort tags for people by how much they say about a track; rows and HTTP responses have them by score.

A model trained on AudioSet gives a track a label and also all labels above it in the ontology
(https://research.google.com/audioset/ontology/): *Acoustic guitar* comes with *Guitar*, *Plucked string instrument*,
*Musical instrument* and *Music*. The last scores highest, and says nothing about a track in a music library. So each
score is multiplied by a weight, which is the lower the more labels there are below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Weights of the labels of AudioSet that have others below them, chosen by hand; all other labels have weight 1.
WEIGHTS: Mapping[str, float] = {
    "music": 0.02,
    "musical instrument": 0.1,
    "song": 0.3,
    "background music": 0.3,
    "theme music": 0.3,
    "soundtrack music": 0.3,
    "plucked string instrument": 0.5,
    "bowed string instrument": 0.5,
    "keyboard (musical)": 0.5,
    "percussion": 0.5,
    "brass instrument": 0.5,
    "wind instrument, woodwind instrument": 0.5,
    "mallet percussion": 0.7,
    "drum": 0.7,
    "drum kit": 0.7,
    "guitar": 0.7,
    "piano": 0.8,
    "organ": 0.8,
    "electronic music": 0.8,
    "rock music": 0.8,
    "independent music": 0.5,
    "speech": 0.8,
}
# A label of this weight or less says next to nothing about a track in a music library.
FAINT_WEIGHT = 0.1


def weight(label: str) -> float:
    """Return the weight by which a label's score is multiplied, in (0, 1]."""
    return WEIGHTS.get(label.casefold(), 1.0)


def most_telling(tags: Iterable[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """Return tags, each with ``label`` and ``score``, by weighted score, highest first; the sort is stable."""
    return sorted(tags or (), key=lambda tag: -(tag["score"] or 0.0) * weight(tag["label"]))
