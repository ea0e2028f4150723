"""What may be a head's fallback, what is known of it before a run, and what a destination keeps of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cascades import THRESHOLD, save_student, save_teacher
from tonearm import demo
from tonearm.api.flags import tag_settings
from tonearm.cli.settings_flags import read_fallback_flags
from tonearm.errors import CheckpointError, DestinationError, SettingsError, UsageError
from tonearm.heads import FallbackSettings, HeadSettings
from tonearm.models.calibration import Calibration, read_sidecar, write_sidecar
from tonearm.planning import adoption
from tonearm.planning.preparation import settle
from tonearm.runs import groups
from tonearm.runs.counts import WindowCounts
from tonearm.runs.destination import Destination
from tonearm.settings import ModelSettings
from tonearm.tagging import TagPlan, fallback_name
from tonearm.tagging.fallbacks import other_teachers


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher") / "large")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    return save_student(tmp_path_factory.mktemp("student") / "small", teacher)


def planned(student: Path, fallback: dict[str, str], max_windows: int | None = None, **models: Any) -> TagPlan:
    asked = {name: FallbackSettings.parse(text, name) for name, text in fallback.items()}
    heads = {"vectors": HeadSettings(demo.genre_model_path(), "embedding")}
    settings = ModelSettings(genre_model=str(student), tag_model=None, heads=heads, **models)
    return adoption.planned(settings, max_windows, 14400.0, fallback=asked)


def test_a_student_asks_below_the_threshold_that_it_brings(student: Path, teacher: Path) -> None:
    plan = planned(student, {"genre": str(teacher)})
    fallback = plan.heads["genre"].fallback
    assert fallback is not None and plan.heads["vectors"].fallback is None
    assert (fallback.threshold, fallback.share) == (THRESHOLD, 0.3)
    labels = plan.heads["genre"].checkpoint.labels
    assert [fallback.model.checkpoint.labels[place] for place in fallback.order] == list(labels)
    assert fallback.order == tuple(range(len(labels)))[::-1]
    assert list(plan.unfolded().heads) == ["genre", "genre's fallback", "vectors"]
    assert other_teachers(plan) == []


@pytest.mark.parametrize(("given", "share"), [("0", 0.0), ("0.3", 0.15), ("0.45", 0.4), ("0.75", 0.75), ("1", 1.0)])
def test_another_threshold_has_the_share_that_the_curve_says(
    student: Path, teacher: Path, given: str, share: float
) -> None:
    fallback = planned(student, {"genre": f"{teacher}:{given}"}).heads["genre"].fallback
    assert fallback is not None and fallback.threshold == float(given)
    assert fallback.share == pytest.approx(share)


def test_a_threshold_makes_any_model_one_that_asks(teacher: Path) -> None:
    fallback = planned(Path(demo.genre_model_path()), {"genre": f"{teacher}:0.5"}).heads["genre"].fallback
    assert fallback is not None and (fallback.threshold, fallback.share) == (0.5, None)


def test_another_teacher_than_the_thresholds_is_said(student: Path, tmp_path: Path) -> None:
    other = save_teacher(tmp_path / "other", scale=2.0)
    (line,) = other_teachers(planned(student, {"genre": str(other)}))
    assert (
        line.startswith("genre: small asks below 0.4, which was found with large (sha256:") and "not with other" in line
    )


REFUSED = {
    "no such head": ({"mood": "{teacher}"}, {}, "got --fallback mood=, expected a head of this run: genre, vectors"),
    "itself": ({"genre": "{student}"}, {}, "which is the model of genre itself; give its teacher"),
    "no labels": ({"vectors": "{teacher}"}, {}, "vectors has an embedding alone, which is always its own model's"),
    "no threshold": (
        {"genre": "{teacher}"},
        {"genre_model": demo.genre_model_path()},
        "genre does not say when it is unsure; make a student that does with `tonearm distill ",
    ),
    "no model": ({"genre": "/no/such/folder"}, {}, "no model folder /no/such/folder"),
    "other kind": ({"genre": demo.tag_model_path()}, {}, "--fallback genre=: tags lacks "),
}


@pytest.mark.parametrize("given", ["-1", "2", "1e400", "nan", "-inf", "0,5", "half", ""])
def test_what_no_score_can_be_is_no_threshold(given: str) -> None:
    """It is not taken for the end of a model's name, which would be looked for on the hub."""
    with pytest.raises(SettingsError, match=f"^genre: got the threshold {given!r}, expected a score from 0 to 1$"):
        FallbackSettings.parse(f"models/large:{given}", "genre")


