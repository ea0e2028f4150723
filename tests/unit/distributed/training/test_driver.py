"""What a training decides from its folder is decided while it holds the lock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tonearm.distributed.training as package
from tonearm.distributed.training import driver
from tonearm.errors import DestinationError, Stopped
from tonearm.runs.lock import lock_file, run_lock
from tonearm.runs.lock.run_lock import Holder, Machine
from tonearm.settings import TrainSettings
from tonearm.training.destination import CONFIG, LOCK, METRICS, WORK
from tonearm.watchers import Watcher


class Plan:
    """What is asked of a plan before the training itself, which takes minutes and is left out here."""

    settings_hash, num_parameters, notes = "ours", 10, ()
    job = types.SimpleNamespace(settings=TrainSettings())


# What the steps before the plan give, of which nothing is asked.
STEP = types.SimpleNamespace(collection=types.SimpleNamespace(refs={}), windows=None)


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that a training was begun in; each leaves a model."""
    begun: list[str] = []

    def train(
        out: str, plan: Plan, comparison: None, watcher: Watcher, hold: run_lock.Hold, *, source: str
    ) -> dict[str, Any]:
        begun.append(out)
        return finish(Path(out), plan.settings_hash)

    for step in ("list_clips", "draw", "read_initial_model", "choose_model", "open_clips", "AcousticFingerprints"):
        monkeypatch.setattr(driver, step, lambda *_, **__: STEP)
    monkeypatch.setattr(driver, "plan_training", lambda *_, **__: Plan())
    monkeypatch.setattr(driver, "plan_comparison", lambda *_, **__: None)
    executed_by(monkeypatch, train)
    return begun


def executed_by(monkeypatch: pytest.MonkeyPatch, train: Any) -> None:
    """Have ``train`` in the place of the loop on Ray Train."""
    monkeypatch.setattr(package, "execution", types.SimpleNamespace(run=train), raising=False)


def finish(out: Path, fingerprint: str) -> dict[str, Any]:
    """Leave a finished model."""
    out.mkdir(exist_ok=True)
    (out / CONFIG).write_text("{}")
    (out / METRICS).write_text(json.dumps({"fingerprint": fingerprint}))
    return {"fingerprint": fingerprint}


def before_the_lock(monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    """Have ``action`` happen once all is judged and the lock is waited for."""
    real = run_lock.held_at

    @contextlib.contextmanager
    def held_at(*arguments: Any, **keywords: Any) -> Iterator[run_lock.Hold]:
        action()
        with real(*arguments, **keywords) as hold:
            yield hold

    monkeypatch.setattr(run_lock, "held_at", held_at)


def test_a_model_that_was_finished_meanwhile_is_not_written_over(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainings into one folder: the second judged it while the first was not done, and then got the lock."""
    out = tmp_path / "model"
    before_the_lock(monkeypatch, lambda: finish(out, "theirs"))
    with pytest.raises(DestinationError, match="holds a model trained otherwise"):
        driver.train("music", str(out), TrainSettings(), Watcher())
    assert trained == []
    assert json.loads((out / METRICS).read_text()) == {"fingerprint": "theirs"}
    assert driver.train("music", str(out), TrainSettings(), Watcher(), overwrite=True).is_new
    assert trained == [str(out)]


def test_the_same_model_that_was_finished_meanwhile_is_taken(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    before_the_lock(monkeypatch, lambda: finish(out, "ours"))
    assert not driver.train("music", str(out), TrainSettings(), Watcher()).is_new
    assert trained == []
    assert not (out / WORK).exists()


def test_what_was_written_meanwhile_is_not_written_among(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    out.mkdir()
    before_the_lock(monkeypatch, lambda: (out / "thesis.txt").write_text("x"))
    with pytest.raises(DestinationError, match=r"holds other files \(thesis.txt\)"):
        driver.train("music", str(out), TrainSettings(), Watcher())
    assert trained == []


def test_claims_are_no_unfinished_run(tmp_path: Path, trained: list[str]) -> None:
    """A run that was killed before its first checkpoint leaves its lock and claims alone."""
    out, url = tmp_path / "model", str(tmp_path / "model" / WORK / LOCK)
    run_lock.acquire(url, str(out)).release()
    assert lock_file.list_claims(url) == [1]
    assert driver.train("music", str(out), TrainSettings(), Watcher()).is_new
    assert not (out / WORK).exists()


def test_a_training_that_another_has_taken_over_leaves_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"

    def train(
        out: str, plan: Plan, comparison: None, watcher: Watcher, hold: run_lock.Hold, *, source: str
    ) -> dict[str, Any]:
        other = Holder.of_this_process(Machine("elsewhere", "another", ""))
        lock_file.write(hold.url, dataclasses.replace(other, term=hold.term + 1))
        return {}

    executed_by(monkeypatch, train)
    with pytest.raises(Stopped, match="on elsewhere"):
        driver.train("music", str(out), TrainSettings(), Watcher())
    assert (out / WORK / LOCK).exists()
