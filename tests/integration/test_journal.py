"""What a training worker tells arrives in the order in which it was told."""

from __future__ import annotations

import subprocess
import sys

from tests.commands import environment

# In a process of its own: a Ray that this one had joined would be every later test's too.
TELLING = """
import ray
from tonearm.distributed import local_ray
from tonearm.distributed.journal import start_journal

local_ray.start(1)
journal = start_journal()
heard = []
for _ in range(20):
    for _ in range(200):
        journal.tell.remote({"step": len(heard)})
        heard.append(len(heard))
told = [event["step"] for event in ray.get(journal.take.remote())]
assert told == heard, next((a, b) for a, b in zip(told, heard) if a != b)
"""


def test_events_keep_their_order() -> None:
    """On a busy machine two of them had changed places, and TensorBoard had taken the second for another run's."""
    run = subprocess.run([sys.executable, "-c", TELLING], env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
