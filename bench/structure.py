"""How the source is cut: lengths of files and functions, parameters, nesting, folders, docstrings, types.

python -m bench.structure                       this checkout
python -m bench.structure --against c7a9c14     beside a revision of it
python -m bench.structure ~/httpx/httpx         another checkout or package, by the same definitions
python -m bench.structure --json

PATH is a checkout with a ``src`` folder, which is then what is measured, or the folder of a package. Nothing is
imported or run, so no project has to be installed. ``bench.measures`` has the definitions. An empty file, as most
``__init__.py`` begin, is no module here.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from bench.measures import Measures, Module, measure, parse_module

ROOT = Path(__file__).resolve().parents[1]
NUM_SUBJECTS = 100


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _of(count: int | None, total: int | None) -> str:
    return "-" if count is None or total is None else f"{count:,} of {total:,}"


# Label, then what stands in a column.
ROWS: tuple[tuple[str, Callable[[Measures], str]], ...] = (
    ("py files / lines", lambda m: f"{m.num_files} / {m.num_lines:,}"),
    ("median / p90 file, lines", lambda m: f"{m.median_file:.0f} / {m.p90_file}"),
    ("longest file, lines", lambda m: f"{m.longest_file} ({m.longest_file_path})"),
    ("median / p95 function, lines", lambda m: f"{m.median_function:.0f} / {m.p95_function}"),
    ("functions over 60 lines", lambda m: _share(m.share_long_functions)),
    ("mean parameters; over 6", lambda m: f"{m.mean_parameters:.2f}; {_share(m.share_many_parameters)}"),
    ("most parameters", lambda m: f"{m.most_parameters} ({m.most_parameters_name})"),
    ("mean nesting; over 3", lambda m: f"{m.mean_nesting:.2f}; {_share(m.share_deep_nesting)}"),
    ("folders", lambda m: str(m.num_folders)),
    (
        "modules per folder, median; most",
        lambda m: f"{m.median_folder:g}; {m.largest_folder} ({m.largest_folder_path})",
    ),
    ("public functions with a docstring", lambda m: _share(m.share_docstrings)),
    ("annotated returns", lambda m: _share(m.share_annotated_returns)),
    (
        "except Exception or wider (per 1k lines)",
        lambda m: f"{m.num_blanket_excepts} ({1000 * m.num_blanket_excepts / max(1, m.num_lines):.2f})",
    ),
    ("comments / 100 lines of code", lambda m: f"{m.comments_per_100_code:.1f}"),
    ("docstring lines / 100 of code", lambda m: f"{m.docstring_lines_per_100_code:.1f}"),
    ("classes", lambda m: str(m.num_classes)),
    ("functions: free / methods", lambda m: f"{m.num_free_functions} / {m.num_methods}"),
    ("private functions", lambda m: _of(m.num_private_functions, m.num_functions)),
    ("imports inside functions", lambda m: str(m.num_function_imports)),
    ("parameters, returns typed Any", lambda m: str(m.num_bare_any)),
    ("functions returning a bare tuple", lambda m: str(m.num_tuple_returns)),
    ("modules with a test_<module>.py", lambda m: _share(m.share_tested_modules)),
    ("README words / lines", lambda m: "-" if m.readme_words is None else f"{m.readme_words:,} / {m.readme_lines}"),
    ("commit subjects over 72 characters", lambda m: _of(m.num_long_subjects, m.num_subjects)),
)


@dataclasses.dataclass(frozen=True)
class Tree:
    """Where a project's code stands (``source``), and the root of its checkout, which holds README and tests."""

    source: Path
    root: Path

    @classmethod
    def at(cls, path: Path) -> Tree:
        """Return the tree that a path names.

        Raises:
            ValueError: there is no folder of that name.
        """
        path = path.resolve()
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder; give a checkout or the folder of a package")
        root = _root(path)
        return cls(path / "src" if path == root and (path / "src").is_dir() else path, root)

    def modules(self) -> list[Module]:
        """Return the modules below the source, paths relative to it; empty files are left out.

        Raises:
            ValueError: there is none, or one is no Python that this Python can read.
        """
        modules = []
        for path in module_paths(self.source):
            with tokenize.open(self.source / path) as opened:
                text = opened.read()
            if not text.strip():
                continue
            try:
                modules.append(parse_module(path, text))
            except SyntaxError as error:
                raise ValueError(f"{self.source / path}:{error.lineno} cannot be read as Python: {error.msg}") from None
        if not modules:
            raise ValueError(f"{self.source} holds no Python modules; give a checkout or the folder of a package")
        return modules

    def measure(self, subjects: Sequence[str] | None) -> Measures:
        """Return the measures, with the subjects of the latest commits where they are known."""
        tests = [path for path in module_paths(self.root) if path.name.startswith("test_")]
        readmes = sorted(self.root.glob("README*"))
        readme = readmes[0].read_text(encoding="utf-8", errors="replace") if readmes else None
        return measure(self.modules(), tests=tests, readme=readme, subjects=subjects)


