"""Training steps of tonearm against ``transformers.Trainer``: the same model, clips and recipe, in turns in one run.

The Trainer gets its features ready-made, as the Hugging Face audio course has it, and so does none of that work in its
steps; tonearm makes them from its cache of int16 samples in every step. Each side's first steps are not counted.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from bench.checkpoints import save_distilhubert
from bench.figures import Section
from tonearm.demo.collection import write_collection
from tonearm.settings import LabelSettings, TrainSettings
from tonearm.training.data.clips import open_clips
from tonearm.training.data.collection import draw, list_clips
from tonearm.training.data.duplicates import AcousticFingerprints
from tonearm.training.fit.examples import model_inputs
from tonearm.training.fit.initial import choose_model, read_initial_model
from tonearm.training.fit.loop import Loop
from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.fit.step import seed_step
from tonearm.training.plan import plan_training

ROUNDS, WARM_UP, STEPS = 3, 1, 4
TOLERANCE = 1e-3
SEED = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One model and how it is trained."""

    name: str
    settings: TrainSettings


def cases(folder: Path, *, quick: bool) -> list[Case]:
    """Return what is measured: the small model, and unless in a hurry DistilHuBERT's shape with random weights."""
    labels = LabelSettings(label_by="genre", split_by="split", validation_share=0.0, duplicates="ignore")
    common = TrainSettings(window_s=5.0, new_head=True, labels=labels, cache=str(folder / "clips"), epochs=50)
    small = dataclasses.replace(common, model="small-hubert", from_scratch=True)
    if quick:
        return [Case("small-hubert", small)]
    full = dataclasses.replace(common, model=str(save_distilhubert(folder / "start")))
    return [Case("small-hubert", small), Case("DistilHuBERT's shape", full)]


def measure(case: Case, folder: Path, *, device: str | None = None) -> Section:
    """Take turns and return the table."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    table = folder / "collection" / "clips.csv"
    if not table.is_file():
        write_collection(table.parent, train_songs=2, test_songs=1)
    drawn = draw(list_clips(str(table), case.settings.labels), case.settings)
    initial = read_initial_model(case.settings.model, from_scratch=case.settings.from_scratch)
    model, num_threads = choose_model(initial, drawn.collection, case.settings), torch.get_num_threads()
    clips = open_clips([drawn.collection.refs], model.windows, case.settings, num_threads=num_threads)
    run = plan_training(drawn, model, AcousticFingerprints(clips), case.settings, num_threads=num_threads)
    loop = Loop(run.job, run.job.open_clips(1), SingleProcess(folder / "unused", device), num_threads=1)
    batches = _batches(loop, (WARM_UP + STEPS) * ROUNDS)
    peer = _Trainer(loop, folder)
    own_s, peer_s, losses = [], [], []
    for number in range(ROUNDS):
        part = batches[number * (WARM_UP + STEPS) : (number + 1) * (WARM_UP + STEPS)]
        seconds, own_losses = _own_steps(loop, number)
        own_s += seconds[WARM_UP:]
        seconds, peer_losses = peer.steps(part)
        peer_s += seconds[WARM_UP:]
        losses += [abs(one - two) / two for one, two in zip(own_losses, peer_losses, strict=True)]
    size = case.settings.batch_size
    rates = [size / statistics.median(seconds) for seconds in (own_s, peer_s)]
    text = "\n".join(
        [
            f"## training {case.name}, {loop.precision} on {device}",
            "",
            f"{run.num_parameters / 1e6:.1f} M parameters, {size} clips of {case.settings.window_s:g} s a step; median "
            f"of {len(own_s)} steps each, in turns.",
            "",
            "| | clips a second | a step | of the Trainer |",
            "|---|---:|---:|---:|",
            f"| tonearm, cache to weights | {rates[0]:.2f} | {size / rates[0]:.3f} s | {rates[0] / rates[1]:.0%} |",
            f"| transformers.Trainer, from ready-made features | {rates[1]:.2f} | {size / rates[1]:.3f} s | 100% |",
            "",
            f"Largest relative difference of a loss from the Trainer's over {len(losses)} steps: {max(losses):.1e}.",
        ]
    )
    return Section(text, device != "cpu" or max(losses) < TOLERANCE)


def _batches(loop: Loop, count: int) -> list[list[dict[str, Any]]]:
    """Return the features of the loop's first ``count`` steps, as a data set mapped beforehand would hold them."""
    rows: list[list[dict[str, Any]]] = []
    epoch = 0
    while len(rows) < count:
        for _, (batch,) in _steps(loop, epoch):
            inputs = model_inputs(loop.stepper.features, batch.waveforms, loop.group.device)
            rows.append(
                [
                    {name: value[row].cpu() for name, value in inputs.items()}
                    | {"labels": int(batch.targets[row].argmax())}
                    for row in range(len(batch.waveforms))
                ]
            )
        epoch += 1
    return rows[:count]


