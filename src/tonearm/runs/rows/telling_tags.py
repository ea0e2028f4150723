"""Which tags say most of a track, for people: rows and HTTP have them by score.

A model of AudioSet gives a track what it is together with everything above that in the ontology
(https://research.google.com/audioset/ontology/): *Acoustic guitar* comes with *Guitar*, *Plucked string instrument*,
*Musical instrument* and *Music*, which scores highest and says nothing of a track in a music library. So a tag counts
by its score and by how little stands below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# What is above other labels of AudioSet, by how much of a label's score is left; every other label has its whole score.
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
# Up to here a label says next to nothing of a track in a music library.
FAINT_WEIGHT = 0.1


def weight(label: str) -> float:
    """Return how much of a label's score counts, in (0, 1]."""
    return WEIGHTS.get(label.casefold(), 1.0)


def most_telling(tags: Iterable[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """Return tags, each with ``label`` and ``score``, those first that say most; equal ones stay in their order."""
    return sorted(tags or (), key=lambda tag: -(tag["score"] or 0.0) * weight(tag["label"]))
