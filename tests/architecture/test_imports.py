"""The rules of the house that a linter of imports alone cannot see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tonearm"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import tonearm", {"torch", "ray", "transformers", "pyarrow", "numpy"}),
        ("import tonearm.cli.app", {"torch", "ray", "transformers", "librosa"}),
        ("import tonearm.audio.sandbox, tonearm.audio.decode, tonearm.audio.plots", {"torch", "ray", "transformers"}),
        (
            "import tonearm.sources.listing, tonearm.runs.destination, tonearm.report.page",
            {"torch", "ray", "transformers"},
        ),
        ("import tonearm.tagging", {"ray"}),
        # A source that is missing is refused before anything that takes seconds to load.
        ("from tonearm import evaluate, train", {"torch", "ray", "transformers", "sklearn", "matplotlib"}),
        # It decides when it is imported whether processes share their figures; ``telemetry.share`` says so first.
        ("import tonearm.distributed.serving.app", {"prometheus_client"}),
    ],
)
def test_importing_stays_light(statement: str, absent: set[str]) -> None:
    assert not loaded_by(statement) & absent


def test_imports_point_one_way() -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules_stay_readable(module: Path) -> None:
    source = (PACKAGE / module).read_text()
    assert source.count("\n") <= 400, "a file this long wants to be two"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 70, f"{node.name} is too long"


def test_only_distributed_imports_ray() -> None:
    for module in MODULES:
        if module.parts[0] == "distributed":
            continue
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.split(".")[0] == "ray" for name in names), module


def test_entry_points_hold_no_logic() -> None:
    for path in sorted((ROOT / "jobs").glob("*.py")):
        assert len(path.read_text().splitlines()) <= 30, path
