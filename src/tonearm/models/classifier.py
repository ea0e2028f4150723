"""A loaded head: windows in, scores and embeddings out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.windows import WindowPlan
from tonearm.models import families, runtimes
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, load_model
from tonearm.models.exported.runtime import ExportedRuntime
from tonearm.models.exported.runtime import settle as settle_exported
from tonearm.models.openvino import select
from tonearm.models.torch_runtime import CudaRuntime, TorchRuntime
from tonearm.models.window_plan import plan_windows
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    from tonearm.models.runtimes import Runtime


# On a CPU a larger batch is no faster, and DistilHuBERT's first convolution alone takes 6.5 MB a second of audio.
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
    ) -> Classifier:
        """Load a checkpoint's weights onto a runtime.

        Args:
            window_s: seconds a window; the checkpoint's own, or 30, by default.
            batch_size: windows a forward pass; by default what keeps a CPU worker well under 2 GiB, or what a GPU has
                memory for.
            num_threads: of a forward pass on a processor; one a core by default.
            is_bulk: many windows will come at a time, so that several passes at a time are right where they were
                faster; otherwise one window has all threads.
            is_server: it stays loaded for long, and one window comes at a time as well as many: a small model too is
                worth converting, and has its passes laid out for both.
            is_multi: the labels are read independently, whatever the checkpoint's config says.

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
            # Two passes over long windows at a time would take the memory that batches of them may not have.
            may_be_many = is_bulk and on_cpu >= threads
            execution = select.choose(request, info, plan.window_samples if may_be_many else None)
            if execution.converted is not None:
                batch_size = batch_size or max(on_cpu, execution.num_streams)
                return cls(info, plan, execution.load(threads), batch_size, execution.note)
            chosen, note = execution.precision, execution.note

        model, extractor, _ = load_model(source, revision=revision, allow_pickle=allow_pickle)
        with families.FAMILIES.using(info.family):
            features = families.family_of(info.family).features(extractor)
        if place == "cpu":
            runner = TorchRuntime(model, features, chosen, place, num_threads=threads)
            return cls(info, plan, runner, batch_size or on_cpu, note)
        card = CudaRuntime(model, features, chosen, place)
        return cls(info, plan, card, batch_size or card.fitting_batch(plan.window_samples), note)

    @property
    def window_s(self) -> float:
        """Seconds of one window."""
        return self._plan.window_s

    def describe(self) -> dict[str, str]:
        """Return what the model runs on: runtime, precision, device, and why it is not what was asked for, if so."""
        runner = self._runtime
        return {"runtime": runner.name, "precision": runner.precision, "device": runner.device, "note": self.note}

    @property
    def features_s(self) -> float:
        """Seconds spent so far on features, where they are made apart from the forward pass."""
        return self._runtime.features_s

    def score(self, windows: Sequence[NDArray[np.float32]]) -> WindowScores:
        """Score windows of any lengths, in order.

        Equal lengths share a batch; padding one to another's length would change what most families say of it.

        Args:
            windows: float32 [samples] each, at ``info.sample_rate``, no shorter than ``info.min_samples``.
        """
        logits = np.empty((len(windows), len(self.info.labels)), np.float32)
        embedding = np.empty((len(windows), self.info.embedding_dim), np.float32)
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
            logits[batch], embedding[batch] = scores
        return WindowScores(logits, embedding)
