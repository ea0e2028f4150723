"""The table of environment variables holds every one that the code reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tonearm.api.environment import VARIABLES

PACKAGE = Path(__file__).parents[3] / "src" / "tonearm"
# What tonearm sets for the libraries that it uses, or reads from a program of its own making.
NOT_FOR_PEOPLE = {"HOME", "no_proxy", "MODEL"}


def read_names() -> Iterator[tuple[str, str]]:
    """Yield the names that are read from ``os.environ`` by name, and all of our own, with the module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "environment.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name: ast.expr | None = None
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
                name = node.args[0]
            elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
                name = node.left
            elif isinstance(node, ast.Constant) and str(node.value).startswith("TONEARM_"):
                name = node
            if isinstance(name, ast.Constant) and str(name.value).replace("_", "").isalnum():
                yield str(name.value), path.name


def test_what_is_read_is_in_the_table() -> None:
    known = {variable.name for variable in VARIABLES} | NOT_FOR_PEOPLE
    assert not {f"{name} of {module}" for name, module in read_names() if name not in known}


def test_what_is_in_the_table_is_read() -> None:
    ours = {variable.name for variable in VARIABLES if variable.read_by == "tonearm"}
    assert ours - {"PYTHONPATH"} <= {name for name, _ in read_names()}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = [variable for variable in VARIABLES if variable.name == "TONEARM_API_KEY"]
    monkeypatch.setenv(key.name, "ta-secret")
    assert key.value == "(set)"
    monkeypatch.delenv(key.name)
    assert key.value is None
