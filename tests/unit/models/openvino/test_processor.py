"""OpenVINO in a process: its memory stays bounded, and signals are still heard."""

from __future__ import annotations

import subprocess
import sys

import pytest

GROWTH = """
import numpy as np, psutil
from tonearm import demo
from tonearm.models.classifier import Classifier

classifier = Classifier.load(demo.genre_model_path(), runtime="openvino", num_threads=1)
window = np.random.default_rng(0).standard_normal(70_000).astype(np.float32)
for number in range(100):
    classifier.score([window[: 20_000 + 500 * number]])
    if number in (19, 99):
        print(psutil.Process().memory_info().rss)
"""


@pytest.mark.processes
def test_tracks_of_every_length_leave_nothing_behind() -> None:
    """What a network makes for a shape of input is not kept for ever: short tracks are all of another length."""
    made = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    early, late = map(int, made.stdout.split())
    assert late - early < 60 * 2**20


SIGNALLED = """
import gc, signal
from tonearm import demo
from tonearm.models.classifier import Classifier

first = Classifier.load(demo.genre_model_path(), runtime="openvino", num_threads=1)
second = Classifier.load(demo.tag_model_path(), runtime="openvino", num_threads=1)
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.processes
def test_ctrl_c_is_still_heard_when_models_have_come_and_gone() -> None:
    made = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False)
    assert (made.stdout, made.returncode) == ("interrupted\n", 0)
