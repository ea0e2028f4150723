"""What the server does for a request: a few chunks ahead, and nothing once the request has ended."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.commands import wait_for
from tonearm.audio.decode import DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.streams import PcmStream
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError, RequestError, ScoreError
from tonearm.models.window_scores import WindowScores
from tonearm.settings import DecodeSettings, ServeSettings
from tonearm.web.engines import pipeline
from tonearm.web.engines.batching import Chunk
from tonearm.web.engines.pipeline import Pipeline, Reads, ahead, ended


class Works:
    """Coroutines that end when told to, and what has become of each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.gates = [asyncio.Event() for _ in range(count)]
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.failing: set[int] = set()

    def __iter__(self) -> Iterator[object]:
        return (self.work(number) for number in range(self.count))

    async def work(self, number: int) -> int:
        self.begun.append(number)
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if number in self.failing:
            raise ValueError(f"work {number}")
        return number


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_results_come_in_order_and_so_many_are_under_way() -> None:
    async def check() -> None:
        works, results = Works(5), []

        async def consume() -> None:
            async for result in ahead(works, 2):
                results.append(result)

        task = asyncio.create_task(consume())
        await settle()
        assert works.begun == [0, 1]
        works.gates[1].set()
        await settle()
        assert (results, works.begun) == ([], [0, 1]), "the second waits for the first"
        works.gates[0].set()
        await settle()
        assert (results, works.begun) == ([0, 1], [0, 1, 2, 3])
        for gate in works.gates:
            gate.set()
        await task
        assert results == [0, 1, 2, 3, 4]
        assert works.cancelled == []

    asyncio.run(check())


@pytest.mark.parametrize("ending", ["a failure", "the reader left", "cancelled"])
def test_no_work_is_left_in_progress_when_the_pipeline_ends(ending: str) -> None:
    """Whatever ends it: what has begun is cancelled and has ended before it returns, and nothing else begins."""

    async def check() -> None:
        works = Works(6)
        works.failing = {1} if ending == "a failure" else set()
        for number in (0, 1):
            works.gates[number].set()

        async def consume() -> None:
            results = ahead(works, 3)
            try:
                async for result in results:
                    if ending == "the reader left" and result == 1:
                        return
            finally:
                await results.aclose()

        task = asyncio.create_task(consume())
        await settle()
        if ending == "cancelled":
            task.cancel()
        (failure,) = await asyncio.gather(task, return_exceptions=True)
        begun = list(works.begun)
        assert works.cancelled == begun[2:], "what was under way when it ended"
        assert works.cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await settle()
        assert works.begun == begun
        expected = {"a failure": ValueError, "the reader left": type(None), "cancelled": asyncio.CancelledError}[ending]
        assert isinstance(failure, expected)

    asyncio.run(check())


def test_work_that_is_nearly_done_is_waited_for() -> None:
    """A decoding child goes on for a moment when its client has left."""

    async def check() -> None:
        given_up: list[int] = []
        work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(ended(work, lambda: given_up.append(1)))
        await settle()
        assert not task.done()
        work.set_result(1)
        await settle()
        assert task.done() and not given_up

    asyncio.run(check())


