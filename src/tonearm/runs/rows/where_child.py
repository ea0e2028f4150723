"""The child process that evaluates a ``where``: python -m tonearm.runs.rows.where_child < MESSAGES

An expression from outside may need more memory than the machine has, or more time than anybody waits, within one call
that DuckDB neither limits nor can interrupt: ``list_sum(range(100000000)) > 1``. A child process can be killed.

It reads a line of JSON (``where``, ``fields``: an Arrow schema in base64, ``memory_bytes``, ``batch_s``) and answers
with ``columns``; then Arrow record batches with these columns, each answered with ``keys``, how many pass, and their
int64s behind the line. A refused expression is answered with ``refused``, the message. If a limit ends the process,
there is no answer.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

import pyarrow as pa

from tonearm.errors import UsageError
from tonearm.runs.rows.where import Where


def main() -> None:
    """Read the expression, then answer each record batch with the keys of the rows that pass."""
    # If the machine runs out of memory all the same, Linux should kill this process and not its parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # A core dump would be as large as the memory limit.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    message = json.loads(requests.readline())
    resource.setrlimit(resource.RLIMIT_AS, (message["memory_bytes"], resource.getrlimit(resource.RLIMIT_AS)[1]))
    fields = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(message["fields"])))

    def answer(line: dict[str, object], keys: bytes = b"") -> None:
        answers.write(json.dumps(line).encode() + b"\n" + keys)
        answers.flush()

    # The signal's default action ends the process. A Python handler would only run after the call has returned.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, message["batch_s"])
    try:
        condition = Where(message["where"], fields)
        answer({"columns": condition.columns})
        signal.setitimer(signal.ITIMER_REAL, 0)
        with pa.ipc.open_stream(requests) as batches:
            for batch in batches:
                signal.setitimer(signal.ITIMER_REAL, message["batch_s"])
                keys = condition.keys(batch)
                answer({"keys": len(keys)}, keys.tobytes())
                signal.setitimer(signal.ITIMER_REAL, 0)
    except UsageError as error:
        answer({"refused": str(error)})


if __name__ == "__main__":
    main()
