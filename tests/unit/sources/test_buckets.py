"""Object stores are listed by prefix, glob and name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fsspec
import pytest

from tests.source_files import listed
from tonearm.errors import SourceError
from tonearm.settings import FetchSettings
from tonearm.sources.listing import ListingCounts, list_tracks
from tonearm.sources.reader import ObjectReader

READER = ObjectReader(FetchSettings(num_attempts=1))


def test_other_fsspec_stores(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("lib/a.mp3", "lib/sub/b b#.flac", "lib/x.txt", "lib/.git/c.mp3", "library/d.mp3"):
        store.pipe_file(f"/{tmp_path.name}/{name}", name.encode())
    root = f"memory://{tmp_path.name}"
    counts = ListingCounts()
    refs = list(list_tracks([f"{root}/lib"], counts=counts))
    assert [ref.uri.removeprefix(root) for ref in refs] == ["/lib/a.mp3", "/lib/sub/b b#.flac"]
    assert [READER.read(ref) for ref in refs] == [b"lib/a.mp3", b"lib/sub/b b#.flac"]
    assert counts.skipped == Counter({".txt": 1, "(written by a system)": 1})
    assert len(listed(f"{root}/lib*")) == 3
    assert listed(f"{root}/lib/a.mp3") == refs[:1]
    with pytest.raises(SourceError, match="nothing at"):
        listed(f"{root}/nowhere")
