"""What tonearm takes against ``transformers.pipeline``, ``transformers.Trainer`` and a plain server, in one run.

python -m bench              the demo library and full-size random checkpoints (about half an hour on two cores)
python -m bench --quick      the small models alone
python -m bench --only training
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import end_to_end, machine, serving, training, workers

KINDS = {"tagging": end_to_end, "training": training, "serving": serving, "workers": workers}


def main() -> int:
    """Print the tables; return 1 when a result is wrong, never because it is slow."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the demo library alone")
    parser.add_argument("--write", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--only", choices=list(KINDS))
    arguments = parser.parse_args()
    sections = [f"Machine: {machine.describe()}"]
    is_right = True
    with tempfile.TemporaryDirectory(prefix="tonearm-bench-") as folder:
        for name, kind in KINDS.items():
            if arguments.only not in (None, name):
                continue
            for case in kind.cases(Path(folder), quick=arguments.quick):
                section = kind.measure(case, Path(folder))
                print(section.text, flush=True)
                sections.append(section.text)
                is_right &= section.is_right
    if arguments.write:
        arguments.write.write_text("# Measured\n\n" + "\n\n".join(sections) + "\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
