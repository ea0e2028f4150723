"""Core-seconds of a track of four minutes by stage: decoding, features, the forward pass and everything else.

python -m bench.cost                                        AST, DistilHuBERT (fp32, int8) and mn04, five rounds
python -m bench.cost --yamnet FOLDER --musicnn              also those: see `tonearm models add`
python -m bench.cost --model student=FOLDER                 and any other; --json FILE for `bench.choose`
python -m bench.cost --only mn04 --only "AST int8" --rounds 1

Core-seconds are processor time of every process that takes part, Ray's and children included. A round takes for each
model, in turns: `tonearm tag` of a few tracks and of many, half of them MP3 and half FLAC, whose difference is what a
track costs and whose rest is what a run costs whatever its length; and a few without Ray, in one process and its
decoder's child.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import floor, machine
from bench.checkpoints import save_ast, save_distilhubert, save_efficient
from bench.clips import ENCODINGS
from bench.figures import Figure, table
from bench.metered import METER
from bench.processor_time import ACTOR, ProcessorTime
from tonearm.demo.library import encode
from tonearm.demo.songs import GENRES, RATE, compose

TAGGED, ALONE = "`tonearm tag`", "one process"
ROOT = Path(__file__).resolve().parents[1]
ROUNDS, TRACK_S = 5, 240.0
# Tracks of a cheap model's two runs.
MANY = (8, 72)
FORMATS = ("mp3", "flac")
DECODER, LOOK_S = "decoders' children", 0.2
# The weights of most are random, so the guard, which is for trained ones, would only say that they are.
SETTINGS = "[models]\nint8_guard = false\n"
# Everything else of a track, of the sum; core-seconds of an MP3 in all.
MOST_OTHER, MOST = 0.15, {"mn04": 1.0, "musicnn int8": 2.0}


@dataclasses.dataclass(frozen=True)
class Model:
    """One row of the table: a model in a precision, and how many tracks of four minutes its two runs have."""

    # The few are enough that every worker starts, and so its start is no part of a track.
    name: str
    source: str
    precision: str
    num_few: int
    num_many: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """Core-seconds of one track; ``decode`` by format, ``start`` what a run takes whatever its length."""

    decode: Mapping[str, float]
    features: float
    forward: float
    other: float
    start: float = 0.0

    def whole(self, format_name: str) -> float:
        """The sum of a track's stages."""
        return self.decode[format_name] + self.features + self.forward + self.other

    def share_of_other(self, format_name: str) -> float:
        """Everything else, of that sum."""
        return self.other / self.whole(format_name)


# By model, then by way, one of each round.
Costs = Mapping[str, Mapping[str, Sequence[Cost]]]


@dataclasses.dataclass(frozen=True)
class Meters:
    """What the processes of a run wrote, see ``bench.metered``; lines by kind, in the order of writing."""

    decode: Sequence[Mapping[str, Any]]
    score: Sequence[Mapping[str, Any]]
    loading_s: float

    @classmethod
    def read(cls, folder: Path) -> Meters:
        """Return what lies in a folder."""
        return cls(*(_lines(folder, kind) for kind in ("decode", "score")), _sum(_lines(folder, "loading"), "seconds"))

    def decode_s(self) -> dict[str, float]:
        """Return the mean of a track by format, without each child's first, which holds its start."""
        later = [line for line in self.decode if not line["is_first"]]
        return {
            name: statistics.fmean(line["decode"] for line in later if line["format"] == name)
            for name in sorted({line["format"] for line in later})
        }

    def stage_s(self, stage: str, num_first: int) -> float:
        """Return the mean of a track, without the first blocks, for whose shapes kernels are compiled."""
        later = self.score[num_first:]
        return _sum(later, stage) / sum(line["num_tracks"] for line in later)

    def accounted_s(self) -> float:
        """Return what loading, features and passes took of the scoring process, all blocks."""
        return self.loading_s + _sum(self.score, "features") + _sum(self.score, "forward")


