"""``tonearm tag --fallback`` with two small models on a real Ray: rows by hand, killed, resumed, refused, planned."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tonearm
from tests.checkpoints import extractor_of, save_checkpoint, save_small, tiny_config
from tests.commands import finished_files, read_tracks, start_tonearm, wait_for
from tests.one_process import tonearm as run_tonearm
from tonearm.audio.decode import decode_waveform
from tonearm.audio.windows import dequantize, quantization_scale, quantize_block
from tonearm.models.calibration import Fallback, Point, TonearmSidecar, write_fallback, write_sidecar
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.pooling import softmax

LABELS = ("label 0", "label 1", "label 2")
NUM_SONGS, WINDOW_S, STUDENT_HZ, TEACHER_HZ = 6, 1.25, 32000, 16000


@pytest.fixture(scope="module")
def library(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade") / "library"
    folder.mkdir()
    whole = [path for path in sorted(songs.rglob("*")) if path.suffix in (".mp3", ".flac", ".wav", ".ogg")]
    for number, path in enumerate(whole[:NUM_SONGS]):
        shutil.copy(path, folder / f"{number} {path.name}")
    return folder


class Cascade:
    """A student and its teacher, and what the two say of each track, scored window by window without tonearm's tagger.

    Attributes:
        confidence: by file, of the student, [windows].
        said: by file, probabilities of the cascade, [windows, labels]; ``sent`` which of them are the teacher's.
    """

    def __init__(self, folder: Path, library: Path) -> None:
        self.student = save_small(folder / "small", "mobilenet_audio", num_labels=3, seed=1)
        write_sidecar(self.student, TonearmSidecar(window_s=WINDOW_S))
        names = dict(enumerate(LABELS[::-1]))
        config = tiny_config("hubert", id2label=names, label2id={name: number for number, name in names.items()})
        self.teacher = save_checkpoint(folder / "large", config, extractor_of("hubert", config), seed=2)
        own, other = Classifier.load(str(self.student)), Classifier.load(str(self.teacher), window_s=WINDOW_S)
        assert (own.info.sample_rate, other.info.sample_rate) == (STUDENT_HZ, TEACHER_HZ)
        assert (own.info.labels, other.info.labels) == (LABELS, LABELS[::-1])
        probabilities, taught, self.embedding = {}, {}, {}
        for path in sorted(library.iterdir()):
            starts = starts_of(len(sound(path, STUDENT_HZ)))
            scores = own.score([cut(path, STUDENT_HZ, start / STUDENT_HZ) for start in starts])
            probabilities[path.name] = softmax(scores.logits)
            self.embedding[path.name] = scores.embedding.mean(axis=0)
            heard = [cut(path, TEACHER_HZ, start / STUDENT_HZ) for start in starts]
            taught[path.name] = softmax(other.score(heard).logits)[:, ::-1]
        self.confidence = {name: each.max(axis=1) for name, each in probabilities.items()}
        everything = np.sort(np.concatenate([*self.confidence.values()]))
        gaps = np.diff(everything[len(everything) // 4 : len(everything) // 2])
        place = len(everything) // 4 + int(gaps.argmax())
        self.threshold = float((everything[place] + everything[place + 1]) / 2)
        self.sent = {name: each < self.threshold for name, each in self.confidence.items()}
        self.said = {
            name: np.where(self.sent[name][:, None], taught[name], each) for name, each in probabilities.items()
        }
        info, chosen = describe_checkpoint(str(self.teacher)), Point(self.threshold, 0.3, 0.95, 0.9)
        write_fallback(self.student, Fallback(info.name, info.revision, 0.95, chosen, (), 100))

    @property
    def flags(self) -> list[str]:
        return ["--genre-model", "none", "--tag-model", "none", "--head", f"mood={self.student}"]

    @property
    def counts(self) -> tuple[int, int]:
        """Windows in all, and those of them that the teacher is asked about."""
        sent = np.concatenate([*self.sent.values()])
        return len(sent), int(sent.sum())


def sound(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """Return a whole track as a run keeps it: in 16 bits at its own scale."""
    waveform, info = decode_waveform(path.read_bytes(), sample_rate)
    scale = quantization_scale(float(np.abs(waveform).max()))
    return waveform if info.sample_rate < sample_rate else dequantize(quantize_block(waveform, scale), scale)


def starts_of(num_samples: int) -> list[int]:
    """Return where the student's windows start: one after the other, the last one back from the end."""
    window = round(WINDOW_S * STUDENT_HZ)
    starts = list(range(0, num_samples - window, window))
    return [*starts, num_samples - window]


def cut(path: Path, sample_rate: int, start_s: float) -> NDArray[np.float32]:
    waveform, window = sound(path, sample_rate), round(WINDOW_S * sample_rate)
    start = min(round(start_s * sample_rate), len(waveform) - window)
    return waveform[start : start + window]


