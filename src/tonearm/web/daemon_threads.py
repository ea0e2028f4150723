"""Work in threads that Python does not wait for when it ends, as it does for a pool's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_daemon_thread(name: str, work: Callable[[], T]) -> Future[T]:
    """Start ``work`` in a thread of its own; return the future of what it gives, or raises.

    Cancelling the future does nothing: a thread runs to its end, whoever still waits for it.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  it is told to whoever waits
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome
