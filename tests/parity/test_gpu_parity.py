"""A GPU says what the processor says, in batches that come eagerly, captured and all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.checkpoints import AST, FIVE, clips
from tonearm.models.classifier import Classifier
from tonearm.models.cuda.card import CapturedPass, CudaCard, Forward
from tonearm.models.cuda.runtime import MAX_BATCH, CudaRuntime
from tonearm.models.families import OWN
from tonearm.models.runtimes import count_gpus
from tonearm.models.torch_runtime import Outputs
from tonearm.models.window_scores import WindowScores

pytestmark = pytest.mark.skipif(not count_gpus(), reason="needs a CUDA device that torch can use")

# Of the largest value. Where a half precision costs more than this on the processor, it may on the card: the small
# checkpoints' classifiers tell clips apart by differences that rounding reaches.
TOLERANCE = {"fp32": 2e-4, "fp16": 1e-2, "bf16": 5e-2}


@pytest.mark.parametrize("family", OWN)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_scores_are_the_processors(family: str, precision: str, checkpoints: dict[str, Path]) -> None:
    source = str(checkpoints[family])
    exact = Classifier.load(source, runtime="torch", precision="fp32", device="cpu")
    # Forced, since rounding reaches what tells these checkpoints' clips apart: bf16 would rightly give way to fp32.
    card = Classifier.load(source, precision=precision, batch_size=4, is_forced=True)
    assert card.describe()["device"] == "cuda" and card.describe()["precision"] == precision
    # Full batches and odd ends; a shape is captured when it comes again, so each of them is eager once.
    windows = [clip for length_s in (2.0, 5.0, 2.0) for clip in clips(5, num_clips=7, length_s=length_s)]
    wanted = exact.score(windows)
    allowed = [TOLERANCE[precision]] * 2
    if precision != "fp32":
        rounded = _on_processor(source, precision).score(windows)
        allowed = [max(cost, 2 * other) for cost, other in zip(allowed, _differences(rounded, wanted), strict=True)]
    for _ in range(3):
        found = _differences(card.score(windows), wanted)
        assert found[0] <= allowed[0] and found[1] <= allowed[1]


def _on_processor(source: str, precision: str) -> Classifier:
    """Return the classifier with its weights and inputs in half precision on the processor, as the card has them."""
    import torch

    classifier = Classifier.load(source, runtime="torch", precision="fp32", device="cpu")
    runtime = classifier._runtime
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def run(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            inputs = runtime.features(torch.from_numpy(windows))
            half = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
            logits, embedding = runtime.model(**half)
        return logits.float().numpy(), embedding.float().numpy()

    runtime.model.to(dtype)
    runtime.run = run
    return classifier


def _differences(found: WindowScores, wanted: WindowScores) -> list[float]:
    """Return the largest difference of the logits and of the embeddings, each of its own largest value."""
    pairs = ((found.logits, wanted.logits), (found.embedding, wanted.embedding))
    return [float(np.abs(values - others).max() / np.abs(others).max()) for values, others in pairs]


@pytest.mark.parametrize("family", OWN)
def test_a_card_passes_its_own_check(family: str, checkpoints: dict[str, Path]) -> None:
    """In fp16, which auto takes, on every card that is sound; what fails is in the message."""
    described = Classifier.load(str(checkpoints[family]), precision="fp16", batch_size=4).describe()
    # Some families cannot be captured, which is no fault of the card.
    is_sound = described["passes"] == "graphs" or "capturing fails" in described["note"]
    assert described["precision"] == "fp16" and is_sound, described


class StaleCard(CudaCard):
    """A real card whose graphs are given no new windows."""

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        graph = super().capture(forward, windows)
        first = windows.clone()
        replay = graph.replay
        graph.replay = lambda windows: replay(first)  # type: ignore[method-assign]
        return graph


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_stale_graph_of_a_card_is_found(precision: str, checkpoints: dict[str, Path]) -> None:
    card = Classifier.load(
        str(checkpoints["hubert"]), precision=precision, batch_size=4, card=StaleCard("cuda"), is_forced=True
    )
    described = card.describe()
    assert described["passes"] == "eager" and "without graphs: a replay " in described["note"], described


def test_a_wrong_half_precision_of_a_card_is_found(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = CudaRuntime._eager_pass

    def faulty(self: CudaRuntime, windows: Tensor) -> Outputs:
        logits, embedding = eager(self, windows)
        return Outputs(logits if self.dtype is None else logits.roll(1, 1), embedding)

    monkeypatch.setattr(CudaRuntime, "_eager_pass", faulty)
    source = str(checkpoints["hubert"])
    card, exact = (
        Classifier.load(source, precision="fp16", batch_size=4),
        Classifier.load(source, runtime="torch", precision="fp32", device="cpu"),
    )
    described = card.describe()
    assert (described["precision"], described["passes"]) == ("fp32", "eager"), described
    windows = clips(5, num_clips=7, length_s=5.0)
    assert max(_differences(card.score(windows), exact.score(windows))) <= TOLERANCE["fp32"]


@pytest.mark.parametrize("family", FIVE)
def test_shapes_that_come_again_are_captured(family: str, checkpoints: dict[str, Path]) -> None:
    card = Classifier.load(str(checkpoints[family]), precision="fp16", batch_size=4)
    windows = clips(5, num_clips=8, length_s=5.0)
    card.score(windows)
    assert isinstance(card._runtime, CudaRuntime)
    assert card._runtime.graphs.get((4, 80000)) is not None, card.describe()


def test_batches_fit_what_is_left_of_a_card(checkpoints: dict[str, Path]) -> None:
    import torch

    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, free - 512 * 2**20), dtype=torch.uint8, device="cuda")
    try:
        card = Classifier.load(str(checkpoints[AST]), precision="fp16")
        assert 1 <= card.batch_size < MAX_BATCH
        windows = clips(5, num_clips=2 * card.batch_size + 1, length_s=10.24)
        assert np.isfinite(card.score(windows).logits).all()
    finally:
        del taken
        torch.cuda.empty_cache()
