"""A run that can no longer end by itself is woken, however it was started."""

from __future__ import annotations

import signal
import threading

import pytest

from tonearm.distributed.watch import WAKE, wake_main_thread, wakeable


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
