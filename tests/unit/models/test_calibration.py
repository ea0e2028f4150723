"""``tonearm.json`` is read as written, keeps keys that are not known, and is refused where it makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.broken_checkpoints import assert_refused, describe
from tests.graphs import MEL, described, put_sidecar
from tonearm.errors import CheckpointError
from tonearm.models.calibration import SCHEMA, Calibration, TonearmSidecar, read_sidecar, write_sidecar
from tonearm.models.exported.description import parse

FITTED = Calibration(1.5, {"quiet": 0.25, "loud": None}, 0.9)


def stored(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tonearm.json").read_text())
    return found


@pytest.mark.parametrize("front_end", [None, MEL])
def test_a_description_is_read_as_it_was_written(tmp_path: Path, front_end: Any) -> None:
    more = {"hop_s": 0.25, "padding": "repeat", "licence": "MIT", "scores_output": "scores", "embedding_output": 1}
    made = parse(described("wave.xml", **({"front_end": front_end} if front_end else {}), **more))
    write_sidecar(tmp_path, TonearmSidecar(model=made, calibration=FITTED))
    assert read_sidecar(tmp_path) == TonearmSidecar(None, FITTED, made)
    assert stored(tmp_path)["schema"] == SCHEMA


def test_files_of_before_are_of_schema_1(tmp_path: Path) -> None:
    put_sidecar(
        tmp_path, window_s=2.0, calibration={"temperature": 1.5, "thresholds": {"quiet": 0.25}, "precision": 0.9}
    )
    assert read_sidecar(tmp_path) == TonearmSidecar(2.0, Calibration(1.5, {"quiet": 0.25}, 0.9))


def test_unknown_keys_are_kept_by_whatever_rewrites_the_file(tmp_path: Path) -> None:
    model = {**described("wave.xml", MEL), "quantized": True}
    model["front_end"] = {**MEL, "dither": 0.1}
    put_sidecar(tmp_path, schema=1, model=model, teacher="somebody/else", cascade={"below": 0.3})
    before = read_sidecar(tmp_path)
    write_sidecar(tmp_path, TonearmSidecar(before.window_s, FITTED, before.model))
    after = stored(tmp_path)
    assert (after["teacher"], after["cascade"]) == ("somebody/else", {"below": 0.3})
    assert (after["model"]["quantized"], after["model"]["front_end"]["dither"]) == (True, 0.1)
    assert after["model"]["front_end"]["n_fft"] == 256
    assert read_sidecar(tmp_path) == TonearmSidecar(None, FITTED, before.model)


def test_what_is_taken_out_is_gone(tmp_path: Path) -> None:
    write_sidecar(tmp_path, TonearmSidecar(2.0, FITTED))
    write_sidecar(tmp_path, TonearmSidecar(2.0))
    assert stored(tmp_path) == {"schema": SCHEMA, "window_s": 2.0}


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    put_sidecar(tmp_path, schema=SCHEMA + 1, model={"everything": "is elsewhere"})
    for use in (read_sidecar, lambda folder: write_sidecar(folder, TonearmSidecar(2.0))):
        with pytest.raises(
            CheckpointError, match="has schema 2, and this tonearm knows schemas up to 1; install a newer"
        ):
            use(tmp_path)
    assert stored(tmp_path)["model"] == {"everything": "is elsewhere"}


@pytest.mark.parametrize("schema", ["1", 0, True, None, 1.5])
def test_a_schema_that_is_no_number_is_refused(tmp_path: Path, schema: Any) -> None:
    with pytest.raises(CheckpointError, match="cannot be understood"):
        read_sidecar(put_sidecar(tmp_path, schema=schema))


@pytest.mark.parametrize(
    "values",
    [
        "[]",
        {"window_s": 0},
        {"window_s": True},
        {"window_s": float("inf")},
        {"calibration": {"temperature": float("nan"), "thresholds": {}, "precision": 0.9}},
        {"calibration": {"temperature": 1, "thresholds": {"a": float("inf")}, "precision": 0.9}},
    ],
)
def test_an_odd_companion(broken: Path, values: Any) -> None:
    (broken / "tonearm.json").write_text(values if isinstance(values, str) else json.dumps(values))
    assert_refused(broken, "cannot be understood", describe)
