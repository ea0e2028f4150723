"""Help texts, docs and public docstrings use no word that ``docs/glossary.md`` has retired."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.shown_help import shown
from tonearm.cli.reference import verbs

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tonearm"
GLOSSARY = ROOT / "docs" / "glossary.md"
HEADING = "## Retired words\n"


def retired_words() -> list[str]:
    """Return the words of the glossary's list, as they are written there."""
    _, heading, listed = GLOSSARY.read_text().partition(HEADING)
    assert heading, f"docs/glossary.md has no heading {HEADING.strip()!r}"
    return re.findall(r"^\| `([^`]+)` \|", listed, re.M)


def uses(text: str) -> list[str]:
    """Return the retired words that a text has, in the singular or the plural; capitals count where all are."""
    line = " ".join(text.split())  # a word of two parts may be broken over two lines
    return [
        word
        for word in retired_words()
        if re.search(rf"\b{re.escape(word)}s?\b", line, 0 if word.isupper() else re.IGNORECASE)
    ]


def public_docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of a module and of what is public in it, methods included."""

    def inside(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str]]:
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if inner.name.startswith("_"):
                    continue
                yield prefix + inner.name, ast.get_docstring(inner) or ""
                if isinstance(inner, ast.ClassDef):
                    yield from inside(inner, f"{prefix}{inner.name}.")

    tree = ast.parse(path.read_text())
    yield "the module", ast.get_docstring(tree) or ""
    yield from inside(tree, "")


def test_a_word_is_noticed_in_any_form() -> None:
    assert {"DEST", "companion", "anew"} <= set(retired_words())
    assert uses("tonearm export DEST, and its Companions in\nhand") == ["DEST", "companion", "in hand"]
    assert uses("its destination, the latest legend and the evergreen") == []


@pytest.mark.parametrize("words", [[], *(path.split()[1:] for path, _ in verbs())], ids=" ".join)
def test_help_uses_none(words: list[str]) -> None:
    assert not uses(shown(*words, "--help"))


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_docs_use_none(page: Path) -> None:
    # The glossary's list itself has to name them.
    assert not uses(page.read_text().partition(HEADING)[0])


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_docstrings_use_none(module: Path) -> None:
    assert not {name: words for name, text in public_docstrings(module) if (words := uses(text))}
