"""Where a destination's parts are, and which places can be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination


@pytest.mark.parametrize("url", ["s3://bucket/labels", "gs://bucket", "az://bucket/a/b", "memory://bucket/x"])
def test_a_store_is_a_destination(url: str) -> None:
    place = Destination.of(url)
    assert place.tracks == f"{url}/tracks"
    assert place.manifest == f"{url}/manifest"
    assert place.report == f"{url}/report.html"
    assert place.checkpoint("ab") == f"{url}/_checkpoint/ab"
    assert place.run("r") == f"{url}/runs/r.json"
    assert Destination(f"{url}/").join("a", "b") == f"{url}/a/b"


def test_a_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Destination.of("out").url == str(tmp_path / "out")
    assert Destination("/").join("tracks") == "/tracks"


@pytest.mark.parametrize(("url", "says"), [("https://h/x", "expected a folder, s3://"), ("s3://", "expected a bucket")])
def test_what_cannot_hold_rows_is_refused(url: str, says: str) -> None:
    with pytest.raises(DestinationError, match=says):
        Destination.of(url)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "got the destination ''"),
        ("  ", "expected a folder"),
        ("file://out", "names another machine; expected file:///FOLDER"),
        ("file://host/out", "names another machine"),
        ("file:/out", "neither a path nor a URL"),
        ("s3:/bucket/out", "neither a path nor a URL"),
        (" s3://bucket/out", "neither a path nor a URL"),
        ("/music/s3://bucket", "neither a path nor a URL"),
        ("bad\udcffname", "expected a name in UTF-8"),
    ],
)
def test_an_out_that_means_another_place_is_refused(out: str, message: str) -> None:
    with pytest.raises(DestinationError, match=message) as caught:
        Destination.of(out)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["a?b", "a#b", "%41", "*", "[x]", "a b", "a\nb", "a\tb", "ä日", "a;b", "a:b", "-a"])
def test_a_folder_of_any_name_is_written_by_its_name(name: str, tmp_path: Path) -> None:
    for out in (str(tmp_path / name), f"{tmp_path / name}/"):
        destination = Destination.of(out)
        root = destination.rooted()
        root.create_dir(destination.below(destination.tracks), recursive=True)
        with root.open_output_stream(destination.below(destination.join("tracks", "x"))) as file:
            file.write(b"1")
        assert (tmp_path / name / "tracks" / "x").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == [name]