def test_a_colon_in_the_name_of_a_model_begins_no_threshold(tmp_path: Path) -> None:
    (tmp_path / "large:old").mkdir()
    for model in (str(tmp_path / "large:old"), "s3://models/large"):
        assert FallbackSettings.parse(model, "genre") == FallbackSettings(model)
        assert FallbackSettings.parse(f"{model}:0.5", "genre") == FallbackSettings(model, 0.5)


@pytest.mark.parametrize("name", REFUSED)
def test_bad_fallbacks_are_one_line_before_any_work(student: Path, teacher: Path, name: str) -> None:
    fallback, models, says = REFUSED[name]
    asked = {head: text.format(student=student, teacher=teacher) for head, text in fallback.items()}
    settings = {"genre_model": str(student), "tag_model": None, **models}
    heads = {"vectors": HeadSettings(demo.genre_model_path(), "embedding")}
    with pytest.raises(UsageError) as refused:
        parsed = {head: FallbackSettings.parse(text, head) for head, text in asked.items()}
        adoption.planned(ModelSettings(heads=heads, **settings), None, 14400.0, fallback=parsed)  # type: ignore[arg-type]
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_calibrated_scores_have_no_fallback(student: Path, teacher: Path, tmp_path: Path) -> None:
    """A calibration was fitted to the head's own scores, and both models' would be in one column."""
    shutil.copytree(student, tmp_path / "small")
    fitted = Calibration(1.5, {}, 0.9)
    write_sidecar(tmp_path / "small", dataclasses.replace(read_sidecar(student), calibration=fitted))
    with pytest.raises(UsageError, match="got --calibrated and --fallback genre=, but the calibration of small"):
        planned(tmp_path / "small", {"genre": str(teacher)}, calibrated=True)


def test_other_labels_are_named(student: Path, tmp_path: Path) -> None:
    other = save_teacher(tmp_path / "other", labels={planned(student, {}).heads["genre"].checkpoint.labels[0]: "polka"})
    with pytest.raises(
        CheckpointError, match=r"other lacks \w+ and has polka besides, expected the \d+ labels of small"
    ):
        planned(student, {"genre": str(other)})


def test_a_fallback_that_takes_no_such_windows_is_refused(student: Path, teacher: Path) -> None:
    """A head's windows are as long as its own model's, which may be longer than another model takes."""
    plan = planned(student, {"genre": str(teacher)})
    head, fallback = plan.heads["genre"], plan.heads["genre"].fallback
    assert fallback is not None
    assert fallback.model.windows.window_s == pytest.approx(head.window_s)
    from tonearm.tagging import fallbacks

    small = dataclasses.replace(fallback.model.checkpoint, native_window_s=head.window_s / 2)
    with pytest.raises(
        CheckpointError, match=r"--fallback genre=: large takes at most .*; give models\.genre_window_s = "
    ):
        fallbacks._windows_at_rate_of("genre", head, small)


def test_flags_and_files_say_the_same(tmp_path: Path) -> None:
    assert read_fallback_flags(["tags=models/large", "mood=s3://b/m:0.4"]) == {
        "tags": "models/large",
        "mood": "s3://b/m:0.4",
    }
    for texts, says in ((["tags"], "expected HEAD=MODEL"), (["tags=a", "tags=b"], "got --fallback tags= twice")):
        with pytest.raises(SettingsError, match=says):
            read_fallback_flags(texts)
    file = tmp_path / "t.toml"
    file.write_text(
        "[tag.fallback]\ntags = 'large:0.25'\ngenre = {model = 'other', threshold = 0.5, revision = 'v1'}\n"
    )
    settings = tag_settings({"config": file, "fallback": {"genre": Path("models/new")}})
    assert settings.fallback == {"tags": FallbackSettings("large", 0.25), "genre": FallbackSettings("models/new")}
    assert tag_settings({"config": file, "fallback": {"tags": "none"}}).fallback == {
        "genre": FallbackSettings("other", 0.5, "v1")
    }
    for text, says in (("tags = 'large:1.5'", "from 0 to 1"), ("tags = {}", "expected a model"), ("tags = 3", "got 3")):
        file.write_text(f"[tag.fallback]\n{text}\n")
        with pytest.raises(SettingsError, match=says):
            tag_settings({"config": file})
    with pytest.raises(SettingsError, match="got fallback='large', expected models by name"):
        tag_settings({"fallback": "large"})


