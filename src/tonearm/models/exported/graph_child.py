"""The process that reads an exported graph first: python -m tonearm.models.exported.graph_child < MESSAGE

MESSAGE is JSON: ``task`` (``inspect``, ``convert`` or ``batch``: a function of ``graph``), ``path``, ``model`` (the
description), ``out`` (a folder) and ``num_threads``. What ``inspect`` finds is a line on the standard output, what is
wrong with the graph a line on the standard error; both begin with ``PREFIX``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

# Before a line that is meant for a person; other lines are the libraries' own.
PREFIX = "graph: "


def main() -> None:
    """Convert the graph that the message on the standard input names."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory runs out, this process goes and not who started it
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
        said = str(error) if isinstance(error, tensors.GraphError) else f"OpenVINO cannot run it ({error!r:.200})"
        print(f"{PREFIX}{said}".replace("\n", " "), file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # what was read and run may not be taken apart in peace


if __name__ == "__main__":
    main()
