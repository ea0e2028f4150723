"""Commands that run one after another in a process that keeps its Ray, as calls in a notebook do.

Starting the command, Ray and its workers takes most of the processor time of a short run; what is proved of a run is
mostly not that.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.commands import environment

ON_RAY = ("tag", "train", "distill", "evaluate")
# A Ray that does nothing takes a fifteenth of a core, and starting it five seconds of one.
IDLE_S = 60.0


class Commands:
    """A process that runs ``tonearm`` commands in its turn, with its own Ray on this machine's cores."""

    def __init__(self, **extra: str) -> None:
        requests, answers = os.pipe(), os.pipe()
        self._folder = tempfile.mkdtemp(prefix="to-")
        self._log = Path(self._folder) / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.one_process", str(requests[0]), str(answers[1]), self._folder],
                env=environment(PYTHONFAULTHANDLER="1", **extra),
                pass_fds=(requests[0], answers[1]),
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).resolve().parents[1],
            )
        os.close(requests[0])
        os.close(answers[1])
        self._requests, self._answers = os.fdopen(requests[1], "w"), os.fdopen(answers[0])

    def tonearm(
        self, *arguments: str | Path, timeout_s: float = 600, cwd: Path | None = None, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``tonearm ARGUMENTS`` to its end.

        Args:
            extra: changes of the environment for this command; Ray's workers keep that of the first.
        """
        words = [str(argument) for argument in arguments]
        asked = {"arguments": words, "timeout_s": timeout_s, "cwd": str(cwd or Path.cwd()), "environment": extra}
        print(json.dumps(asked), file=self._requests)
        self._requests.flush()
        answer = self._answers.readline()
        if not answer:
            raise AssertionError(f"the process ended in {words}: {self._log.read_text(errors='replace')[-6000:]}")
        said = [(Path(self._folder) / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(words, int(answer), *said)

    def is_alive(self) -> bool:
        """Return whether it can run another command."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, and its Ray with it."""
        self._requests.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        shutil.rmtree(self._folder, ignore_errors=True)


# One for each environment that Ray's workers must have, the keys to a store say.
_processes: dict[frozenset[tuple[str, str]], Commands] = {}


def tonearm(
    *arguments: str | Path, timeout_s: float = 600, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run ``tonearm ARGUMENTS`` to its end, in a process that this session's tests share."""
    for_workers = {name: value for name, value in extra.items() if name.startswith("AWS_")}
    key = frozenset(for_workers.items())
    if key not in _processes or not _processes[key].is_alive():
        _processes[key] = Commands(**for_workers)
    return _processes[key].tonearm(*arguments, timeout_s=timeout_s, cwd=cwd, **extra)


def close_all() -> None:
    """End the processes that ``tonearm`` has started."""
    while _processes:
        _processes.popitem()[1].close()


@contextlib.contextmanager
def _sent_to(folder: Path) -> Iterator[None]:
    """Send what is written to stdout and stderr to files of those names."""
    with contextlib.ExitStack() as stack:
        for name, stream, number in (("stdout", sys.stdout, 1), ("stderr", sys.stderr, 2)):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            stack.callback(stream.flush)
            with (folder / name).open("wb") as file:
                os.dup2(file.fileno(), number)
        yield


def _run(arguments: list[str]) -> int:
    from tonearm.cli import main

    sys.argv = ["tonearm", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def serve(requests: int, answers: int, folder: Path) -> None:
    """Run what is asked for until nothing more can be."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    with os.fdopen(requests, "rb", buffering=0) as lines:
        while True:
            if not select.select([lines], [], [], IDLE_S)[0]:
                _end_ray()
            elif not (line := lines.readline()):
                return
            else:
                _answer(json.loads(line), answers, folder)


def _answer(asked: dict[str, Any], answers: int, folder: Path) -> None:
    if asked["arguments"][0] in ON_RAY:
        _start_ray()
    signal.alarm(int(asked["timeout_s"]))  # ends the process: the test says in which command
    with _sent_to(folder), contextlib.chdir(asked["cwd"]), mock.patch.dict(os.environ, asked["environment"]):
        status = _run(asked["arguments"])
    signal.alarm(0)
    os.write(answers, f"{status}\n".encode())


def _start_ray() -> None:
    import ray

    from tonearm.distributed.cluster import local_ray
    from tonearm.planning.layout import local_cpus

    if not ray.is_initialized():
        local_ray.start(local_cpus(None))


def _end_ray() -> None:
    from tonearm.distributed.cluster import local_ray

    local_ray.stop()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
