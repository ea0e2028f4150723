"""What the heads are made of, before anything runs."""

from __future__ import annotations

import dataclasses
from typing import Unpack

from tonearm.api.flags import ModelFlags, tag_settings
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint
from tonearm.models.openvino.rates import KnownRate, known_rates
from tonearm.models.window_plan import plan_windows


@dataclasses.dataclass(frozen=True)
class HeadModel:
    """The model of one head.

    Attributes:
        model: the folder or hub id that was asked for; None where the head is off.
        info: what the model is; None where the head is off or the model cannot be used.
        window_s: seconds that it scores at once.
        error: why it cannot be used.
        rates: what was measured of it on this processor so far; empty before a run or a server needed to know.
    """

    model: str | None
    info: CheckpointInfo | None = None
    window_s: float | None = None
    error: str | None = None
    rates: tuple[KnownRate, ...] = ()


def models(**flags: Unpack[ModelFlags]) -> dict[str, HeadModel]:
    """Return the model of each head by the head's name.

    Args:
        flags: see ``api.flags.ModelFlags``.

    Raises:
        SettingsError, UsageError: flags or a file that cannot be used; a model that cannot be is no error here.
    """
    described: dict[str, HeadModel] = {}
    for name, head in tag_settings(flags, ModelFlags, verb="models").models.named().items():
        if head is None:
            described[name] = HeadModel(None)
            continue
        try:
            info = describe_checkpoint(head.model, revision=head.revision)
            window_s = plan_windows(info, head.window_s, None).window_s
        except CheckpointError as error:
            described[name] = HeadModel(head.model, error=error.message)
        else:
            described[name] = HeadModel(head.model, info, window_s, rates=tuple(known_rates(info.revision)))
    return described
