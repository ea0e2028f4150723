"""How a run is cut into legs, and how one that a shrunken cluster cannot finish is ended."""

from __future__ import annotations

import signal
import threading

import pytest

from tonearm.distributed.batch import legs
from tonearm.distributed.cluster import Layout, stuck
from tonearm.distributed.watch import WAKE, wake_main_thread, wakeable
from tonearm.library.runs import TodoPart


def test_legs_are_whole_parts_of_at_least_so_many_tracks() -> None:
    parts = [TodoPart(f"p{number}", count) for number, count in enumerate([50, 50, 50, 10, 120, 5])]
    assert [[part.url for part in leg] for leg in legs(parts, 100)] == [["p0", "p1"], ["p2", "p3", "p4"], ["p5"]]
    assert list(legs([], 100)) == []


LOCAL = Layout(num_scorers=2, scorer_cpus=0.9, scorer_gpus=0.0, scorer_threads=1, num_cpus=4, is_local=False)
GPUS = Layout(num_scorers=4, scorer_cpus=0.9, scorer_gpus=1.0, scorer_threads=1, num_cpus=24, is_local=False)


@pytest.mark.parametrize(
    ("nodes", "layout", "why"),
    [
        ([{"CPU": 2.0}, {"CPU": 2.0}], LOCAL, None),
        ([{}, {"CPU": 2.0}], LOCAL, "hold every CPU"),  # both actors move in, and leave 0.2 of a CPU
        ([{}, {"CPU": 4.0}], LOCAL, None),
        ([{}], LOCAL, "no node is left that can score"),
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 16.0}], GPUS, None),
        ([{"CPU": 16.0}], GPUS, "no node is left that can score"),
        ([{"CPU": 1.0, "GPU": 1.0}], GPUS, "hold every CPU"),
    ],
)
def test_what_is_left_of_a_cluster(nodes: list[dict[str, float]], layout: Layout, why: str | None) -> None:
    found = stuck(nodes, layout)
    assert (found is None) if why is None else (found is not None and why in found)


def test_a_run_that_ignores_ctrl_c_is_woken_all_the_same() -> None:
    """As one that a script started in the background does."""
    own, other = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(WAKE)
    try:
        with pytest.raises(KeyboardInterrupt), wakeable():
            threading.Timer(0.1, wake_main_thread).start()
            threading.Event().wait(20)
    finally:
        signal.signal(signal.SIGINT, own)
    assert signal.getsignal(WAKE) == other
