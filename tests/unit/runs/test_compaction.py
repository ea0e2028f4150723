"""Small files into large ones: the same rows, sorted, whatever moment the process is killed at."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import make_tracks
from tonearm.errors import DestinationError, Stopped
from tonearm.runs import compaction, groups
from tonearm.runs.compaction import Compacted
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.runs.rows import finished_rows, merged_schemas, track_files, track_rows
from tonearm.runs.rows.schema import TRACKS
from tonearm.runs.rows.track_files import TrackFile
from tonearm.storage import filesystems

NUM_ROWS, ROWS_A_FILE = 600, 20
NUM_FILES = NUM_ROWS // ROWS_A_FILE
MIB, GIB = 2**20, 2**30
GROUPS = {"genre": Group({"model": "small"})}


class Killed(BaseException):
    """Stands for SIGKILL: nothing but a ``finally`` runs after it, and compaction has none that matters."""


@pytest.fixture(scope="module")
def left_by_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A destination as a run leaves it: many small files, a mark for each; read only."""
    folder = tmp_path_factory.mktemp("left-by-a-run")
    make_tracks(folder, NUM_ROWS)
    whole = pq.read_table(folder / "tracks")
    next((folder / "tracks").glob("*.parquet")).unlink()
    marks = folder / "_checkpoint" / groups.write(Destination.of(str(folder)), GROUPS)
    marks.mkdir()
    for number in range(0, NUM_ROWS, ROWS_A_FILE):
        part = whole.slice(number, ROWS_A_FILE)
        pq.write_table(part, folder / "tracks" / f"w-r_{number:06d}-0.parquet")
        pq.write_table(part.select(["track_key"]), marks / f"w-r_{number:06d}.parquet")
    return folder


@pytest.fixture
def destination(left_by_a_run: Path, tmp_path: Path) -> Destination:
    """A copy of it."""
    shutil.copytree(left_by_a_run, tmp_path, dirs_exist_ok=True)
    return Destination.of(str(tmp_path))


def rows(destination: Destination) -> pa.Table:
    """Return what every reader of tonearm sees."""
    batches = list(track_rows.scan(destination.url, TRACKS.names))
    return pa.Table.from_batches(batches).sort_by("track_key")


