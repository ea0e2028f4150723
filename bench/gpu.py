"""Full-size models on a GPU: their share of the card's own matrix rate, and files to scores without Ray.

python -m bench --only gpu; does nothing where there is no CUDA device.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from bench.checkpoints import save_ast, save_distilhubert
from bench.clips import CLIP_S, write_clips
from bench.figures import Figure, Section

REPEATS = 5
MATRIX, NUM_PRODUCTS = 8192, 20
NUM_CLIPS, TIMES_OVER = 16, 40
PRECISION = "bf16"
# Tracks that share batches, as in a run's blocks.
BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Case:
    """The clips and both checkpoints."""

    clips: tuple[Path, ...]
    genre: Path
    tags: Path


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured, where there is a card."""
    from tonearm.models.runtimes import count_gpus

    if quick or not count_gpus():
        return
    clips = write_clips(folder / "gpu", ["mp3", "flac"] * (NUM_CLIPS // 2), seed=8)
    yield Case(tuple(clips), save_distilhubert(folder / "gpu-distilhubert"), save_ast(folder / "gpu-ast"))


def measure(case: Case, folder: Path) -> Section:
    """Time the card's matrix product, AST's forward pass, both heads' and the way from files to scores."""
    import torch

    from tonearm.models.classifier import Classifier
    from tonearm.settings import ModelSettings
    from tonearm.tagging import Tagger

    # Forced, so that what is timed is always this precision; what the card's check of itself found is in the text.
    tags = Classifier.load(str(case.tags), precision=PRECISION, is_forced=True)
    window = np.random.default_rng(0).standard_normal(163840).astype(np.float32) * 0.1
    windows = [window] * (tags.batch_size * 8)
    flops = window_flops(case.tags)
    card = _card_rates()
    forward = [_rate(lambda: tags.score(windows), flops * len(windows)) for _ in range(REPEATS)]
    torch.cuda.empty_cache()
    models = ModelSettings(
        genre_model=str(case.genre), tag_model=str(case.tags), precision=PRECISION, force_precision=True
    )
    tagger = Tagger.load(models)
    decoded = _decoded(case.clips, tagger)
    audio_s = CLIP_S * len(decoded)
    alone = [_rate(lambda: tagger.score(decoded), audio_s) for _ in range(REPEATS)]
    whole = _files_to_scores(case.clips * TIMES_OVER, tagger, audio_s)
    name = torch.cuda.get_device_name()
    text = "\n".join(
        [
            f"## {name}, {PRECISION}",
            "",
            f"{statistics.median(card) / 1e12:,.0f} TFLOPS in a product of {MATRIX}² matrices; AST, "
            f"{flops / 1e9:.0f} GFLOP a window: {statistics.median(forward) / flops:,.0f} windows a second.",
            f"Both heads: {statistics.median(alone):,.0f} hours of audio an hour from memory, "
            f"{statistics.median(whole):,.0f} from files, decoded by {_cores()} cores.",
            "",
            *_checked(tagger.describe()),
        ]
    )
    figures = (
        Figure(
            "AST forward, of the card's matrix rate",
            tuple(one / other for one, other in zip(forward, card, strict=True)),
            0.45,
            "%",
        ),
        Figure(
            "files to scores, of the forward passes alone",
            tuple(one / other for one, other in zip(whole, alone, strict=True)),
            0.80,
            "%",
        ),
        Figure("hours of audio an hour, both heads, from files", tuple(whole), None, "h"),
    )
    return Section(text, _is_right(case, tagger, decoded), figures)


def _checked(described: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield a line per head of what the card's check of its graphs and half precision has left."""
    for head, how in described.items():
        found = how["note"] or "says what fp32 says"
        yield f"Checked before the first batch, {head}: {how['precision']}, {how['passes']}; {found}."


def window_flops(folder: Path) -> float:
    """Return the floating-point operations of one window of a checkpoint, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForAudioClassification

    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_values=torch.zeros(1, 1024, 128))
    return float(counter.get_total_flops())


def _card_rates() -> list[float]:
    """Return the operations a second of a product of large bf16 matrices."""
    import torch

    left, right = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(NUM_PRODUCTS):
            left @ right

    return [_rate(products, 2.0 * MATRIX**3 * NUM_PRODUCTS) for _ in range(REPEATS)]


def _rate(work: Callable[[], object], amount: float) -> float:
    import torch

    work()
    torch.cuda.synchronize()
    started, times = time.perf_counter(), 0
    while time.perf_counter() - started < 2.0 or not times:
        work()
        torch.cuda.synchronize()
        times += 1
    return amount * times / (time.perf_counter() - started)


def _cores() -> int:
    from tonearm.models.runtimes import usable_cores

    return usable_cores()


def _decoded(clips: Sequence[Path], tagger: Any) -> list:
    from tonearm.audio.decode import decode
    from tonearm.tagging import decode_request

    request = decode_request(tagger.plans, 14400.0)
    return [decode(clip.read_bytes(), request) for clip in clips] * TIMES_OVER


def _files_to_scores(clips: Sequence[Path], tagger: Any, audio_s: float) -> list[float]:
    """Return the rates of scoring ``clips`` in blocks, while those after them are decoded in other processes."""
    from tonearm.audio.decode import DecodedTrack
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.settings import DecodeSettings
    from tonearm.tagging import decode_request

    request = decode_request(tagger.plans, 14400.0)
    idle: SimpleQueue[DecodeSandbox] = SimpleQueue()

    def decoded(clip: Path) -> DecodedTrack:
        sandbox = idle.get()
        try:
            return sandbox.decode(clip.read_bytes(), request)
        finally:
            idle.put(sandbox)

    def work() -> None:
        with ThreadPoolExecutor(num_sandboxes) as pool:
            tracks = [pool.submit(decoded, clip) for clip in clips]
            for first in range(0, len(tracks), BLOCK):
                tagger.score([track.result() for track in tracks[first : first + BLOCK]])

    num_sandboxes = max(1, _cores() - 1)
    with ExitStack() as stack:
        for _ in range(num_sandboxes):
            idle.put(stack.enter_context(DecodeSandbox(DecodeSettings())))
        return [_rate(work, audio_s) for _ in range(REPEATS)]


def _is_right(case: Case, tagger: Any, decoded: Sequence[Any]) -> bool:
    """Return whether the card says what fp32 on the processor says, within bf16."""
    from tonearm.models.classifier import Classifier

    exact = Classifier.load(str(case.tags), runtime="torch", precision="fp32", device="cpu")
    windows = list(tagger.windows("tags", decoded[0]))
    wanted = exact.score(windows).logits
    found = tagger.classifiers["tags"].score(windows).logits
    return bool(np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max())
