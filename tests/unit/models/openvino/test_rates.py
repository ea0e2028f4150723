"""Which precision is fastest is measured once for a model on a processor; one that gains nothing is not used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.checkpoints import save_small
from tests.converted import RATE
from tonearm.errors import SettingsError
from tonearm.models.checkpoint import CheckpointInfo
from tonearm.models.openvino import cache, processor, rates, select
from tonearm.models.openvino.cache import Converted, Int8Check
from tonearm.planning import preparation
from tonearm.planning.adoption import planned as planned_heads
from tonearm.settings import ModelSettings, TagSettings
from tonearm.tagging import TagPlan

HERE, ELSEWHERE = "a processor", "another one"
SAMPLES, THREADS = 16000, 2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, on a processor with bf16 whose name is known."""
    monkeypatch.setenv("TONEARM_CACHE", str(tmp_path / "cache"))
    for module in (rates, select, preparation):
        monkeypatch.setattr(module, "has_bf16", lambda: True)
    monkeypatch.setattr(rates, "processor_name", lambda: HERE)
    return tmp_path


def converted_form(
    rates_s: Mapping[str, float], *, name: str = HERE, digest: str = "sha256:0123", info: CheckpointInfo | None = None
) -> Converted:
    """Return a converted checkpoint of which these windows a second were measured.

    Args:
        info: what it says of its model, if a model is described by it.
    """
    place = cache.place_of(digest)
    place.mkdir(parents=True)
    facts = {"format": cache.FORMAT, "checkpoint": digest}
    described = {} if info is None else dataclasses.asdict(info)
    for decided_elsewhere in ("name", "revision", "sidecar"):
        described.pop(decided_elsewhere, None)
    (place / "facts.json").write_text(json.dumps({**facts, "info": described}))
    measured = {
        f"{precision} {SAMPLES} {THREADS}": {"1x2": rate / 2, "2x1": rate} for precision, rate in rates_s.items()
    }
    Path(f"{place}.rates.json").write_text(json.dumps({name: measured}))
    return Converted(place)


@pytest.mark.parametrize(
    ("bf16", "faster"), [(2.7, "bf16"), (1.06, "bf16"), (1.04, "fp32"), (0.82, "fp32")], ids=lambda value: str(value)
)
@pytest.mark.usefixtures("home")
def test_int8_gives_way_to_the_faster_of_the_other_two(bf16: float, faster: str) -> None:
    form = converted_form({"fp32": 1.0, "bf16": bf16})
    assert rates.next_best(form, SAMPLES, THREADS) == faster


@pytest.mark.usefixtures("home")
def test_a_precision_that_gains_nothing_is_told_with_its_figures() -> None:
    form = converted_form({"fp32": 4.0, "bf16": 3.28, "int8": 4.1})
    assert rates.no_gain(form, "fp32", SAMPLES, THREADS) is None
    assert rates.no_gain(form, "bf16", SAMPLES, THREADS) == (
        f"it gains nothing here: 3.28 windows/s, 4.00 in fp32, on {HERE} with 2 threads"
    )
    assert "4.10 windows/s, 4.00 in fp32" in str(rates.no_gain(form, "int8", SAMPLES, THREADS))


@pytest.mark.usefixtures("home")
def test_what_gains_is_used() -> None:
    form = converted_form({"fp32": 1.0, "bf16": 2.7, "int8": 4.3})
    assert rates.no_gain(form, "bf16", SAMPLES, THREADS) is rates.no_gain(form, "int8", SAMPLES, THREADS) is None


def test_another_processors_rates_say_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(message: Mapping[str, object]) -> str:
        asked.append(message["precision"])
        return 'a line of a library\n{"1x2": 2.0}\n'

    monkeypatch.setattr(rates, "run_child", measured)
    form = converted_form({"fp32": 4.0, "bf16": 1.0}, name=ELSEWHERE)
    assert rates.next_best(form, SAMPLES, THREADS) == rates.next_best(form, SAMPLES, THREADS) == "fp32"
    assert asked == ["fp32", "bf16"], "measured once"
    assert set(json.loads(next((home / "cache").rglob("*.rates.json")).read_text())) == {HERE, ELSEWHERE}
    assert [str(rate) for rate in rates.known_rates(form.digest)] == [
        "fp32 2 windows/s (2 threads)",
        "bf16 2 windows/s (2 threads)",
    ]


@pytest.mark.usefixtures("home")
def test_nothing_is_loaded_to_say_that_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "processor_name", lambda: pytest.fail("the processor was asked for"))
    assert rates.known_rates("sha256:none") == []


