"""A data set that ``datasets`` saved, as a source: bytes inside its rows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from tests.commands import read_tracks
from tests.one_process import tonearm
from tonearm.errors import FetchError, SourceError
from tonearm.settings import FetchSettings
from tonearm.sources import hub_datasets
from tonearm.sources.listing import list_tracks
from tonearm.sources.reader import ObjectReader

datasets = pytest.importorskip("datasets")
READER = ObjectReader(FetchSettings(num_attempts=1))


def save(songs: Path, folder: Path) -> list[Path]:
    files = sorted(songs.glob("*/*"))[:4]
    audio = [{"path": str(path), "bytes": path.read_bytes()} for path in files]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"clip": pa.array(audio, kind), "label": [path.parent.name for path in files]})
    # `from_dict` would encode with torchcodec; what is stored is the same.
    rows = datasets.Dataset(table).cast_column("clip", datasets.Audio(decode=False))
    datasets.DatasetDict({"train": rows.select(range(3)), "test": rows.select([3])}).save_to_disk(folder)
    return files


def test_rows_with_bytes_are_read_by_split_and_number(songs: Path, tmp_path: Path) -> None:
    files = save(songs, tmp_path / "set")
    refs = list(list_tracks([str(tmp_path / "set")]))
    assert [ref.uri.rpartition("#")[2] for ref in refs] == ["train/0", "train/1", "train/2", "test/0"]
    assert len({ref.track_key for ref in refs}) == 4
    assert [READER.read(ref) for ref in refs] == [path.read_bytes() for path in files]


def test_threads_that_ask_for_one_data_set_at_once_load_it_once(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding reads rows on several threads; the loader's progress bars are not made for that."""
    files = save(songs, tmp_path / "set")
    refs = list(list_tracks([str(tmp_path / "set")]))
    hub_datasets._load_once.cache_clear()
    loads = []

    def load(folder: str) -> object:
        loads.append(folder)
        time.sleep(0.2)  # long enough for the other threads to come too
        return load_from_disk(folder)

    load_from_disk = datasets.load_from_disk
    monkeypatch.setattr(datasets, "load_from_disk", load)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(READER.read, refs)) == [path.read_bytes() for path in files]
    assert len(loads) == 1


def test_a_data_set_written_anew_is_new_tracks(songs: Path, tmp_path: Path) -> None:
    save(songs, tmp_path / "set")
    before = list(list_tracks([str(tmp_path / "set")]))
    rows = datasets.load_from_disk(str(tmp_path / "set"))["test"].map(lambda row: {"label": "other"})
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "other")
    for path in (tmp_path / "set").rglob("*"):
        if path.is_file():
            path.unlink()
    for path in (tmp_path / "other").rglob("*"):
        target = tmp_path / "set" / path.relative_to(tmp_path / "other")
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    after = list(list_tracks([str(tmp_path / "set")]))
    assert not {ref.track_key for ref in before} & {ref.track_key for ref in after}
    with pytest.raises(FetchError) as caught:
        READER.read(before[0])
    assert caught.value.code == "changed"


def test_a_data_set_without_audio_says_so(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "set")
    with pytest.raises(SourceError, match="has the columns text; expected one of type Audio"):
        list(list_tracks([str(tmp_path / "set")]))


@pytest.mark.slow
def test_a_hub_data_set_is_tagged(songs: Path, tmp_path: Path) -> None:
    """A saved data set is tagged like a folder."""
    save(songs, tmp_path / "set")
    run = tonearm("tag", tmp_path / "set", "--out", tmp_path / "out", "--demo-models")
    assert run.returncode == 0, run.stderr
    table = read_tracks(tmp_path / "out")
    assert table.num_rows == 4
    assert set(table["status"].to_pylist()) == {"ok"}
