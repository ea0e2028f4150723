"""A run of ``tonearm tag`` at full size, against a loop over ``transformers.pipeline`` and the forward passes alone.

DistilHuBERT and AST with random weights, clips of half a minute in MP3 and FLAC, every second scored by both heads. All
take their turn in each round, so that a busy machine slows all of them.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.checkpoints import save_ast, save_distilhubert
from bench.clips import CLIP_S, write_clips
from bench.figures import Figure, Section
from bench.peers import run_peer
from bench.runs import run_tag

ROUNDS = 5
PRECISIONS = ("bf16", "int8")
GOALS = {"bf16": 2.2, "int8": 3.8}
# How many clips each works on in a round: seconds enough to time, few enough for five rounds in a quarter of an hour.
# A run begins with the first clip that is decoded, some two seconds before the models are loaded, so the fastest gets
# enough clips that this is the start of a run and not a share of it.
NUM_CLIPS = {"pipeline": 2, "forward": 12, "bf16": 8, "int8": 48}
# The fastest is the hardest to feed.
SHARED = "int8"
# A clip is enough to convert a model, six to calibrate one.
FIRST_CLIPS = {"bf16": 1, "int8": 6}
# fp32's scores are the pipeline's, but for int16 and the decoders' last bits.
TOLERANCE = 2e-3
# The weights are random, so the guard, which is for trained ones, would only say that they are.
SETTINGS = "[models]\nint8_guard = false\n"


@dataclasses.dataclass(frozen=True)
class Case:
    """A folder with a library a precision, the two checkpoints and the settings."""

    folder: Path
    genre: Path
    tags: Path
    config: Path


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured; nothing when it must be quick."""
    if quick:
        return
    config = folder / "speed.toml"
    config.write_text(SETTINGS)
    clips = write_clips(folder / "int8", ["mp3", "flac"] * (NUM_CLIPS["int8"] // 2), seed=7)
    (folder / "bf16").mkdir()
    for clip in clips[: NUM_CLIPS["bf16"]]:
        shutil.copy(clip, folder / "bf16" / clip.name)
    yield Case(folder, save_distilhubert(folder / "distilhubert"), save_ast(folder / "ast"), config)


def measure(case: Case, folder: Path) -> Section:
    """Run every round and compare."""
    out = folder / "tagged"
    clips = sorted((case.folder / "int8").iterdir())
    for precision in PRECISIONS:  # the first run converts, calibrates and measures streams, once
        _tag(case, case.folder / "int8", out, precision, max_clips=FIRST_CLIPS[precision])
    rates: dict[str, list[float]] = {name: [] for name in ("pipeline", *PRECISIONS)}
    shares: list[float] = []
    said: dict[str, dict[str, dict[str, float]]] = {}
    runs: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for number in range(ROUNDS):
        first = number * NUM_CLIPS["pipeline"] % NUM_CLIPS["bf16"]
        peer = run_peer("pipeline", case.genre, case.tags, clips[first : first + NUM_CLIPS["pipeline"]])
        said |= {Path(path).name: scores for path, scores in peer["results"].items()}
        rates["pipeline"].append(peer["audio_s"] / peer["wall_s"])
        for precision in PRECISIONS:
            runs[precision] = _tag(case, case.folder / precision, out, precision)
            rows[precision] = pq.read_table(out / "tracks", columns=["uri", "genre", "tags"]).to_pylist()
            rate = runs[precision]["speed"]["audio_s"] / runs[precision]["speed"]["span_s"]
            rates[precision].append(rate)
        forward = run_peer("forward", case.genre, case.tags, clips[: NUM_CLIPS["forward"]], SHARED)
        shares.append(rates[SHARED][-1] / (forward["audio_s"] / forward["wall_s"]))
    exact = folder / "exact"
    exact.mkdir()
    for clip in clips[:2]:
        shutil.copy(clip, exact / clip.name)
    reference = run_peer("pipeline", case.genre, case.tags, sorted(exact.iterdir()))
    fp32 = _tag(case, exact, out, "fp32")
    difference = _difference(out, reference["results"])
    figures = [
        Figure(
            f"`tonearm tag`, both heads, {precision}, against a loop over transformers.pipeline",
            tuple(own / peer for own, peer in zip(rates[precision], rates["pipeline"], strict=True)),
            GOALS[precision],
        )
        for precision in PRECISIONS
    ]
    figures += [
        Figure(
            f"tracks with the pipeline's first {head}, {name}, random weights",
            (same_top(rows[name], said, head),),
            unit="%",
        )
        for name in PRECISIONS
        for head in ("genre", "tags")
    ]
    figures.append(Figure(f"end to end, of the forward passes alone, {SHARED}", tuple(shares), 0.92, "%"))
    figures.append(_object_store(case))
    return Section(_text(rates, runs, fp32, difference), difference < TOLERANCE, tuple(figures))


def _text(
    rates: dict[str, list[float]], runs: dict[str, dict[str, Any]], fp32: dict[str, Any], difference: float
) -> str:
    lines = [
        "## Tagging at full size: DistilHuBERT and AST, random weights, MP3 and FLAC of 30 s",
        "",
        "| | hours of audio an hour, median | spread |",
        "|---|---:|---:|",
    ]
    for name, values in rates.items():
        title = "a loop over transformers.pipeline, in batches" if name == "pipeline" else f"tonearm tag, {name}"
        lines.append(f"| {title} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")
    for name, run in runs.items():
        speed = run["speed"]
        busy = ", ".join(f"{stage} {share:.1%}" for stage, share in speed["busy_share"].items())
        peaks = ", ".join(f"{who} {value / 2**20:,.0f} MiB" for who, value in sorted(speed["peak_bytes"].items()))
        lines += ["", f"{name}: busy {busy}. Bottleneck: {speed['bottleneck']}. Peak memory: {peaks}."]
    lines += [
        "",
        f"fp32 ran on {fp32['tag_model']['runtime']}; its scores differ from the pipeline's by {difference:.1e}.",
    ]
    return "\n".join(lines)


def _tag(case: Case, library: Path, out: Path, precision: str, max_clips: int | None = None) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    models = ["--genre-model", str(case.genre), "--tag-model", str(case.tags)]
    how = ["--precision", precision, "--config", str(case.config)]
    limit = [] if max_clips is None else ["--limit", str(max_clips)]
    run = run_tag(library, out, *models, *how, *limit, is_quiet=True)
    for head in ("genre_model", "tag_model"):
        if run[head]["precision"] != precision:
            raise RuntimeError(f"{head} ran in {run[head]['precision']}, not in {precision}: {run[head]['note']}")
    return run


def same_top(rows: list[dict[str, Any]], said: dict[str, dict[str, dict[str, float]]], head: str) -> float:
    """Return the share of rows whose first label of ``head`` is the one that the pipeline gave most to."""
    same = []
    for row in rows:
        scores = said.get(Path(row["uri"]).name, {}).get(head)
        if scores is not None:
            first = row["genre"] if head == "genre" else row["tags"][0]["label"]
            same.append(first == max(scores, key=lambda label: scores[label]))
    return statistics.fmean(same)


def _difference(out: Path, results: dict[str, dict[str, dict[str, float]]]) -> float:
    worst = 0.0
    for row in pq.read_table(out / "tracks", columns=["uri", "genre_scores", "tags"]).to_pylist():
        if not row["uri"].endswith(".flac"):  # decoders of lossy formats differ by more than models do
            continue
        for head, entries in (("genre", row["genre_scores"]), ("tags", row["tags"])):
            worst = max(worst, *(abs(entry["score"] - results[row["uri"]][head][entry["label"]]) for entry in entries))
    return worst


def _object_store(case: Case) -> Figure:
    """Return what goes through Ray's object store: the rows between decoding and scoring, and the finished ones."""
    from tonearm.audio.decode import decode
    from tonearm.distributed.tagging import blocks
    from tonearm.settings import ModelSettings
    from tonearm.sources.listing import list_tracks
    from tonearm.tagging import decode_request, plan_heads

    models = ModelSettings(genre_model=str(case.genre), tag_model=str(case.tags))
    request = decode_request(plan_heads(models, max_windows=None, max_scored_s=14400.0), 14400.0)
    refs = list(list_tracks([str(case.folder / "bf16")]))
    tracks = [(ref, decode(Path(ref.uri).read_bytes(), request)) for ref in refs]
    num_bytes = blocks.encode_tracks(tracks).nbytes
    return Figure(
        "through Ray's object store for a second of audio", (num_bytes / 1000 / CLIP_S / len(refs),), 33, "KB", True
    )
