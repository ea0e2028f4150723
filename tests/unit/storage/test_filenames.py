"""Names of tracks from their URIs, and file names that Linux, macOS and Windows all take."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from tonearm.storage.filenames import FORBIDDEN, MAX_NAME_BYTES, RESERVED, file_name, track_name


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://records/x/01 Blue.flac", "01 Blue"),
        ("https://host/a/My%20Song.mp3?sig=1.wav", "My Song"),
        ("/music/100%20.mp3", "100%20"),
        ("/music/Symphony No. 5", "Symphony No. 5"),
        ("/music/take/", "take"),
        ("s3://bucket", "bucket"),
    ],
)
def test_a_track_is_called_by_the_last_part_of_its_uri(uri: str, name: str) -> None:
    assert track_name(uri) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Rock/Pop", "Rock_Pop"),
        ("a:b\nc", "a_b_c"),
        ("what... ", "what"),
        ("", "_"),
        (".hidden", "_.hidden"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("é" * 150, "é" * (MAX_NAME_BYTES // 2)),
    ],
)
def test_what_some_system_refuses_in_a_name_is_replaced(text: str, name: str) -> None:
    assert file_name(text) == name


@hypothesis.given(st.text())
def test_any_text_can_be_made_a_file_name(text: str) -> None:
    name = file_name(text)
    assert name and not FORBIDDEN.search(name) and not RESERVED.fullmatch(name)
    assert len(name.encode()) <= MAX_NAME_BYTES + 1
