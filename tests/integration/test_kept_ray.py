"""Runs in a process that keeps its Ray, as a notebook after ``ray.init()`` does: each leaves nothing behind on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment

# Collecting garbage would end actors that only reference cycles hold, at some time; what is left must not need it.
PROGRAM = """
import gc, json, os, shutil, signal, sys, time
from pathlib import Path

gc.disable()
import ray
import tonearm
from tests import rays
from tonearm.watchers import Watcher

SOURCE, OUT = sys.argv[1:]


class Breaker(Watcher):
    # Breaks the run off once `when` so many tracks are scored, by `how`.
    def __init__(self, when, how):
        self.when, self.how = when, how

    def progress(self, counts):
        if self.how is not None and counts.num_tracks >= self.when:
            self.how, how = None, self.how
            how()


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def break_folder():
    shutil.rmtree(Path(OUT) / "tracks")
    (Path(OUT) / "tracks").touch()


def actors():
    # The run's processes that hold a model or its counters; those of the Ray say which folder they have.
    titles = [" ".join(rays.cmdline(process)) for process in rays.processes_under(os.environ["RAY_TMPDIR"])]
    return [title for title in titles if "ScoreTracks" in title or "_Totals" in title]


def free_in(limit_s):
    # Seconds until every logical CPU of the Ray is free again and the run's actors are gone.
    started = time.monotonic()
    while ray.available_resources().get("CPU", 0) < 2 or actors():
        if time.monotonic() - started > limit_s:
            return None
        time.sleep(0.1)
    return time.monotonic() - started


def tag(when=0, how=None):
    started = time.monotonic()
    try:
        tonearm.tag(SOURCE, out=OUT, demo_models=True, watcher=Breaker(when, how), workers=1)
        error = None
    except tonearm.errors.TonearmError as ended:
        error = ended
        kept.append(ended)  # as a notebook keeps the last traceback
    return {"error": error and error.message, "wall_s": time.monotonic() - started, "free_in_s": free_in(30)}


kept = []
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
runs, rows = {}, None
ends = {"starting": (0, ctrl_c), "midway": (2, ctrl_c), "writing": (2, break_folder), "whole": (0, None)}
for name, (when, how) in ends.items():
    runs[name] = tag(when, how)
    if runs[name]["free_in_s"] is None:
        break  # the next run would wait for ever
    (Path(OUT) / "tracks").is_file() and (Path(OUT) / "tracks").unlink()
else:
    rows = len(tonearm.open(OUT).tracks(columns=["uri"]))
print(json.dumps({"runs": runs, "rows": rows}))
"""


@pytest.mark.slow
def test_a_run_that_breaks_off_frees_a_ray_that_is_kept(music: Path, tmp_path: Path) -> None:
    """However a run ends, its scoring actors end with it, and the next run in the same process starts at once."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(music), str(tmp_path / "out")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert ended.returncode == 0, ended.stderr[-6000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    runs = found["runs"]
    for name in ("starting", "midway", "writing"):
        assert runs[name]["error"], (name, runs)
        assert runs[name]["free_in_s"] is not None, f"actors stay after {name}: {runs}"
        assert runs[name]["free_in_s"] < 10, (name, runs)
    assert runs["whole"]["error"] is None, runs
    assert runs["whole"]["free_in_s"] is not None
    assert runs["whole"]["wall_s"] < 120, runs
    songs = [path for path in music.rglob("*") if path.suffix not in (".txt", "") and path.is_file()]
    assert found["rows"] == len(songs)
