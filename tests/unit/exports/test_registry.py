"""An export's format is known by the ending of its output."""

from __future__ import annotations

import pytest

from tonearm.errors import UsageError
from tonearm.exports.registry import EXPORTERS, OWN, kind_of


@pytest.mark.parametrize(
    ("output", "kind"), [("a.csv", "csv"), ("s3://b/A.CSV", "csv"), ("x/a.jsonl", "jsonl"), ("a.parquet", "embeddings")]
)
def test_the_ending_names_the_format(output: str, kind: str) -> None:
    assert kind_of(output) == kind


def test_an_ending_of_no_format_says_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"got a\.xyz, .*\.csv.*give --format, one of csv, jsonl, audacity, m3u"):
        kind_of("a.xyz")


def test_every_format_is_found_by_its_name() -> None:
    assert all(EXPORTERS.get(kind) is exporter for kind, exporter in OWN.items())
