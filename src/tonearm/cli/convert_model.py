"""``tonearm models convert`` and ``add``: published weights as model folders, the named ones in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.storage.uris import visible


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A published checkpoint of EfficientAT, such as mn10_as_mAP_471.pt.")
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where the model folder goes.")],
    labels: Annotated[
        Path,
        typer.Option(help="Its labels in the order of its outputs: one a line, or a CSV with a column display_name."),
    ],
    hop_ms: Annotated[float, typer.Option(min=1.0, help="Of its spectrograms; mn10_as_hop_15 has 15.")] = 10.0,
    mel_bins: Annotated[int, typer.Option(min=1, help="Of its spectrograms; mn10_as_mels_64 has 64.")] = 128,
    single_label: Annotated[bool, typer.Option("--single-label", help="It gives each clip one label.")] = False,
) -> int:
    """Make a model folder of a published checkpoint of EfficientAT: an mn of any width."""
    from tonearm.models import published

    num_parameters = published.convert(
        file,
        out,
        published.read_labels(labels),
        hop_length=round(32 * hop_ms),
        num_mel_bins=mel_bins,
        is_multi=not single_label,
    )
    print(visible(f"{out}: {num_parameters / 1e6:.2f} M parameters"))
    print(visible(f"use it: tonearm tag SOURCE --{'genre' if single_label else 'tag'}-model {out} --out DEST"))
    return 0


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="musicnn (MagnaTagATune's tags) or musicnn-msd.")],
    wheel: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The published package, where it cannot be fetched.", show_default=False),
    ] = None,
) -> int:
    """Fetch a published model of real music from the package index, and keep it in the cache under its name."""
    from tonearm.models.musicnn.wheel import add as put

    print(visible(f"{name}: {put(name, wheel)} (LICENSE and NOTICE are beside the weights)"))
    print(f"use it: tonearm tag SOURCE --tag-model {name} --out DEST")
    return 0
