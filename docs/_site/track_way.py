"""Draw docs/track.svg, the way of one track through a run: python docs/_site/track_way.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).resolve().parents[1] / "track.svg"
WIDTH, TOP, ROW, BOX_LEFT, BOX_WIDTH, BOX_HEIGHT = 920, 20, 92, 190, 280, 56
INK, QUIET, LINE = "#1f2933", "#52606d", "#7b8794"


@dataclasses.dataclass(frozen=True)
class Step:
    """One box: what is done, by which module, and what comes out of it."""

    name: str
    module: str
    result: str
    shape: str


@dataclasses.dataclass(frozen=True)
class Place:
    """Where some steps run: a band of the picture."""

    name: str
    detail: str
    colour: str
    steps: tuple[Step, ...]


PLACES = (
    Place(
        "Driver",
        "one process",
        "#e6f0fa",
        (
            Step(
                "List the sources",
                "sources.listing",
                "manifest row",
                "track_key, uri, size_bytes, etag, modified",
            ),
        ),
    ),
    Place(
        "CPU task",
        "one per core",
        "#fdf0dc",
        (Step("Fetch the object", "sources.reader", "the file's bytes", "bounded; retried with growing waits"),),
    ),
    Place(
        "Child process",
        "deadline, memory limit",
        "#fae3d3",
        (
            Step("Decode and resample", "audio.decode", "waveform", "float32 [samples], mono, the model's rate"),
            Step("Keep what windows need", "audio.windows", "levels, scale", "int16 [samples], start_s [windows]"),
        ),
    ),
    Place(
        "Scoring actor",
        "one per GPU, or node",
        "#e3f2e6",
        (
            Step("Compute features", "models.features", "model input", "float32 [windows, frames, num_mel_bins]"),
            Step("Run each model", "models.classifier", "scores", "logits [windows, labels], embedding [windows, dim]"),
            Step("Pool the windows", "models.pooling", "result", "scores, best windows, timeline, embedding"),
            Step("Make the row", "tagging.rows", "exactly one row", "for success and for failure alike"),
        ),
    ),
    Place(
        "Destination",
        "folder or bucket",
        "#ece8f7",
        (Step("Write, then mark", "distributed.tagging.marks", "tracks/*.parquet", "counts once its mark is written"),),
    ),
)


def text(x: float, y: float, words: str, *, size: int = 14, colour: str = INK, weight: int = 400) -> str:
    """Return one line of text whose baseline begins at (x, y)."""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" font-weight="{weight}">{escape(words)}</text>'


def draw() -> str:
    """Return the picture as SVG."""
    bands: list[str] = []  # below all arrows, which cross them
    parts: list[str] = []
    y, num_steps, done = float(TOP), sum(len(place.steps) for place in PLACES), 0
    for place in PLACES:
        height = ROW * len(place.steps)
        bands.append(f'<rect x="10" y="{y}" width="{WIDTH - 20}" height="{height - 4}" rx="8" fill="{place.colour}"/>')
        parts.append(text(26, y + 34, place.name, size=16, weight=700))
        parts.append(text(26, y + 54, place.detail, size=13, colour=QUIET))
        for step in place.steps:
            parts += _step(step, y)
            y, done = y + ROW, done + 1
            if done < num_steps:
                x = BOX_LEFT + BOX_WIDTH / 2
                parts.append(
                    f'<path d="M{x} {y - ROW + 14 + BOX_HEIGHT} V{y + 10}" stroke="{LINE}" stroke-width="2" '
                    'marker-end="url(#arrow)"/>'
                )
    height = y + 10
    arrow = (
        '<marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker>'
    )
    fonts = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
    label = "The way of one track: listed, fetched, decoded, scored, written"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="{fonts}" role="img" '
        f'aria-label="{label}">',
        f'<defs>{arrow}</defs>\n<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>',
        *bands,
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)


def _step(step: Step, y: float) -> list[str]:
    right = BOX_LEFT + BOX_WIDTH + 24
    return [
        f'<rect x="{BOX_LEFT}" y="{y + 14}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#ffffff" '
        f'stroke="{LINE}"/>',
        text(BOX_LEFT + 14, y + 38, step.name, size=15, weight=600),
        text(BOX_LEFT + 14, y + 58, step.module, size=13, colour=QUIET),
        text(right, y + 38, step.result, weight=600),
        text(right, y + 58, step.shape, size=13, colour=QUIET),
    ]


if __name__ == "__main__":
    TARGET.write_text(draw())
