"""A card that says something else than fp32 is found out before its first batch, and what failed is not used.

The card is the processor here (``tests.processor_card``), with each fault of a real one put in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints import clips, save_small
from tests.processor_card import ProcessorCard, Repeated
from tonearm.models.classifier import Classifier
from tonearm.models.cuda import runtime as cuda_runtime
from tonearm.models.cuda.card import CapturedPass, Forward
from tonearm.models.cuda.runtime import CudaRuntime
from tonearm.models.families import OWN
from tonearm.models.torch_runtime import Outputs

BATCH = 4


def load(folder: Path, card: ProcessorCard, precision: str = "fp16", **how: Any) -> Classifier:
    how = {"batch_size": BATCH, "window_s": 1.0, **how}
    return Classifier.load(str(folder), precision=precision, device="cuda", card=card, **how)


def said(classifier: Classifier) -> tuple[str, str, str]:
    described = classifier.describe()
    return described["precision"], described["passes"], described["note"]


def windows(num_windows: int = 2 * BATCH) -> list[Any]:
    return clips(5, num_clips=num_windows, length_s=1.0)


def check_against_fp32(classifier: Classifier, folder: Path, tolerance: float) -> None:
    exact = Classifier.load(str(folder), runtime="torch", precision="fp32", device="cpu", window_s=1.0)
    for _ in range(2):
        scored, wanted = classifier.score(windows()), exact.score(windows())
        np.testing.assert_allclose(scored.logits, wanted.logits, atol=tolerance)
        np.testing.assert_allclose(scored.embedding, wanted.embedding, atol=tolerance)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """What changes the logits of every pass in a half precision, and of no other."""

    def change(fault: Callable[[Tensor], Tensor]) -> None:
        eager = CudaRuntime._eager_pass

        def faulty(self: CudaRuntime, windows: Tensor) -> Outputs:
            logits, embedding = eager(self, windows)
            return Outputs(logits if self.dtype is None else fault(logits), embedding)

        monkeypatch.setattr(CudaRuntime, "_eager_pass", faulty)

    return change


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_card_that_is_right_uses_graphs(hubert: Path, precision: str) -> None:
    card = ProcessorCard()
    assert said(load(hubert, card, precision)) == (precision, "graphs", "")
    assert card.num_captured == 1, "before the first batch"


@pytest.mark.slow
@pytest.mark.parametrize("family", OWN)
def test_no_family_is_taken_for_wrong_in_fp16(tmp_path: Path, family: str) -> None:
    """What auto takes on a card passes the check for a small random model of each family."""
    classifier = load(save_small(tmp_path / family, family), ProcessorCard(), batch_size=2)
    assert said(classifier) == ("fp16", "graphs", "")


def test_scores_are_those_of_fp32_within_rounding(hubert: Path) -> None:
    check_against_fp32(load(hubert, ProcessorCard()), hubert, 0.1)
    check_against_fp32(load(hubert, ProcessorCard(), "fp32"), hubert, 1e-5)


class Stale(ProcessorCard):
    """Its graphs answer for the windows before."""

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        class Late(Repeated):
            def replay(self, windows: Tensor) -> Outputs:
                before = self.outputs
                super().replay(windows)
                return before

        super().capture(forward, windows)
        return Late(forward, windows)


class Refusing(ProcessorCard):
    """It captures nothing."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__()
        self.error = error

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        raise self.error


@pytest.mark.parametrize("batch_size", [1, BATCH])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_a_graph_that_answers_for_the_batch_before_is_not_used(hubert: Path, precision: str, batch_size: int) -> None:
    classifier = load(hubert, Stale(), precision, is_forced=True, batch_size=batch_size)
    used, passes, note = said(classifier)
    assert (used, passes) == (precision, "eager")
    assert "without graphs: a replay is off by " in note, note


def test_scores_are_right_though_graphs_are_stale(hubert: Path) -> None:
    check_against_fp32(load(hubert, Stale(), "fp32"), hubert, 1e-5)


