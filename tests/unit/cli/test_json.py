"""``--json``: one document on standard output and nothing else; every verb has it, or a reason for having none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tonearm.api import doctor
from tonearm.cli.app import app
from tonearm.cli.reference import verbs
from tonearm.demo import models as built_in

# Where it would say nothing.
WITHOUT = {
    "tonearm serve": "runs until it is stopped; its access log is JSON already",
    "tonearm demo": "a tour for people; its rows are read with `tonearm export`, its summary is in runs/",
}


def told(*words: str | Path) -> Any:
    """Return the document that a verb prints, which is all that it prints."""
    status, document = ended(*words)
    assert status == 0
    return document


def ended(*words: str | Path) -> tuple[int, Any]:
    """Return a verb's exit status and its document."""
    run = CliRunner().invoke(app, [*map(str, words), "--json"], prog_name="tonearm", standalone_mode=False)
    assert run.exception is None, run.exception
    return run.return_value, json.loads(run.stdout)


def test_every_verb_has_it_or_a_reason() -> None:
    """A new verb says its result as JSON too, or says here why it has none."""
    with_it = {path for path, command in verbs() if any("--json" in given.opts for given in command.params)}
    assert with_it == {path for path, _ in verbs()} - set(WITHOUT)


def test_of_a_run(out: Path) -> None:
    status = told("status", out)
    assert (status["num_listed"], status["num_done"], status["errors_by_code"]) == (3, 3, {"corrupt": 1})
    assert told("report", out) == {"run": str(out), "report": f"{out}/report.html"}
    exported = told("export", out, out.parent / "tracks.csv")
    assert (exported["num_tracks"], exported["num_files"], exported["kind"]) == (3, 1, "csv")
    assert told("compact", out)["num_rows"] in (0, 3)
    pruned = told("prune", out, "--yes")
    assert pruned["num_rows_removed"] == 0 and pruned["listings"][0]["num_tracks"] == 3


def test_of_models_even_where_one_cannot_be_used() -> None:
    folder = built_in()["genre_model"]
    heads = told("models", "--genre-model", folder, "--tag-model", "none")["heads"]
    assert heads["tags"] is None and len(heads["genre"]["labels"]) == 9 and heads["genre"]["window_s"] > 0
    status, document = ended("models", "--genre-model", "./none", "--tag-model", "none")
    assert status == 2 and "./none" in document["heads"]["genre"]["error"]


def test_of_what_would_be_published() -> None:
    document = told("publish", built_in()["genre_model"], "somebody/model", "--dry-run", "--license", "cc-by-4.0")
    assert not document["is_sent"] and document["files"]["model.safetensors"] > 1000
    assert document["metadata"]["license"] == "cc-by-4.0"


@pytest.mark.processes
def test_of_pictures(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(32000) / 20), 16000)
    document = told("plot", tmp_path / "a.wav", "--out", tmp_path)
    assert document["duration_s"] == 2.0 and all(Path(path).is_file() for path in document["paths"])


def test_of_a_key() -> None:
    document = told("keys", "new", "app")
    assert document["line"].startswith("app:") and document["key"].startswith("ta-")


def test_of_the_doctor_with_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is secret is said to be set, and no more."""

    def checks() -> Iterator[doctor.Finding]:
        yield doctor.Finding("memory", "note", "1.0 of 2.0 GiB free")

    monkeypatch.setattr(doctor, "doctor", checks)
    monkeypatch.setenv("TONEARM_API_KEY", "ta-secret")
    monkeypatch.setenv("TONEARM_SCORE_ON", "GPU")
    document = told("doctor")
    assert document["findings"] == [{"name": "memory", "status": "note", "text": "1.0 of 2.0 GiB free"}]
    values = {variable["name"]: variable["value"] for variable in document["environment"]}
    assert (values["TONEARM_API_KEY"], values["TONEARM_SCORE_ON"]) == ("(set)", "GPU")
