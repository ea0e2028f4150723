"""Tables of URIs as CSV, JSON lines and Parquet, with sizes and times as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.source_files import listed, make
from tonearm.errors import SourceError


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


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file or folder"):
        listed(tmp_path / "list.csv")