def _steps(loop: Loop, epoch: int) -> Any:
    size = loop.step_size
    for num_clips, batches in loop.training_set.steps(epoch, first=0, step_size=size, micro=size, rank=0, size=1):
        if num_clips == size:
            yield num_clips, batches


def _own_steps(loop: Loop, number: int) -> tuple[list[float], list[float]]:
    """Take one round of steps as ``Loop`` does; return each one's seconds and loss."""
    seconds: list[float] = []
    losses: list[float] = []
    position, epoch, wanted = 0, 0, range(number * (WARM_UP + STEPS), (number + 1) * (WARM_UP + STEPS))
    loop.bare.train()
    clock = time.perf_counter()
    while len(losses) < len(wanted):
        for num_clips, batches in _steps(loop, epoch):
            if position in wanted:
                seed_step(SEED, position, 0)  # dropout is drawn alike on both sides
                loss = float(loop.stepper.step(num_clips, batches, size=1))
                seconds.append(time.perf_counter() - clock)
                losses.append(loss)
            position += 1
            clock = time.perf_counter()
            if len(losses) == len(wanted):
                break
        epoch += 1
    return seconds, losses


class _Trainer:
    """``transformers.Trainer`` on the same weights, one call a round."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        import copy

        self.model = copy.deepcopy(loop.bare)
        self.loop, self.folder, self.taken, self.state = loop, folder, 0, None

    def steps(self, part: list[list[dict[str, Any]]]) -> tuple[list[float], list[float]]:
        """Train on these batches; return each step's seconds and loss."""
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        settings, loop = self.loop.job.settings, self.loop
        rows = [row for batch in part for row in batch]
        seconds: list[float] = []
        first, self.taken = self.taken, self.taken + len(part)

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *arguments: Any, **named: Any) -> None:
                seed_step(SEED, first + len(seconds), 0)
                self.started = time.perf_counter()

            def on_step_end(self, *arguments: Any, **named: Any) -> None:
                if loop.group.device != "cpu":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - self.started)

        class InOrder(Trainer):  # type: ignore[misc]
            def _get_train_sampler(self, *arguments: Any, **named: Any) -> Any:
                return torch.utils.data.SequentialSampler(rows)

        arguments = TrainingArguments(
            output_dir=str(self.folder / "trainer"),
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            max_steps=len(part),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=loop.group.device == "cpu",
            fp16=loop.precision == "fp16",
            bf16=loop.precision == "bf16",
            disable_tqdm=True,
        )
        if self.state is None:
            self.optimizer = _optimizer(self.model, settings)
            self.state = torch.optim.lr_scheduler.LambdaLR(self.optimizer, loop.stepper.schedule.lr_lambdas[0])
        trainer = InOrder(
            model=self.model,
            args=arguments,
            train_dataset=rows,
            callbacks=[Clock()],
            optimizers=(self.optimizer, self.state),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _optimizer(model: Any, settings: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
