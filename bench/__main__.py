"""What tonearm takes against what people use now, each timed in turns with its peer in one run.

python -m bench              the goals: decoding, features, start-up, tagging at full size, mutants (an hour at most)
python -m bench --quick      without the full-size models and the mutants (under 4 minutes); CI runs it
python -m bench --all        a third head, training, serving and numbers of worker processes as well (half an hour more)
python -m bench --only training
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import (
    agreement,
    baseline,
    decoding,
    end_to_end,
    features,
    gpu,
    heads,
    machine,
    mutants,
    serving,
    startup,
    tagging,
    training,
    workers,
)
from bench.figures import Figure, table

GOALS = {
    "decoding": decoding,
    "features": features,
    "startup": startup,
    "tagging": tagging,
    "agreement": agreement,
    "gpu": gpu,
    "mutants": mutants,
}
QUICK = {"demo": end_to_end}
MORE = {"demo": end_to_end, "heads": heads, "training": training, "serving": serving, "workers": workers}


def main() -> int:
    """Print the tables; return 1 when a result is wrong, never because it is slow."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without the full-size models")
    parser.add_argument("--all", action="store_true", help="training, serving and worker processes as well")
    parser.add_argument("--write", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--only", choices=[*GOALS, *MORE])
    arguments = parser.parse_args()
    sections = [f"Machine: {machine.describe()}"]
    figures: list[Figure] = []
    is_right = True
    kinds = GOALS | (MORE if arguments.all or arguments.only in MORE else QUICK if arguments.quick else {})
    with tempfile.TemporaryDirectory(prefix="tonearm-bench-") as folder:
        for name, kind in kinds.items():
            if arguments.only not in (None, name):
                continue
            for case in kind.cases(Path(folder), quick=arguments.quick):
                section = kind.measure(case, Path(folder))
                print(section.text + "\n", flush=True)
                sections += [section.text] if section.text else []
                figures += getattr(section, "figures", ())
                is_right &= section.is_right
                if not section.is_right:
                    print(f"{name}: a result is wrong", file=sys.stderr)
    if figures:
        title = baseline.QUICK if arguments.quick else "Goals"
        print(table(figures, title), flush=True)
        sections.insert(1, table(figures, title))
        written = baseline.RESULTS.read_text()
        print(
            "\n" + baseline.compare(figures, baseline.read(written).get(title, {}), baseline.machine(written)),
            flush=True,
        )
    if arguments.write:
        arguments.write.write_text("# Measured\n\n" + "\n\n".join(sections) + "\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
