"""Settings that differ from those of a destination's rows: each named, in words, with what would match it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tonearm.errors import DestinationError
from tonearm.heads import GENRE
from tonearm.runs.destination import Destination
from tonearm.runs.differences import Difference, changed, differences, refuse
from tonearm.runs.groups import Group

WINDOWS = {
    "sample_rate": 16000,
    "window_samples": 480_000,
    "hop_samples": 480_000,
    "max_windows": 480,
    "min_samples": 9,
}
FACTS = {"model": "0a1b2c", "windows": WINDOWS, "precision": "fp32", "calibration": None, "top_tags": 20}
STORED = Group(FACTS, {"precision": "int8", "int8_guard": True}, {"runtime": "openvino", "source": "me/genres"})
LONGEST_S = 14400.0


def differing(facts: Any, asked: Any, source: str = "me/genres") -> list[tuple[str, str]]:
    found = differences(STORED, facts, asked, head=GENRE, source=source, max_scored_s=LONGEST_S)
    return [(each.text, each.match) for each in found]


def windows(**changes: Any) -> dict[str, Any]:
    return {**FACTS, "windows": {**WINDOWS, **changes}}


@pytest.mark.parametrize(
    ("facts", "asked", "says"),
    [
        (FACTS, {}, []),
        ({**FACTS, "since": 1}, {}, []),
        ({name: value for name, value in FACTS.items() if name != "precision"}, {}, []),
        (FACTS, {"precision": "fp32"}, []),
        (FACTS, {"precision": "int8", "int8_guard": True}, []),
        (FACTS, {"runtime": "openvino"}, []),
        (windows(max_windows=3), {}, [("max_windows: 480 there, 3 now", "no --max-windows")]),
        (
            windows(window_samples=160_000, hop_samples=160_000, max_windows=1440),
            {},
            [("genre window_s: 30 there, 10 now", "models.genre_window_s = 30")],
        ),
        (windows(min_samples=8), {}, [("genre min_samples: 9 there, 8 now", "")]),
        (
            {**FACTS, "model": "ffff"},
            {},
            [("genre model: me/genres (0a1b2c) there, me/genres (ffff) now", 'models.genre_revision = "0a1b2c"')],
        ),
        (
            {**FACTS, "calibration": {"temperature": 1.5, "thresholds": {"a": 0.5, "b": 0.4}}},
            {},
            [("calibration: none there, temperature 1.5 and 2 thresholds now", "models.calibrated = false")],
        ),
        (
            {**FACTS, "calibration": {"thresholds": {"a": 0.5}}},
            {},
            [("calibration: none there, 1 threshold now", "models.calibrated = false")],
        ),
        ({**FACTS, "top_tags": 5}, {}, [("top_tags: 20 there, 5 now", "models.top_tags = 20")]),
        (
            FACTS,
            {"precision": "int8", "int8_guard": False},
            [("int8_guard: on there, off now", "models.int8_guard = true")],
        ),
        (FACTS, {"precision": "bf16"}, [("precision: fp32 there, bf16 now", "--precision fp32")]),
        (FACTS, {"runtime": "torch"}, [("runtime: openvino there, torch now", "--runtime openvino")]),
    ],
)
def test_each_setting_that_differs_is_said_with_what_would_match_it(facts: Any, asked: Any, says: Any) -> None:
    assert differing(facts, asked) == says


def test_a_bound_that_was_given_is_matched_by_its_flag() -> None:
    stored = Group(windows(max_windows=12))
    (found,) = differences(stored, windows(max_windows=3), {}, head=GENRE, max_scored_s=LONGEST_S)
    assert found == Difference("max_windows: 12 there, 3 now", "--max-windows 12")


def test_models_are_named_and_not_only_their_hashes() -> None:
    (found,) = differing({**FACTS, "model": "sha256:" + "9" * 64}, {}, source="/models/my genres")
    assert found == (
        "genre model: me/genres (0a1b2c) there, /models/my genres (sha256:999999999999) now",
        "--genre-model me/genres",
    )


def test_a_refusal_says_all_of_it_in_one_line(tmp_path: Path) -> None:
    place = Destination.of(str(tmp_path / "out"))
    precision = Difference("precision: fp32 there, bf16 now", "--precision fp32")
    genre, tags = (Difference(f"max_windows: {number} there, 3 now", "no --max-windows") for number in (480, 1406))
    refuse(place, {"genre": []})
    with pytest.raises(DestinationError) as refusal:
        refuse(place, {"genre": [genre, precision], "tags": [tags, precision]})
    assert refusal.value.message == (
        f"{place.url} holds tracks tagged with other settings: max_windows: 480 there, 3 now (genre); precision: fp32 "
        "there, bf16 now; max_windows: 1406 there, 3 now (tags); give `tonearm tag --precision fp32` and leave out "
        "--max-windows to add to it, `tonearm tag --rescore genre --rescore tags` to have those columns made again, or "
        "another destination"
    )
    with pytest.raises(DestinationError, match="`tonearm tag --rescore genre --rescore tags` to have"):
        refuse(place, {"genre": [genre], "tags": [tags]}, ["tags"])  # whoever gave one flag needs both
    refuse(place, {"genre": [genre], "tags": [tags]}, ["tags", "genre"])


def test_what_nothing_would_match_is_no_command(tmp_path: Path) -> None:
    place = Destination.of(str(tmp_path / "out"))
    with pytest.raises(DestinationError, match="there, 3 now; give the same settings to add to it"):
        refuse(place, {"genre": [Difference("min_samples: 2 there, 3 now")]})
    one, other = (Difference(f"max_windows: {n} there, 3 now", f"--max-windows {n}") for n in (5, 9))
    with pytest.raises(DestinationError, match="give the same settings to add to it"):
        refuse(place, {"genre": [one], "tags": [other]})


def test_what_differs_is_one_short_line() -> None:
    many = {"thresholds": {str(number): 0.5 for number in range(500)}}
    (said,) = differences(Group({"odd": None}), {"odd": many}, {}, head=GENRE)
    assert said.text.startswith('odd: none there, {"thresholds": {"0": 0.5')
    assert len(said.text) < 200


def test_settings_of_a_training_are_named_with_what_sets_them() -> None:
    there = {"seed": 42, "patience": None, "epochs": 10, "workers": 2, "augment": {"mixup": 0.3, "gain_db": 6.0}}
    now = {"seed": 7, "patience": 3, "epochs": 10, "workers": 1, "augment": {"mixup": 0.0, "gain_db": 6.0}}
    assert changed(there, now, ["workers"]) == [
        ("augment.mixup: 0.3 there, 0 now", "--set augment.mixup=0.3"),
        ("patience: none there, 3 now", ""),
        ("seed: 42 there, 7 now", "--set seed=42"),
    ]
    assert changed({"trackers": ["a"]}, {"trackers": ("a",)}) == []