@pytest.fixture(scope="module")
def cascade(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    return Cascade(tmp_path_factory.mktemp("models"), library)


def check_rows(out: Path, cascade: Cascade) -> None:
    """Compare every row with what the two models say, by hand."""
    rows = {Path(row["uri"]).name: row for row in read_tracks(out).to_pylist()}
    assert rows.keys() == cascade.said.keys()
    for name, row in rows.items():
        assert row["status"] == "ok", row["error_message"]
        said = dict(zip(LABELS, cascade.said[name].mean(axis=0), strict=True))
        assert {each["label"]: each["score"] for each in row["mood_scores"]} == pytest.approx(said, abs=1e-4), name
        windows = [(each["label"], each["score"]) for each in row["mood_windows"]]
        best = cascade.said[name].argmax(axis=1)
        assert [label for label, _ in windows] == [LABELS[place] for place in best]
        np.testing.assert_allclose([score for _, score in windows], cascade.said[name].max(axis=1), atol=1e-4)
        np.testing.assert_allclose(row["mood_embedding"], cascade.embedding[name], atol=1e-3)
        small, large = (describe_checkpoint(str(model)).revision[:19] for model in (cascade.student, cascade.teacher))
        assert row["mood_model"] == f"small@{small}, below {cascade.threshold:g} large@{large}"


def last_run(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(max((out / "runs").iterdir()).read_text())
    return found


@pytest.mark.slow
def test_unsure_windows_have_the_teachers_scores_and_the_rest_the_students(
    library: Path, cascade: Cascade, tmp_path: Path
) -> None:
    """Rows are those computed by hand from both models; what went where is in the run, the group, the report."""
    out, fallback = tmp_path / "out", ["--fallback", f"mood={cascade.teacher}"]
    num_windows, num_sent = cascade.counts
    assert 0 < num_sent < num_windows
    plan = run_tonearm("plan", library, *cascade.flags, *fallback, "--json")
    assert plan.returncode == 0, plan.stderr
    estimate = json.loads(plan.stdout)["fallbacks"]["mood"]
    assert (estimate["model"], estimate["origin"]) == ("large", "measured")
    assert estimate["share_sent"] == pytest.approx(num_sent / num_windows, abs=1e-6), "of all tracks, which are few"

    run = run_tonearm("tag", library, "--out", out, *cascade.flags, *fallback)
    assert run.returncode == 0, run.stderr
    check_rows(out, cascade)
    percent = f"{100 * num_sent / num_windows:.0f}%"
    assert f"mood: {percent} of {num_windows} windows, below {cascade.threshold:g}, went to large" in run.stdout
    facts = last_run(out)["head_models"]["mood"]["fallback"]
    assert (facts["name"], facts["num_windows"], facts["num_sent"]) == ("large", num_windows, num_sent)
    assert facts["runtime"] and facts["revision"] == describe_checkpoint(str(cascade.teacher)).revision
    group = json.loads((out / "_checkpoint" / "groups.json").read_text())["groups"]["mood"]
    assert group["facts"]["fallback"]["threshold"] == cascade.threshold
    assert group["settled"]["fallback"]["num_sent"] == num_sent
    assert f"{percent} of {num_windows} windows, below" in (out / "report.html").read_text()
    files = {path: path.stat().st_mtime_ns for path in finished_files(out)}
    for given, says in (
        ([], f"mood fallback: {cascade.teacher} "),
        (["--fallback", f"mood={cascade.teacher}:0.5"], f"below {cascade.threshold:g} there, "),
        (["--fallback", f"mood={cascade.student}"], "which is the model of mood itself"),
        (["--fallback", f"tags={cascade.teacher}"], "expected a head of this run: mood"),
        ([*fallback, *fallback], "got --fallback mood= twice"),
    ):
        refused = run_tonearm("tag", library, "--out", out, *cascade.flags, *given)
        assert refused.returncode == 2 and says in refused.stderr, refused.stderr
        assert len([line for line in refused.stderr.splitlines() if line.strip()]) == 1
    assert {path: path.stat().st_mtime_ns for path in finished_files(out)} == files
    again = run_tonearm("tag", library, "--out", out, *cascade.flags, *fallback)
    assert again.returncode == 0 and "nothing to do" in again.stdout


@pytest.mark.slow
def test_a_cascade_that_was_killed_resumes_to_the_same_rows(library: Path, cascade: Cascade, tmp_path: Path) -> None:
    """Killed after a file of rows, blocks of other sizes in the second run: rows are those computed by hand."""
    out, fallback = tmp_path / "out", ["--fallback", f"mood={cascade.teacher}"]
    for name, size in (("few", 1), ("many", 3)):
        (tmp_path / f"{name}.toml").write_text(f"tracks_per_block = {size}\n[models]\nbatch_size = {size}\n")
    few = ("tag", str(library), "--out", str(out), *cascade.flags, *fallback, "--config", str(tmp_path / "few.toml"))
    run = start_tonearm(*few)
    wait_for(lambda: len(finished_files(out)) > 0, what="a file of rows", run=run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert len(finished_files(out)) < NUM_SONGS, "it was killed in its midst"
    settings = tmp_path / "many.toml"
    other = run_tonearm("tag", library, "--out", out, *cascade.flags, "--config", settings)
    assert other.returncode == 2 and "mood fallback: " in other.stderr and "none now" in other.stderr
    done = run_tonearm("tag", library, "--out", out, *cascade.flags, *fallback, "--config", settings)
    assert done.returncode == 0, done.stderr
    check_rows(out, cascade)
    facts = last_run(out)["head_models"]["mood"]["fallback"]
    assert 0 < facts["num_windows"] < cascade.counts[0], "of the tracks that were left"


def test_a_single_file_is_said_what_the_run_says(library: Path, cascade: Cascade) -> None:
    path = min(library.iterdir())
    fallback = {"mood": cascade.teacher}
    said = tonearm.tag_file(
        path, genre_model="none", tag_model="none", heads={"mood": cascade.student}, fallback=fallback
    )
    scores = {each.label: each.score for each in said.heads["mood"].scores or ()}
    assert scores == pytest.approx(dict(zip(LABELS, cascade.said[path.name].mean(axis=0), strict=True)), abs=1e-4)
