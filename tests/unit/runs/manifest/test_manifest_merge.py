"""What a source takes away and what it leaves when several are listed after one another."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runs.manifest.library import Library
from tonearm.errors import DestinationError, SourceError, Stopped
from tonearm.runs.manifest import manifest, manifest_marker
from tonearm.sources import track_ref
from tonearm.sources.listing import FILES, ListingCounts, list_tracks, source_name
from tonearm.storage import filesystems

pytestmark = pytest.mark.usefixtures("small_parts")


def test_listing_another_source_keeps_the_first_ones_tracks(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "a/x.txt", "b/3.mp3", "b/y.txt", "b/z.pdf")
    first = library.tag("a", term=3)
    second = library.tag("b", term=4)
    assert library.names() == {"a/1.mp3", "a/2.mp3", "b/3.mp3"}
    assert library.listings() == {"a": (True, 2, 3), "b": (True, 1, 4)}
    assert manifest.read_manifest(library.out).skipped == {".txt": 2, ".pdf": 1}
    assert (second.num_tracks, second.num_bytes, second.skipped) == (1, 1, {".txt": 1, ".pdf": 1})
    assert second.parts[0] not in first.parts
    keys = second.keys
    assert (keys.dtype, keys.tolist()) == (np.int64, [ref.track_key for ref in list_tracks([library.path("b")])])
    assert [ref.uri for ref in second.tracks()] == [library.path("b/3.mp3")]
    assert second.digest == manifest._keys_digest(keys)
    assert first.parts[0] in manifest.read_manifest(library.out).parts, "what does not change is not written again"


def test_a_complete_listing_takes_the_place_of_its_sources_and_of_no_other(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "b/3.mp3")
    library.tag("a", "b")
    library.drop("a/1.mp3", "b/3.mp3")
    library.make("a/4.mp3", "b/5.mp3")
    library.tag("a")
    assert library.names() == {"a/2.mp3", "a/4.mp3", "b/3.mp3"}


@pytest.mark.parametrize("spelling", ["a/", "./a", "../a", "file"])
def test_a_source_is_the_same_however_it_is_written(
    library: Library, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.make("a/1.mp3", "a/2.mp3", "b/x.mp3")
    library.tag("a")
    library.drop("a/1.mp3")
    monkeypatch.chdir(library.path("b" if spelling == "../a" else "."))
    source = f"file://{library.path('a')}/" if spelling == "file" else spelling
    manifest.write_manifest([source], library.out)
    assert library.names() == {"a/2.mp3"}
    assert len(library.listings()) == 1


def test_a_limit_takes_nothing_away_and_adds(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "a/3.mp3")
    library.tag("a", term=1)
    library.make("a/0.mp3", "a/4.mp3")
    library.drop("a/3.mp3")
    made = library.tag("a", limit=2, term=2)
    assert made.num_tracks == 2 == len(made.keys)
    assert library.names() == {"a/0.mp3", "a/1.mp3", "a/2.mp3", "a/3.mp3"}
    assert library.listings() == {"a": (True, 4, 2)}, "it holds all that the complete listing had"
    library.tag("a", term=3)
    assert library.names() == {"a/0.mp3", "a/1.mp3", "a/2.mp3", "a/4.mp3"}


def test_a_source_that_was_only_listed_in_part_is_not_complete(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "a/3.mp3")
    library.tag("a", limit=2)
    assert library.listings() == {"a": (False, 2, 0)}
    library.tag("a", limit=1)
    assert library.listings() == {"a": (False, 2, 0)}
    library.tag("a", limit=3)  # which is all there is
    assert library.listings() == {"a": (True, 3, 0)}


def test_a_limit_in_the_second_of_three_sources(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "b/3.mp3", "b/4.mp3", "c/5.mp3")
    library.tag("a", "b", "c")
    library.make("a/0.mp3", "b/2.mp3", "c/4.mp3")
    library.drop("a/1.mp3", "b/4.mp3", "c/5.mp3")
    made = library.tag("a", "b", "c", limit=3, term=7)
    assert made.num_tracks == 3
    assert library.names() == {"a/0.mp3", "a/2.mp3", "b/2.mp3", "b/3.mp3", "b/4.mp3", "c/5.mp3"}
    assert library.listings() == {"c": (True, 1, 0), "a": (True, 2, 7), "b": (True, 3, 7)}


def test_what_a_limit_would_have_skipped_is_not_counted(library: Library) -> None:
    library.make("a/1.mp3", "a/x.txt", "a/sub/2.mp3", "a/sub/y.txt", "a/sub/z.mp3")
    assert library.tag("a", limit=2).skipped == {".txt": 1}


def test_what_breaks_after_the_limit_is_not_read(library: Library) -> None:
    (library.root / "t.csv").write_text('uri\ns3://b/1\n""\n')
    library.tag("t.csv", limit=1)
    assert library.names() == {"1"}
    assert library.listings() == {"t.csv": (False, 1, 0)}


def test_a_folder_within_a_listed_one(library: Library) -> None:
    library.make("a/1.mp3", "a/sub/2.mp3", "a/sub/3.mp3")
    library.tag("a")
    library.tag("a/sub")
    assert library.names() == {"a/1.mp3", "a/sub/2.mp3", "a/sub/3.mp3"}
    library.drop("a/sub/2.mp3")
    library.tag("a/sub")
    assert library.names() == {"a/1.mp3", "a/sub/3.mp3"}, "the folder itself says that the file is gone"
    library.drop("a/sub/3.mp3")
    library.tag("a")
    assert library.names() == {"a/1.mp3"}, "and so does the one above"


def test_a_narrower_source_that_shrinks_hides_nothing_of_the_wider(library: Library) -> None:
    wide = library.table("wide.csv", "1", "2", "3", size=5)
    library.tag("wide.csv")
    library.table("narrow.csv", "2", "3", size=6)
    library.tag("narrow.csv")
    library.table("narrow.csv", "3", size=6)
    library.tag("narrow.csv")
    assert library.names() == {"1", "2", "3"}
    sizes = {ref.uri: ref.size_bytes for ref in manifest.read_tracks(library.out)}
    assert sizes == {"s3://b/1": 5, "s3://b/2": 6, "s3://b/3": 6}, "the version that was listed last"
    assert manifest.prune(library.out, [library.path("narrow.csv")]) == 0
    assert library.names() == {"1", "2", "3"}
    assert manifest.prune(library.out, [wide]) == 3
    assert library.names() == set()


def test_sources_of_one_run_that_overlap_both_list(library: Library) -> None:
    library.table("one.csv", "1", "2")
    library.table("two.csv", "2", "3")
    library.tag("one.csv", "two.csv")
    assert library.listings() == {"one.csv": (True, 2, 0), "two.csv": (True, 1, 0)}
    library.table("one.csv", "1")
    library.tag("one.csv")
    assert library.names() == {"1", "2", "3"}
    library.table("two.csv", "3")
    library.tag("two.csv")
    assert library.names() == {"1", "3"}


def test_what_a_limited_listing_covers_is_written_once(library: Library) -> None:
    library.table("one.csv", "1")
    library.table("two.csv", "1", "2", "3")
    for _ in range(3):
        library.tag("one.csv", "two.csv", limit=2)
        assert library.names() == {"1", "2"}


def test_a_table_may_name_what_a_folder_passes_over(library: Library) -> None:
    library.make("a/1.mp3", "a/odd.dat", "a/@eaDir/2.mp3", "a/gone.dat")
    (library.root / "t.csv").write_text("uri\na/odd.dat\na/@eaDir/2.mp3\na/gone.dat\n")
    library.tag("t.csv")
    library.drop("a/gone.dat")
    library.tag("a")
    assert library.names() == {"a/1.mp3", "a/odd.dat", "a/@eaDir/2.mp3"}


def test_below_a_prefix_what_is_gone_goes_whoever_listed_it(library: Library) -> None:
    (library.root / "t.csv").write_text(
        "".join(
            f"{name}\n"
            for name in (
                "uri",
                *(f"memory://gone/m/{x}" for x in ("1.mp3", "2.mp3", "odd.dat", "@eaDir/3.mp3")),
                "memory://gone/music.mp3",
            )
        )
    )
    filesystems.write_bytes("memory://gone/m/1.mp3", b"1")
    library.tag("t.csv")
    manifest.write_manifest(["memory://gone/m"], library.out)
    assert library.names() == {
        "memory://gone/m/1.mp3",
        "memory://gone/m/odd.dat",
        "memory://gone/m/@eaDir/3.mp3",
        "memory://gone/music.mp3",
    }


def test_a_file_that_is_deleted_and_comes_back(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3")
    library.tag("a")
    library.drop("a/1.mp3")
    library.tag("a")
    assert library.names() == {"a/2.mp3"}
    library.make("a/1.mp3")
    library.tag("a")
    assert library.names() == {"a/1.mp3", "a/2.mp3"}


@pytest.mark.parametrize("again", [["a"], ["a/sub"], ["a/sub/1.mp3"], ["b", "a/sub"]])
@pytest.mark.parametrize("limit", [None, 2])
def test_only_the_latest_version_of_a_replaced_file_counts(
    library: Library, again: list[str], limit: int | None
) -> None:
    library.make("a/sub/1.mp3", "a/sub/2.mp3", "a/z/3.mp3", "b/9.mp3", size=9)
    library.tag("a", "b")
    (old,) = [ref.track_key for ref in list_tracks([library.path("a/sub/1.mp3")])]
    library.make("a/sub/1.mp3", size=4)  # older than what it replaces
    (new,) = [ref.track_key for ref in list_tracks([library.path("a/sub/1.mp3")])]
    library.tag(*again, limit=limit)
    assert len(library.names()) == 4
    assert new in manifest.read_keys(library.out)
    assert old not in manifest.read_keys(library.out)


def test_a_listing_that_fails_in_the_middle_changes_nothing(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "a/3.mp3", "a/4.mp3", "a/5.mp3")
    library.tag("a")
    before = (library.root / "out" / manifest.MARKER).read_bytes()
    (library.root / "t.csv").write_text(
        "uri,size\n" + "".join(f"s3://b/{number},\n" for number in range(9)) + "s3://b/9,many\n"
    )
    library.make("a/0.mp3")
    with pytest.raises(SourceError, match="row 10"):
        library.tag("a", "t.csv")
    assert (library.root / "out" / manifest.MARKER).read_bytes() == before
    assert len(manifest.read_keys(library.out)) == 5
    assert len(list((library.root / "out").glob("*.parquet"))) > len(manifest.read_manifest(library.out).parts)
    library.tag("a")
    assert len(library.names()) == 6


def test_an_empty_source_removes_no_tracks(library: Library) -> None:
    library.make("a/1.mp3", "a/2.mp3", "b/3.mp3")
    library.tag("a", "b")
    library.drop("a/1.mp3", "a/2.mp3")
    made = library.tag("a", "b")
    assert (made.num_tracks, made.empty) == (1, (library.path("a"),))
    assert library.names() == {"a/1.mp3", "a/2.mp3", "b/3.mp3"}
    with pytest.raises(SourceError, match="no audio in"):
        library.tag("a")
    assert library.names() == {"a/1.mp3", "a/2.mp3", "b/3.mp3"}


def test_a_manifest_of_0_1_0_is_one_listing_of_an_unknown_source(library: Library) -> None:
    library.make_old("a/1.mp3", "b/2.mp3", "s3://b/3")
    found = manifest.read_manifest(library.out)
    assert (found.num_tracks, found.skipped, found.digest) == (3, {".txt": 2}, "0" * 16)
    assert library.listings() == {manifest.UNKNOWN: (True, 3, 0)}
    assert len(manifest.read_keys(library.out)) == 3 == len(list(manifest.read_tracks(library.out)))


def test_a_complete_listing_takes_what_lies_below_it_out_of_a_manifest_of_0_1_0(library: Library) -> None:
    library.make_old("a/1.mp3", "a/gone.mp3", "a b/2.mp3", "abc.mp3", "s3://b/3", "one.mp3", "two.mp3")
    library.make("a/1.mp3", "a/7.mp3", "a b/5.mp3", "c/4.mp3", "one.mp3", "two.mp3")
    library.tag("c")
    assert library.listings() == {manifest.UNKNOWN: (True, 7, 0), "c": (True, 1, 0)}
    library.tag("a", limit=1)
    assert library.listings()[manifest.UNKNOWN] == (True, 6, 0), "a limit takes over what it lists"
    library.tag("a", term=1)
    library.tag("one.mp3")
    library.table("t.csv", "3", "9")
    library.tag("t.csv")
    assert library.names() == {
        *("a/1.mp3", "a/7.mp3", "a b/2.mp3", "abc.mp3", "3", "9", "one.mp3", "two.mp3", "c/4.mp3")
    }
    assert library.listings()[manifest.UNKNOWN] == (True, 3, 0)
    library.table("t.csv", "9")
    library.tag("t.csv")
    assert "3" not in library.names(), "what a source has taken over it may lose"
    assert manifest.prune(library.out, [manifest.UNKNOWN]) == 3


def test_an_old_manifest_of_the_folder_itself_ends_with_its_first_listing(library: Library) -> None:
    library.make_old("a/1.mp3", "a/gone.mp3", "a/odd.dat")
    library.make("a/1.mp3", "a/odd.dat", "a/x.txt")
    library.tag("a")
    assert library.names() == {"a/1.mp3"}
    assert library.listings()["a"] == (True, 1, 0)


def test_objects_given_one_by_one_share_a_listing(library: Library) -> None:
    names = [f"a/{number:02d}.mp3" for number in range(9)]
    library.make(*names)
    made = library.tag(*names)
    assert len(made.parts) == 3
    assert library.listings() == {FILES: (True, 9, 0)}
    library.tag(names[0])
    library.make("b/1.mp3")
    library.tag("b/1.mp3")
    assert library.names() == {*names, "b/1.mp3"}
    assert manifest.prune(library.out, [library.path("b/1.mp3"), library.path(names[3])]) == 2
    assert library.names() == set(names) - {names[3]}
    assert manifest.prune(library.out, [FILES]) == 8


def test_a_signed_address_is_one_object_however_it_is_signed(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.sources import buckets

    monkeypatch.setattr(buckets, "web_object", lambda url: track_ref.make_ref(url, 3))
    for address in (
        "a.mp3?X-Amz-Signature=s3cret&X-Amz-Date=1",
        "a.mp3?X-Amz-Signature=other&X-Amz-Date=2",
        "get?id=1",
        "get?id=2&token=s3cret",
    ):
        manifest.write_manifest([f"https://me:s3cret@host/{address}"], library.out)
    listed = {name.partition("host/")[2] for name in library.names()}
    assert listed == {"a.mp3?X-Amz-Signature=other&X-Amz-Date=2", "get?id=1", "get?id=2&token=s3cret"}
    assert manifest.prune(library.out, ["https://host/get?token=x&id=2"]) == 1


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("s3://b/music/", "s3://b/music"),
        ("s3a://b/music", "s3://b/music"),
        ("s3://b/", "s3://b"),
        ("s3://b/what? #1.mp3", "s3://b/what? #1.mp3"),
        ("abfs://box@account.dfs.core.windows.net/m", "az://box@account.dfs.core.windows.net/m"),
        ("hf://datasets/o/n@v1/", "hf://datasets/o/n@v1"),
        ("https://u@host:80/a.csv?Expires=3&Signature=4&Key-Pair-Id=5", "https://host:80/a.csv"),
        ("https://host/a.csv?sv=1&se=2&sr=b&sp=r&sig=5", "https://host/a.csv"),
        ("/m/a*.mp3", "/m/a*.mp3"),
        ("/m/../n//", "/n"),
        ("file:///m/a%20b", "/m/a b"),
        ("/m/caf\udce9", "file:///m/caf%E9"),
    ],
)
def test_the_name_of_a_source(source: str, name: str) -> None:
    assert source_name(source) == name


def test_addresses_that_differ_in_more_than_how_they_are_signed_are_two_sources() -> None:
    first, second = source_name("https://h/t.csv?list=1&token=a"), source_name("https://h/t.csv?list=2&token=a")
    assert first != second
    assert source_name("https://h/t.csv?token=b&list=1") == first


def test_of_a_damaged_manifest_of_0_1_0_a_complete_listing_makes_a_whole_one(library: Library) -> None:
    library.make_old("a/1.mp3", "b/2.mp3")
    (library.root / "out/part-00000-0badf00d.parquet").write_bytes(b"")
    library.make("a/1.mp3")
    library.tag("a")
    assert library.names() == {"a/1.mp3"}


def test_a_store_that_refuses_deletes_ends_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.make("a/1.mp3", "a/2.mp3")
    library.tag("a")
    library.drop("a/1.mp3")
    asked = []

    def delete(url: str) -> None:
        asked.append(url)
        raise DestinationError(f"{url} cannot be written (access denied); give a place you may write, or other keys")

    with monkeypatch.context() as patch:
        patch.setattr(filesystems, "delete", delete)
        for number in range(3):
            library.make(f"a/{number + 5}.mp3")
            library.tag("a")
            assert len(asked) == number + 1, "one refusal tells enough"
        assert len(manifest.read_keys(library.out)) == 4
    library.tag("a")
    assert library.names() == {"a/2.mp3", "a/5.mp3", "a/6.mp3", "a/7.mp3"}


def test_a_run_that_may_not_write_any_more_changes_nothing(library: Library) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a")

    def check() -> None:
        raise Stopped("another run has taken the lock")

    with pytest.raises(Stopped):
        manifest.write_manifest([library.path("b")], library.out, check=check)
    with pytest.raises(Stopped):
        manifest.prune(library.out, [library.path("a")], check=check)
    library.tag("a")
    assert library.names() == {"a/1.mp3"}


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have ``act`` done once, when the next listing has read its sources."""
    real = manifest._write_parts

    def list_and_act(*args: object) -> object:
        monkeypatch.setattr(manifest, "_write_parts", real)
        drafts = real(*args)
        act()
        return drafts

    monkeypatch.setattr(manifest, "_write_parts", list_and_act)