def test_the_same_rows_in_files_that_do_not_overlap(destination: Destination) -> None:
    before = rows(destination)
    size = sum(file.size_bytes for file in track_files.finished(destination.url))
    done = compaction.compact(destination, target_bytes=size // 3)
    assert (done.num_before, done.num_after, done.num_rows) == (NUM_ROWS // ROWS_A_FILE, 3, NUM_ROWS)
    assert rows(destination).equals(before)
    last = -(2**63)
    for file in track_files.finished(destination.url):
        keys = pq.read_table(file.path, columns=["track_key"])["track_key"].to_numpy()
        assert (np.diff(keys) > 0).all() and keys[0] > last
        last = keys[-1]
        metadata = pq.read_metadata(file.path)
        assert metadata.row_group(0).sorting_columns[0].column_index == 0
        statistics = metadata.row_group(0).column(0).statistics
        assert (statistics.min, statistics.max) == (keys[0], keys[-1])
        assert pq.read_schema(file.path).metadata[b"tonearm.schema"] == b"tracks"
    assert groups.read(destination) == GROUPS, "a later run is refused or finds every track done, as before"
    assert not list(Path(destination.url).glob("_checkpoint/compaction/*"))


def test_large_files_are_left_alone_and_a_second_time_there_is_nothing_to_do(destination: Destination) -> None:
    compaction.compact(destination)
    (only,) = track_files.finished(destination.url)
    assert compaction.compact(destination) == compaction.Compacted()
    assert [file.path for file in track_files.finished(destination.url)] == [only.path]


def test_steps_hold_no_more_than_asked() -> None:
    files = [track_files.TrackFile(f"/t/{number}.parquet", 10 * 2**20) for number in range(100)]
    groups = compaction.steps(files, target_bytes=100 * 2**20, step_bytes=300 * 2**20)
    assert [len(group) for group in groups] == [30, 30, 30, 10]
    assert compaction.steps(files[:1], target_bytes=100 * 2**20, step_bytes=300 * 2**20) == []


def sized(*sizes: int) -> list[TrackFile]:
    return [TrackFile(f"/t/{number:05d}.parquet", size) for number, size in enumerate(sizes)]


def have_free(patch: pytest.MonkeyPatch, num_bytes: int) -> None:
    """Have so much free in the temporary folder."""
    real = shutil.disk_usage("/")
    patch.setattr(shutil, "disk_usage", lambda path: real._replace(free=num_bytes))


def sizes_by_step(files: Sequence[TrackFile], target_bytes: int, step_bytes: int) -> list[list[int]]:
    groups = compaction.steps(files, target_bytes=target_bytes, step_bytes=step_bytes)
    names = [file.name for group in groups for file in group]
    assert names == sorted(names), "in their order, each once"
    return [[file.size_bytes for file in group] for group in groups]


@pytest.mark.parametrize(
    ("sizes", "target_bytes", "small"),
    [
        ([49, 50, 51, 49], 100, [49, 49]),  # of half the target they stay as they are
        ([49, 50, 49], 99, [49, 49]),
        ([49, 50, 51, 50], 101, [49, 50, 50]),
        ([64 * MIB - 1, 64 * MIB, 64 * MIB - 1, 64 * MIB + 1], 200 * MIB, [64 * MIB - 1, 64 * MIB - 1]),
        ([64 * MIB - 1, 5, 64 * MIB], 128 * MIB, [64 * MIB - 1, 5]),
        ([0, 0], 1, [0, 0]),
        ([1, 100, 100], 100, []),  # one alone is not worth it
        ([100, 100], 100, []),
        ([], 100, []),
    ],
)
def test_only_small_files_are_taken(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], target_bytes: int, small: list[int]
) -> None:
    have_free(monkeypatch, 2**50)
    assert sizes_by_step(sized(*sizes), target_bytes, GIB) == ([small] if small else [])


@pytest.mark.parametrize(
    ("step_bytes", "free", "sizes", "steps"),
    [
        (30, 2**50, [10] * 7, [3, 3]),  # a step of exactly what it may hold; the one that is left over stays
        (31, 2**50, [10] * 7, [3, 3]),
        (29, 2**50, [10] * 7, [2, 2, 2]),
        (30, 2**50, [10] * 8, [3, 3, 2]),
        (1000, 2**50, [10] * 7, [7]),
        (1000, 100, [10] * 9, [4, 4]),  # two fifths of what is free
        (1000, 99, [10] * 9, [3, 3, 3]),
        (1000, 0, [10] * 9, [2, 2, 2, 2]),  # never less than one output
        (0, 2**50, [10] * 9, [2, 2, 2, 2]),
        (29, 2**50, [10, 12, 7, 11, 11, 8, 9, 9, 9], [3, 2, 3]),
    ],
)
def test_a_step_holds_what_was_asked_for_and_what_the_temporary_folder_has_room_for(
    monkeypatch: pytest.MonkeyPatch, step_bytes: int, free: int, sizes: list[int], steps: list[int]
) -> None:
    have_free(monkeypatch, free)
    assert [len(group) for group in sizes_by_step(sized(*sizes), 26, step_bytes)] == steps


def test_a_step_is_of_32_gib_and_where_there_is_no_room_of_one_file_of_160_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"target_bytes": compaction.TARGET_BYTES, "step_bytes": compaction.STEP_BYTES}
    have_free(monkeypatch, 2**50)
    files = sized(*([64 * MIB - 1] * 512), 512, 1, 1)
    assert [len(group) for group in compaction.steps(files, **given)] == [513, 2]
    have_free(monkeypatch, 0)
    files = sized(*([40 * MIB] * 4), 1, 40 * MIB, 40 * MIB)
    assert [len(group) for group in compaction.steps(files, **given)] == [4, 3]


