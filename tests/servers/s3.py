"""One running S3 server as the tests see it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

_numbers = itertools.count()
_ACCESS = re.compile(r" (GET|HEAD|PUT|POST|DELETE) /(\S+) HTTP/\S+ (\d+) ")


@dataclasses.dataclass(frozen=True)
class S3Server:
    """Where a server listens, and how to speak to it.

    Attributes:
        env: the environment variables that an S3 client needs; already set in this process while the fixture lives.
        endpoint: ``http://127.0.0.1:PORT``.
        fs: a filesystem that caches no listings.
        access_log: a file with a line for each request, where the server writes one.
    """

    env: dict[str, str]
    endpoint: str
    fs: Any
    access_log: Path | None = None

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"test-{os.getpid()}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"
        self.fs.call_s3("create_bucket", Bucket=name)
        return name

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Write ``objects``, keys taken literally, whatever characters they hold."""
        for key, data in objects.items():
            self.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data)

    def requests(self, bucket: str) -> list[tuple[str, str, int]]:
        """Return method, path within the bucket and HTTP status of each request so far, as the server logged them."""
        assert self.access_log is not None, "this server writes no access log"
        found = []
        for line in self.access_log.read_text(errors="replace").splitlines():
            match = _ACCESS.search(line)
            if match is None or "aiobotocore" not in line:
                continue  # Swift's own look-ups behind the S3 layer
            where, _, rest = urllib.parse.unquote(urllib.parse.unquote(match[2])).partition("/")
            if where.split("?")[0] == bucket:
                found.append((match[1], rest, int(match[3])))
        return found
