"""What is listed of this machine's folders, links, globs and files."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.source_files import listed, make, names
from tonearm.errors import FetchError
from tonearm.settings import FetchSettings
from tonearm.sources.listing import ListingCounts, list_tracks
from tonearm.sources.reader import ObjectReader

READER = ObjectReader(FetchSettings(num_attempts=1))


def test_folder_lists_audio_sorted_and_counts_the_rest(tmp_path: Path) -> None:
    make(tmp_path, "b.MP3", "a.flac", "sub/c.ogg", "x.txt", "sub/y.TXT", "cover.jpg", "README", "odd.xyz")
    (tmp_path / "empty.wav").touch()
    counts = ListingCounts()
    refs = list(list_tracks([str(tmp_path)], counts=counts))
    assert names(refs, tmp_path) == ["a.flac", "b.MP3", "empty.wav", "sub/c.ogg"]
    assert counts.skipped == Counter({".txt": 2, ".jpg": 1, "": 1, ".xyz": 1})
    assert (counts.num_tracks, counts.num_bytes) == (4, sum(ref.size_bytes or 0 for ref in refs))


@pytest.mark.parametrize("time_s", [253402300800, 2**40, -(2**40)])
def test_a_file_time_that_is_no_date_is_not_known(time_s: int) -> None:
    # Linux's memory file systems keep every time; ext4 ends in 2446.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        folder = make(Path(place), "a.mp3", "b.mp3")
        os.utime(folder / "a.mp3", ns=(0, time_s * 10**9))
        if (folder / "a.mp3").stat().st_mtime_ns != time_s * 10**9:
            pytest.skip("this file system does not keep such a time")
        refs = listed(folder)
        assert [ref.modified is None for ref in refs] == [True, False]
        assert READER.read(refs[0]) == b"a.mp3"


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    library = make(tmp_path / "library", "z/real.mp3")
    make(tmp_path / "elsewhere", "far.mp3")
    (library / "a-link").symlink_to(library / "z")  # sorts before the folder it points at
    (library / "z" / "loop").symlink_to(library)
    (library / "disk").symlink_to(tmp_path / "elsewhere")
    (library / "one.mp3").symlink_to(tmp_path / "elsewhere" / "far.mp3")
    (library / "dangling.mp3").symlink_to(tmp_path / "gone.mp3")
    refs = listed(library)
    assert names(refs, library) == ["dangling.mp3", "one.mp3", "z/real.mp3", "disk/far.mp3"]
    with pytest.raises(FetchError) as caught:
        READER.read(refs[0])
    assert caught.value.code == "not_found"


def test_named_pipes_neither_hang_nor_count_as_tracks(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")
    counts = ListingCounts()
    assert names(list(list_tracks([str(tmp_path)], counts=counts)), tmp_path) == ["a.mp3"]
    assert counts.skipped == Counter({"(not a file)": 1})


ODD_NAMES = [
    "a b.mp3",
    "a#b?c.mp3",
    "100%.mp3",
    "%41.mp3",
    "new\nline.mp3",
    "[Live] *.mp3",
    "é→.mp3",
    " .mp3",
    "a:\\b.mp3",
]


def test_odd_names_come_back_as_the_same_bytes(tmp_path: Path) -> None:
    make(tmp_path, *ODD_NAMES)
    not_utf8 = os.fsencode(tmp_path) + b"/caf\xe9#%41.mp3"
    with open(not_utf8, "wb") as file:  # noqa: PTH123  pathlib takes no bytes
        file.write(b"latin")
    refs = listed(tmp_path)
    assert {READER.read(ref) for ref in refs} == {*(name.encode() for name in ODD_NAMES), b"latin"}
    # and each can be given as a source of its own, or written in a table
    assert [listed(ref.uri)[0] for ref in refs] == refs
    table = tmp_path / "uris.jsonl"
    table.write_text("".join(json.dumps({"uri": ref.uri}) + "\n" for ref in refs))
    assert listed(table) == refs


def test_uris_do_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "music/a.mp3")
    monkeypatch.chdir(tmp_path)
    relative, dotted = listed("music"), listed("./music/../music/a.mp3")
    assert relative == dotted == listed(tmp_path / "music") == listed(f"file://{tmp_path}/music")
    assert relative[0].uri == f"{tmp_path}/music/a.mp3"


def test_every_odd_recording_is_listed(shared_audio: Path) -> None:
    wanted = {line.split(",")[0] for line in (shared_audio / "odd" / "index.csv").read_text().splitlines()[1:]}
    assert {Path(ref.uri).name for ref in listed(shared_audio / "odd")} == wanted
