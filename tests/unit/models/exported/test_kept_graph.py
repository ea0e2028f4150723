"""Facts of a graph are read as they were written, and only where all of their files are there."""

from __future__ import annotations

from pathlib import Path

from tests.graphs import convert_graph, described, save_wave_graph
from tonearm.models.exported.kept_graph import Facts


def test_facts_are_read_as_they_were_written_and_other_formats_are_not(tmp_path: Path) -> None:
    facts, out = convert_graph(save_wave_graph(tmp_path / "wave.xml"), described("wave.xml"))
    assert Facts.read(out) == facts
    text = (out / "facts.json").read_text()
    (out / "facts.json").write_text(text.replace('"format": 1', '"format": 0'))
    assert Facts.read(out) is None
    (out / "facts.json").write_text(text[:40])
    assert Facts.read(out) is None
    (out / "facts.json").write_text(text)
    assert Facts.read(out) == facts
    (out / "answers.npy").unlink()
    assert Facts.read(out) is None
