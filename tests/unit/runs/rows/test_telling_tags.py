"""Tags are ranked by how much they tell of a track."""

from __future__ import annotations

from tonearm.runs.rows.telling_tags import most_telling, weight


def test_tags_are_ranked_by_what_they_say() -> None:
    scores = {"Music": 0.95, "Musical instrument": 0.6, "Guitar": 0.5, "Acoustic guitar": 0.45, "Applause": 0.001}
    tags = [{"label": label, "score": score} for label, score in scores.items()]
    assert [tag["label"] for tag in most_telling(tags)] == [
        "Acoustic guitar", "Guitar", "Musical instrument", "Music", "Applause",
    ]  # fmt: skip
    assert weight("MUSIC") < 0.1 and weight("of a model of one's own") == 1.0
    assert most_telling(None) == []