@pytest.mark.processes
def test_a_track_whose_client_has_left_twice_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline and then a client that leaves: the child ends, and its sandbox is free only when it has."""
    monkeypatch.setattr(pipeline, "GIVE_UP_S", 0.2)

    async def check() -> None:
        work = Pipeline(ServeSettings(), {}, {}, 1)
        request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0)
        try:
            assert (await work._decode(sound(), request)).info.duration_s == 1.0
            child = work.sandboxes[0].child_pid
            assert child is not None
            os.kill(child, signal.SIGSTOP)
            task = asyncio.create_task(work._decode(sound(), request))
            await asyncio.sleep(0.1)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.01)
            assert task.cancelled() and work.free.empty()
            await asyncio.wait_for(work._decode(sound(), request), 10)
            assert work.sandboxes[0].child_pid != child
        finally:
            work.close()

    asyncio.run(check())


@pytest.mark.processes
def test_a_server_that_ends_does_not_wait_for_decoding_children() -> None:
    async def begin(work: Pipeline) -> None:
        request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0)
        await work._decode(sound(), request)
        child = work.sandboxes[0].child_pid
        assert child is not None
        os.kill(child, signal.SIGSTOP)
        task = asyncio.create_task(work._decode(sound(), request))
        await asyncio.sleep(0.1)
        task.cancel()

    work = Pipeline(ServeSettings(), {}, {}, 1)
    asyncio.run(begin(work))
    started = time.monotonic()
    work.close()
    assert time.monotonic() - started < 5


def sound() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16000), 16000, format="WAV")
    return file.getvalue()


def test_a_head_that_fails_stops_the_others() -> None:
    """Whoever asked has the answer already: nothing of the track is scored after it."""
    num_scored = 0

    async def broken(_: Chunk) -> WindowScores:
        await asyncio.sleep(0.01)
        raise ScoreError("genre: broken", code="score_failed")

    async def works(chunk: Chunk) -> WindowScores:
        nonlocal num_scored
        await asyncio.sleep(0.005)
        num_scored += len(chunk)
        return WindowScores(np.zeros((len(chunk), 2), np.float32), np.zeros((len(chunk), 2), np.float32))

    plan, length = WindowPlan(16000, 16000, 16000, None, 400), 16000 * 400
    samples = PcmStream(16000, length, np.zeros(length, np.int16), 1.0, ((0, length),))
    track: Any = SimpleNamespace(stream=lambda rate: samples)
    heads: Any = SimpleNamespace(plans=dict.fromkeys(("genre", "tags"), SimpleNamespace(windows=plan)))

    async def check() -> None:
        asked = Pipeline(ServeSettings(), {}, {"genre": broken, "tags": works}, 1)
        with pytest.raises(ScoreError, match="broken"):
            await asked.score(heads, track)
        before = num_scored
        await asyncio.sleep(0.1)
        assert num_scored == before < 100

    asyncio.run(check())


def test_reads_of_clients_that_left_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MOST_LEFT", 2)
    stuck = threading.Event()

    async def check() -> None:
        reads = Reads(2)

        async def leave() -> None:
            async with reads.places:
                await reads.run(stuck.wait, 30)

        for _ in range(4):
            async with asyncio.timeout(5), reads.places:
                assert await reads.run(str, 1) == "1"
            task = asyncio.create_task(leave())
            await settle()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(RequestError, match="4 reads of clients that left"):  # threads have a bound nevertheless
            await reads.run(str, 1)
        stuck.set()
        while reads.num_left:
            await asyncio.sleep(0.01)
        assert await reads.run(str, 2) == "2"
        with pytest.raises(ValueError, match="invalid literal"):
            await reads.run(int, "x")

    asyncio.run(check())


def test_a_client_that_leaves_as_its_read_ends_leaves_nothing_behind() -> None:
    async def check() -> None:
        reads = Reads(1)
        for _ in range(50):
            task = asyncio.create_task(reads.run(str, 1))
            await asyncio.sleep(0)
            time.sleep(0.002)  # the read has ended, and the loop has not heard of it
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert reads.num_left == 0

    asyncio.run(check())


@pytest.mark.processes
def test_a_child_that_is_given_up_ends_at_once() -> None:
    """And is no crash of its track: the next one is decoded by another child."""
    request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0)
    with DecodeSandbox(DecodeSettings()) as sandbox:
        for _ in range(2):
            sandbox.decode(sound(), request)
            first = sandbox.child_pid
            assert first is not None
            assert os.getpgid(first) != os.getpgid(0)  # a terminal's Ctrl-C is not for it
            os.kill(first, signal.SIGSTOP)
            with ThreadPoolExecutor(1) as pool:
                work = pool.submit(sandbox.decode, sound(), request)
                wait_for(sandbox._lock.locked, timeout_s=5, what="the decode")
                time.sleep(0.05)
                sandbox.give_up()
                with pytest.raises(DecodeError, match="nobody waits"):
                    work.result(5)
            sandbox.give_up()  # of nothing
        assert sandbox.decode(sound(), request).info.duration_s == 1.0
