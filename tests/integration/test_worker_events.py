"""What a training worker tells arrives in the order in which it was told."""

from __future__ import annotations

import subprocess
import sys

from tests.commands import environment

# In a process of its own: a Ray that this one had joined would be every later test's too.
TELLING = """
from tonearm.distributed.cluster import local_ray
from tonearm.distributed.training.worker_events import start_worker_events

local_ray.start(1)
events = start_worker_events()
for step in range(4000):
    events.tell({"step": step})
told = [event["step"] for event in events.take()]
assert told == list(range(4000)), next(pair for pair in enumerate(told) if pair[0] != pair[1])
"""


def test_events_keep_their_order() -> None:
    """On a busy machine two of them had changed places, and TensorBoard had taken the second for another run's."""
    run = subprocess.run([sys.executable, "-c", TELLING], env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
