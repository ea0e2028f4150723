"""The loop's losses are those of ``transformers.Trainer`` on the same weights, data and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints import AST, save_small
from tests.labelled import loop_of, planned, train_settings, write_folders
from tonearm.training.fit.loop import Loop

NO_DROPOUT = {
    "hubert": {
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
    },
    AST: {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_length": 128},
}
NUM_STEPS = 50


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("labelled") / "sounds", clips=16)


def reference_losses(loop: Loop, checkpoint: Path, labels: tuple[str, ...], tmp_path: Path) -> list[float]:
    """Return the losses of ``transformers.Trainer`` on the waveforms that ``loop`` takes, through the own extractor."""
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Trainer, TrainingArguments

    settings = loop.job.settings
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
    rows: list[dict[str, Any]] = []
    for epoch in range(settings.epochs):
        for number in loop.training_set.order(epoch):
            waveform, target = loop.training_set.example(int(number), epoch)
            inputs = extractor(waveform, sampling_rate=16000, return_tensors="np")
            rows.append({"input_values": inputs["input_values"][0], "labels": int(target.argmax())})

    class InOrder(Trainer):
        def _get_train_sampler(self, *arguments: Any, **named: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)  # type: ignore[arg-type]

    torch.manual_seed(settings.seed)
    model = AutoModelForAudioClassification.from_pretrained(
        checkpoint,
        num_labels=len(labels),
        label2id={label: index for index, label in enumerate(labels)},
        id2label=dict(enumerate(labels)),
        ignore_mismatched_sizes=True,
    )
    # A new classifier is drawn at random: it must be the same one.
    model.load_state_dict(loop.bare.state_dict())
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup_ratio * NUM_STEPS),
        max_steps=NUM_STEPS,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=settings.seed,
        dataloader_num_workers=0,
        disable_tqdm=True,
    )
    trainer = InOrder(model=model, args=arguments, train_dataset=rows)  # type: ignore[arg-type]
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("family", ["hubert", AST])
def test_fifty_steps_have_the_reference_losses(family: str, collection: Path, tmp_path: Path) -> None:
    checkpoint = save_small(tmp_path / "start", family, **NO_DROPOUT[family])
    settings = train_settings(
        checkpoint,
        tmp_path / "cache",
        epochs=10,
        batch_size=8,
        learning_rate=5e-4,
        weight_decay=0.0,
        window_s=1.0,
        labels={"validation_share": 0.16},
    )
    run = planned(collection, settings)
    assert len(run.job.train) == 40
    loop = loop_of(run, tmp_path / "checkpoint")
    expected = reference_losses(loop, checkpoint, run.job.labels, tmp_path)
    losses = [loss for _, loss in loop.run().losses]
    assert len(losses) == len(expected) == NUM_STEPS
    # The Trainer rounds what it logs to nothing finer than its own floats; both are fp32 on the CPU.
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert np.mean(losses[-5:]) < 0.95 * losses[0], "the comparison is worth little where nothing is learnt"
