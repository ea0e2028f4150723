"""Cost by stage: what is counted where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bench import cost, floor
from bench.cost import Cost, Meters, Model
from bench.processor_time import ACTOR, DRIVER, TASKS, ProcessorTime, kind_of, processor_s


def lines(folder: Path, kind: str, *rows: dict[str, object], pid: int = 1) -> None:
    (folder / f"{kind}-{pid}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def meters(tmp_path: Path) -> Meters:
    mp3, flac = ({"format": name, "is_first": False} for name in ("mp3", "flac"))
    lines(tmp_path, "decode", mp3 | {"is_first": True, "decode": 9.0}, flac | {"decode": 0.3}, mp3 | {"decode": 0.4})
    lines(tmp_path, "decode", flac | {"decode": 0.5}, mp3 | {"decode": 0.6}, pid=2)
    lines(
        tmp_path,
        "score",
        {"num_tracks": 2, "features": 5.0, "forward": 7.0},
        {"num_tracks": 2, "features": 0.4, "forward": 1.0},
        {"num_tracks": 1, "features": 0.5, "forward": 0.5},
    )
    lines(tmp_path, "loading", {"seconds": 3.0, "tags": {}})
    return Meters.read(tmp_path)


def test_a_childs_start_and_the_first_block_are_of_no_track(meters: Meters) -> None:
    assert meters.decode_s() == pytest.approx({"flac": 0.4, "mp3": 0.5})
    assert meters.stage_s("features", 1) == pytest.approx(0.9 / 3)
    assert meters.stage_s("forward", 1) == pytest.approx(1.5 / 3)


def test_everything_else_is_what_is_neither_decoding_nor_loading_nor_scoring(meters: Meters) -> None:
    by_kind = {"decoders' children": 11.0, ACTOR: 20.0, DRIVER: 4.0}
    assert cost.other_s(by_kind, meters) == pytest.approx({ACTOR: 20.0 - (3.0 + 5.9 + 8.5), DRIVER: 4.0})


def test_what_a_run_costs_whatever_its_length_is_of_no_track() -> None:
    per_track = cost.per_track({DRIVER: 4.0, TASKS: 2.0}, {DRIVER: 5.5, TASKS: 2.0, "new": 3.0}, 15)
    assert per_track == pytest.approx({DRIVER: 0.1, TASKS: 0.0, "new": 0.2})


def test_the_table_has_medians_and_the_share_of_everything_else() -> None:
    tagged = [Cost({"mp3": 0.4, "flac": 0.3}, 0.2, 0.3, other, start=12.0) for other in (0.1, 5.0, 0.0)]
    alone = Cost({"mp3": 0.4, "flac": 0.3}, 0.2, 0.3, 0.01)
    shown = cost.show({"mn04": {cost.TAGGED: tagged, cost.ALONE: [alone]}}).splitlines()
    assert shown[2] == "| mn04, `tonearm tag` | 0.400 | 0.300 | 0.200 | 0.300 | 0.100 (10.0%) | 1.00 | 0.90 | 12.0 |"
    assert shown[3] == "| mn04, one process | 0.400 | 0.300 | 0.200 | 0.300 | 0.010 (1.1%) | 0.91 | 0.81 |  |"


def test_what_is_written_for_other_benchmarks_adds_up() -> None:
    stages = cost.medians([Cost({"mp3": 0.4, "flac": 0.3}, 0.2, forward, 0.1) for forward in (0.3, 9.0, 0.2)])
    assert stages == pytest.approx({"decode": 0.4, "features": 0.2, "forward": 0.3, "other": 0.1, "whole": 1.0})


def test_the_goals_are_for_both_ways() -> None:
    tagged, alone = (Cost({"mp3": 0.4, "flac": 0.3}, 0.2, 0.3, other) for other in (0.3, 0.0))
    whole, share, alone_whole, _ = cost.figures({"mn04": {cost.TAGGED: [tagged], cost.ALONE: [alone]}})
    assert (whole.median, whole.goal) == (pytest.approx(1.2), 1.0)
    assert "missed" in whole.row() and "met" in alone_whole.row()
    assert (share.median, share.goal) == (pytest.approx(0.25), 0.15)
    assert [figure.goal for figure in cost.figures({"AST fp32": {cost.TAGGED: [tagged]}})] == [0.15]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("python -P -m tonearm.audio.sandbox_child 1 2 3", "decoders' children"),
        ("ray::MapWorker(MapBatches(ScoreTracks))", ACTOR),
        ("ray::MapBatches(decode_tracks)", TASKS),
        ("/lib/ray/core/src/ray/raylet/raylet --x", "Ray's own"),
        ("python /lib/ray/_private/log_monitor.py", "Ray's own"),
        ("ray::DashboardAgent", "Ray's own"),
        ("ray::_StatsActor", "Ray's own"),
        ("ray::_Totals", "counters"),
        ("ray::IDLE", TASKS),
    ],
)
def test_processes_are_told_apart_by_their_command_lines(line: str, kind: str) -> None:
    assert kind_of(line) == kind


def test_the_processor_time_of_this_process_is_that_of_its_own_clock() -> None:
    before = time.process_time()
    sum(range(200_000))
    assert before <= processor_s(os.getpid()) <= time.process_time() + 0.02


def test_a_process_that_is_gone_has_no_processor_time() -> None:
    with pytest.raises(OSError):
        processor_s(2**22 + 1)


def test_what_it_looks_at_is_the_driver_and_all_below() -> None:
    times = ProcessorTime()
    times.look()
    assert times.by_kind()[DRIVER] == pytest.approx(time.process_time(), abs=0.5)


@pytest.mark.processes
def test_a_process_that_ends_stays_what_it_was() -> None:
    """A process that is ending has no command line any more."""
    times = ProcessorTime()
    child = subprocess.Popen([sys.executable, "-c", "input()", "sandbox_child"], stdin=subprocess.PIPE)
    try:
        times.look()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        times.look()
    finally:
        child.kill()
        child.communicate()
    assert times.kinds[child.pid] == "decoders' children"


def test_a_model_is_measured_once_it_is_given() -> None:
    names = [model.name for model in cost.models(Path("x"), yamnet=None, musicnn=False)]
    assert names == ["AST fp32", "AST int8", "DistilHuBERT fp32", "DistilHuBERT int8", "mn04"]
    every = list(cost.models(Path("x"), yamnet=Path("yamnet"), musicnn=True))
    assert Model("YAMNet", "yamnet", "fp32", *cost.MANY) in every and len(every) == 8


def test_the_floor_is_of_each_format_and_rate(tmp_path: Path) -> None:
    path = tmp_path / "short.flac"
    soundfile.write(path, np.zeros((4410, 2)), 44100)
    text = floor.show({"flac": path}, 0.1)
    assert re.fullmatch(
        r"The floor of decoding.*alone FLAC 0\.\d+; soxr alone to 16 kHz 0\.\d+, to 32 kHz 0\.\d+\.", text
    )
