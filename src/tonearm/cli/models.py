"""``tonearm models``: what the heads are made of, as a table."""

from __future__ import annotations

from typing import Unpack

from tonearm.api import models as room
from tonearm.api.flags import ModelFlags
from tonearm.api.models import HeadModel
from tonearm.cli.output import Output
from tonearm.models.checkpoint import is_hub_id
from tonearm.wording import counted, some

NUM_LABELS = 8


def models(*, as_json: bool = False, **flags: Unpack[ModelFlags]) -> int:
    """Print each head's model, or why it cannot be used; return 0 when all can, else 2."""
    described, output = room.models(**flags), Output(as_json)
    output.table([row for name, head in described.items() for row in _rows(name, head)])
    output.result({"heads": {name: _document(head) for name, head in described.items()}})
    return 2 if any(head.error for head in described.values()) else 0


def _rows(name: str, head: HeadModel) -> list[tuple[str, str]]:
    info = head.info
    if info is None:
        return [(name, head.error or "off")]
    absent = "weights not downloaded yet" if is_hub_id(str(head.model)) else "pickled weights only"
    size = f", {info.num_parameters / 1e6:.1f} M parameters" if info.num_parameters else f", {absent}"
    kind = "multi-label" if info.multi_label else "single-label"
    facts = [
        ("checkpoint", str(head.model)),
        ("revision", info.revision),
        ("family", f"{info.family}{size}"),
        ("labels", f"{len(info.labels)} ({some(info.labels, NUM_LABELS)}), trained as {kind}"),
        ("audio", f"{info.sample_rate:,} Hz, windows of {head.window_s:g} s"),
        ("embedding", counted(info.embedding_dim, "number")),
        *([("speed here", ", ".join(map(str, head.rates)))] if head.rates else []),
    ]
    return [("" if place else name, f"{fact:<12}{text}") for place, (fact, text) in enumerate(facts)]


def _document(head: HeadModel) -> dict[str, object] | None:
    """Return what ``--json`` says of a head; None where it is off."""
    if head.model is None:
        return None
    info = head.info
    if info is None:
        return {"model": head.model, "error": head.error}
    return {
        "model": head.model,
        "revision": info.revision,
        "family": info.family,
        "num_parameters": info.num_parameters,
        "labels": list(info.labels),
        "is_multi_label": info.multi_label,
        "sample_rate": info.sample_rate,
        "window_s": head.window_s,
        "embedding_dim": info.embedding_dim,
        "rates": [rate._asdict() for rate in head.rates],
    }
