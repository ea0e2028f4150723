"""Labels are read from the files that exported models come with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.errors import CheckpointError
from tonearm.models.exported.labels import read_labels

LABEL_FILES = {
    "classes.csv": 'index,mid,display_name\n0,/m/1,Speech\n1,/m/2,"Child speech, kid speaking"\n',
    "shuffled.csv": 'name,id\n"Child speech, kid speaking",1\nSpeech,0\n',
    "bare.csv": 'Speech\n"Child speech, kid speaking"\n',
    "classes.tsv": "label\tcount\nSpeech\t7\nChild speech, kid speaking\t2\n",
    "classes.txt": "\ufeffSpeech\n\nChild speech, kid speaking\n",
    "classes.json": '["Speech", "Child speech, kid speaking"]',
    "id2label.json": '{"1": "Child speech, kid speaking", "0": "Speech"}',
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_labels_come_from_the_files_that_models_come_with(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LABEL_FILES[name], encoding="utf-8")
    assert read_labels(tmp_path / name) == ("Speech", "Child speech, kid speaking")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.csv", "mid,count\n/m/1,2\n", "has the columns mid, count, expected one of display_name, label"),
        ("classes.csv", "index,name\n0,a\n2,b\n", "has the places 0, 2 ..., expected 0 to 1"),
        ("classes.txt", "a\nb\na\n", "has the label 'a' more than once"),
        ("classes.txt", "\n", "has no labels"),
        ("classes.json", "{", "cannot be used"),
    ],
)
def test_label_files_that_cannot_be_used_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError) as refused:
        read_labels(tmp_path / name)
    assert message in str(refused.value)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_labels(tmp_path / "classes.csv")