def planned(folder: Path, **models: object) -> TagPlan:
    """Return the plan of a run with one head, whose model counts as a large one."""
    settings = ModelSettings(genre_model=str(folder), tag_model=None, genre_window_s=1.0, **models)  # type: ignore[arg-type]
    plan = planned_heads(settings, None, 3600.0)
    head = plan.heads["genre"]
    large = dataclasses.replace(head.checkpoint, num_parameters=select.MIN_PARAMETERS)
    return dataclasses.replace(plan, heads={"genre": dataclasses.replace(head, checkpoint=large)})


@pytest.fixture
def slow_bf16(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder whose passes in bf16 were measured as slower than those in fp32."""
    folder = save_small(home / "model", "hubert")
    plan = planned(folder)
    info = plan.heads["genre"].checkpoint
    form = converted_form({"fp32": 4.0, "bf16": 3.28, "int8": 9.0}, digest=info.revision, info=info)
    monkeypatch.setattr(select, "convert", lambda *given: select.Conversion(form))
    monkeypatch.setattr(preparation.runtimes, "usable_cores", lambda: THREADS)
    return folder


def test_a_run_in_a_slower_bf16_is_refused_before_any_work(slow_bf16: Path) -> None:
    with pytest.raises(SettingsError, match=r"^got precision bf16 for model, but it gains nothing here: 3\.28 .*force"):
        preparation.prepare(planned(slow_bf16, precision="bf16"), TagSettings(), [], print)
    forced = planned(slow_bf16, precision="bf16", force_precision=True)
    assert preparation.prepare(forced, TagSettings(), [], print).heads["genre"].precision == "bf16"


def test_a_server_in_a_slower_bf16_is_refused(slow_bf16: Path) -> None:
    plan = planned(slow_bf16, precision="bf16")
    with pytest.raises(SettingsError, match="got precision bf16 for model"):
        preparation.check_gains(plan.heads, plan.models)
    preparation.check_gains(plan.heads, dataclasses.replace(plan.models, force_precision=True))


def test_a_refused_int8_takes_the_faster_of_the_other_two(slow_bf16: Path) -> None:
    plan = planned(slow_bf16, precision="int8")
    spoiled = Int8Check(20, 100, 0.5, 0.1)
    (cache.place_of(plan.heads["genre"].checkpoint.revision) / "int8.json").write_text(json.dumps(vars(spoiled)))
    head = preparation.prepare(plan, TagSettings(), [], print).heads["genre"]
    assert head.precision == "fp32" and head.note.startswith("not int8: the first label is the same in 50.0%")


def test_an_int8_that_gains_nothing_gives_way(slow_bf16: Path) -> None:
    plan = planned(slow_bf16, precision="int8")
    digest = plan.heads["genre"].checkpoint.revision
    (cache.place_of(digest) / "int8.json").write_text(json.dumps(vars(Int8Check(20, 100, 1.0, 0.001))))
    assert preparation.prepare(plan, TagSettings(), [], print).heads["genre"].precision == "int8"
    path = Path(f"{cache.place_of(digest)}.rates.json")
    path.write_text(path.read_text().replace("9.0", "3.9").replace("4.5", "1.9"))
    head = preparation.prepare(plan, TagSettings(), [], print).heads["genre"]
    assert head.precision == "fp32" and "3.90 windows/s, 4.00 in fp32" in head.note


def test_the_processor_has_a_name() -> None:
    assert processor.processor_name().strip()


@pytest.mark.processes
def test_streams_are_measured_once_for_each_number_of_threads(
    form: Converted, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tonearm.models.openvino import runtime as openvino_runtime

    asked = []

    def measured(_: Converted, precision: str, window: NDArray[np.float32], threads: int) -> dict[str, float]:
        asked.append((precision, len(window), threads))
        return {"1x2": 1.0, "2x1": 2.0}

    monkeypatch.setattr(openvino_runtime, "measure_streams", measured)
    assert [rates.fastest_streams(form, "fp32", RATE, 2) for _ in range(2)] == [2, 2]
    assert asked == [("fp32", RATE, 2)]
    assert rates.fastest_streams(form, "fp32", RATE, 1) == 1
    (kept,) = model_cache.glob("*.rates.json")
    kept.write_text(kept.read_text()[:10])  # as a full disk leaves it
    assert rates.fastest_streams(form, "fp32", RATE, 2) == 2
    assert len(asked) == 2
    kept.unlink()
