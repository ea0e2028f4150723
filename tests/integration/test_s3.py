from __future__ import annotations

from tests.servers.s3 import S3Server


def test_server(s3: S3Server) -> None:
    b = s3.bucket()
    s3.put(b, {"a b#?.mp3": b"1"})
    assert s3.fs.ls(b) == [f"{b}/a b#?.mp3"]
    print(s3.requests(b))
