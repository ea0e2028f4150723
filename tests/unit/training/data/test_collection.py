"""Clips have ids that outlive a listing, and one listing serves every split that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labelled import planned, taken_in, train_settings, write_folders, write_gtzan
from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.sources.track_ref import make_ref
from tonearm.training.data import clips as cache_module
from tonearm.training.data.collection import by_id, draw, list_clips, make_collection
from tonearm.training.plan import plan_comparison, plan_training


def test_a_clips_id_is_its_tracks_key_wherever_it_stands() -> None:
    tracks = [LabelledTrack(make_ref(f"/{name}.wav", 1), (name,)) for name in "abc"]
    first, second = by_id(tracks), by_id(tracks[::-1])
    assert list(first) == [track.ref.track_key for track in tracks]
    assert {clip: track.name for clip, track in first.items()} == {clip: track.name for clip, track in second.items()}


def test_a_file_that_a_table_names_twice_is_two_clips() -> None:
    tracks = [LabelledTrack(make_ref("/a.wav", 1), (label,)) for label in ("x", "y", "z")]
    clips = by_id(tracks)
    assert [track.labels for track in clips.values()] == [("x",), ("y",), ("z",)]
    assert list(by_id(tracks)) == list(clips), "the same again"


def test_what_is_on_no_side_says_nothing_of_the_labels(tmp_path: Path) -> None:
    """Clips that the split field leaves out add no class, and need no label."""
    folder = write_folders(tmp_path / "sounds", clips=2, classes=2, length_s=0.1)
    table = tmp_path / "clips.csv"
    files = sorted(folder.rglob("*.wav"))
    rows = [f"{file},{file.parent.name},{side}" for file, side in zip(files, ["train", "test"] * 2, strict=True)]
    (folder / "bird" / "extra.wav").write_bytes(files[0].read_bytes())
    table.write_text("\n".join(["file,label,side", *rows, f"{folder}/bird/extra.wav,,unused"]))
    settings = LabelSettings(split_by="side")
    collection = make_collection(list_clips(str(table), settings), settings)
    assert (collection.labels, len(collection.clips), collection.no_side) == (("bird", "cello"), 4, {"unused": 1})
    assert collection.sides is not None and list(collection.sides) == list(collection.clips)


@pytest.mark.processes
def test_a_second_split_lists_and_decodes_nothing_again(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GTZAN's two splits share one listing and one cache, and a clip has the same id in both."""
    folder = write_gtzan(tmp_path / "genres")
    settings = train_settings(start, tmp_path / "cache", max_error_rate=0.5)
    listing = list_clips(str(folder), settings.labels)
    drawn = draw(listing, settings)
    model, fingerprints = taken_in(drawn, settings)
    plan = plan_training(drawn, model, fingerprints, settings, num_threads=2)
    monkeypatch.setattr(cache_module._Decoder, "_decode", None)
    other = plan_comparison(listing, model.initial, fingerprints, settings, print, num_threads=2)
    assert other is not None and other.settings_hash != plan.settings_hash
    assert set(other.collection.clips) < set(plan.collection.clips) and other.split.test
    assert other.job.caches == plan.job.caches and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.processes
def test_several_labels_per_clip_need_multi_label(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    files = sorted(collection.rglob("*.wav"))
    rows = [f"{path},{path.parent.name}{';loud' if number % 2 else ''}" for number, path in enumerate(files)]
    table.write_text("\n".join(["file,tags", *rows]))
    run = planned(table, train_settings(start, cache))
    assert run.job.is_multi
    assert run.job.labels == ("bird", "cello", "drone", "loud")
    with pytest.raises(SourceError, match="has 2 labels, expected 1; give --multi-label"):
        planned(table, train_settings(start, cache, labels={"multi_label": False}))