def test_what_was_done_adds_up() -> None:
    assert dataclasses.astuple(Compacted()) == (0, 0, 0, 0)
    done = Compacted(1, 2, 3, 4) + Compacted(10, 20, 30, 40)
    assert dataclasses.astuple(done) == (11, 22, 33, 44)
    assert len({done, done + Compacted(), Compacted() + Compacted()}) == 2


def test_outputs_share_the_rows_evenly_and_leave_one_mark(destination: Destination) -> None:
    files = track_files.finished(destination.url)
    every = np.sort(np.concatenate([pq.read_table(file.path)["track_key"].to_numpy() for file in files]))
    own, other = groups.marks_name(GROUPS), Path(destination.join("_checkpoint", "never-used.json"))
    other.write_text("{}")
    told: list[tuple[int, int]] = []
    done = compaction.compact(
        destination,
        target_bytes=sum(file.size_bytes for file in files) // 7,
        progress=lambda *numbers: told.append(numbers),
    )
    outputs = track_files.finished(destination.url)
    assert [pq.read_metadata(file.path).num_rows for file in outputs] == [85, 86, 86, 85, 86, 86, 86]
    assert done == Compacted(NUM_FILES, 7, NUM_ROWS, sum(file.size_bytes for file in outputs))
    assert told == [(NUM_ROWS, NUM_ROWS)], "all at once, as they fit in memory"
    (identity,) = {file.name.split("-")[1] for file in outputs}
    assert re.fullmatch(r"[0-9a-f]{12}", identity)
    assert [file.name for file in outputs] == [f"compacted-{identity}-{number:05d}.parquet" for number in range(7)]
    marks = list(Path(destination.checkpoint(own)).iterdir())
    assert [path.name for path in marks] == [f"compacted-{identity}.parquet"]
    assert pq.read_table(marks[0])["track_key"].to_pylist() == every.tolist()
    assert not other.with_suffix("").exists(), "no mark where no run left any"


def test_a_file_that_stays_keeps_its_mark(destination: Destination) -> None:
    first, *others = track_files.finished(destination.url)
    own = Path(destination.checkpoint(groups.marks_name(GROUPS)))
    rows_of_others = sum(pq.read_metadata(file.path).num_rows for file in others)
    large = Path(first.path)
    padding = pa.array([np.random.default_rng(number).bytes(10_000) for number in range(ROWS_A_FILE)])
    pq.write_table(pq.read_table(large).append_column("padding", padding), large, compression="none")
    size = large.stat().st_size
    assert size > 2 * max(file.size_bytes for file in others)
    done = compaction.compact(destination, target_bytes=2 * size)
    assert (done.num_before, done.num_rows) == (NUM_FILES - 1, rows_of_others)
    assert large.stat().st_size == size
    assert "w-r_000000.parquet" in {path.name for path in own.iterdir()}
    assert len(list(own.iterdir())) == 2


