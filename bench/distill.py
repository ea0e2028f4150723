"""A student made of a teacher: how far it says the same, what it costs beside AST, and what a cascade of the two does.

python -m bench.distill TEACHER SOURCE --out STUDENT [--student mn04] [--epochs 30] [--esc10] [-- FLAGS]

FLAGS are those of ``tonearm distill``. With ``--esc10``, SOURCE is ESC-10 (a folder a class, the fold as the first
character of each file's name): the student learns from folds 1 to 3, and both, and the cascade of the two at each
threshold of the student's curve, are judged by groups of AudioSet's labels on fold 4: a clip's score for a class is the
highest of its windows and of the class's labels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tonearm
from tonearm.models.cost import cost_of
from tonearm.models.families import family_of
from tonearm.models.transformers_loader import new_model
from tonearm.runs.run_summary import read_run
from tonearm.training.judge.metrics import interval

FOLD = "4"
# What of AudioSet's labels each class of ESC-10 is.
GROUPS = {
    "baby_cry": ("Baby cry, infant cry", "Crying, sobbing"),
    "chainsaw": ("Chainsaw",),
    "clock_tick": ("Tick", "Tick-tock", "Clock"),
    "dog_bark": ("Bark", "Dog", "Bow-wow", "Yip"),
    "fire_crackling": ("Fire", "Crackle"),
    "helicopter": ("Helicopter",),
    "person_sneeze": ("Sneeze",),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "rooster": ("Chicken, rooster", "Crowing, cock-a-doodle-doo"),
    "sea_waves": ("Waves, surf", "Ocean"),
}


def ast_multiply_adds_a_second() -> float:
    """Return what AST, as it is published, multiplies for a second of sound."""
    from transformers import ASTConfig, ASTFeatureExtractor

    config = ASTConfig(num_labels=527)
    features = family_of(config.model_type).features(ASTFeatureExtractor())
    window_s = 10.24
    return cost_of(new_model(config, "AST", is_empty=True), features, round(16000 * window_s)).multiply_adds / window_s


def judged_by_groups(model: Path, collection: Path, fallback: str | None = None) -> tuple[int, int, float]:
    """Return how many clips of the held-out fold are right by groups, how many there are, and the share sent on.

    Args:
        fallback: ``MODEL:THRESHOLD``; see ``tonearm tag --fallback``.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-bench-") as name:
        settings, out = Path(name) / "settings.toml", Path(name) / "run"
        settings.write_text("[models]\ntop_tags = 10000\n")
        clips = Path(name) / "clips.csv"
        held = sorted(path for path in collection.glob("*/*") if path.name.startswith(FOLD))
        clips.write_text("uri\n" + "".join(f"{path.absolute()}\n" for path in held))
        asked = {} if fallback is None else {"tags": fallback}
        library = tonearm.tag(clips, out=out, genre_model="none", tag_model=model, fallback=asked, config=settings)
        facts = read_run(str(out)).models()["tags"].fallback
        rows = library.tracks(columns=["uri", "tags"]).arrow().to_pylist()
    right = 0
    for row in rows:
        scores = {tag["label"]: tag["max_score"] for tag in row["tags"]}
        said = max(GROUPS, key=lambda group: max(scores.get(label, 0.0) for label in GROUPS[group]))
        right += said == Path(row["uri"]).parent.name
    return right, len(rows), 0.0 if facts is None else facts.num_sent / facts.num_windows


def main() -> None:
    """Distill, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.distill")
    parser.add_argument("teacher", type=Path)
    parser.add_argument("source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--student", default="mn04")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--esc10", action="store_true")
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    flags = ["--student", arguments.student, "--epochs", str(arguments.epochs), *arguments.flags]
    if arguments.esc10:
        flags += ["--split-by", r"name:^(\d)-", "--test-on", FOLD, "--validation-share", "0"]
    command = ["distill", str(arguments.teacher), arguments.source, "--out", str(arguments.out), *flags]
    subprocess.run([sys.executable, "-m", "tonearm", *command], check=True)
    facts = json.loads((arguments.out / "metrics.json").read_text())
    print(table(facts))
    if arguments.esc10:
        print(f"\n| ESC-10 by groups, fold {FOLD} | windows sent on | right | 95% interval |\n|---|---:|---:|---|")
        thresholds = [point["threshold"] for point in facts["fallback"]["curve"]]
        rows: list[tuple[str, Path, str | None]] = [("student", arguments.out, None)]
        rows += [(f"below {each:.3f}", arguments.out, f"{arguments.teacher}:{each}") for each in thresholds]
        for who, model, fallback in [*rows, ("teacher", arguments.teacher, None)]:
            right, total, sent = judged_by_groups(model, Path(arguments.source), fallback)
            low, high = interval(right, total)
            print(f"| {who} | {sent:.2f} | {right / total:.3f} ({right} of {total}) | {low:.3f} to {high:.3f} |")


def table(facts: dict[str, Any]) -> str:
    """Return what metrics.json says of agreement, cost and the cascade."""
    side = "test" if "test" in facts["evaluation"] else "validation"
    found, cost, fallback = facts["evaluation"][side], facts["cost"], facts["fallback"]
    rows = {
        "first label of a recording": found["first_label"]["track"],
        "first label of a window": found["first_label"]["window"],
        "mAP": found["map"],
        "rank correlation": found["spearman"],
        "rank correlation, labels of the mAP": found["spearman_of_said"],
    }
    lines = [f"| {found['num_tracks']} held-out recordings against {facts['teacher']['name']} | | 95% interval |"]
    lines += ["|---|---:|---|"]
    for name, each in rows.items():
        value, (low, high) = each["value"], each["interval"]
        lines.append(f"| {name} | {value:.3f} | {low:.3f} to {high:.3f} |" if value is not None else f"| {name} | | |")
    a_second = {who: (cost[who]["multiply_adds"] or 0) / cost["window_s"] for who in ("student", "teacher")}
    ast = ast_multiply_adds_a_second()
    lines += ["", "| multiply-adds of a second | million | AST has times as many |", "|---|---:|---:|"]
    lines += [f"| {who} | {adds / 1e6:,.1f} | {ast / adds:,.0f} |" for who, adds in a_second.items() if adds]
    lines += ["", "| ask the teacher below | windows sent on | first labels that agree |", "|---:|---:|---:|"]
    lines += [
        f"| {point['threshold']:.3f} | {point['share_sent']:.2f} | {point['agreement']:.3f} |"
        for point in [*fallback["curve"], fallback]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
