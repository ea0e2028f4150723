"""Exported graphs are described by their folder, their file or a hub id, once a ``tonearm.json`` says what they are."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from tests.graphs import LABELS, NUM_SAMPLES, RATE, save_described, save_wave_graph
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, is_hub_id
from tonearm.models.window_plan import plan_windows

pytestmark = pytest.mark.processes


def test_a_folder_and_its_file_are_the_same_model(model: Path) -> None:
    folder, file = describe_checkpoint(str(model)), describe_checkpoint(str(model / "wave.xml"))
    assert folder.name == file.name == "wave"
    assert folder == file
    assert (folder.family, folder.labels, folder.sample_rate) == ("exported-xml", LABELS, RATE)
    assert (folder.native_window_s, folder.hop_s, folder.embedding_dim, folder.multi_label) == (0.5, 0.2, 6, True)
    assert folder.is_exported and not is_hub_id(str(model / "wave.xml"))
    plan = plan_windows(folder, None, None)
    assert (plan.window_samples, plan.hop_samples, plan.min_samples) == (NUM_SAMPLES, 1600, 200)


def test_a_hub_ids_file_is_fetched_once_its_description_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = save_described(tmp_path / "4f1c0ffee"), []

    def download(source: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((source, revision, allow_patterns))
        return str(commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    info = describe_checkpoint("somebody/wave", revision="main")
    assert (info.name, info.revision, info.labels) == ("somebody/wave", "4f1c0ffee", LABELS)
    (_, _, first), (source, revision, then) = asked
    assert "tonearm.json" in first and "wave.xml" not in first
    assert (source, revision) == ("somebody/wave", "main") and {"wave.xml", "wave.bin"} <= {*then}


def test_a_faulty_exported_model_is_one_line_of_error(tmp_path: Path) -> None:
    folder = save_described(tmp_path / "wave", labels=[*LABELS, "more"], scores_output=0)
    with pytest.raises(CheckpointError, match="got 5 labels, and its output scores has the shape") as refused:
        describe_checkpoint(str(folder))
    assert "\n" not in refused.value.message
    (folder / "wave.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="OpenVINO cannot read it"):
        describe_checkpoint(str(folder))
    (folder / "wave.xml").unlink()
    with pytest.raises(CheckpointError, match=r"has no wave\.xml, which its tonearm\.json describes"):
        describe_checkpoint(str(folder))


def test_a_graph_without_a_description_is_refused(tmp_path: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml")
    for source in (path, tmp_path):
        with pytest.raises(CheckpointError, match=r"wave\.xml is not described, so nothing says what it takes"):
            describe_checkpoint(str(source))
    with pytest.raises(CheckpointError, match=r"no file .*other\.onnx"):
        describe_checkpoint(str(tmp_path / "other.onnx"))
    other = save_wave_graph(save_described(tmp_path / "two") / "other.xml")
    with pytest.raises(CheckpointError, match=r"other\.xml is not what its tonearm\.json describes \(wave\.xml\)"):
        describe_checkpoint(str(other))
