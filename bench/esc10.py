"""Models trained from scratch on ESC-10 against a random forest on MFCCs: trained on folds 1 to 3, judged on others.

tonearm train ESC10 --out MODEL --config recipes/small-ast.toml --split-by 'name:^(\\d)-' --test-on 4 \\
    --validation-share 0 --window-s 5
python -m bench.esc10 ESC10 MODEL...

ESC10 is a folder a class with the fold as the first character of each file's name
(github.com/karolpiczak/ESC-10, Piczak 2015).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from tonearm.audio.decode import decode_waveform
from tonearm.training.judge.metrics import interval

RATE, NUM_MFCC, NUM_TREES, SEED = 22050, 20, 500, 0


def features(path: Path) -> NDArray[np.float64]:
    """Return means and deviations of a clip's MFCCs and of their differences [80]."""
    waveform, _ = decode_waveform(path.read_bytes(), RATE)
    mfcc = librosa.feature.mfcc(y=waveform, sr=RATE, n_mfcc=NUM_MFCC)
    delta = librosa.feature.delta(mfcc)
    return np.concatenate([stat for part in (mfcc, delta) for stat in (part.mean(axis=1), part.std(axis=1))])


def forest(clips: list[Path], fold: str) -> tuple[int, int]:
    """Return how many of the clips of ``fold`` a forest trained on folds 1 to 3 gets right, and how many there are."""
    train = [path for path in clips if path.name[0] in "123"]
    held = [path for path in clips if path.name[0] == fold]
    classifier = RandomForestClassifier(NUM_TREES, random_state=SEED)
    classifier.fit(np.stack([features(path) for path in train]), [path.parent.name for path in train])
    said = classifier.predict(np.stack([features(path) for path in held]))
    return int(sum(said == [path.parent.name for path in held])), len(held)


def judged(model: Path, collection: Path, fold: str) -> tuple[int, int]:
    """Return the same of a model, by ``tonearm evaluate``."""
    with tempfile.TemporaryDirectory() as out:
        command = ["evaluate", model, collection, "--split-by", r"name:^(\d)-", "--on", fold, "--out", out]
        subprocess.run([sys.executable, "-m", "tonearm", *map(str, command)], check=True, capture_output=True)
        facts = json.loads((Path(out) / "evaluation.json").read_text())
    return round(facts["track"]["accuracy"] * facts["num_tracks"]), facts["num_tracks"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.esc10")
    parser.add_argument("collection", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--fold", default="4")
    arguments = parser.parse_args()
    clips = sorted(path for path in arguments.collection.glob("*/*") if path.name[0].isdigit())
    print(f"| trained on folds 1 to 3 | accuracy on fold {arguments.fold} | 95% interval |\n|---|---:|---|")
    rows = [(f"random forest of {NUM_TREES} on MFCC means and deviations", forest(clips, arguments.fold))]
    for model in arguments.models:
        facts = json.loads((model / "metrics.json").read_text())
        name = f"{facts['settings']['model']}, {facts['num_parameters']:,} parameters, {facts['epochs']} epochs"
        rows.append((name, judged(model, arguments.collection, arguments.fold)))
    for name, (right, total) in rows:
        low, high = interval(right, total)
        print(f"| {name} | {right / total:.3f} ({right} of {total}) | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main()