def tagged(place: Destination, plan: TagPlan) -> dict[str, groups.Group]:
    """Leave behind what a first run leaves behind."""
    stored = adoption.settled(settle(plan, "cpu"), groups.read(place))
    groups.write(place, stored)
    return stored


def test_the_settings_hash_has_the_model_and_the_threshold(student: Path, teacher: Path, tmp_path: Path) -> None:
    other = save_teacher(tmp_path / "other", scale=2.0)
    asked = [{}, {"genre": str(teacher)}, {"genre": f"{teacher}:0.5"}, {"genre": str(other)}]
    hashes = [
        {
            name: group.hash
            for name, group in tagged(Destination.of(str(tmp_path / f"{n}")), planned(student, each)).items()
        }
        for n, each in enumerate(asked)
    ]
    assert len({each["genre"] for each in hashes}) == len(asked)
    assert len({each["vectors"] for each in hashes}) == 1
    explicit = planned(student, {"genre": f"{teacher}:{THRESHOLD}"})
    assert tagged(Destination.of(str(tmp_path / "x")), explicit)["genre"].hash == hashes[1]["genre"]


@pytest.mark.parametrize("first", ["none", "teacher"])
@pytest.mark.parametrize("then", ["none", "teacher", "other threshold"])
def test_another_fallback_is_refused_in_one_line(
    student: Path, teacher: Path, tmp_path: Path, first: str, then: str
) -> None:
    given: dict[str, dict[str, str]] = {
        "none": {},
        "teacher": {"genre": str(teacher)},
        "other threshold": {"genre": f"{teacher}:0.5"},
    }
    place = Destination.of(str(tmp_path / "out"))
    before = tagged(place, planned(student, given[first]))
    plan = planned(student, given[then])
    if first == then:
        adopted, stored = adoption.adopt(place, plan, None)
        assert all(head.is_settled for head in adopted.unfolded().heads.values())
        assert adoption.settled(settle(adopted, "cuda"), stored) == before, "a GPU adopts its precision too"
        return
    with pytest.raises(DestinationError) as refused:
        adoption.adopt(place, plan, None)
    says = str(refused.value)
    assert "genre fallback: " in says and "\n" not in says and "`tonearm tag --rescore genre`" in says
    if first == "none":
        assert "genre fallback: none there, " in says and "leave out --fallback to add to it" in says
    else:
        assert f"give `tonearm tag --fallback genre={teacher}:{THRESHOLD}` to add to it" in says
    again, _ = adoption.adopt(place, plan, None, ["genre"])
    assert not again.heads["genre"].is_settled, "which --rescore makes again"


def test_facts_that_are_gone_are_known_again_by_the_rows(student: Path, teacher: Path) -> None:
    plan = planned(student, {"genre": str(teacher)})
    facts = plan.facts()["genre"]
    hashes = {groups.Group(each).hash for each in adoption._settled_facts(facts)}
    assert groups.Group(settle(plan, "cpu").facts()["genre"]).hash in hashes
    assert len(hashes) == len(adoption.SETTLED_PRECISIONS) ** 2


def test_a_destination_keeps_both_models_and_the_windows_sent_on(student: Path, teacher: Path, tmp_path: Path) -> None:
    place = Destination.of(str(tmp_path / "out"))
    stored = tagged(place, planned(student, {"genre": str(teacher)}))
    described = {name: {"runtime": "openvino"} for name in ("genre", fallback_name("genre"), "vectors")}
    for counts in (WindowCounts(100, 12), WindowCounts(50, 3)):
        stored = adoption.noted(stored, described, {"genre": counts})
    groups.write(place, stored)
    kept = json.loads((tmp_path / "out" / "_checkpoint" / "groups.json").read_text())["groups"]["genre"]
    fallback = planned(student, {"genre": str(teacher)}).heads["genre"].fallback
    assert fallback is not None
    assert kept["facts"]["fallback"] == {
        "model": fallback.model.checkpoint.revision,
        "threshold": THRESHOLD,
        "precision": "fp32",
    }
    assert kept["settled"] == {
        "source": str(student),
        "runtime": "openvino",
        "fallback": {"source": str(teacher), "runtime": "openvino", "num_windows": 150, "num_sent": 15},
    }
