"""Limits on how the source is cut, by the measures of ``python -m bench.structure``."""

from __future__ import annotations

import functools

import pytest
from bench.measures import Module, folder_sizes
from bench.structure import ROOT, Tree, module_paths

PACKAGE = ROOT / "src" / "tonearm"
# What the tree had when this was last looked at; a change may lower a number, never raise it.
LIMITS = {
    "modules in one folder": 15,  # with __init__.py, empty or not
    "parameters and returns typed bare Any": 10,
    "imports inside functions": 97,  # half of what there were once
    "except Exception or wider": 15,  # no more than that
}


@functools.cache
def modules() -> list[Module]:
    return Tree.at(PACKAGE).modules()


def places(kind: str) -> list[str]:
    """Return each thing of a kind that is limited, as path:line."""
    if kind == "parameters and returns typed bare Any":
        return [
            f"{module.path}:{annotation.line} {annotation.place}({annotation.name})"
            for module in modules()
            for function in module.functions
            for annotation in function.bare_any
        ]
    by_kind = {"imports inside functions": "function_imports", "except Exception or wider": "blanket_excepts"}
    return [f"{module.path}:{line}" for module in modules() for line in getattr(module, by_kind[kind])]


def test_folders_stay_small() -> None:
    limit = LIMITS["modules in one folder"]
    too_large = {str(folder): size for folder, size in folder_sizes(module_paths(PACKAGE)).items() if size > limit}
    assert not too_large, f"at most {limit} modules per folder; cut by what they are about: {too_large}"


@pytest.mark.parametrize("kind", [kind for kind in LIMITS if kind != "modules in one folder"])
def test_any_types_inner_imports_and_blanket_excepts_stay_within_limits(kind: str) -> None:
    listed = "\n".join(places(kind))
    number = len(places(kind))
    assert number <= LIMITS[kind], f"{number} {kind}, at most {LIMITS[kind]}:\n{listed}"
