"""Scorers that Ray places on GPUs, which a machine says that it has: torch looks for none here.

The tracks are of a kind that only their names tell, so that these must get to the decoder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment

SCORING = """
import io
import pathlib
import sys
import av
import numpy as np
import pyarrow as pa
import ray
import ray.data

from tonearm import demo
from tonearm.audio.decode import DecodedTrack
from tonearm.distributed.tagging import blocks
from tonearm.distributed.tagging.counters import start_counters
from tonearm.distributed.tagging.pipeline import Operators
from tonearm.planning.layout import Layout
from tonearm.runs.rows.schema import MANIFEST
from tonearm.sources.listing import make_ref
from tonearm.settings import ModelSettings, TagSettings
from tonearm.tagging import TagPlan, plan_heads


def clip():
    file = io.BytesIO()
    with av.open(file, "w", format="g722") as output:
        stream = output.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


class Counts:
    def __init__(self, plan, facts, num_threads, counters):
        self.gpus = ray.get_gpu_ids()

    def __call__(self, block):
        tracks = [blocks.read_outcome(block, index) for index in range(block.num_rows)]
        return pa.table({"rows": [sum(isinstance(track, DecodedTrack) for track in tracks)], "gpus": [len(self.gpus)]})


ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, configure_logging=False)
folder = pathlib.Path(sys.argv[1])
paths = [folder / f"{number}.g722" for number in range(7)]
for path in paths:
    path.write_bytes(clip())
refs = [make_ref(str(path)) for path in paths]
names = MANIFEST.names
rows = pa.Table.from_pylist([{name: getattr(ref, name) for name in names} for ref in refs], MANIFEST)
listed = ray.data.from_arrow([rows.slice(0, 3), rows.slice(3, 4)])
models = ModelSettings(**demo.models())
plan = TagPlan(plan_heads(models, max_windows=None, max_scored_s=60.0), models, 60.0)
layout = Layout(num_scorers=1, scorer_cpus=1.0, scorer_gpus=1.0, scorer_threads=1, num_cpus=2.0, is_local=True)
operators = Operators(plan, TagSettings(models=models), layout, start_counters(), {})
found = operators.score(listed, Counts, None).take_all()
assert sorted((row["rows"], row["gpus"]) for row in found) == [(3, 1), (4, 1)], found
"""


@pytest.mark.slow
def test_scorers_on_gpus_get_their_blocks_as_they_come(tmp_path: Path) -> None:
    """``map_batches`` refuses whole blocks there, and a run could not start."""
    run = subprocess.run([sys.executable, "-c", SCORING, tmp_path], env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


ASKING = """
import ray

from tonearm import demo
from tonearm.distributed.tagging import card_check
from tonearm.planning import adoption
from tonearm.planning.layout import Layout
from tonearm.planning.preparation import settle
from tonearm.settings import ModelSettings


def describe(plan):
    import os

    assert ray.get_gpu_ids() and list(plan.heads) == ["genre"]
    return {"genre": {"precision": "fp32", "note": f"not fp16: it is off in process {os.getpid()}"}}


def fail(plan):
    raise RuntimeError("no such model")


ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, configure_logging=False)
plan = settle(adoption.planned(ModelSettings(**demo.models()), None, 60.0), "cuda")
layout = Layout(num_scorers=1, scorer_cpus=0.9, scorer_gpus=1.0, scorer_threads=1, num_cpus=2.0, is_local=True)
stored = adoption.settled(plan.only(["tags"]), {})
said = []
found = [card_check.settled(plan, stored, layout, said.append, describe) for _ in range(2)]
assert [{name: head.precision for name, head in each.heads.items()} for each in found] == [
    {"genre": "fp32", "tags": "fp16"}
] * 2
assert len(set(said)) == 2 and said[0].startswith("genre runs in fp32 on this GPU (not fp16: it is off in"), said
assert card_check.settled(plan, stored, layout, said.append, fail) == plan
for not_asked in (
    (plan, adoption.settled(plan, {}), layout),
    (plan, {}, Layout(1, 0.9, 0.0, 1, 2.0, True)),
    (settle(adoption.planned(ModelSettings(**demo.models(), force_precision=True), None, 60.0), "cuda"), {}, layout),
    (settle(adoption.planned(ModelSettings(**demo.models(), precision="fp32"), None, 60.0), "cuda"), {}, layout),
):
    assert card_check.settled(*not_asked, said.append, describe) == not_asked[0]
"""


@pytest.mark.slow
def test_a_new_destination_asks_a_gpu_before_it_settles_on_half_precision() -> None:
    """In a process that ends with its GPU's memory, for the heads alone whose precision nothing has settled yet."""
    run = subprocess.run([sys.executable, "-c", ASKING], env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
