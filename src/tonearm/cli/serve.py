"""``tonearm serve`` and ``tonearm keys``: what a person sees of a server, and the keys that let clients in."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from tonearm import demo
from tonearm.api import serving
from tonearm.cli.output import Output
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.web.requests.keys import KEY_LABEL, LINE_LABEL, new_key
from tonearm.wording import counted

ENGINES = {
    "process": "files are decoded in child processes and scored in this one; --engine ray has Ray Serve do it",
    "ray": "files are decoded and scored in deployments of Ray Serve; --engine process does without it",
}


def make_key(name: str, *, as_json: bool = False) -> int:
    """Print a new API key and the line that lets it in; return the exit status."""
    (key, line), output = new_key(name), Output(as_json)
    if not as_json:
        output.say(f"{KEY_LABEL} {key}")
        output.say(f"{LINE_LABEL} {line}")
    output.result({"name": name, "key": key, "line": line})
    return 0


def serve(**flags: object) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    Args:
        flags: as for ``api.serving.serve``.
    """
    stop_like_ctrl_c()  # also before it serves
    with _standard_output() as output:
        printer = ServePrinter(output, is_demo=bool(flags.get("demo_models")))
        serving.serve(watcher=printer, output=output, **flags)
    return 0


class ServePrinter:
    """Prints how a server goes."""

    def __init__(self, output: int, *, is_demo: bool) -> None:
        self.output = output
        self.is_demo = is_demo

    def starting(self) -> None:
        """Print what the built-in models are worth."""
        if self.is_demo:
            print(demo.NOTICE, file=sys.stderr)

    def serving(self, url: str, engine: str) -> None:
        """Print where it is, and what does the work."""
        _say(self.output, f"serving at {url} (API at /docs); Ctrl-C finishes what is in progress")
        _say(self.output, ENGINES[engine])

    def stopping(self) -> None:
        """Print that it is going to end."""
        _say(self.output, "stopping: finishing what is in progress")

    def stopped(self, num_left: int) -> None:
        """Print that it has ended."""
        cut = counted(num_left, "request", "was cut off", "were cut off")
        _say(self.output, f"stopped; {cut}" if num_left else "stopped")


@contextlib.contextmanager
def _standard_output() -> Iterator[int]:
    """Yield a copy of standard output's descriptor: while Ray is quiet, the original goes to a log file."""
    sys.stdout.flush()
    copy = os.dup(1)
    try:
        yield copy
    finally:
        os.close(copy)


def _say(output: int, text: str) -> None:
    with contextlib.suppress(OSError):
        if serving.takes(output):
            os.write(output, f"{text}\n".encode())