def test_a_stale_graph_of_a_model_that_hears_no_difference_is_found(hubert: Path, monkeypatch: Any) -> None:
    """Its answers for other windows are within every bound, so only being nearer to those tells."""
    eager = CudaRuntime._eager_pass
    monkeypatch.setattr(
        CudaRuntime,
        "_eager_pass",
        lambda self, windows: Outputs(*(1 + 1e-6 * values for values in eager(self, windows))),
    )
    assert said(load(hubert, Stale())) == (
        "fp16",
        "eager",
        "without graphs: a replay answers for the windows before its own",
    )


def test_what_cannot_be_captured_runs_eagerly(hubert: Path) -> None:
    refusing = Refusing(RuntimeError("operation not permitted when stream is capturing\nmore"))
    classifier = load(hubert, refusing)
    note = "without graphs: capturing fails: operation not permitted when stream is capturing"
    assert said(classifier) == ("fp16", "eager", note)
    check_against_fp32(classifier, hubert, 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_half_precision_without_finite_scores_is_left(hubert: Path, half: Any, value: float) -> None:
    half(lambda logits: logits.index_fill(1, torch.tensor([3]), value))
    classifier = load(hubert, ProcessorCard())
    assert said(classifier) == ("fp32", "eager", "not fp16: its scores are not finite numbers")
    check_against_fp32(classifier, hubert, 1e-5)


def test_one_bad_window_of_a_batch_is_enough(hubert: Path, half: Any) -> None:
    """A kernel that is wrong at the end of a batch is wrong for a quarter of the tracks."""

    def last_only(logits: Tensor) -> Tensor:
        return torch.cat([logits[:-1], logits[-1:].roll(1, 1)]) if len(logits) == BATCH else logits

    half(last_only)
    precision, passes, note = said(load(hubert, ProcessorCard()))
    assert (precision, passes) == ("fp32", "eager")
    assert note.startswith("not fp16: ") and "test windows get another first label" in note, note


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_with_other_labels_is_left(hubert: Path, half: Any, precision: str) -> None:
    half(lambda logits: logits.roll(1, 1))
    used, passes, note = said(load(hubert, ProcessorCard(), precision))
    assert (used, passes) == ("fp32", "eager")
    assert note.startswith(f"not {precision}: ") and note.endswith(" test windows get another first label"), note


def test_half_precision_that_moves_a_score_is_left(hubert: Path, half: Any) -> None:
    half(lambda logits: logits * 2)
    used, _, note = said(load(hubert, ProcessorCard()))
    assert used == "fp32"
    assert note.startswith("not fp16: a score moves by 0.") and note.endswith(", expected at most 0.03"), note


def test_half_precision_that_does_not_run_is_left(hubert: Path, half: Any) -> None:
    def fail(logits: Tensor) -> Tensor:
        raise RuntimeError("\"layer_norm\" not implemented for 'Half'\nat somewhere")

    half(fail)
    note = "not fp16: it fails: \"layer_norm\" not implemented for 'Half'"
    assert said(load(hubert, ProcessorCard())) == ("fp32", "eager", note)


def test_an_embedding_that_is_off_is_found(hubert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = CudaRuntime._eager_pass

    def faulty(self: CudaRuntime, windows: Tensor) -> Outputs:
        logits, embedding = eager(self, windows)
        return Outputs(logits, embedding if self.dtype is None else embedding.flip(1))

    monkeypatch.setattr(CudaRuntime, "_eager_pass", faulty)
    note = said(load(hubert, ProcessorCard()))[2]
    assert note.startswith("not fp16: an embedding is off by "), note


def test_all_that_fails_ends_in_fp32(hubert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 has nothing below it; what it cannot score are rows with an error each, as ever."""
    monkeypatch.setattr(
        CudaRuntime,
        "_eager_pass",
        lambda self, windows: Outputs(torch.full((len(windows), 7), torch.nan), torch.ones(1, 48)),
    )
    card = Refusing(RuntimeError("no capture"))
    precision, passes, note = said(load(hubert, card, batch_size=1))
    assert (precision, passes) == ("fp32", "eager")
    assert note == "not fp16: fp32's own scores of the test windows are not finite numbers"


def test_weights_are_not_rounded_after_a_fall_to_fp32(hubert: Path, half: Any) -> None:
    """Rounded to half and back, weights would be off by 1e-3 for the rest of the run."""
    half(lambda logits: logits.roll(1, 1))
    card = ProcessorCard()
    classifier = load(hubert, card, "bf16")
    assert card.num_released
    assert {value.dtype for value in classifier._runtime.model.parameters()} == {torch.float32}  # type: ignore
    check_against_fp32(classifier, hubert, 1e-5)


def test_a_precision_that_is_forced_stays_and_is_told(hubert: Path, half: Any) -> None:
    half(lambda logits: logits * 2)
    precision, passes, note = said(load(hubert, ProcessorCard(), is_forced=True))
    assert (precision, passes) == ("fp16", "graphs")
    assert note.startswith("fp16 as it is forced, though a score moves by 0."), note


class TestMemory:
    """Want of memory says nothing about results."""

    ERRORS = (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    )

    @pytest.mark.parametrize("error", ERRORS, ids=str)
    def test_a_graph_without_memory_is_not_wrong(self, hubert: Path, error: RuntimeError) -> None:
        classifier = load(hubert, Refusing(error))
        assert said(classifier) == ("fp16", "eager", "without graphs: no memory to check one")

    @pytest.mark.parametrize("error", ERRORS, ids=str)
    def test_a_batch_without_memory_keeps_its_precision(self, hubert: Path, half: Any, error: RuntimeError) -> None:
        def fail(logits: Tensor) -> Tensor:
            raise error

        half(fail)
        precision, passes, note = said(load(hubert, ProcessorCard()))
        assert (precision, passes) == ("fp16", "eager")
        assert note.startswith("fp16 is not checked: no memory for a batch of 4; without graphs"), note

    def test_fp32_is_asked_for_as_little_as_fits(self, hubert: Path, half: Any) -> None:
        half(lambda logits: logits.roll(1, 1))
        assert said(load(hubert, ProcessorCard(window_limit=1), batch_size=1))[0] == "fp32", "it was compared"

    def test_fp32_that_does_not_fit_at_all(self, hubert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        eager = CudaRuntime._eager_pass

        def only_half(self: CudaRuntime, windows: Tensor) -> Outputs:
            if self.dtype is None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return eager(self, windows)

        monkeypatch.setattr(CudaRuntime, "_eager_pass", only_half)
        assert said(load(hubert, ProcessorCard())) == ("fp16", "graphs", "fp16 is not checked: no memory for fp32")


def test_batches_are_found_again_for_fp32(hubert: Path, half: Any) -> None:
    half(lambda logits: logits.roll(1, 1))
    classifier = load(hubert, ProcessorCard(), batch_size=None)
    assert classifier.batch_size == 2 and said(classifier)[0] == "fp32"


class LaterStale(Stale):
    """Its first graph is right, those after it are not."""

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        return Repeated(forward, windows) if not self.num_captured else super().capture(forward, windows)


def test_a_graph_of_another_shape_is_checked_before_it_counts(hubert: Path) -> None:
    card = LaterStale()
    classifier = load(hubert, card, "fp32")
    assert said(classifier) == ("fp32", "graphs", "")
    card.num_captured = 1
    odd = windows(BATCH + 2)
    exact = Classifier.load(str(hubert), runtime="torch", precision="fp32", device="cpu", window_s=1.0).score(odd)
    for _ in range(3):
        np.testing.assert_allclose(classifier.score(odd).logits, exact.logits, atol=1e-5)
    assert said(classifier)[1] == "eager"


def test_graphs_of_shapes_that_come_again_are_kept(hubert: Path) -> None:
    card = ProcessorCard()
    classifier = load(hubert, card)
    for num_windows in (1, 2, 3, 1, 2, 3, 1, 2, 3):
        classifier.score(windows(num_windows))
    runtime = classifier._runtime
    assert isinstance(runtime, CudaRuntime)
    assert card.num_captured == 4 and len(runtime.graphs) == cuda_runtime.NUM_GRAPHS
