"""Collections in a table, with a clip of noise for each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_table(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Write a clip of noise for each (name, label, split), and a table of them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, _, _ in rows:
        soundfile.write(folder / name, 0.2 * rng.normal(size=16000), 16000)
    table = folder / "clips.csv"
    table.write_text("\n".join(["uri,label,split", *(",".join(row) for row in rows)]))
    return table
