"""A run adopts what its destination has settled, and differs only where a person said so by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tonearm import demo
from tonearm.errors import DestinationError, UsageError
from tonearm.planning import adoption
from tonearm.planning.preparation import settle
from tonearm.runs import groups
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.settings import ModelSettings
from tonearm.tagging import TagPlan


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def planned(**models: Any) -> TagPlan:
    return adoption.planned(ModelSettings(**{**demo.models(), **models}), None, 14400.0)


def tagged(place: Destination, device: str = "cpu", **models: Any) -> dict[str, Group]:
    """Leave behind what a first run leaves behind."""
    stored = adoption.settled(settle(planned(**models), device), groups.read(place))
    groups.write(place, stored)
    return stored


def test_auto_adopts_the_precision_of_earlier_rows(place: Destination) -> None:
    on_cpu = tagged(place)
    assert on_cpu["genre"].facts["precision"] == "fp32"
    plan, stored = adoption.adopt(place, planned(), None)
    assert [head.precision for head in plan.heads.values()] == ["fp32", "fp32"]
    assert all(head.is_settled for head in plan.heads.values())
    assert adoption.settled(settle(plan, "cuda"), stored) == on_cpu, "a GPU adopts it too"


def test_machines_that_settle_otherwise_are_two_sets_of_facts(place: Destination, tmp_path: Path) -> None:
    on_gpu = tagged(Destination.of(str(tmp_path / "gpu")), device="cuda")
    assert on_gpu["genre"].facts["precision"] == "fp16"
    assert on_gpu["genre"].hash != tagged(place)["genre"].hash


def test_the_same_by_name_is_the_same(place: Destination) -> None:
    tagged(place)
    plan = adoption.adopt(place, planned(precision="fp32"), None).plan
    assert plan.heads["genre"].precision == "fp32"
    with pytest.raises(DestinationError, match=r": precision: fp32 there, bf16 now; .*--rescore genre"):
        adoption.adopt(place, planned(precision="bf16"), None)


def test_a_check_of_int8_is_adopted_and_not_repeated(place: Destination) -> None:
    """int8 that was refused for a head stays refused; without its guard it is another question."""
    plan = settle(planned(precision="int8"), "cpu")
    heads = dict(plan.heads)
    heads["genre"] = dataclasses.replace(heads["genre"], precision="bf16", note="not int8: it says something else")
    groups.write(place, adoption.settled(dataclasses.replace(plan, heads=heads), {}))
    again = adoption.adopt(place, planned(precision="int8"), None).plan
    assert [head.precision for head in again.heads.values()] == ["bf16", "int8"]
    assert again.heads["genre"].note == "not int8: it says something else"
    later = adoption.adopt(place, planned(), None).plan
    assert [head.precision for head in later.heads.values()] == ["bf16", "int8"]
    with pytest.raises(DestinationError, match="int8_guard"):
        adoption.adopt(place, planned(precision="int8", int8_guard=False), None)


def left_by_0_1_0(place: Destination, precision: str) -> None:
    """Write what a killed run of 0.1.0 leaves: what it was asked for, and nothing of what came of it."""
    heads = planned().facts()
    facts: dict[str, Any] = {"precision": precision, "top_tags": 20, "top_window_tags": 3}
    for head in ("genre", "tags"):
        facts |= {f"{head}_{name}": heads[head][name] for name in ("model", "windows", "calibration")}
    folder = Path(place.checkpoint("aa"))
    folder.mkdir(parents=True)
    Path(f"{folder}.json").write_text(json.dumps(facts))
    (folder / "w_0.parquet").touch()


def test_a_precision_by_name_is_not_mixed_with_one_that_is_not_known(place: Destination) -> None:
    left_by_0_1_0(place, "auto")
    flags = (
        r"`tonearm tag --precision auto` to add .*--rescore genre --rescore tags` to have those columns .* or another"
    )
    with pytest.raises(DestinationError, match=rf"auto there and not known .*, bf16 now; give {flags}") as refusal:
        adoption.adopt(place, planned(precision="bf16"), None)
    assert "\n" not in refusal.value.message and refusal.value.message.count("not known") == 1
    plan, stored = adoption.adopt(place, planned(), None)
    assert [(head.precision, head.is_settled) for head in plan.heads.values()] == [("auto", False)] * 2
    assert set(stored) == {"read", "genre", "tags"}, "auto goes on"
    stored = adoption.adopt(place, planned(precision="bf16"), None, ["genre", "tags"]).groups
    assert set(stored) == {"read"}


def test_auto_is_what_was_asked_for_where_nothing_else_is_known(place: Destination) -> None:
    """0.1.0 was told --precision int8: fp32 beside its rows would be mixed in without a word."""
    left_by_0_1_0(place, "int8")
    for asked in ("auto", "int8"):
        plan = adoption.adopt(place, planned(precision=asked), None).plan
        assert [(head.precision, head.is_settled) for head in plan.heads.values()] == [("int8", False)] * 2
    with pytest.raises(
        DestinationError, match=r"int8 there and not known .*, fp32 now; give `tonearm tag --precision int8`"
    ):
        adoption.adopt(place, planned(precision="fp32"), None)


def test_a_new_head_is_settled_now(place: Destination) -> None:
    stored = tagged(place, tag_model=None)
    assert set(stored) == {"read", "genre"}
    plan, adopted = adoption.adopt(place, planned(), None)
    assert [head.is_settled for head in plan.heads.values()] == [True, False]
    both = adoption.settled(settle(plan, "cpu"), adopted)
    assert both["genre"] == stored["genre"]
    assert set(both) == {"read", "genre", "tags"}


def test_other_models_are_refused_unless_they_are_to_be_rescored(place: Destination) -> None:
    tagged(place)
    other = dataclasses.replace(planned(), models=ModelSettings(**demo.models()))
    info = dataclasses.replace(other.heads["tags"].checkpoint, revision="sha256:other")
    other = dataclasses.replace(
        other, heads={**other.heads, "tags": dataclasses.replace(other.heads["tags"], checkpoint=info)}
    )
    with pytest.raises(DestinationError, match=r"tags model: .*/tags \(sha256:.* there, .*/tags \(sha256:other\) now"):
        adoption.adopt(place, other, None)
    plan, stored = adoption.adopt(place, other, None, ["tags"])
    assert set(stored) == {"read", "genre"}, "what is there of the group counts for nothing"
    assert not plan.heads["tags"].is_settled
    new = adoption.settled(settle(plan, "cpu"), stored)
    assert new["tags"].facts["model"] == "sha256:other"
    groups.write(place, new)
    again = adoption.adopt(place, other, None, ["tags"]).groups
    assert "tags" in again, "the same command goes on, and does not begin anew"
    with pytest.raises(UsageError, match="got --rescore mood, expected one of the groups of this run: genre, tags"):
        adoption.adopt(place, other, None, ["mood"])


def test_the_runtime_is_adopted_where_it_can_be_and_refused_by_name_only(place: Destination) -> None:
    stored = adoption.noted(tagged(place), {"genre": {"runtime": "torch"}, "tags": {"runtime": "openvino"}})
    groups.write(place, stored)
    plan = adoption.adopt(place, planned(), None).plan
    assert [head.runtime for head in plan.heads.values()] == ["torch", "auto"]
    with pytest.raises(DestinationError, match=r": runtime: torch there, openvino now"):
        adoption.adopt(place, planned(runtime="openvino"), None)
    assert adoption.noted(stored, {"genre": {"runtime": "openvino"}}) == stored, "the first run settled it"


def test_an_unpinned_hub_id_keeps_the_revision_that_it_had(place: Destination) -> None:
    """`main` has moved on since; the run describes the commit of the first run."""
    asked: list[str | None] = []

    def describe(source: str, *, revision: str | None = None) -> Any:
        asked.append(revision)
        info = planned_info[source]
        return dataclasses.replace(info, name=source, revision=revision or "b" * 40)

    planned_info = {f"owner/{head}": each.checkpoint for head, each in planned().heads.items()}
    hub = {"genre_model": "owner/genre", "tag_model": "owner/tags"}
    with mock.patch("tonearm.tagging.plan.describe_checkpoint", describe):
        first = planned(**hub, genre_revision="a" * 40, tag_revision="a" * 40)
        groups.write(place, adoption.settled(settle(first, "cpu"), {}))
        plan = adoption.adopt(place, planned(**hub), None).plan
        assert {each.revision for each in plan.heads.values()} == {"a" * 40}
        with pytest.raises(DestinationError, match="genre model: owner/genre"):
            adoption.adopt(place, planned(**hub, genre_revision="c" * 40), None)


def test_a_group_whose_facts_contradict_its_hash_is_made_anew_when_asked_to(place: Destination) -> None:
    tagged(place)
    path = Path(place.join("_checkpoint", "groups.json"))
    path.write_text(path.read_text().replace(groups.read(place)["genre"].hash, "0" * 16))
    with pytest.raises(DestinationError, match=r"contradicts itself.*--rescore genre"):
        adoption.adopt(place, planned(), None)
    plan, stored = adoption.adopt(place, planned(), None, ["genre"])
    assert set(stored) == {"read", "tags"}
    assert not plan.heads["genre"].is_settled