def _lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted(folder.glob(f"{kind}-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _sum(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(float(line[name]) for line in lines)


def other_s(by_kind: Mapping[str, float], meters: Meters) -> dict[str, float]:
    """Return everything else of a whole run, by kind of process."""
    rest = {kind: seconds for kind, seconds in by_kind.items() if kind != DECODER}
    rest[ACTOR] = rest.get(ACTOR, 0.0) - meters.accounted_s()
    return rest


def per_track(few: Mapping[str, float], many: Mapping[str, float], num_further: int) -> dict[str, float]:
    """Return what each of the further tracks of the longer run adds to everything else, by kind."""
    kinds = [*many, *(kind for kind in few if kind not in many)]
    return {kind: (many.get(kind, 0.0) - few.get(kind, 0.0)) / num_further for kind in kinds}


class Bench:
    """The library, the models and the folder of one measurement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "settings.toml"
        self.settings.write_text(SETTINGS)
        self.tracks = write_tracks(folder / "tracks")
        self.by_kind: dict[str, list[dict[str, float]]] = {}

    def library(self, num_tracks: int) -> Path:
        """Return a folder of so many tracks, links to the same two."""
        place = self.folder / f"library-{num_tracks}"
        if not place.exists():
            place.mkdir()
            for number in range(num_tracks):
                name = FORMATS[number % len(FORMATS)]
                os.link(self.tracks[name], place / f"{number:03d}.{name}")
        return place

    def tag(self, model: Model, library: Path) -> tuple[dict[str, float], Meters]:
        """Return the processor time of a run by kind of process, and its meters.

        Raises:
            RuntimeError: it failed.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            out, meter = Path(place, "out"), Path(place, "meter")
            flags = ["--tag-model", model.source, "--genre-model", "none", "--precision", model.precision]
            flags += ["--out", str(out), "--config", str(self.settings)]
            by_kind = self._run(["tag", str(meter), "tag", str(library), *flags], meter)
            meters = Meters.read(meter)
            num_rows = sum(line["num_tracks"] for line in meters.score)
            if num_rows != len(list(library.iterdir())):
                raise RuntimeError(f"{model.name}: {num_rows} tracks were scored, expected all of {library}")
            return by_kind, meters

    def loop(self, model: Model, num_tracks: int) -> Meters:
        """Return the meters of a loop in one process."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            meter = Path(place, "meter")
            files = [str(path) for path in sorted(self.library(num_tracks).iterdir())]
            self._run(["loop", str(meter), model.source, model.precision, *files], meter)
            return Meters.read(meter)

    def _run(self, arguments: Sequence[str], meter: Path) -> dict[str, float]:
        meter.mkdir(parents=True)
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        # Not from the repository's root, which tonearm would take off its processes' search path.
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.metered", *arguments],
            cwd=meter,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, METER: str(meter)},
        )
        times = ProcessorTime(process.pid, LOOK_S)
        times.start()
        _, errors = process.communicate()
        times.ended.set()
        times.join()
        if process.returncode:
            raise RuntimeError(f"bench.metered {' '.join(arguments)} ended with {process.returncode}:\n{errors}")
        return times.by_kind()

    def measure(self, model: Model, *, with_ray: bool) -> dict[str, Cost]:
        """Return what a track costs through ``tonearm tag``, unless that is left out, and in one process."""
        costs = {TAGGED: self._tagged(model)} if with_ray else {}
        alone = self.loop(model, max(4, min(8, model.num_few)))
        stages = [alone.stage_s(stage, len(FORMATS)) for stage in ("features", "forward", "other")]
        return costs | {ALONE: Cost(alone.decode_s(), *stages)}

    def _tagged(self, model: Model) -> Cost:
        few_by_kind, few = self.tag(model, self.library(model.num_few))
        by_kind, many = self.tag(model, self.library(model.num_many))
        further = per_track(other_s(few_by_kind, few), other_s(by_kind, many), model.num_many - model.num_few)
        self.by_kind.setdefault(model.name, []).append(further)
        stages = [many.stage_s(stage, 1) for stage in ("features", "forward")]
        cost = Cost(many.decode_s(), *stages, max(0.0, sum(further.values())))
        tracks_s = sum(cost.whole(line["format"]) for line in few.decode)
        return dataclasses.replace(cost, start=sum(few_by_kind.values()) - tracks_s)


def write_tracks(folder: Path) -> dict[str, Path]:
    """Write four minutes of synthesized music in each format."""
    folder.mkdir(parents=True)
    samples = compose(GENRES[0], 7000, TRACK_S + 10).samples[:, : int(TRACK_S * RATE)]
    paths = {name: folder / f"track.{name}" for name in FORMATS}
    for name, path in paths.items():
        encode(path, samples, ENCODINGS[name], {"title": "a track"})
    return paths


def models(folder: Path, *, yamnet: Path | None, musicnn: bool, others: Sequence[str] = ()) -> Iterator[Model]:
    """Yield what is measured; weights of the transformers and of mn04 are random."""
    # The dearer, the fewer tracks are needed beside what a run's start varies by.
    for precision in ("fp32", "int8"):
        yield Model(f"AST {precision}", str(folder / "ast"), precision, 2, 4)
    for precision in ("fp32", "int8"):
        yield Model(f"DistilHuBERT {precision}", str(folder / "distilhubert"), precision, 4, 8)
    if yamnet is not None:
        yield Model("YAMNet", str(yamnet), "fp32", *MANY)
    if musicnn:
        for precision in ("fp32", "int8"):
            yield Model(f"musicnn {precision}", "musicnn", precision, *MANY)
    yield Model("mn04", str(folder / "mn04"), "fp32", *MANY)
    for other in others:
        name, _, source = other.partition("=")
        yield Model(name, str(Path(source).resolve()), "fp32", *MANY)


def save_models(folder: Path, names: Sequence[str]) -> None:
    """Save the models with random weights that rows of these names need."""
    savers = {"AST": (save_ast, "ast"), "DistilHuBERT": (save_distilhubert, "distilhubert")}
    for start, (save, place) in savers.items():
        if any(name.startswith(start) for name in names):
            save(folder / place)
    if "mn04" in names:
        save_efficient("mn04", folder / "mn04")


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Return the median of each stage."""
    return Cost(
        {name: statistics.median(cost.decode[name] for cost in costs) for name in costs[0].decode},
        *(
            statistics.median(getattr(cost, stage) for cost in costs)
            for stage in ("features", "forward", "other", "start")
        ),
    )


def medians(costs: Sequence[Cost]) -> dict[str, float]:
    """Return the medians of an MP3's stages, and of their sum."""
    cost = median_cost(costs)
    stages = {"decode": cost.decode["mp3"], "features": cost.features, "forward": cost.forward, "other": cost.other}
    return stages | {"whole": cost.whole("mp3")}


def show(costs: Costs) -> str:
    """Return the table of medians, a line for each way."""
    lines = [
        "| | decode, MP3 | FLAC | features | forward | everything else | MP3 in all | FLAC in all | a run's start |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, by_way in costs.items():
        for way, each in by_way.items():
            cost = median_cost(each)
            lines.append(
                f"| {name}, {way} | {cost.decode['mp3']:.3f} | {cost.decode['flac']:.3f} | {cost.features:.3f} | "
                f"{cost.forward:.3f} | {cost.other:.3f} ({cost.share_of_other('mp3'):.1%}) | {cost.whole('mp3'):.2f} | "
                f"{cost.whole('flac'):.2f} | {f'{cost.start:.1f}' if way == TAGGED else ''} |"
            )
    return "\n".join(lines)


def figures(costs: Costs) -> list[Figure]:
    """Return what there is a goal for."""
    found = []
    for name, by_way in costs.items():
        for way, each in by_way.items():
            if name in MOST:
                values = tuple(cost.whole("mp3") for cost in each)
                title = f"{name}, {way}: core-seconds of an MP3 of 4 minutes"
                found.append(Figure(title, values, MOST[name], "s", is_at_most=True))
            shares = tuple(cost.share_of_other("mp3") for cost in each)
            found.append(
                Figure(f"{name}, {way}: everything else, of the sum", shares, MOST_OTHER, "%", is_at_most=True)
            )
    return found


def show_kinds(by_kind: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return which processes everything else goes to, medians."""
    if not by_kind:
        return ""
    kinds = sorted({kind for rounds in by_kind.values() for each in rounds for kind in each})
    lines = [f"| everything else of a track | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    for name, rounds in by_kind.items():
        values = [statistics.median(each.get(kind, 0.0) for each in rounds) for kind in kinds]
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--yamnet", type=Path, help="a folder that `tonearm models add` has described")
    parser.add_argument("--musicnn", action="store_true", help="as `tonearm models add musicnn` has left it")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="another row, in fp32")
    parser.add_argument("--json", type=Path, help="write the medians of one process there")
    parser.add_argument("--only", action="append", help="a row of the table; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--without-ray", action="store_true", help="only the loop in one process")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tonearm-cost-") as temporary:
        folder = Path(temporary)
        yamnet = arguments.yamnet and arguments.yamnet.resolve()
        rows = [
            model
            for model in models(folder, yamnet=yamnet, musicnn=arguments.musicnn, others=arguments.model)
            if not arguments.only or model.name in arguments.only
        ]
        save_models(folder, [model.name for model in rows])
        bench = Bench(folder)
        for model in rows:  # the first run converts, calibrates and measures streams, once
            if arguments.without_ray and model.precision != "int8":
                bench.loop(model, len(FORMATS))
            else:
                bench.tag(model, bench.library(len(FORMATS)))
        costs: dict[str, dict[str, list[Cost]]] = {model.name: {} for model in rows}
        started = time.monotonic()
        for number in range(arguments.rounds):
            for model in rows:
                for way, cost in bench.measure(model, with_ray=not arguments.without_ray).items():
                    costs[model.name].setdefault(way, []).append(cost)
            took = f"round {number + 1}, {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}"
            print(f"{took}\n{show(costs)}", file=sys.stderr, flush=True)
        print(f"Machine: {machine.describe()}\n\n{show(costs)}\n\n{show_kinds(bench.by_kind)}\n")
        print(floor.show(bench.tracks, TRACK_S) + "\n")
    print(table(figures(costs), f"Cost by stage, {arguments.rounds} rounds"))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({name: medians(by_way[ALONE]) for name, by_way in costs.items()}, indent=1)
        )


if __name__ == "__main__":
    main()
