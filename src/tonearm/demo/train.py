"""Trains the two small models on synthesized songs and writes down how well they do on songs they have not heard.

python -m tonearm.demo.train --head genre --out src/tonearm/demo/models/genre
python -m tonearm.demo.train --head tags  --out src/tonearm/demo/models/tags

One core, about ten minutes each; the same seed gives the same models.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.demo.songs import GENRES, RATE, TAGS, Song, compose
from tonearm.models.features import build_features

SAMPLE_RATE = 16000
SONG_S = 42.0
HELD_OUT_SEED = 10_000
CROP_S = {"genre": 6.0, "tags": 10.24}


def make_songs(per_genre: int, first_seed: int) -> list[tuple[Song, NDArray[np.float32]]]:
    """Return songs with their mono samples at 16 kHz."""
    songs = []
    for number in range(per_genre):
        for genre in GENRES:
            song = compose(genre, first_seed + number, SONG_S)
            mono = soxr.resample(song.samples.mean(axis=0), RATE, SAMPLE_RATE, "HQ").astype(np.float32)
            songs.append((song, mono))
    return songs


def make_model(head: str) -> tuple[Any, Any]:
    """Return an untrained model and its feature extractor."""
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTForAudioClassification,
        HubertConfig,
        HubertForSequenceClassification,
        Wav2Vec2FeatureExtractor,
    )

    names = GENRES if head == "genre" else TAGS
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    if head == "genre":
        config = HubertConfig(
            hidden_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            classifier_proj_size=96,
            conv_dim=(64, 64, 96, 96),
            conv_kernel=(10, 8, 4, 4),
            conv_stride=(5, 4, 4, 4),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            do_stable_layer_norm=True,
            layerdrop=0.0,
            apply_spec_augment=False,
            **labels,
        )
        extractor = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=True, return_attention_mask=False)
        return HubertForSequenceClassification(config), extractor
    ast = ASTConfig(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        hidden_dropout_prob=0.1,
        problem_type="multi_label_classification",
        **labels,
    )
    return ASTForAudioClassification(ast), ASTFeatureExtractor()


def disturb(waveform: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a crop as another recording might have it: level, tilt, bandwidth and noise vary."""
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    tilt = np.clip(frequency / 1000, 0.05, None) ** rng.uniform(-0.25, 0.25)
    cutoff = rng.uniform(3400, 9000)
    wave = np.fft.irfft(spectrum * tilt / (1 + (frequency / cutoff) ** 12), len(waveform))
    wave *= 10 ** rng.uniform(-0.8, 0.1)
    wave += rng.normal(size=len(wave)) * np.abs(wave).mean() * 10 ** rng.uniform(-3, -1.2)
    return wave.astype(np.float32)


def crops(
    songs: list[tuple[Song, NDArray[np.float32]]], head: str, count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return ``count`` random windows [count, samples] and what is true of each."""
    samples = round(CROP_S[head] * SAMPLE_RATE)
    windows, truths = [], []
    for index in rng.integers(len(songs), size=count):
        song, mono = songs[index]
        start = int(rng.integers(len(mono) - samples))
        windows.append(disturb(mono[start : start + samples], rng))
        truths.append(truth(song, head, start / SAMPLE_RATE, (start + samples) / SAMPLE_RATE))
    return torch.from_numpy(np.stack(windows)), torch.from_numpy(np.stack(truths))


def truth(song: Song, head: str, start_s: float, end_s: float) -> NDArray[Any]:
    """Return the genre's number, or a 0 or 1 for each tag."""
    if head == "genre":
        return np.array(GENRES.index(song.genre))
    present = song.tags_between(start_s, end_s)
    return np.array([tag in present for tag in TAGS], np.float32)


def train(head: str, *, steps: int, batch_size: int, per_genre: int, seed: int) -> tuple[Any, Any]:
    """Return a trained model and its feature extractor."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    songs = make_songs(per_genre, seed)
    model, extractor = make_model(head)
    features = build_features(extractor)
    loss_of: nn.Module = nn.CrossEntropyLoss(label_smoothing=0.05) if head == "genre" else nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        windows, wanted = crops(songs, head, batch_size, rng)
        loss = loss_of(model(**features(windows)).logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{head} step {step} of {steps}: loss {loss.item():.4f}", flush=True)
    return model.eval(), extractor


def evaluate(model: Any, extractor: Any, head: str, per_genre: int) -> dict[str, float]:
    """Return the figures on songs of unheard seeds: track accuracy, or macro mAP over windows."""
    from sklearn.metrics import average_precision_score

    features = build_features(extractor)
    songs = make_songs(per_genre, HELD_OUT_SEED)
    window_s = 30.0 if head == "genre" else CROP_S["tags"]
    scores, truths = [], []
    with torch.inference_mode():
        for song, mono in songs:
            for start in range(0, len(mono) - round(window_s * SAMPLE_RATE) + 1, round(window_s * SAMPLE_RATE)):
                window = torch.from_numpy(mono[None, start : start + round(window_s * SAMPLE_RATE)])
                scores.append(model(**features(window)).logits[0].numpy())
                truths.append(truth(song, head, start / SAMPLE_RATE, start / SAMPLE_RATE + window_s))
    logits, wanted = np.stack(scores), np.stack(truths)
    if head == "genre":
        return {"num_songs": len(songs), "accuracy": float((logits.argmax(axis=1) == wanted).mean())}
    varied = (wanted.min(axis=0) == 0) & (wanted.max(axis=0) == 1)
    precision = average_precision_score(wanted[:, varied], logits[:, varied], average="macro")
    return {"num_songs": len(songs), "num_windows": len(wanted), "macro_map": float(precision)}


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: audio-classification
---
# tonearm's demo model: {head}

{parameters:,} parameters, trained from scratch on songs that `tonearm.demo.songs` synthesizes. **It knows only
synthesized music** and is there to try tonearm without a download; what it says of real music means nothing.

Held out (songs of other seeds): {figures}.

Made by `python -m tonearm.demo.train --head {head}`.
"""


def main() -> None:
    """Train one head and save it."""
    parser = argparse.ArgumentParser(prog="python -m tonearm.demo.train")
    parser.add_argument("--head", choices=["genre", "tags"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--songs-per-genre", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    model, extractor = train(
        arguments.head,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        per_genre=arguments.songs_per_genre,
        seed=arguments.seed,
    )
    figures = evaluate(model, extractor, arguments.head, per_genre=8)
    model.save_pretrained(arguments.out)
    extractor.save_pretrained(arguments.out)
    (arguments.out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    parameters = sum(weight.numel() for weight in model.parameters())
    text = ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    (arguments.out / "README.md").write_text(CARD.format(head=arguments.head, parameters=parameters, figures=text))
    print(f"{arguments.head}: {parameters:,} parameters, {text}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
