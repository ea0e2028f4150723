"""Labels, groups and splits from folders, names and columns."""

from __future__ import annotations

from pathlib import Path

import pandas
import pyarrow as pa
import pytest

from tests.labelled import write_folders
from tonearm.errors import SourceError
from tonearm.sources.labelled import list_labelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("labelled") / "sounds", clips=4, length_s=0.1)


def test_each_folder_is_a_class(folder: Path) -> None:
    found = list_labelled(str(folder))
    assert found.counts == {"bird": 4, "cello": 4, "drone": 4}
    assert (found.label_by, found.is_multi) == ("folder", False)


def test_fields_are_taken_from_names(folder: Path) -> None:
    found = list_labelled(str(folder), split_by=r"name:/(\d)-", group_by=r"name:(\w+/\d-\d+)-", source_by="folder")
    assert {track.split for track in found.tracks} == {"1", "2", "3", "4"}
    assert found.tracks[0].group == "bird/1-00"
    assert found.tracks[0].source == "bird"


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_columns_of_a_table(folder: Path, tmp_path: Path, kind: str) -> None:
    files = sorted(str(path) for path in folder.rglob("*.wav"))
    table = pandas.DataFrame(
        {"file": files, "genre": ["x", None] * 6, "artist": [f"a{n // 3}" for n in range(12)], "part": ["train"] * 12}
    )
    path = tmp_path / f"table.{kind}"
    {
        "csv": lambda: table.to_csv(path, index=False),
        "parquet": lambda: table.to_parquet(path),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
    }[kind]()
    found = list_labelled(str(path), group_by="artist", split_by="part")
    assert found.label_by == "genre"
    assert [track.labels for track in found.tracks] == [("x",), None] * 6
    assert {track.group for track in found.tracks} == {"a0", "a1", "a2", "a3"}
    assert {track.split for track in found.tracks} == {"train"}


def test_a_track_may_have_several_labels(folder: Path, tmp_path: Path) -> None:
    files = sorted(str(path) for path in folder.rglob("*.wav"))[:3]
    path = tmp_path / "tags.csv"
    path.write_text(
        "file,tags\n" + "\n".join(f"{file},{tags}" for file, tags in zip(files, ["a;b", "b | c", "a"], strict=True))
    )
    found = list_labelled(str(path))
    assert found.is_multi
    assert [track.labels for track in found.tracks] == [("a", "b"), ("b", "c"), ("a",)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_by": "genre"}, "has no column genre: it is a folder"),
        ({"split_by": "name:("}, "not a regular expression"),
        ({"split_by": r"name:\d"}, "expected a group in parentheses"),
    ],
)
def test_fields_that_cannot_be_read_are_refused(folder: Path, fields: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list_labelled(str(folder), **fields)


def test_a_table_without_labels_says_which_columns_it_looked_for(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text(f"file,mood\n{next(folder.rglob('*.wav'))},calm\n")
    with pytest.raises(SourceError, match="--label-by"):
        list_labelled(str(path))


def test_class_labels_of_a_saved_data_set(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = sorted(str(path) for path in folder.rglob("*.wav"))
    names = ["bird", "cello", "drone"]
    audio = [{"path": file, "bytes": Path(file).read_bytes()} for file in files]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    numbers = [names.index(Path(file).parent.name) for file in files]
    data = datasets.Dataset(pa.table({"audio": pa.array(audio, kind), "genre": numbers}))
    data = data.cast_column("audio", datasets.Audio(decode=False)).cast_column(
        "genre", datasets.ClassLabel(names=names)
    )
    data.save_to_disk(str(tmp_path / "saved"))
    found = list_labelled(str(tmp_path / "saved"))
    assert found.label_by == "genre"
    assert found.counts == {"bird": 4, "cello": 4, "drone": 4}


def test_rows_that_hold_their_bytes_keep_the_names_of_their_files(tmp_path: Path) -> None:
    """As the hub's GTZAN does: its split is known by the files' names."""
    datasets = pytest.importorskip("datasets")
    from tonearm.training.data.collection import GTZAN_GENRES, fault_filtered, is_gtzan

    names = sorted(GTZAN_GENRES)
    files = [f"/data/genres/{genre}/{genre}.{number:05d}.wav" for genre in names for number in range(5)]
    audio = [{"path": Path(file).name if index % 2 else None, "bytes": b"RIFF"} for index, file in enumerate(files)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "file": files,
        "audio": pa.array(audio, kind),
        "genre": [names.index(Path(f).parent.name) for f in files],
    }
    data = datasets.Dataset(pa.table(columns)).cast_column("audio", datasets.Audio(decode=False))
    data.cast_column("genre", datasets.ClassLabel(names=names)).save_to_disk(str(tmp_path / "saved"))
    found = list_labelled(str(tmp_path / "saved"), group_by=r"name:(\d{5})\.")
    assert [track.name for track in found.tracks] == [Path(file).name for file in files]
    assert found.tracks[3].group == "00003"
    assert is_gtzan(found.tracks)
    assert any(fault_filtered(dict(enumerate(found.tracks))).values())
