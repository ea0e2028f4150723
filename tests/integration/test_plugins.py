"""The real command with what another package adds, in every process of a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.commands import read_tracks, tonearm
from tests.toys import install_toy, lay_out


def beside_others(folder: Path) -> str:
    """Return a PYTHONPATH with ``folder`` before what is there."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


@pytest.mark.slow
def test_all_that_a_package_adds_in_a_real_run(tmp_path: Path) -> None:
    """A run on Ray reads a package's source and scores its head, of its family; its exporter writes the rows."""
    path = beside_others(install_toy(tmp_path / "target", tmp_path))
    out = tmp_path / "out"
    heads = ("--demo-models", "--head", "level")
    run = tonearm("tag", "toy://3", *heads, "--out", out, "--workers", "1", PYTHONPATH=path)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = read_tracks(out).to_pylist()
    assert [row["level"] for row in rows] == ["loud"] * 3, "a sine of 0.3 has a mean level of 0.19"
    assert {row["level_model"].partition("@")[0].rpartition("/")[2] for row in rows} == {"level"}
    exported = tonearm("export", out, tmp_path / "songs.toy", "--option", "separator= is ", PYTHONPATH=path)
    assert exported.returncode == 0, exported.stderr
    lines = (tmp_path / "songs.toy").read_text().splitlines()
    assert sorted(line.partition(" is ")[0] for line in lines) == ["1", "2", "3"]
    again = tonearm("tag", "toy://3", "--demo-models", "--out", out)
    assert again.returncode == 2 and "unknown scheme toy://" in again.stderr, "without the package it is unknown"
    unknown = tonearm("tag", tmp_path, *heads, "--out", out)
    assert unknown.returncode == 2 and "no installed package brings a head level along" in unknown.stderr


def test_a_broken_package_is_one_line_of_the_command(tmp_path: Path) -> None:
    entries = {"tonearm.sources": {"odd": "odd_module:Odd"}}
    path = lay_out(tmp_path / "target", "odd-package", entries, odd_module="import nothing_like_it\n")
    run = tonearm("tag", "odd://x", "--demo-models", "--out", tmp_path / "out", PYTHONPATH=beside_others(path))
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1] == (
        "tonearm: the source 'odd' of the package odd-package 1.0 cannot be loaded (ModuleNotFoundError: No module "
        "named 'nothing_like_it'); update the package, or uninstall it"
    )
