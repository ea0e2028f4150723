"""Whether and how OpenVINO runs a checkpoint: what is converted already, what must be, and whether int8 is usable."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from tonearm.errors import CheckpointError, SettingsError
from tonearm.models import families
from tonearm.models.checkpoint import CheckpointInfo, resolve
from tonearm.models.openvino import cache as store
from tonearm.models.openvino import rates
from tonearm.models.openvino.processor import has_bf16
from tonearm.watchers import Say

if TYPE_CHECKING:
    from tonearm.models.openvino.cache import Converted
    from tonearm.models.openvino.runtime import OpenVinoRuntime


# Converting a smaller transformer takes longer than its passes in torch do in most runs.
MIN_PARAMETERS = 10_000_000


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for; ``runtime`` is ``auto`` where torch will do as well.

    ``is_multi``: the head reads labels independently, whatever the checkpoint's config says.
    ``is_server``: see ``Classifier.load``.
    ``window_samples``: of a window.
    """

    source: str
    revision: str | None
    allow_pickle: bool
    runtime: str
    precision: str
    num_threads: int
    window_samples: int
    is_multi: bool = False
    is_server: bool = False


@dataclasses.dataclass(frozen=True)
class ExecutionPlan:
    """How OpenVINO runs a checkpoint, or, without ``converted``, that torch does.

    ``note`` says why it is not what was asked for. With ``is_for_one_too`` a single window runs on all threads, however
    many passes run at a time.
    """

    converted: Converted | None
    precision: str
    note: str = ""
    num_streams: int = 1
    is_for_one_too: bool = False

    def load(self, num_threads: int) -> OpenVinoRuntime:
        """Return the runtime."""
        from tonearm.models.openvino.runtime import OpenVinoRuntime

        assert self.converted is not None
        return OpenVinoRuntime(
            self.converted,
            self.precision,
            num_threads=num_threads,
            num_streams=self.num_streams,
            is_for_one_too=self.is_for_one_too,
        )


class Conversion(NamedTuple):
    """A converted checkpoint, or None and in ``note`` why torch runs it, where that is not by choice."""

    converted: Converted | None
    note: str = ""


def convert(request: Request, info: CheckpointInfo, say: Say | None = None) -> Conversion:
    """Return the converted checkpoint, converting it now if necessary.

    Args:
        say: called before a step that takes long.

    Raises:
        SettingsError: OpenVINO was asked for by name and cannot run the checkpoint.
    """
    folder = resolve(request.source, revision=request.revision, patterns=["config.json"])
    converted = store.find(folder, info.revision)
    may_be_torch = request.runtime == "auto" and request.precision != "int8"
    if converted is None:
        # Most runs end sooner with torch than with a conversion first; a server runs long enough to gain from it.
        if may_be_torch and request.precision == "fp32" and not is_large(info) and not request.is_server:
            return Conversion(None)
        if say is not None:
            say(f"converting {info.name} for this kind of processor, once: up to half a minute")
        try:
            converted = store.convert(
                request.source,
                folder,
                info.revision,
                revision=request.revision,
                allow_pickle=request.allow_pickle,
                num_threads=request.num_threads,
            )
        except (CheckpointError, OSError) as error:  # OSError: the disk is full, for example
            reason = error.message if isinstance(error, CheckpointError) else f"it cannot be kept: {error}"
            if may_be_torch:
                return Conversion(None, reason)
            raise SettingsError(
                f"got {flag_for(request)} for a {info.family} model; {reason}; give runtime auto"
            ) from None
    return Conversion(converted)


def choose(request: Request, info: CheckpointInfo, bulk_samples: int | None) -> ExecutionPlan:
    """Return how the checkpoint runs.

    Args:
        bulk_samples: samples of a window, if many windows come at a time.

    Raises:
        SettingsError: what was asked for cannot be had.
    """
    converted, note = convert(request, info)
    if converted is None:
        return ExecutionPlan(None, request.precision, note)
    precision = request.precision
    if precision == "bf16" and not has_bf16():
        precision, note = "fp32", "this processor has no bf16"
    if precision == "int8":
        verdict = converted.int8_verdict()
        if verdict is None:
            raise SettingsError(
                f"got precision int8 for {info.name}, which was not calibrated on this machine yet; run "
                "`tonearm tag LIBRARY --out RUN --precision int8` with the same model once"
            )
        refusal = verdict.refusal(is_multi=request.is_multi or info.multi_label)
        if refusal is not None:
            precision = next_best(info, converted, request.window_samples, request.num_threads)
            note = f"not int8: {refusal}"
    num_streams = 1
    # A small network's layers are too little work to share among threads, and two copies of it fit in memory.
    if request.is_server and not is_large(info):
        return ExecutionPlan(converted, precision, note, request.num_threads, is_for_one_too=True)
    # Only for large models: measuring takes ``runtime.TRY_S`` seconds per layout.
    if bulk_samples is not None and is_large(info):
        num_streams = rates.fastest_streams(converted, precision, bulk_samples, request.num_threads)
    return ExecutionPlan(converted, precision, note, num_streams)


def is_large(info: CheckpointInfo) -> bool:
    """Return whether a model's passes take long enough to be worth a conversion, and measuring what is fastest."""
    family = families.family_of(info.family)
    # Parameters tell the cost of a transformer's pass, but a convolution uses each weight thousands of times.
    return family.is_convolutional or (info.num_parameters or MIN_PARAMETERS) >= MIN_PARAMETERS


def next_best(info: CheckpointInfo, converted: Converted, window_samples: int, num_threads: int) -> str:
    """Return the precision to use instead of int8: for a large model the faster of the other two, as measured."""
    if is_large(info):
        return rates.next_best(converted, window_samples, num_threads)
    return "bf16" if has_bf16() else "fp32"


def no_gain(
    info: CheckpointInfo, converted: Converted, precision: str, window_samples: int, num_threads: int
) -> str | None:
    """Return why a precision is no faster here than a more accurate one; None if it is, or if the model is small."""
    # Nobody would notice the difference on a small model, and measuring takes seconds.
    if not is_large(info):
        return None
    return rates.no_gain(converted, precision, window_samples, num_threads)


def flag_for(request: Request) -> str:
    """Return the setting that asked for OpenVINO."""
    return "precision int8" if request.precision == "int8" else "runtime openvino"
