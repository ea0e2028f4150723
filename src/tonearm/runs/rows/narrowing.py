"""Keep only the rows for which a ``where`` is true, evaluated in a child process with limits on memory and time."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import signal
import subprocess
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tonearm import own_process
from tonearm.errors import UsageError
from tonearm.runs.rows import schema, track_rows
from tonearm.runs.rows.track_rows import ListedRows
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of an expression: address space in all, and seconds for one batch of rows."""

    memory_bytes: int = 4 * 2**30
    batch_s: float = 60.0


def narrow(destination: str, rows: ListedRows, where: str, limits: Limits = Limits()) -> ListedRows:
    """Return the rows for which ``where`` is true, reading only the columns that it needs.

    Raises:
        UsageError: as ``Where``; or the expression takes more than ``limits``.
        DestinationError: as ``track_rows.scan``.
    """
    if not isinstance(where, str):
        raise UsageError(f"got where={where!r:.80}, expected a text such as \"genre = 'rock' AND duration_s > 60\"")
    with _Child(where, schema.tracks_of(rows.heads), limits) as child:
        passing = [child.keys(batch) for batch in track_rows.scan(destination, child.columns, rows=rows)]
    return dataclasses.replace(rows, keys=np.sort(np.concatenate([np.empty(0, np.int64), *passing])))


class _Child:
    """A running ``where_child``."""

    def __init__(self, where: str, fields: pa.Schema, limits: Limits) -> None:
        self._where, self._limits = where, limits
        self._batches: pa.RecordBatchStreamWriter | None = None
        self._process = subprocess.Popen(
            own_process.command("tonearm.runs.rows.where_child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=own_process.environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        message = {"where": where, "fields": base64.b64encode(fields.serialize()).decode()}
        # If the child has ended already, reading its answer below says why.
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps(message | dataclasses.asdict(limits)).encode() + b"\n")
            self._requests.flush()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._end_process)
            self.columns: list[str] = self._read_answer()["columns"]
            on_error.pop_all()

    def __enter__(self) -> _Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_process()

    def keys(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Return the keys of the rows that pass, in their order."""
        batch = batch.select(self.columns)
        with contextlib.suppress(BrokenPipeError):
            if self._batches is None:
                self._batches = pa.ipc.new_stream(self._requests, batch.schema)
            self._batches.write_batch(batch)
            self._requests.flush()
        num_bytes = self._read_answer()["keys"] * np.dtype(np.int64).itemsize
        keys = self._answers.read(num_bytes)
        # Ended while it wrote: a shorter answer would lose rows without a word.
        if len(keys) < num_bytes:
            raise self._ended()
        return np.frombuffer(keys, np.int64)

    def _read_answer(self) -> dict[str, Any]:
        """Return the child's next answer.

        Raises:
            UsageError: the child refused the expression, or was ended by a limit.
        """
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise UsageError(answer["refused"])
        return answer

    def _ended(self) -> UsageError:
        shown = " ".join(self._where.split())[:200]
        return UsageError(f"got where {shown!r}, which {self._exceeded_limit()}; use a simpler one")

    def _exceeded_limit(self) -> str:
        if self._process.wait() == -signal.SIGALRM:
            return f"took longer than {self._limits.batch_s:g} s for {counted(track_rows.BATCH_ROWS, 'track')} at most"
        # Libraries end a process in several ways when they get no more memory, so the status says little.
        return f"needs more than {self._limits.memory_bytes / 2**30:g} GiB of memory, or ended its process otherwise"

    def _end_process(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
