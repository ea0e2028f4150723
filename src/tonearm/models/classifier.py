"""A loaded head: windows in, scores and embeddings out."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.windows import WindowPlan
from tonearm.models import families, runtimes
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, load_model
from tonearm.models.cuda.card import Card, CudaCard
from tonearm.models.cuda.runtime import CudaRuntime
from tonearm.models.cuda.self_check import Usage, load_checked
from tonearm.models.exported.runtime import ExportedRuntime
from tonearm.models.exported.runtime import settle as settle_exported
from tonearm.models.openvino import select
from tonearm.models.torch_runtime import TorchRuntime
from tonearm.models.window_plan import plan_windows
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tonearm.models.runtimes import Runtime


# Seconds of audio in a batch on a CPU. A larger batch is no faster there, and DistilHuBERT's first convolution alone
# takes 6.5 MB per second of audio.
CPU_BATCH_S = 42.0


class Classifier:
    """One checkpoint on one runtime.

    >>> classifier = Classifier.load("models/genre")  # doctest: +SKIP
    >>> classifier.score([waveform]).logits.shape  # doctest: +SKIP
    (1, 10)
    """

    def __init__(
        self, info: CheckpointInfo, plan: WindowPlan, runtime: Runtime, batch_size: int, note: str = ""
    ) -> None:
        self.info = info
        self.note = note
        self.batch_size = batch_size
        self._plan = plan
        self._runtime = runtime

    @classmethod
    def load(
        cls,
        source: str,
        *,
        revision: str | None = None,
        window_s: float | None = None,
        runtime: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        allow_pickle: bool = False,
        device: str | None = None,
        num_threads: int | None = None,
        is_bulk: bool = False,
        is_server: bool = False,
        is_multi: bool = False,
        is_forced: bool = False,
        card: Card | None = None,
    ) -> Classifier:
        """Load a checkpoint's weights onto a runtime.

        Args:
            window_s: seconds per window; by default the checkpoint's own, or 30.
            batch_size: windows per forward pass; by default what keeps a CPU worker well under 2 GiB, or what fits the
                memory of a GPU.
            num_threads: of a forward pass on a processor; by default one per core.
            is_bulk: many windows come at a time, so several passes may run at a time if that was measured to be
                faster. Otherwise each window gets all threads.
            is_server: the model stays loaded for long, and windows come alone as well as in batches. Then a small
                model is worth converting too, and its passes are laid out for both.
            is_multi: read the labels independently, whatever the checkpoint's config says.
            is_forced: keep the precision on a GPU even where its scores are not fp32's there.
            card: what computes where ``device`` is not the CPU; by default the CUDA device of that name.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            SettingsError: a runtime, precision and device that do not go together.
        """
        runtimes.quiet()
        kind, chosen, place = runtimes.choose(runtime, precision, device)
        info = describe_checkpoint(source, revision=revision)
        plan = plan_windows(info, window_s, None)
        threads, note = num_threads or runtimes.usable_cores(), ""
        on_cpu = max(1, int(CPU_BATCH_S / plan.window_s))
        if info.digest is not None and (graph := info.sidecar.model) is not None:
            chosen, note = settle_exported(runtime, precision, info.name)
            exported = ExportedRuntime(
                info.digest, graph, chosen, num_threads=threads, is_multi=is_multi, is_server=is_server
            )
            return cls(info, plan, exported, batch_size or on_cpu, note)
        if kind == "openvino":
            request = select.Request(
                source, revision, allow_pickle, runtime, chosen, threads, plan.window_samples, is_multi, is_server
            )
            # Not for long windows: two passes of 30 s at a time took a worker to 1.9 GB (bench/NOTES.md).
            may_be_many = is_bulk and on_cpu >= threads
            execution = select.choose(request, info, plan.window_samples if may_be_many else None)
            if execution.converted is not None:
                batch_size = batch_size or max(on_cpu, execution.num_streams)
                return cls(info, plan, execution.load(threads), batch_size, execution.note)
            chosen, note = execution.precision, execution.note

        load = functools.partial(_load, source, revision, info.family, allow_pickle=allow_pickle)
        if place == "cpu":
            runner = TorchRuntime(*load(), chosen, place, num_threads=threads)
            return cls(info, plan, runner, batch_size or on_cpu, note)
        usage = Usage(chosen, plan.window_samples, batch_size, is_multi or info.multi_label, is_forced)
        checked, fitting = load_checked(load, card or CudaCard(place), usage)
        return cls(info, plan, checked, fitting, note)

    @property
    def window_s(self) -> float:
        """Seconds of one window."""
        return self._plan.window_s

    def describe(self) -> dict[str, str]:
        """Return the runtime, precision and device that the model runs on, and a note if they are not as requested.

        On a GPU also ``passes``: whether they come from ``graphs`` or are ``eager``.
        """
        runner = self._runtime
        described = {"runtime": runner.name, "precision": runner.precision, "device": runner.device, "note": self.note}
        if isinstance(runner, CudaRuntime):
            described |= {"passes": runner.passes, "note": "; ".join(filter(None, (self.note, runner.note)))}
        return described

    @property
    def fell_back(self) -> bool:
        """Whether it runs in fp32 because a half precision has failed its check on this GPU."""
        return isinstance(self._runtime, CudaRuntime) and self._runtime.fell_back

    @property
    def features_s(self) -> float:
        """Seconds spent so far on features, if they are computed apart from the forward pass."""
        return self._runtime.features_s

    def score(self, windows: Sequence[NDArray[np.float32]]) -> WindowScores:
        """Score windows of any lengths, in order.

        Windows of equal length share a batch.

        Args:
            windows: float32 [samples] each, at ``info.sample_rate``, no shorter than ``info.min_samples``.
        """
        logits = np.empty((len(windows), len(self.info.labels)), np.float32)
        embedding = np.empty((len(windows), self.info.embedding_dim), np.float32)
        # Not padded to one length: that would change the scores of most families.
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            by_length[len(window)].append(index)
        batches = [
            indices[first : first + self.batch_size]
            for indices in by_length.values()
            for first in range(0, len(indices), self.batch_size)
        ]
        stacked = (np.stack([windows[index] for index in batch]) for batch in batches)
        for batch, scores in zip(batches, self._runtime.run_all(stacked), strict=True):
            logits[batch], embedding[batch] = scores.logits, scores.embedding
        return WindowScores(logits, embedding)


def _load(source: str, revision: str | None, family: str, *, allow_pickle: bool) -> tuple[PreTrainedModel, nn.Module]:
    """Return a checkpoint's model in fp32, and what makes features for it."""
    model, extractor = load_model(source, revision=revision, allow_pickle=allow_pickle)
    with families.FAMILIES.using(family):
        return model, families.family_of(family).features(extractor)
