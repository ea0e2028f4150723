"""What is listed, from every kind of source that needs no store."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import fsspec
import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tonearm.errors import FetchError, SourceError, TrackError, UsageError
from tonearm.settings import FetchSettings
from tonearm.sources.listing import ListingCounts, TrackRef, list_tracks, track_key
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import from_nanoseconds, from_seconds, to_utc
from tonearm.storage import globs
from tonearm.storage.uris import local_path, resolve, scrubbed, shown

READER = ObjectReader(FetchSettings(num_attempts=1))


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def listed(*sources: str | Path, **options: int) -> list[TrackRef]:
    return list(list_tracks([str(source) for source in sources], **options))


def names(refs: list[TrackRef], folder: Path) -> list[str]:
    return [os.path.relpath(local_path(ref.uri), folder) for ref in refs]


def test_folder_lists_audio_sorted_and_counts_the_rest(tmp_path: Path) -> None:
    make(tmp_path, "b.MP3", "a.flac", "sub/c.ogg", "x.txt", "sub/y.TXT", "cover.jpg", "README", "odd.xyz")
    (tmp_path / "empty.wav").touch()
    counts = ListingCounts()
    refs = list(list_tracks([str(tmp_path)], counts=counts))
    assert names(refs, tmp_path) == ["a.flac", "b.MP3", "empty.wav", "sub/c.ogg"]
    assert counts.skipped == Counter({".txt": 2, ".jpg": 1, "": 1, ".xyz": 1})
    assert (counts.num_tracks, counts.num_bytes) == (4, sum(ref.size_bytes or 0 for ref in refs))


SYSTEM_FILES = [".git/b.mp3", "._a.mp3", ".DS_Store", "@eaDir/a.mp3/c.mp3", "__MACOSX/a.mp3", ".Trash-1000/files/a.mp3"]
DOTTED = [
    "...And Justice for All/01 Blackened.flac",
    "...Baby One More Time.mp3",
    ".45.mp3",
    ".38 Special/a.mp3",
    "..mp3.mp3",
]


def test_what_systems_write_is_counted_and_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", *SYSTEM_FILES)
    counts = ListingCounts()
    assert names(list(list_tracks([str(tmp_path)], counts=counts)), tmp_path) == ["a.mp3"]
    assert counts.skipped == Counter({"(written by a system)": len(SYSTEM_FILES)})


def test_names_that_begin_with_dots_are_music(tmp_path: Path) -> None:
    make(tmp_path, *DOTTED)
    assert sorted(names(listed(tmp_path), tmp_path)) == sorted(DOTTED)
    store = fsspec.filesystem("memory")
    for name in (*DOTTED, *SYSTEM_FILES):
        store.pipe_file(f"/{tmp_path.name}/{name}", b"x")
    counts = ListingCounts()
    refs = list(list_tracks([f"memory://{tmp_path.name}"], counts=counts))
    assert sorted(ref.uri.partition(f"{tmp_path.name}/")[2] for ref in refs) == sorted(DOTTED)
    assert counts.skipped == Counter({"(written by a system)": len(SYSTEM_FILES)})


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


def test_times_without_a_date() -> None:
    assert from_nanoseconds(10**30) is from_nanoseconds(-(10**30)) is from_seconds(float("inf")) is None
    assert from_seconds(float("nan")) is from_seconds(1e30) is None
    assert to_utc(datetime.datetime.fromisoformat("9999-12-31T23:59:59-01:00")) is None
    assert to_utc(datetime.datetime.fromisoformat("0001-01-01T00:00:00+01:00")) is None


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


def test_glob_matches_like_a_shell_and_takes_whole_folders(tmp_path: Path) -> None:
    make(
        tmp_path,
        "rock/a.mp3",
        "rock/live/b.mp3",
        "rockabilly/c.mp3",
        "jazz/d.mp3",
        "jazz/e.flac",
        "jazz/f.txt",
        "g.mp3",
    )
    assert names(listed(tmp_path / "rock*"), tmp_path) == ["rock/a.mp3", "rock/live/b.mp3", "rockabilly/c.mp3"]
    assert names(listed(tmp_path / "*/*.mp3"), tmp_path) == ["jazz/d.mp3", "rock/a.mp3", "rockabilly/c.mp3"]
    assert names(listed(tmp_path / "**/*.flac"), tmp_path) == ["jazz/e.flac"]
    assert names(listed(tmp_path / "[a-j]*/?.mp3"), tmp_path) == ["jazz/d.mp3"]
    with pytest.raises(SourceError, match="nothing matches"):
        listed(tmp_path / "*.ogg")


def test_a_folder_may_be_named_like_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "[2001] Album/01 a.mp3", "[2001] Album/[02] b.mp3", "1 Album/c.mp3", "[Live]/[2001] Album/d.mp3")
    store = fsspec.filesystem("memory")
    for path in tmp_path.rglob("*.mp3"):
        store.pipe_file(str(path), b"x")
    for place in (str(tmp_path), f"memory:/{tmp_path}"):

        def of(pattern: str, place: str = place) -> list[str]:
            return [ref.uri.partition(f"{tmp_path.name}/")[2] for ref in listed(f"{place}/{pattern}")]

        assert of("[2001] Album/*.mp3") == ["[2001] Album/01 a.mp3", "[2001] Album/[02] b.mp3"]
        # A name that is a pattern too is taken in both ways where it cannot be looked up.
        assert of("[2001] Album/[02]*") == ["[2001] Album/01 a.mp3", "[2001] Album/[02] b.mp3"]
        assert of("[0-9] Album/*.mp3") == ["1 Album/c.mp3"]
        assert of("[Live]/[2001] Album/*") == ["[Live]/[2001] Album/d.mp3"]
        assert of("*/[2001] Album/*") == ["[Live]/[2001] Album/d.mp3"]
        assert of("[Live]") == ["[Live]/[2001] Album/d.mp3"]


@hypothesis.given(
    st.lists(st.text("[]!-*?az/.\\^", max_size=8), min_size=1, max_size=4), st.text("[]!-*?az/.", max_size=12)
)
def test_no_pattern_is_an_error(parts: list[str], path: str) -> None:
    pattern = "/".join(parts)
    globs.glob_matcher(pattern)(path)
    folder, rest = globs.split_glob(pattern, lambda folder: len(folder) % 2 == 0)
    assert folder + rest == pattern


def test_overlapping_sources_list_each_object_once(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "b.mp3", "sub/c.mp3")
    refs = listed(tmp_path / "sub", tmp_path, tmp_path / "a.mp3", tmp_path / "*.mp3")
    assert names(refs, tmp_path) == ["sub/c.mp3", "a.mp3", "b.mp3"]
    assert len(listed(tmp_path, tmp_path / "sub", limit=2)) == 2
    with pytest.raises(UsageError, match="limit of 0"):
        listed(tmp_path, limit=0)


def test_key_changes_with_the_object_and_with_nothing_else(tmp_path: Path) -> None:
    path = make(tmp_path, "a.mp3") / "a.mp3"
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    (first,) = listed(path)
    assert listed(tmp_path) == [first]
    assert 0 < first.track_key < 2**63
    os.utime(path, ns=(0, 1_700_000_000_123_457_789))  # one microsecond later
    assert listed(path)[0].track_key != first.track_key
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert listed(path)[0].track_key != first.track_key
    assert track_key("s3://b/k", 1, "x", None) != track_key("s3://b/k", 1, "y", None)


def test_single_names_need_no_audio_extension(tmp_path: Path) -> None:
    make(tmp_path, "take-7", "dump.xyz", "cover.jpg")
    assert names(listed(tmp_path / "take-7", tmp_path / "dump.xyz", tmp_path / "cover.jpg"), tmp_path) == [
        "take-7",
        "dump.xyz",
    ]


@pytest.mark.parametrize("name", ["nowhere", "no\nwhere.mp3"])
def test_missing_source_is_one_line_before_anything_is_listed(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a.mp3")
    stream = list_tracks([str(tmp_path), str(tmp_path / name)])
    with pytest.raises(SourceError, match="no file or folder") as caught:
        next(stream)
    assert "\n" not in caught.value.message


def test_folder_without_audio_names_what_was_skipped(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}.txt" for number in range(14)), "README")
    with pytest.raises(SourceError, match=r"no audio in .*: 14 \.txt, 1 without an extension skipped"):
        listed(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="it is empty"):
        listed(tmp_path / "empty")
    # one source without audio among others is told, not refused
    make(tmp_path, "music/a.mp3")
    counts = ListingCounts()
    assert len(list(list_tracks([str(tmp_path / "empty"), str(tmp_path / "music")], counts=counts))) == 1
    assert counts.empty == [str(tmp_path / "empty")]


@pytest.mark.parametrize("source", ["ftp://host/a.mp3", "foo://x"])
def test_unknown_scheme(source: str) -> None:
    with pytest.raises(SourceError, match="unknown scheme"):
        listed(source)


@pytest.mark.parametrize(("source", "extra"), [("gs://bucket/a", "gcs"), ("az://container/a", "azure")])
def test_stores_of_missing_packages_name_the_extra(source: str, extra: str) -> None:
    pytest.importorskip("fsspec")
    if extra == "gcs" and "gcsfs" in fsspec.available_protocols() and __import__("importlib").util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(SourceError, match=rf"needs the extra '{extra}', .* install .*\[{extra}\]"):
        listed(source)


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


def write_table(path: Path, columns: dict[str, list[object]]) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    else:
        lines = [",".join(columns)] + [
            ",".join("" if value is None else str(value) for value in row.values()) for row in rows
        ]
        path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_table_of_uris(tmp_path: Path, suffix: str) -> None:
    make(tmp_path, "sub/a.mp3", "b.bin")
    uris = ["sub/a.mp3", str(tmp_path / "b.bin"), "gone.mp3", "s3://bucket/k#?.mp3", "https://host/x?sig=1"]
    table = write_table(
        tmp_path / f"list{suffix}",
        {
            "uri": uris,
            "size": [None, None, None, 12, None],
            "etag": [None, None, None, "0012", None],
            "modified": [None, None, None, "2026-01-31T12:00:00+01:00", None],
        },
    )
    a, b, gone, s3, web = listed(table)
    assert [a, b] == [*listed(tmp_path / "sub" / "a.mp3"), *listed(tmp_path / "b.bin")]
    assert (gone.uri, gone.size_bytes, gone.modified) == (str(tmp_path / "gone.mp3"), None, None)
    assert (s3.uri, s3.size_bytes, s3.etag) == ("s3://bucket/k#?.mp3", 12, "0012")
    assert s3.modified is not None and s3.modified.isoformat() == "2026-01-31T11:00:00+00:00"
    assert (web.uri, web.size_bytes) == ("https://host/x?sig=1", None)


@pytest.mark.parametrize("size", ["12.0", "12", " 12 ", "1.2e1", "nan", "NaN", "<NA>", "None", ""])
@pytest.mark.parametrize("modified", ["1700000000", "1700000000.0", "1700000000000", "1.7e18", "2023-11-14T22:13:20Z"])
def test_a_csv_as_data_frames_write_it(tmp_path: Path, size: str, modified: str) -> None:
    (tmp_path / "a.csv").write_text(f"uri,size,modified\ns3://b/k,{size},{modified}\ns3://b/l,,nan\n")
    first, second = listed(tmp_path / "a.csv")
    assert first.size_bytes == (12 if "1" in size else None)
    assert first.modified is not None and first.modified.isoformat() == "2023-11-14T22:13:20+00:00"
    assert (second.size_bytes, second.modified) == (None, None)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_parquet(tmp_path: Path, unit: str) -> None:
    times = pa.array([1_700_000_000, None, 9_000_000_000 if unit == "ns" else 300_000_000_000], "int64")
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    table = {
        "uri": ["s3://b/1", "s3://b/2", "s3://b/3"],
        "modified": pc.multiply(times, scale).cast(pa.timestamp(unit)),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    first, second, third = listed(tmp_path / "a.parquet")
    assert first.modified is not None and first.modified.isoformat() == "2023-11-14T22:13:20+00:00"
    assert second.modified is None
    assert (third.modified is None) is (unit != "ns")


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


@pytest.mark.parametrize("source", ["http://[::1/x.mp3", "http://a..b/x.mp3", "http://h:abc/x.csv", "http://]/"])
def test_a_malformed_source_is_one_line(source: str) -> None:
    with pytest.raises(SourceError) as caught:
        listed(source)
    assert source in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"uri": "s3://b/k", "modified": true}\n', "row 1: got True as modified"),
        ("a.csv", b"place,size\nx.mp3,1\n", "has the columns place, size; expected one named uri"),
        ("a.csv", b"uri,size\ns3://b/k,many\n", "row 1: got 'many' as size"),
        ("a.csv", b"uri,modified\ns3://b/k,soon\n", "row 1: got 'soon' as modified"),
        ("a.csv", "uri\ncafé.mp3\n".encode("latin-1"), "is not a readable table"),
        ("a.csv", b"", "has the columns none"),
        ("a.jsonl", b'{"place": 1}\n', "has the columns place"),
        ("a.jsonl", b'{"uri": "x"}\nnonsense\n', "is not a readable table"),
        ("a.jsonl", b"[1]\n", "expected an object"),
        ("a.parquet", b"PAR1 but not really", "is not a readable table"),
    ],
)
def test_malformed_tables_say_what_and_where(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        listed(tmp_path / name)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("size", ["12.5", "-1", "inf", "99999999999999999999", "1e999"])
def test_a_number_that_is_no_size_says_that_it_is_not_known(tmp_path: Path, size: str) -> None:
    (tmp_path / "a.csv").write_text(f"uri,size\ns3://b/k,{size}\n")
    assert [ref.size_bytes for ref in listed(tmp_path / "a.csv")] == [None]


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


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file or folder"):
        listed(tmp_path / "list.csv")


def test_every_odd_recording_is_listed(shared_audio: Path) -> None:
    wanted = {line.split(",")[0] for line in (shared_audio / "odd" / "index.csv").read_text().splitlines()[1:]}
    assert {Path(ref.uri).name for ref in listed(shared_audio / "odd")} == wanted


def test_relative_uris_beside_a_table_in_a_bucket() -> None:
    assert resolve("a/../b c.mp3", "s3://bucket/lists/") == "s3://bucket/lists/b c.mp3"
    assert resolve("../up.mp3", "s3://bucket/lists/") == "s3://bucket/up.mp3"
    assert resolve("s3a://other/x.mp3", "s3://bucket/") == "s3://other/x.mp3"
    assert resolve("file:///a%20b.mp3", "s3://bucket/") == "/a b.mp3"


def test_messages_hold_no_credentials() -> None:
    assert shown("https://user:pass@host/a.mp3?X-Amz-Signature=abc") == "https://host/a.mp3"
    assert "abc" not in scrubbed("denied for https://u:abc@h/x?Signature=abc secret=abc AccessKeyId: abc")
