"""What training says of held-out clips is what ``tonearm evaluate`` says of them, whatever shares a batch with them.

The table of families, batch sizes and workers: ``pytest -s tests/parity/test_training_scores.py``.
"""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.checkpoints import FIVE, clips, save_small
from tests.labelled import planned, train_settings
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.models.families import OWN
from tonearm.models.pooling import softmax
from tonearm.settings import DecodeSettings, FetchSettings, ModelSettings
from tonearm.sources.reader import ObjectReader
from tonearm.tagging import Tagger, decode_request
from tonearm.training.fit.loop import Loop
from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.judge.predictions import Predictions
from tonearm.training.plan import TrainingPlan

TOLERANCE = 1e-5
# Workers, and the windows that each takes at once.
WAYS = ((1, 1), (1, 3), (1, 8), (1, 32), (2, 1), (2, 5), (2, 32))
NUM_LABELS, WINDOW_S = 3, 1.0
# Shorter than a window, one, several, and more than the windows that are kept of a clip to learn from.
LENGTHS_S = (0.31, 0.5, 0.77, 0.99, 1.0, 1.01, 1.4, 2.0, 2.6, 3.3, 11.6, 0.5)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a class, clips of many lengths in each."""
    folder = tmp_path_factory.mktemp("labelled") / "sounds"
    for number, length_s in enumerate(LENGTHS_S):
        (waveform,) = clips(number, num_clips=1, length_s=length_s)
        place = folder / f"label {number % NUM_LABELS}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number:02d}.flac", waveform, 16000)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Worker(SingleProcess):
    """One of several workers, each a thread; ``parts`` is theirs together."""

    def __init__(self, folder: Path, rank: int, parts: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(folder)
        self.rank, self.size, self.parts, self.barrier = rank, len(parts), parts, barrier

    def gather(self, value: Any) -> list[Any]:
        self.parts[self.rank] = value
        self.barrier.wait()
        return list(self.parts)


def evaluated(run: TrainingPlan, checkpoint: Path) -> NDArray[np.float32]:
    """Return each clip's scores [T, L] as ``tonearm evaluate`` has them: by the tagger, from the files."""
    models = ModelSettings(
        genre_model=str(checkpoint), tag_model=None, genre_window_s=WINDOW_S, runtime="torch", precision="fp32"
    )
    tagger, reader = Tagger.load(models), ObjectReader(FetchSettings())
    with DecodeSandbox(DecodeSettings()) as sandbox:
        tracks = [
            sandbox.decode(reader.read(ref), decode_request(tagger.plans, 4 * 3600.0))
            for ref in (track.ref for track in run.collection.clips.values())
        ]
    return np.stack([softmax(scores["genre"].logits).mean(axis=0) for scores in tagger.score_windows(tracks)])  # type: ignore[call-overload]


def trained_on(run: TrainingPlan, folder: Path, num_workers: int) -> NDArray[np.float32]:
    """Return each clip's scores [T, L] as the training loop has them, on so many workers."""
    parts: list[Any] = [None] * num_workers
    barrier = threading.Barrier(num_workers)

    def predictions_of(rank: int) -> Predictions:
        # Made in its thread: workers agree on a precision while they start.
        loop = Loop(run.job, run.job.open_clips(1), Worker(folder, rank, parts, barrier))
        return loop.predict(run.job.validation)

    with ThreadPoolExecutor(num_workers) as pool:
        found = list(pool.map(predictions_of, range(num_workers)))
    for other in found[1:]:
        np.testing.assert_array_equal(other.logits, found[0].logits)
    return found[0].track_scores(is_multi=False)


@pytest.mark.processes
@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=[pytest.mark.slow] * (family not in FIVE)) for family in OWN]
)
def test_training_evaluates_as_evaluate_does(family: str, sounds: Path, cache: Path, tmp_path: Path) -> None:
    """Evaluation while training gives each clip the score that `tonearm evaluate` gives it, within 1e-5."""
    checkpoint = save_small(tmp_path / "checkpoint", family, num_labels=NUM_LABELS)
    changes = {"new_head": False, "window_s": WINDOW_S, "max_windows": 8}
    run = planned(sounds, train_settings(checkpoint, cache, **changes))
    assert run.job.labels == run.job.initial.labels
    expected = evaluated(run, checkpoint)
    assert np.ptp(expected, axis=0).max() > 0.01, "every clip scores the same, which proves nothing"
    cells = []
    for num_workers, batch_size in WAYS:
        settings = dataclasses.replace(run.job.settings, batch_size=batch_size)
        places = list(run.collection.clips)
        every = sorted((*run.job.train, *run.job.validation), key=lambda example: places.index(example.clip))
        job = dataclasses.replace(run.job, settings=settings, validation=tuple(every))
        other = dataclasses.replace(run, job=job)
        cells.append(float(np.abs(trained_on(other, tmp_path, num_workers) - expected).max()))
    if family == next(iter(OWN)):
        heads = [f"{workers} × {size}" for workers, size in WAYS]
        print(f"\nLargest difference of a clip's score, by workers × batch size\n\n| family | {' | '.join(heads)} |")
        print(f"|---|{'---|' * len(heads)}")
    print(f"| {family} | {' | '.join(f'{cell:.1e}' for cell in cells)} |")
    assert max(cells) < TOLERANCE, cells
