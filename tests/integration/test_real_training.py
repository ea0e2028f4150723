"""Real music, four classes: trained on clips, judged on other tracks, used on whole originals.

Label and source nearly coincide in this collection, so what is proved is that it works, not how well.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.commands import read_tracks
from tests.one_process import tonearm

pytestmark = pytest.mark.slow
RECIPE = Path(__file__).parents[2] / "recipes" / "small-ast.toml"


def test_a_model_of_four_genres_tags_whole_tracks(shared_audio: Path, tmp_path: Path) -> None:
    """A model trained on real music tags whole tracks that it has not heard."""
    out = tmp_path / "genres"
    run = tonearm(
        *("train", shared_audio / "music" / "clips.csv", "--out", out, "--config", RECIPE, "--set", "epochs=20"),
        *("--window-s", "5.12", "--split-by", "split", "--test-on", "val", "--validation-share", "0"),
        *("--group-by", "track_id", "--source-by", "licence", "--tracker", "none"),
        timeout_s=700,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert run.returncode == 0, run.stderr
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["labels"] == ["classical_soundtrack", "electronic", "lofi_ambient", "rock_pop"]
    assert (facts["split"]["train"], facts["split"]["test"]) == (107, 36)
    most = facts["source_alone"]["most_frequent"]
    assert facts["evaluation"]["test"]["track"]["accuracy"] > most
    card = ModelCard.load(out / "README.md").text
    assert "Knowing nothing but `licence`, one guesses the class of" in card
    assert "cannot tell that from knowing the music" in card
    assert "No groups by `track_id` stand on both sides" in card

    tagged = tonearm(
        *("tag", shared_audio / "music" / "originals", "--out", tmp_path / "tags", "--genre-model", out),
        *("--tag-model", "none"),
        timeout_s=700,
    )
    assert tagged.returncode == 0, tagged.stderr
    rows = read_tracks(tmp_path / "tags").to_pylist()
    assert len(rows) == len(list((shared_audio / "music" / "originals").iterdir()))
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["coverage"] == pytest.approx(1.0, abs=1e-3) for row in rows)
    assert {row["genre"] for row in rows} <= set(facts["labels"])
