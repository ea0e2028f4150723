"""Small labelled collections whose classes can be told apart by ear, and runs of training on them without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tonearm.audio.windows import WindowPlan
from tonearm.settings import TrainSettings, build
from tonearm.training.data.clips import open_clips
from tonearm.training.data.collection import Drawn, draw, list_clips
from tonearm.training.data.duplicates import AcousticFingerprints
from tonearm.training.fit.initial import InitialModel, ModelChoice, choose_model, read_initial_model
from tonearm.training.fit.job import Example, TrainingJob
from tonearm.training.fit.loop import Loop
from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.plan import TrainingPlan, plan_training

RATE = 16000
PITCH_HZ = {"bird": 3000.0, "cello": 300.0, "drone": 90.0, "flute": 1100.0}


def tone(frequency_hz: float, seconds: float = 1.0) -> NDArray[np.float32]:
    """Return a sine, float32 [seconds * RATE]."""
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def write_folders(
    folder: Path, *, clips: int = 10, classes: int = 3, length_s: float = 1.2, seed: int = 0, fold: bool = True
) -> Path:
    """Write ``folder/CLASS/FOLD-RECORDING-TAKE.wav``: two takes of each recording, its pitch and noise its own."""
    rng = np.random.default_rng(seed)
    for label in list(PITCH_HZ)[:classes]:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(clips):
            recording, take = divmod(number, 2)
            if take == 0:
                pitch_hz, noise = PITCH_HZ[label] * rng.uniform(0.8, 1.25), rng.uniform(0.02, 0.2)
            time_s = np.arange(round(length_s * RATE * rng.uniform(1.0, 1.6))) / RATE
            beat = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(1, 6) * time_s)
            wave = 0.4 * np.sin(2 * np.pi * pitch_hz * time_s) * beat + noise * rng.normal(size=time_s.size)
            name = f"{number % 4 + 1}-{recording:02d}-{take}.wav" if fold else f"{number:03d}.wav"
            soundfile.write(folder / label / name, np.clip(wave, -1, 1), RATE)
    return folder


def write_gtzan(folder: Path) -> Path:
    """Write GTZAN's names with a second of noise each, ten a genre, the known broken one broken."""
    rng = np.random.default_rng(0)
    for genre in ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"):
        (folder / genre).mkdir(parents=True)
        for number in range(4, 100, 10):
            soundfile.write(folder / genre / f"{genre}.{number:05d}.wav", 0.1 * rng.normal(size=RATE), RATE)
    (folder / "jazz" / "jazz.00054.wav").write_bytes(b"RIFF" + bytes(200))
    return folder


def train_settings(model: str | Path, cache: Path, **changes: Any) -> TrainSettings:
    """Return settings for a small, quick run."""
    values: dict[str, Any] = {
        "model": str(model),
        "new_head": True,
        "window_s": 1.0,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "log_steps": 1,
        "cache": str(cache),
        "trackers": [],
        "labels": {"validation_share": 0.2},
    }
    return build(TrainSettings, {**values, **changes})


def planned(source: str | Path, settings: TrainSettings) -> TrainingPlan:
    """Return a training that is ready to start."""
    drawn = draw(list_clips(str(source), settings.labels), settings)
    return plan_training(drawn, *taken_in(drawn, settings), settings, num_threads=2)


def taken_in(drawn: Drawn, settings: TrainSettings) -> tuple[ModelChoice, AcousticFingerprints]:
    """Return the model of a training, and what its clips sound like."""
    initial = read_initial_model(settings.model, revision=settings.revision, from_scratch=settings.from_scratch)
    model = choose_model(initial, drawn.collection, settings)
    return model, AcousticFingerprints(open_clips([drawn.collection.refs], model.windows, settings, num_threads=2))


def job_of(
    settings: TrainSettings,
    labels: tuple[str, ...],
    *,
    is_multi: bool = False,
    validation: tuple[Example, ...] = (),
) -> TrainingJob:
    """Return a job in which nothing is learnt, for what asks it for its labels and settings alone."""
    initial = InitialModel("x", Path("x"), "hubert", (), RATE, None, 400, from_scratch=True)
    return TrainingJob(settings, initial, labels, is_multi, WindowPlan(RATE, RATE, RATE, None, 400), (), validation, ())


def loop_of(plan: TrainingPlan, folder: Path) -> Loop:
    """Return the loop of ``plan`` on this process alone, its snapshots in ``folder``."""
    return Loop(plan.job, plan.job.open_clips(2), SingleProcess(folder))