def test_progress_is_told_as_rows_pass_and_each_step_counts_its_own(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(destination)
    monkeypatch.setattr(compaction, "BUFFER_BYTES", 1)
    files = track_files.finished(destination.url)
    # The first step ends exactly with the tenth file.
    step_bytes = sum(file.size_bytes for file in files[:10])
    groups = compaction.steps(files, target_bytes=step_bytes // 2, step_bytes=step_bytes)
    assert len(groups) >= 3 and len(groups[0]) == 10
    told: list[tuple[int, int]] = []
    done = compaction.compact(
        destination,
        target_bytes=step_bytes // 2,
        step_bytes=step_bytes,
        progress=lambda *numbers: told.append(numbers),
    )
    assert told == [(20 * number, 20 * len(group)) for group in groups for number in range(1, len(group) + 1)]
    outputs = [file for file in track_files.finished(destination.url) if file.name.startswith("compacted-")]
    num_done = sum(map(len, groups))
    assert done == Compacted(num_done, len(outputs), 20 * num_done, sum(file.size_bytes for file in outputs))
    assert rows(destination).equals(before)


@pytest.mark.parametrize(
    ("buffer_bytes", "num_tables", "held"),
    [
        (1, 3, [8, 8, 8]),
        (128, 7, [16, 16, 16, 8]),
        (128, 4, [16, 16]),
        (129, 7, [24, 24, 8]),
        (10_000, 3, [24]),
        (128, 0, []),
    ],
)
def test_rows_are_sorted_a_buffer_at_a_time(
    monkeypatch: pytest.MonkeyPatch, buffer_bytes: int, num_tables: int, held: list[int]
) -> None:
    monkeypatch.setattr(compaction, "BUFFER_BYTES", buffer_bytes)
    tables = [pa.table({"track_key": np.arange(8) + 8 * number}) for number in range(num_tables)]  # 64 bytes each
    found = list(compaction._join_tables(iter(tables)))
    assert [each.num_rows for each in found] == held
    assert [key for each in found for key in each["track_key"].to_pylist()] == list(range(8 * num_tables))


def test_a_buffer_is_of_256_mib() -> None:
    mebibyte = pa.table({"track_key": np.zeros(MIB // 8, np.int64)})
    tables = (pa.concat_tables([mebibyte] * size) for size in (255, 1, 256, 10))  # which share its memory
    assert [each.nbytes // MIB for each in compaction._join_tables(tables)] == [256, 256, 10]


def test_a_row_group_is_of_8192_rows_and_has_what_a_look_up_by_key_needs(tmp_path: Path) -> None:
    place = Destination.of(str(tmp_path))
    (tmp_path / "tracks").mkdir()
    keys = np.random.default_rng(0).permutation(8193)
    for number, part in enumerate(np.array_split(keys, 2)):
        columns = {"track_key": part, "uri": [f"/m/{key}.mp3" for key in part], "status": ["ok"] * len(part)}
        pq.write_table(merged_schemas.conformed(pa.table(columns), TRACKS), tmp_path / "tracks" / f"{number}-0.parquet")
    compaction.compact(place)
    (only,) = track_files.finished(place.url)
    metadata = pq.read_metadata(only.path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [8192, 1]
    assert [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups] == [
        (0, 8191),
        (8192, 8192),
    ]
    assert all(group.column(0).has_column_index and group.column(0).has_offset_index for group in groups)
    assert groups[0].column(1).statistics.null_count == 0
    assert pq.read_table(only.path)["uri"].to_pylist() == [f"/m/{key}.mp3" for key in range(8193)]
    assert pq.read_table(only.path)["genre"].null_count == 8193


def test_rows_that_change_while_they_are_compacted_are_not_replaced_by_what_they_were(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, against the lock, drops a row between the two times that the files are read."""
    real = compaction._distribute_rows
    changed = Path(track_files.finished(destination.url)[4].path)

    def distribute(*arguments: object) -> None:
        pq.write_table(pq.read_table(changed).slice(1), changed)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "_distribute_rows", distribute)
        with pytest.raises(
            DestinationError, match=r"tracks/ changed while it was compacted; nothing is lost. Run it ag"
        ):
            compaction.compact(destination, target_bytes=200_000)
    assert len(track_files.finished(destination.url)) == NUM_FILES, "the inputs count"
    left = rows(destination)
    assert left.num_rows == NUM_ROWS - 1
    assert compaction.compact(destination, target_bytes=200_000).num_rows == NUM_ROWS - 1
    assert rows(destination).equals(left)


def test_what_another_has_taken_over_is_not_committed(destination: Destination) -> None:
    """The lock is another's by now: what was read may be out of date, and nothing of it may count."""
    before, calls = rows(destination), []

    def check() -> None:
        calls.append(len(track_files.read_compactions(destination.url).pending))
        if calls[-1]:
            raise Stopped("another run has taken over")

    with pytest.raises(Stopped):
        compaction.compact(destination, target_bytes=200_000, check=check)
    assert calls == [0, 0, 1], "asked before what is left over is removed, and when all is written but the commit"
    assert len(track_files.finished(destination.url)) == NUM_FILES, "the inputs count"
    assert rows(destination).equals(before)


def test_who_was_displaced_while_it_wrote_its_commit_deletes_nothing(destination: Destination) -> None:
    """The one that took over has undone the step, or completes it."""
    folder = Path(destination.join("_checkpoint", "compaction"))

    def check() -> None:
        if list(folder.glob("*.json")):
            raise Stopped("another run has taken over")

    before, inputs = rows(destination), set(Path(destination.tracks).iterdir())
    with pytest.raises(Stopped):
        compaction.compact(destination, target_bytes=200_000, check=check)
    assert inputs < set(Path(destination.tracks).iterdir())
    assert rows(destination).equals(before)
    compaction.recover(destination)
    assert not inputs & set(Path(destination.tracks).iterdir()), "completed by the next"
    assert rows(destination).equals(before)


def test_recovery_touches_nothing_once_another_has_taken_over(destination: Destination) -> None:
    """What it took for left over may be what that one is writing."""
    marks = Path(destination.join("_checkpoint", "0a"))
    marks.mkdir()
    marks.with_suffix(".json").write_text("{}")
    (marks / "w-r_000000.pending.parquet").touch()
    folder = Path(destination.join("_checkpoint", "compaction"))
    folder.mkdir()
    (folder / "aa.pending").touch()
    before = sorted(Path(destination.url).rglob("*"))

    def check() -> None:
        raise Stopped("another run has taken over")

    with pytest.raises(Stopped):
        compaction.recover(destination, check=check)
    assert sorted(Path(destination.url).rglob("*")) == before


def test_a_store_that_fails_while_it_is_compacted_is_one_line(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str) -> list[str]:
        raise TimeoutError("no answer")

    monkeypatch.setattr(filesystems, "list_files", fail)
    with pytest.raises(DestinationError, match="cannot be read"):
        compaction.compact(destination)


def test_a_commit_names_what_it_replaces_and_by_what(destination: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [file.name for file in track_files.finished(destination.url)]
    monkeypatch.setattr(compaction, "_complete_step", _killing(compaction._complete_step, after=0))
    with pytest.raises(Killed):
        compaction.compact(destination)
    text = next(Path(destination.url).glob("_checkpoint/compaction/*.json")).read_text()
    assert json.loads(text) == {
        "superseded": inputs,
        "outputs": [file.name for file in track_files.finished(destination.url)],
    }
    assert text.startswith('{\n "superseded": [\n  "w-r_000000-0.parquet"'), "a line each, for who reads it"


def test_recovery_undoes_every_step_that_was_killed_and_no_other(destination: Destination) -> None:
    before = rows(destination)
    inputs = [Path(file.path) for file in track_files.finished(destination.url)]
    folder = Path(destination.join("_checkpoint", "compaction"))
    folder.mkdir()
    for identity in ("aa", "bb"):
        (folder / f"{identity}.pending").touch()
        for number in range(2):
            shutil.copyfile(inputs[number], Path(destination.tracks, f"compacted-{identity}-{number:05d}.parquet"))
    done = Path(destination.tracks, "compacted-aaa-00000.parquet")  # of a step that is over
    inputs[3].rename(done)
    compaction.recover(destination)
    assert sorted(Path(destination.tracks).iterdir()) == sorted({*inputs, done} - {inputs[3]})
    assert not list(folder.iterdir())
    assert rows(destination).equals(before)


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (compaction, "_distribute_rows", 0),
        (compaction, "_write_output", 0),
        (compaction, "_write_output", 2),
        (compaction, "_write_marks", 0),
        (compaction, "_complete_step", 0),
        (filesystems, "delete", 0),
        (filesystems, "delete", 7),
        (filesystems, "delete", NUM_ROWS // ROWS_A_FILE * 2),
        (filesystems, "delete", NUM_ROWS // ROWS_A_FILE * 2 + 1),
    ],
)
def test_killed_at_any_point_no_row_is_lost_or_doubled(
    destination: Destination, monkeypatch: pytest.MonkeyPatch, module: object, name: str, calls: int
) -> None:
    before = rows(destination)
    monkeypatch.setattr(finished_rows, "READERS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _killing(getattr(module, name), after=calls))
        with pytest.raises(Killed):
            compaction.compact(destination, target_bytes=200_000)
    assert rows(destination).equals(before), "as it was left"
    compaction.recover(destination)
    assert rows(destination).equals(before), "as the next command finds it"
    names = {path.name for path in Path(destination.tracks).iterdir()}
    assert names == {file.name for file in track_files.finished(destination.url)}, "nothing of the killed step stays"
    compaction.compact(destination, target_bytes=200_000)
    assert rows(destination).equals(before)
    assert all(name.startswith("compacted-") for name in (path.name for path in Path(destination.tracks).iterdir()))


def _killing(real: Callable[..., object], *, after: int) -> Callable[..., object]:
    left = [after]

    def wrapped(*arguments: object, **named: object) -> object:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*arguments, **named)

    return wrapped


def test_rows_of_an_older_schema_get_todays(destination: Destination) -> None:
    path = next(Path(destination.tracks).glob("*.parquet"))
    pq.write_table(pq.read_table(path).drop_columns(["album"]), path)
    compaction.compact(destination)
    (only,) = track_files.finished(destination.url)
    assert pq.read_schema(only.path).names == TRACKS.names
    assert pq.read_metadata(only.path).num_rows == NUM_ROWS


def test_a_broken_file_is_named_and_nothing_changes(destination: Destination) -> None:
    path = next(Path(destination.tracks).glob("*.parquet"))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DestinationError, match=rf"{path.name} cannot be read .*tag its tracks again"):
        compaction.compact(destination)
    compaction.recover(destination)
    assert len(list(Path(destination.tracks).iterdir())) == NUM_ROWS // ROWS_A_FILE


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("uri", None, "it has rows without uri"),
        ("tags", "loud", "Unsupported cast"),
        ("status", None, "without status"),
    ],
)
def test_a_file_with_impossible_rows_is_named_and_nothing_changes(
    destination: Destination, name: str, value: str | None, says: str
) -> None:
    """Another program has written it over a file of tonearm's."""
    path = Path(track_files.finished(destination.url)[0].path)
    old = pq.read_table(path, partitioning=None)
    values = pa.array([value] * old.num_rows, pa.string())
    pq.write_table(old.set_column(old.schema.get_field_index(name), name, values), path)
    with pytest.raises(DestinationError, match=rf"{path.name} cannot be read \(.*{says}"):
        compaction.compact(destination)
    compaction.recover(destination)
    assert len(list(Path(destination.tracks).iterdir())) == NUM_ROWS // ROWS_A_FILE


def test_rows_that_do_not_count_go_and_the_rest_is_as_it_was(destination: Destination) -> None:
    """A file is there twice, and one row of another was written anew."""
    before = rows(destination)
    first, second, *others = track_files.finished(destination.url)
    shutil.copy(first.path, Path(first.path).with_name("copied-0.parquet"))
    newer = pq.read_table(second.path, partitioning=None).slice(3, 1)
    newer = newer.set_column(newer.schema.get_field_index("term"), "term", pa.array([5], pa.int64()))
    pq.write_table(newer.append_column("mine", [["x"]]), Path(second.path).with_name("newer-0.parquet"))
    untouched = {file.name: Path(file.path).stat().st_mtime_ns for file in (first, *others)}
    found = compaction.outranked(destination)
    assert {file.name: int((~keep).sum()) for file, keep in found.items()} == {
        "copied-0.parquet": ROWS_A_FILE,
        second.name: 1,
    }
    assert compaction.mend(destination, found) == ROWS_A_FILE + 1
    assert compaction.outranked(destination) == {}
    after = pq.read_table(destination.tracks, partitioning=None).sort_by("track_key")
    assert after.num_rows == NUM_ROWS
    names = [name for name in TRACKS.names if name != "term"]
    assert after.select(names).equals(before.select(names))
    left = {file.name for file in track_files.finished(destination.url)}
    assert not {"copied-0.parquet", second.name} & left
    assert {name: Path(destination.tracks, name).stat().st_mtime_ns for name in untouched} == untouched
    assert not list(Path(destination.url).glob("_checkpoint/compaction/*"))


def test_columns_of_others_outlive_a_compaction(destination: Destination) -> None:
    first = Path(track_files.finished(destination.url)[0].path)
    marked = pq.read_table(first, partitioning=None)
    pq.write_table(marked.append_column("mine", pa.array(["x"] * marked.num_rows)), first)
    compaction.compact(destination)
    (only,) = track_files.finished(destination.url)
    mine = pq.read_table(only.path, columns=["track_key", "mine"])
    assert mine["mine"].null_count == NUM_ROWS - marked.num_rows
    assert set(mine.filter(pa.compute.is_valid(mine["mine"]))["track_key"].to_pylist()) == set(
        marked["track_key"].to_pylist()
    )


def test_columns_of_others_that_do_not_go_together_stay_apart(destination: Destination) -> None:
    """Text here, numbers there, under one name; where rows are doubled, where not, and once more."""
    before, (first, second, third, *_) = rows(destination), track_files.finished(destination.url)
    for file, value in ((first, "x"), (second, 1), (third, 2.5)):
        marked = pq.read_table(file.path, partitioning=None)
        pq.write_table(marked.append_column("mine", pa.array([value] * marked.num_rows)), file.path)
        copied = marked.slice(0, 1).set_column(marked.schema.get_field_index("term"), "term", pa.array([5], pa.int64()))
        pq.write_table(copied.append_column("mine", pa.array([value])), f"{file.path[:-8]}-copied.parquet")
    assert compaction.mend(destination, compaction.outranked(destination)) == 3
    for _ in range(2):
        compaction.compact(destination)
        files = [Path(file.path) for file in track_files.finished(destination.url)]
        mine = [Counter(pq.read_table(path, partitioning=None)["mine"].drop_null().to_pylist()) for path in files]
        assert sorted(mine, key=len) == [{"x": ROWS_A_FILE}, {1.0: ROWS_A_FILE, 2.5: ROWS_A_FILE}]
    names = [name for name in TRACKS.names if name != "term"]
    assert rows(destination).select(names).equals(before.select(names))


def test_a_run_that_lost_its_lock_commits_nothing(destination: Destination) -> None:
    before = {file.name for file in track_files.finished(destination.url)}

    def check() -> None:
        raise Stopped("another run has taken over")

    with pytest.raises(Stopped):
        compaction.compact(destination, check=check)
    assert {file.name for file in track_files.finished(destination.url)} == before


def test_what_a_killed_run_half_wrote_goes_whatever_groups_it_wrote(destination: Destination) -> None:
    before = rows(destination)
    other = {"tags": Group({"model": "other"})}
    folder = Path(destination.checkpoint(groups.write(destination, other)))
    folder.mkdir()
    (folder / "half_000001.pending.parquet").touch()
    Path(destination.tracks, "half_000001-0.parquet").write_bytes(b"PAR1")
    compaction.recover(destination)
    assert not list(folder.iterdir())
    assert not Path(destination.tracks, "half_000001-0.parquet").exists()
    assert rows(destination).equals(before)
