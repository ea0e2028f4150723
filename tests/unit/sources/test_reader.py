"""A row whose address leads nowhere is listed, and reading it fails as that track alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.source_files import listed
from tonearm.errors import FetchError, TrackError
from tonearm.settings import FetchSettings
from tonearm.sources.reader import ObjectReader

READER = ObjectReader(FetchSettings(num_attempts=1))


def test_a_row_that_names_nothing_is_a_track_that_fails(tmp_path: Path) -> None:
    uris = [
        "http://[::1/x.mp3",
        " https://127.0.0.1:9/a ",
        "a\0b.mp3",
        "file:///a%00",
        "~\0/a",
        "s3://",
        "http://h/\udcff",
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))
    refs = listed(tmp_path / "a.jsonl")
    assert len(refs) == len(uris)
    assert refs[1].uri == "https://127.0.0.1:9/a"
    pa.array([ref.uri for ref in refs])
    for ref in (refs[0], *refs[2:5]):
        with pytest.raises(FetchError) as caught:
            READER.read(ref)
        assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"uri,size\nx.mp3,\n,3\nftp://h/k,\ny.mp3,\n"),
        ("a.jsonl", b'{"uri": "x.mp3"}\n{"uri": 7}\n{"uri": "ftp://h/k"}\n{"uri": "y.mp3"}\n'),
    ],
)
def test_a_row_that_names_nothing_is_a_track_that_is_not_found(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refs = listed(tmp_path / name)
    assert [Path(ref.uri).name for ref in refs] == ["x.mp3", f"{name}, row 2 without a uri", "k", "y.mp3"]
    for ref in refs[1:3]:
        with pytest.raises(TrackError) as caught:
            ObjectReader(FetchSettings()).read(ref)
        assert caught.value.code == "not_found"
