"""Parameters and multiply-adds of the efficient CNNs for ten seconds of sound, beside the published ones.

python -m bench.sizes

Published: github.com/fschmid56/EfficientAT, the table of its README at c028d3435f0368405555957cc17d0dacb837c00c.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from tonearm.models.cost import Cost, cost_of
from tonearm.models.families import family_of
from tonearm.training.fit.initial import read_initial_model
from tonearm.training.fit.initial_weights import Classifier, load_initial_model

LABELS = tuple(f"label {number}" for number in range(527))  # as many as AudioSet's
WINDOW_S = 10.0
TOLERANCE = 0.02


class Published(NamedTuple):
    """Of ten seconds, as printed there: three digits of parameters, two of multiply-adds."""

    num_parameters: float
    multiply_adds: float


PUBLISHED = {"mn04": Published(0.983e6, 0.11e9), "mn10": Published(4.88e6, 0.54e9)}


def size_of(name: str) -> Cost:
    """Return the cost of an architecture of ``tonearm.training.fit.architectures`` for ten seconds."""
    initial = read_initial_model(name, from_scratch=True)
    model, extractor = load_initial_model(initial, Classifier(LABELS, is_multi=True), seed=0)
    features = family_of(initial.family).features(extractor)
    return cost_of(model, features, round(WINDOW_S * initial.sample_rate))


def ratios(name: str, cost: Cost) -> tuple[float, float]:
    """Return our parameters and multiply-adds over the published ones."""
    return cost.num_parameters / PUBLISHED[name].num_parameters, cost.multiply_adds / PUBLISHED[name].multiply_adds


def main() -> int:
    """Print the table; return 1 where a figure is more than 2% off."""
    print("| | parameters, M | published | ratio | multiply-adds of 10 s, G | published | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    is_off = False
    for name, published in PUBLISHED.items():
        cost = size_of(name)
        parameters, adds = ratios(name, cost)
        print(
            f"| {name} | {cost.num_parameters / 1e6:.4f} | {published.num_parameters / 1e6:g} | {parameters:.4f} | "
            f"{cost.multiply_adds / 1e9:.4f} | {published.multiply_adds / 1e9:g} | {adds:.4f} |"
        )
        is_off |= max(abs(parameters - 1), abs(adds - 1)) > TOLERANCE
    return int(is_off)


if __name__ == "__main__":
    sys.exit(main())
