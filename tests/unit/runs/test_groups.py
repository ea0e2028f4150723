"""What decided the content of a destination's rows: kept, adopted, and refused where it would be mixed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.tables import make_run
from tonearm.errors import DestinationError
from tonearm.heads import GENRE
from tonearm.runs import groups
from tonearm.runs.destination import Destination
from tonearm.runs.differences import differences
from tonearm.runs.groups import Group
from tonearm.runs.run_summary import ModelFacts

FACTS = {"model": "sha256:1", "windows": {"window_samples": 480}, "precision": "fp32", "calibration": None}
OLD = {
    "precision": "auto",
    "max_scored_s": 14400.0,
    "top_tags": 20,
    "top_window_tags": 3,
    "genre_model": "sha256:1",
    "genre_windows": {"window_samples": 480},
    "tags_model": None,
}


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def write_old(place: Destination, name: str, facts: Any, mark: str = "w_0.parquet") -> None:
    folder = Path(place.checkpoint(name))
    folder.mkdir(parents=True, exist_ok=True)
    Path(f"{folder}.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))
    (folder / mark).touch()


def test_the_settings_hash_is_of_the_facts_whatever_their_order() -> None:
    assert groups.settings_hash({"a": 1, "b": [2]}) == groups.settings_hash({"b": [2], "a": 1})
    assert groups.settings_hash({"a": 1}) != groups.settings_hash({"a": 2})
    assert len(groups.settings_hash({})) == 16
    assert int(groups.settings_hash({"path": Path("/x")}), 16) >= 0  # what JSON does not know is written as text


def test_what_is_written_is_read_again(place: Destination) -> None:
    assert groups.read(place) == {}
    stored = {
        "read": Group({}),
        "genre": Group(FACTS, {"precision": "int8"}, {"runtime": "openvino"}, adopts=True, known_as=("before",)),
    }
    marks = groups.write(place, stored)
    assert groups.read(place) == stored
    assert groups.read(place)["genre"].hashes == (Group(FACTS).hash, "before")
    assert Path(place.checkpoint(f"{marks}.json")).is_file(), "0.1.0 looks at these alone"
    assert groups.write(place, stored) == marks
    assert groups.write(place, {"read": Group({})}) != marks


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "is not what tonearm writes"),
        ("[]", "is not what tonearm writes"),
        ('{"groups": {}}', "is not what tonearm writes"),
        ('{"format": 2, "groups": {"genre": {"facts": {}}}}', "is not what tonearm writes"),
        ('{"format": 3, "anything": 1}', "has format 3, and this tonearm knows formats up to 2; install a newer"),
        (
            json.dumps({"format": 2, "groups": {"genre": {"facts": FACTS, "hash": "0" * 16}}}),
            "contradicts itself: the facts of genre are not those of its hash",
        ),
    ],
)
def test_facts_that_cannot_be_believed_are_one_line(place: Destination, text: str, says: str) -> None:
    path = Path(place.join("_checkpoint", "groups.json"))
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(DestinationError, match=says) as refusal:
        groups.read(place)
    assert "\n" not in refusal.value.message
    assert path.read_text() == text


def test_a_group_that_is_made_anew_need_not_be_believed(place: Destination) -> None:
    values = {"format": 2, "groups": {"genre": {"facts": FACTS, "hash": "0" * 16}, "tags": {"facts": {}, "hash": ""}}}
    values["groups"]["tags"]["hash"] = groups.settings_hash({})
    path = Path(place.join("_checkpoint", "groups.json"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))
    with pytest.raises(DestinationError, match="made again with `tonearm tag --rescore genre`"):
        groups.read(place, ["tags"])
    assert groups.read(place, ["genre"]) == {"tags": Group({})}
    values["groups"]["read"] = {"facts": {}, "hash": "0"}
    path.write_text(json.dumps(values))
    with pytest.raises(DestinationError, match="Put back that file, or give another destination"):
        groups.read(place, ["genre"])


def left_by_a_run(place: Destination, stored: dict[str, Group]) -> None:
    """Write what a run with these groups leaves: the file, its copy, and a mark."""
    marks = Path(place.checkpoint(groups.write(place, stored)))
    marks.mkdir()
    (marks / "w_0.parquet").touch()


def test_a_file_that_somebody_deleted_is_read_from_its_copies(place: Destination) -> None:
    first = {"read": Group({}), "genre": Group(FACTS, {}, {"runtime": "openvino"})}
    left_by_a_run(place, first)
    left_by_a_run(place, first | {"genre": Group(FACTS), "tags": Group({"model": "t"})})
    Path(place.join("_checkpoint", "groups.json")).unlink()
    assert groups.read(place) == first | {"tags": Group({"model": "t"})}


@pytest.mark.parametrize("order", [1, -1])
def test_of_copies_the_one_of_the_group_that_was_made_again_last_counts(place: Destination, order: int) -> None:
    made = [Group(FACTS), Group({**FACTS, "since_term": 4}), Group({**FACTS, "model": "m", "since_term": 9})]
    for group in made[::order]:
        left_by_a_run(place, {"read": Group({}), "genre": group})
    Path(place.join("_checkpoint", "groups.json")).unlink()
    assert groups.read(place)["genre"] == made[-1]


def test_copies_that_do_not_agree_are_one_line(place: Destination) -> None:
    """After --rescore they tell of two ways in which the group was made."""
    left_by_a_run(place, {"read": Group({}), "genre": Group(FACTS), "tags": Group({})})
    left_by_a_run(place, {"read": Group({}), "genre": Group({**FACTS, "model": "sha256:2"}), "tags": Group({})})
    Path(place.join("_checkpoint", "groups.json")).unlink()
    with pytest.raises(
        DestinationError, match=r"do not agree about genre; nothing is lost.*`tonearm tag --rescore genre`"
    ):
        groups.read(place)
    assert set(groups.read(place, ["genre"])) == {"read", "genre", "tags"}


def test_a_destination_of_0_1_0_has_what_its_facts_say(place: Destination) -> None:
    write_old(place, "aa", OLD)
    found = groups.read(place)
    assert set(found) == {"read", "genre"}
    genre = found["genre"]
    assert genre.adopts
    assert genre.facts == {"model": "sha256:1", "windows": {"window_samples": 480}, "calibration": None}
    write_old(place, "aa", {**OLD, "tags_model": "sha256:2", "precision": "int8", "genre_calibration": {"t": 1}})
    found = groups.read(place)
    assert found["tags"].facts["top_tags"] == 20
    assert found["tags"].asked == {"precision": "int8"}, "what came of it is not known"
    assert found["genre"].facts["calibration"] == {"t": 1}


@pytest.mark.parametrize(
    ("ran", "known"), [(["fp32", "fp32"], "fp32"), (["fp32", "fp16"], None), ([""], None), ([], None)]
)
def test_what_0_1_0_had_settled_is_in_its_runs(place: Destination, ran: list[str], known: str | None) -> None:
    """A precision by name is not taken for that of rows that do not say, nor where machines have differed."""
    write_old(place, "aa", OLD)
    model = ModelFacts("m", "sha256:1", precision="fp32")
    for number, precision in enumerate(ran):
        make_run(place.url, run_id=f"r{number}", genre_model=dataclasses.replace(model, precision=precision))
    other = dataclasses.replace(model, revision="sha256:9", precision="bf16")
    make_run(place.url, run_id="of-another-model", genre_model=other)
    Path(place.run("mine")).write_text("{}")
    genre = groups.read(place)["genre"]
    assert genre.facts.get("precision") == known
    facts = {**FACTS, "precision": "bf16"}
    assert differences(genre, facts, {}, head=GENRE) == []
    unknown = ("precision: auto there and not known what came of it, bf16 now", "--precision auto")
    said = [("precision: fp32 there, bf16 now", "--precision fp32")] if known else [unknown]
    assert differences(genre, facts, {"precision": "bf16"}, head=GENRE) == said


def test_facts_of_0_1_0_under_which_nothing_was_written_count_for_nothing(place: Destination) -> None:
    write_old(place, "aa", OLD)
    write_old(place, "bb", {**OLD, "genre_model": "sha256:9"}, mark="w_0.pending.parquet")
    assert groups.read(place)["genre"].facts["model"] == "sha256:1"


def test_facts_of_0_1_0_that_contradict_each_other_are_one_line(place: Destination) -> None:
    write_old(place, "aa", OLD)
    write_old(place, "bb", {**OLD, "genre_model": "sha256:9"})
    with pytest.raises(DestinationError, match=r"rows of 2 different settings .*nothing is lost"):
        groups.read(place)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_unreadable_facts_of_0_1_0_are_one_line_of_error(place: Destination, text: str) -> None:
    write_old(place, "aa", text)
    with pytest.raises(DestinationError, match=r"aa\.json is not what tonearm writes"):
        groups.read(place)


def test_what_is_lacking_is_adopted_and_rows_of_before_are_known() -> None:
    stored = Group({"model": "m"}, {"precision": "int8"}, {"runtime": "openvino"}, adopts=True)
    both = groups.adopted(stored, {"model": "m", "precision": "bf16"}, {"precision": "auto"}, {"runtime": "torch"})
    assert both.facts == {"model": "m", "precision": "bf16"}
    assert (both.asked, both.settled) == ({"precision": "int8"}, {"runtime": "openvino"})
    assert both.adopts
    assert both.known_as == (stored.hash,)
    assert groups.adopted(both, both.facts, {}, {}) == both
    assert groups.adopted(None, {"model": "m"}, {}, {}) == dataclasses.replace(Group({"model": "m"}))