def module_paths(folder: Path) -> list[PurePosixPath]:
    """Return the Python files below a folder, relative to it, empty ones included; hidden folders are left out."""
    paths = [path.relative_to(folder) for path in folder.rglob("*.py")]
    return sorted(PurePosixPath(path) for path in paths if not any(part.startswith(".") for part in path.parts))


def subjects(root: Path, revision: str = "HEAD") -> list[str] | None:
    """Return the subjects of the latest commits, None where there is no git repository at ``root``."""
    if not (root / ".git").exists():
        return None
    shown = _git(root, "log", f"-{NUM_SUBJECTS}", "--format=%s", revision, "--")
    return shown.decode(errors="replace").splitlines()


def measure_revision(tree: Tree, revision: str) -> Measures:
    """Return the measures of what git has at a revision, read out of the repository into a temporary folder.

    Raises:
        ValueError: the root is no git repository, git does not know the revision, or it has no such folder.
    """
    if not (tree.root / ".git").exists():
        raise ValueError(f"{tree.root} is no git repository, so --against has nothing to read {revision} from")
    archive = _git(tree.root, "archive", "--format=tar", revision)
    with tempfile.TemporaryDirectory(prefix="tonearm-structure-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            # Python 3.11.2 and 3.11.3 have no filters yet; the archive is git's own.
            opened.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        source = tree.source.relative_to(tree.root)
        past = Tree(Path(folder) / source, Path(folder))
        if not past.source.is_dir():
            raise ValueError(f"{revision} has no folder {source}, so there is nothing to compare {tree.source} with")
        return past.measure(subjects(tree.root, revision))


def table(columns: dict[str, Measures]) -> str:
    """Return the measures as aligned text, one column per tree."""
    cells = [["", *columns], *([label, *map(shown, columns.values())] for label, shown in ROWS)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _root(path: Path) -> Path:
    """Return the checkout that a folder is part of, itself if of none; a package in a ``.venv`` is not part of one."""
    for folder in (path, *path.parents):
        if any((folder / name).exists() for name in (".git", "pyproject.toml", "setup.py")):
            return folder
        if folder.name.startswith("."):
            break
    return path


def _git(root: Path, *arguments: str) -> bytes:
    run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    if run.returncode:
        raise ValueError(f"git {' '.join(arguments)} in {root} failed: {run.stderr.decode(errors='replace').strip()}")
    return run.stdout


def main() -> int:
    """Print the table; return 2 when there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.structure", description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, nargs="?", default=ROOT / "src" / "tonearm", metavar="PATH")
    parser.add_argument("--against", metavar="REV", help="a git revision to put beside it")
    parser.add_argument("--json", action="store_true", help="print the measures as JSON, one object per column")
    arguments = parser.parse_args()
    try:
        tree = Tree.at(arguments.path)
        columns = {arguments.against: measure_revision(tree, arguments.against)} if arguments.against else {}
        columns["now"] = tree.measure(subjects(tree.root))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({name: dataclasses.asdict(measures) for name, measures in columns.items()}, indent=2))
    else:
        print(table(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
