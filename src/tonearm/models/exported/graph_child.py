"""The process that first reads an exported graph: python -m tonearm.models.exported.graph_child < MESSAGE

MESSAGE is JSON: ``task`` (``inspect``, ``convert`` or ``batch``: a function of ``graph``), ``path``, ``model`` (the
description), ``out`` (a folder) and ``num_threads``. The result of ``inspect`` is a line on the standard output, and
what is wrong with the graph is a line on the standard error; both begin with ``PREFIX``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

# Begins the lines that are meant for the parent; other lines are the libraries' own.
PREFIX = "graph: "


def main() -> None:
    """Do the task of the message on the standard input."""
    # A crash is expected of damaged files; it should not leave a core dump each time.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # If memory runs out, Linux should kill this process and not its parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    message = json.loads(sys.stdin.read())
    from tonearm.models.exported import description, graph, tensors

    try:
        path = Path(message["path"])
        if message["task"] == "inspect":
            print(f"{PREFIX}{json.dumps(graph.inspect(path))}")
        else:
            task = {"convert": graph.convert, "batch": graph.batch}[message["task"]]
            task(path, description.parse(message["model"]), Path(message["out"]), message["num_threads"])
    except (ValueError, RuntimeError, MemoryError) as error:
        reason = str(error) if isinstance(error, tensors.GraphError) else f"OpenVINO cannot run it ({error!r:.200})"
        print(f"{PREFIX}{reason}".replace("\n", " "), file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdout.flush()
    # Without cleaning up: freeing a stranger's graph may crash after its work is done.
    os._exit(0)


if __name__ == "__main__":
    main()
