"""Throughput of a run with one, two and four scoring processes, each on a Ray node of its own on this machine.

Real decoding and real models (the demo's), a thread a process: what more processes gain until the cores are used up,
and what they cost then. On one machine ``tonearm tag`` takes one process with all its cores instead.

python -m bench.workers
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from bench.figures import Section
from bench.runs import run_tag
from tonearm.demo.library import write_library

NUM_NODES = (1, 2, 4)


@dataclasses.dataclass(frozen=True)
class Case:
    """A library that every layout tags."""

    library: Path


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured; nothing when it must be quick."""
    if not quick:
        library = folder / "workers"
        write_library(library, num_tracks=64, seed=2, min_s=40, max_s=60)
        yield Case(library)


def measure(case: Case, folder: Path) -> Section:
    """Run the library once on each cluster, and once on a local Ray."""
    figures = {f"{count} process{'es' if count > 1 else ''}": _on_nodes(case, folder, count) for count in NUM_NODES}
    figures["one process with every core (a local Ray)"] = _tag(case, folder / "out-local", {})
    base = next(iter(figures.values()))[1]
    lines = [
        "## Scoring processes on two cores",
        "",
        "64 songs, the demo models. Hours of audio an hour, first byte to last row.",
        "",
        "| | hours an hour | of one process |",
        "|---|---:|---:|",
        *(f"| {name} | {rate:,.0f} | {rate / base:.0%} |" for name, (_, rate) in figures.items()),
    ]
    return Section("\n".join(lines), all(is_right for is_right, _ in figures.values()))


def _on_nodes(case: Case, folder: Path, count: int) -> tuple[bool, float]:
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="tw-", dir="/tmp") as place:
        settings = {"RAY_TMPDIR": place, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        with mock.patch.dict(os.environ, settings):
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
            try:
                for _ in range(count):
                    cluster.add_node(num_cpus=2, object_store_memory=400 * 2**20)
                cluster.wait_for_nodes()
                environment = settings | {"RAY_ADDRESS": cluster.address}
                return _tag(case, folder / f"out-{count}", environment, "--workers", str(count))
            finally:
                cluster.shutdown()


def _tag(case: Case, out: Path, environment: dict[str, str], *options: str) -> tuple[bool, float]:
    run = run_tag(case.library, out, "--demo-models", *options, **environment)
    return run["results"]["num_ok"] == 64, run["speed"]["audio_s"] / run["speed"]["span_s"]


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="tonearm-bench-") as folder:
        sections = [measure(case, Path(folder)) for case in cases(Path(folder), quick=False)]
    print("\n\n".join(section.text for section in sections))
    return 0 if all(section.is_right for section in sections) else 1


if __name__ == "__main__":
    sys.exit(main())