def test_a_listing_of_a_displaced_run_does_not_take_the_place_of_a_later_ones(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.make("a/1.mp3", "b/2.mp3")

    def list_a() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(filesystems, "delete", lambda url: None)
            library.tag("a", term=2)

    meanwhile(monkeypatch, list_a)
    with pytest.raises(Stopped, match="another run has listed"):
        library.tag("b", term=1)
    library.tag("a", term=2)
    assert library.names() == {"a/1.mp3"}


def test_a_lock_that_counts_from_one_again_hides_no_listing(library: Library) -> None:
    """Where somebody has deleted its claims."""
    library.make("a/1.mp3")
    library.tag("a", term=7)
    marker = manifest_marker.read(library.out)
    assert marker is not None and marker.term == 7
    library.make("a/2.mp3")
    library.tag("a", term=1)
    assert library.names() == {"a/1.mp3", "a/2.mp3"}


def test_what_another_run_lists_meanwhile_stays(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.make("a/1.mp3", "b/2.mp3")

    def list_a() -> None:
        # It began earlier, so it takes nothing of this run's away.
        with monkeypatch.context() as patch:
            patch.setattr(filesystems, "delete", lambda url: None)
            library.tag("a", term=2)

    meanwhile(monkeypatch, list_a)
    library.tag("b", term=3)
    assert library.names() == {"a/1.mp3", "b/2.mp3"}


def test_a_marker_never_names_what_another_run_has_removed(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a")
    meanwhile(monkeypatch, lambda: [path.unlink() for path in (library.root / "out").glob("*.parquet")])
    with pytest.raises(Stopped, match="another run has removed part-00000-"):
        library.tag("b")


def test_forgetting_needs_a_known_source(library: Library) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a", "b", term=5)
    with pytest.raises(SourceError, match=f"/c is no source of .*/out; expected one of {library.path('a')}, "):
        manifest.prune(library.out, [library.path("a"), library.path("c")])
    assert library.names() == {"a/1.mp3", "b/2.mp3"}
    assert manifest.prune(library.out, [library.path("a") + "/"]) == 1
    assert library.names() == {"b/2.mp3"}
    assert library.listings() == {"b": (True, 1, 5)}


EXAMPLES = int(os.environ.get("TONEARM_LISTING_EXAMPLES", "40"))
NAMES = ["a/1.mp3", "a/2.mp3", "a/sub/3.mp3", "a/sub/4.mp3", "b/5.mp3"]
KEYS = ["6", "7", "8"]
SOURCES = ["a", "a/sub", "b", "one.jsonl", "two.jsonl", "a/1.mp3", "a/sub/3.mp3"]
TABLES = st.sets(st.sampled_from([*NAMES, *KEYS]), min_size=1)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.integers(1, 5)),
    st.tuples(st.just("drop"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("table"), st.sampled_from(["one", "two"]), TABLES),
    st.tuples(
        st.just("tag"),
        st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3),
        st.one_of(st.none(), st.none(), st.integers(1, 4)),
    ),
    st.tuples(st.just("prune"), st.sampled_from(SOURCES), st.none()),
)


class Model:
    """What is to be listed: the URIs of each source, and of each URI the key that was listed last."""

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = {}
        self.keys: dict[str, int] = {}

    def tag(self, sources: Sequence[str], limit: int | None) -> set[int]:
        """List; return the keys of the run's own listing."""
        streams = []
        for source in sources:
            try:
                streams.append((source, list(list_tracks([source], counts=ListingCounts()))))
            except SourceError as error:
                if "no audio" not in error.message:
                    raise
        if not streams:
            raise SourceError("no audio in any")
        now: dict[str, int] = {}
        complete: dict[str, set[str]] = {}
        for source, refs in streams:
            if len(now) == limit:
                break
            read = set()
            for ref in refs:
                now.setdefault(ref.uri, ref.track_key)
                read.add(ref.uri)
                if len(now) == limit:
                    break
            if Path(source).is_file() and not source.endswith(".jsonl"):
                self.members.setdefault(FILES, set()).update(read)
            elif ref is refs[-1]:
                complete[source] = read
            else:
                self.members.setdefault(source, set()).update(read)
        self.members |= complete
        for folder in filter(os.path.isdir, complete):
            for members in self.members.values():
                below = {uri for uri in members if uri.startswith(f"{folder}/") and uri not in now}
                members -= {uri for uri in below if not Path(uri).exists()}
        self.keys |= now
        return set(now.values())

    def listed(self) -> dict[str, int]:
        return {uri: self.keys[uri] for members in self.members.values() for uri in members}


@settings(max_examples=EXAMPLES)
@given(st.lists(STEPS, min_size=3, max_size=14))
def test_listings_are_those_of_a_plain_model(steps: list[tuple[str, object, object]]) -> None:
    """Files, folders one within another and tables, replaced, deleted and listed with and without a limit."""
    with tempfile.TemporaryDirectory() as root:
        library, model = Library(Path(root)), Model()
        library.make(*NAMES)
        for table in ("one", "two"):
            (Path(root) / f"{table}.jsonl").write_text('{"uri": "s3://b/6"}\n')
        for kind, what, value in steps:
            if kind == "write":
                library.make(what, size=value)
            elif kind == "drop":
                (Path(root) / what).unlink(missing_ok=True)
            elif kind == "table":
                uris = [name if "/" in name else f"s3://b/{name}" for name in sorted(value)]
                (Path(root) / f"{what}.jsonl").write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))
            elif kind == "tag":
                try:
                    expected = model.tag(list(map(library.path, what)), value)
                except SourceError:
                    with pytest.raises(SourceError):
                        library.tag(*what, limit=value)
                    continue
                made = library.tag(*what, limit=value)
                assert set(made.keys.tolist()) == expected
                assert made.num_tracks == len(expected)
            elif (name := library.path(what)) in model.members:
                before = len(model.listed())
                del model.members[name]
                assert manifest.prune(library.out, [name]) == before - len(model.listed())
            if not model.members:
                continue
            library.names()
            assert {ref.uri: ref.track_key for ref in manifest.read_tracks(library.out)} == model.listed()
