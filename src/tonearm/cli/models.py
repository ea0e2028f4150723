"""``tonearm models``: what the heads are made of, before anything runs."""

from __future__ import annotations

from typing import Unpack

from rich.console import Console
from rich.table import Table

from tonearm.api.flags import ModelFlags, tag_settings
from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, is_hub_id
from tonearm.models.window_plan import plan_windows
from tonearm.storage.uris import visible
from tonearm.wording import counted

NUM_LABELS = 8


def models(**flags: Unpack[ModelFlags]) -> int:
    """Print each head's checkpoint, or why it cannot be used; return 0 when all can, else 2."""
    settings = tag_settings(flags, ModelFlags).models
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    problems = []
    for head, asked in settings.named().items():
        if asked is None:
            table.add_row(head, "off")
            continue
        try:
            info = describe_checkpoint(asked.model, revision=asked.revision)
            plan = plan_windows(info, asked.window_s, None)
        except CheckpointError as error:
            problems.append(error)
            table.add_row(head, visible(error.message))
            continue
        for place, (name, text) in enumerate(_facts(info, plan, asked.model)):
            table.add_row("" if place else head, visible(f"{name:<12}{text}"))
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(table)
    return 2 if problems else 0


def _facts(info: CheckpointInfo, plan: WindowPlan, source: str) -> list[tuple[str, str]]:
    absent = "weights not downloaded yet" if is_hub_id(source) else "pickled weights only"
    size = f", {info.num_parameters / 1e6:.1f} M parameters" if info.num_parameters else f", {absent}"
    kind = "multi-label" if info.multi_label else "single-label"
    labels = ", ".join(info.labels[:NUM_LABELS]) + (", ..." if len(info.labels) > NUM_LABELS else "")
    return [
        ("checkpoint", source),
        ("revision", info.revision),
        ("family", f"{info.family}{size}"),
        ("labels", f"{len(info.labels)} ({labels}), trained as {kind}"),
        ("audio", f"{info.sample_rate:,} Hz, windows of {plan.window_s:g} s"),
        ("embedding", counted(info.embedding_dim, "number")),
    ]
