"""Many URIs in one request: a line per URI as soon as it is done; a few at once, ended with their client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from tonearm.errors import TonearmError
from tonearm.web.messages import BulkLine, TrackResult

Tag = Callable[[str], Awaitable[TrackResult]]


async def bulk_lines(uris: Sequence[str], tag: Tag, *, concurrency: int) -> AsyncIterator[bytes]:
    """Yield one NDJSON line for each URI in the order in which they are done.

    Closing the iterator cancels what is in progress and starts nothing more. While nobody reads, the work waits.

    Args:
        tag: gives one URI's result or raises ``TonearmError``.
    """
    # One for all workers: each takes the next URI from it.
    todo: Iterator[str] = iter(uris)
    # Bounded, so that a reader slower than the models holds them back.
    done: asyncio.Queue[bytes | None] = asyncio.Queue(concurrency)

    async def work() -> None:
        for uri in todo:
            await done.put(await _line(uri, tag))
        await done.put(None)

    tasks = [asyncio.create_task(work()) for _ in range(min(concurrency, len(uris)))]
    try:
        num_left = len(tasks)
        while num_left:
            line = await done.get()
            if line is None:
                num_left -= 1
            else:
                yield line
        # For what ended one of them early.
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _line(uri: str, tag: Tag) -> bytes:
    try:
        line = BulkLine(uri=uri, status="ok", result=await tag(uri))
    except TonearmError as error:
        line = BulkLine(uri=uri, status="error", error_code=error.code, error_message=error.message)
    except Exception:  # the row boundary: a bug on one URI must not take the others' lines with it
        logging.getLogger(__name__).exception("bulk: a bug while tagging one URI")
        line = BulkLine(uri=uri, status="error", error_code="internal", error_message="a bug in the server")
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
