"""Compare a GPU's scores with fp32's before its first batch counts, and fall back where they differ.

::

    graphs ─ a replay is wrong, or capturing fails ─► eager ─ half precision differs from fp32 ─► fp32, eager

It costs some passes per process and model. Without it, what a GPU, a driver or a version of torch gets wrong shows only
in the rows, to somebody who knows the music.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from tonearm.errors import first_line
from tonearm.models.cuda import agreement
from tonearm.models.cuda.card import Card, is_out_of_memory
from tonearm.models.cuda.runtime import CudaRuntime
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Windows that fp32 scores at a time. Few, as its activations take twice the memory of those that batches are sized by.
EXACT_WINDOWS = 4


@dataclasses.dataclass(frozen=True)
class Usage:
    """How a model is to be used on a GPU.

    Attributes:
        precision: fp32, fp16 or bf16.
        window_samples: length of a window.
        batch_size: windows per pass; None takes what memory allows.
        is_multi: labels are independent, so sigmoid applies and not softmax.
        is_forced: keep the precision even if the check fails; ``runtime.note`` still says so.
    """

    precision: str
    window_samples: int
    batch_size: int | None = None
    is_multi: bool = False
    is_forced: bool = False


def load_checked(
    load: Callable[[], tuple[PreTrainedModel, nn.Module]], card: Card, usage: Usage
) -> tuple[CudaRuntime, int]:
    """Return a runtime whose scores agree with fp32's, and the windows per batch; ``runtime.note`` says what failed.

    Too little memory is not taken for a wrong result: what could not be checked because of it runs as requested, but
    without graphs.

    Args:
        load: returns the model in fp32 and its features; called a second time if half precision fails.
    """
    runtime = CudaRuntime(*load(), card)
    if usage.precision == "fp32":
        batch_size = usage.batch_size or runtime.fitting_batch(usage.window_samples)
    else:
        exact = _score_in_fp32(runtime, usage.window_samples)
        runtime.lower(usage.precision)
        batch_size, failure = _check_half(runtime, exact, usage)
        if failure and not usage.is_forced:
            # The weights were rounded to half precision, so load them again, and free the old ones first.
            del runtime
            card.release()
            runtime = CudaRuntime(*load(), card)
            runtime.fell_back = True
            runtime.add_note(f"not {usage.precision}: {failure}")
            runtime.end_graphs()
            return runtime, usage.batch_size or runtime.fitting_batch(usage.window_samples)
        if failure:
            runtime.add_note(f"{usage.precision} as it is forced, though {failure}")
        elif exact is None:
            runtime.add_note(f"{usage.precision} is not checked: no memory for fp32")
    runtime.check_graph(batch_size, usage.window_samples)
    return runtime, batch_size


def _score_in_fp32(runtime: CudaRuntime, window_samples: int) -> WindowScores | None:
    """Return fp32's scores of the check windows; None if there is no memory even for one at a time."""
    windows = agreement.check_windows(window_samples)
    for at_once in (EXACT_WINDOWS, 1):
        try:
            return runtime.run_eagerly(windows, at_once)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        runtime.card.release()
    return None


def _check_half(runtime: CudaRuntime, exact: WindowScores | None, usage: Usage) -> tuple[int, str | None]:
    """Return the windows per batch, and what is wrong with the runtime's half precision; None if nothing is.

    Args:
        exact: fp32's scores of the check windows.
    """
    batch_size = usage.batch_size or 1
    try:
        batch_size = usage.batch_size or runtime.fitting_batch(usage.window_samples)
        if exact is None:
            return batch_size, None
        # Whole batches, since other shapes may run by other kernels, and enough of them for every window.
        num_windows = batch_size * -(-agreement.NUM_WINDOWS // batch_size)
        shape = (num_windows, usage.window_samples)
        half = runtime.run_eagerly(np.resize(agreement.check_windows(usage.window_samples), shape), batch_size)
    except RuntimeError as error:
        if is_out_of_memory(error):
            runtime.add_note(f"{usage.precision} is not checked: no memory for a batch of {batch_size}")
            return batch_size, None
        return batch_size, f"it fails: {first_line(error)}"
    if not agreement.is_finite(exact):
        return batch_size, "fp32's own scores of the test windows are not finite numbers"
    logits, embedding = (
        np.resize(values, (num_windows, values.shape[1])) for values in (exact.logits, exact.embedding)
    )
    return batch_size, agreement.half_failure(half, WindowScores(logits, embedding), is_multi=usage.is_multi)
