"""A verb whose extra is missing says so first, with the command that installs it in the way tonearm was installed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tonearm import demo, extras
from tonearm.errors import SettingsError, UsageError

ROOT = Path(__file__).resolve().parents[2]
# Verbs that need an extra, with arguments that are wrong in some other way too: the extra is said before.
VERBS = {
    "serve": [["serve", "--genre-model", "no-such-folder", "--config", "no-such.toml"]],
    "train": [["train", "no-such-folder", "--out", "model"]],
    "datasets": [
        ["tag", "hf://datasets/a/b", "--out", "out", "--config", "no-such.toml"],
        ["plan", "hf://datasets/a/b", "--config", "no-such.toml"],
        ["train", "hf://datasets/a/b", "--out", "model", "--config", "no-such.toml"],
        ["evaluate", "no-such-model", "hf://datasets/a/b"],
    ],
    "gcs": [
        ["tag", "gs://bucket/music", "--out", "out"],
        ["tag", "no-such-folder", "--out", "gs://bucket/out"],
        ["status", "gs://bucket/out"],
        ["export", "gs://bucket/out", "tracks.csv"],
    ],
    "azure": [["tag", "az://container/music", "--out", "out"], ["train", "az://container/music", "--out", "model"]],
    "int8": [
        [
            "tag",
            "no-such-folder",
            "--out",
            "out",
            "--precision",
            "int8",
            "--tag-model",
            "none",
            "--genre-model",
            demo.genre_model_path(),
        ],
    ],
}
# What no verb needs: without Brotli other codings are offered, and Ray's dashboard is Ray's own command.
NO_VERB = {"http", "cluster"}
# Runs commands one after another in a Python that lacks some modules, and prints how each ended as a line of JSON.
WITHOUT = """
import contextlib, io, json, sys
modules, commands = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(modules))
from tonearm.cli import main
for arguments in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv[1:] = arguments
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


class Installed:
    """A distribution as an installer leaves it; ``files`` are those of its .dist-info."""

    def __init__(self, files: dict[str, str], requires: list[str] | None = None) -> None:
        self.files, self.requires = files, requires

    def read_text(self, name: str) -> str | None:
        return self.files.get(name)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Pretend that tonearm was installed with ``files`` into an environment whose own pip is first on the PATH."""

    def pretend(files: dict[str, str], requires: list[str] | None = None, prefix: Path = tmp_path) -> None:
        monkeypatch.setattr(metadata, "distribution", lambda name: Installed(files, requires))
        monkeypatch.setattr(sys, "prefix", str(prefix))
        pip = prefix / "bin" / "pip"
        pip.parent.mkdir(parents=True, exist_ok=True)
        pip.write_text("#!/bin/sh\n")
        pip.chmod(0o755)
        monkeypatch.setenv("PATH", str(pip.parent))

    return pretend


def test_by_pip(installed: Any) -> None:
    installed({"INSTALLER": "pip\n"})
    assert extras.install_command("serve") == "pip install 'tonearm[serve]'"


def test_another_environments_pip_is_not_named(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``pip install`` would put the packages where tonearm does not look."""
    installed({"INSTALLER": "pip\n"})
    monkeypatch.setenv("PATH", "/usr/bin")
    assert extras.install_command("serve") == f"{sys.executable} -m pip install 'tonearm[serve]'"


def test_by_uv(installed: Any) -> None:
    installed({"INSTALLER": "uv"})
    assert extras.install_command("gcs") == "uv pip install 'tonearm[gcs]'"


def test_as_a_tool_of_uv_keeps_the_extras_it_has(installed: Any, tmp_path: Path) -> None:
    installed({"INSTALLER": "uv"})
    (tmp_path / "uv-receipt.toml").write_text('[tool]\nrequirements = [{ name = "tonearm", extras = ["train"] }]\n')
    assert extras.install_command("serve") == "uv tool install 'tonearm[serve,train]'"


def test_by_pipx(installed: Any, tmp_path: Path) -> None:
    installed({"INSTALLER": "pip"})
    (tmp_path / "pipx_metadata.json").write_text("{}")
    assert extras.install_command("int8") == "pipx install --force 'tonearm[int8]'"


def test_from_a_checkout(installed: Any, tmp_path: Path) -> None:
    """``make install`` brings what the tests need, and other extras are added to the same checkout."""
    checkout = tmp_path / "my clone"
    checkout.mkdir()
    (checkout / "Makefile").write_text("")
    requires = ['nncf>=3.4; extra == "int8"', 'nncf>=3.4; extra == "dev"', 'gcsfs>=2026.2; extra == "gcs"']
    files = {
        "INSTALLER": "pip",
        "direct_url.json": json.dumps({"url": checkout.as_uri(), "dir_info": {"editable": True}}),
    }
    installed(files, requires, prefix=checkout / ".venv")
    assert extras.install_command("int8") == f"make -C '{checkout}' install"
    assert extras.install_command("gcs") == f"pip install -e '{checkout}[gcs]'"
    installed(files, requires, prefix=tmp_path / "other")
    assert extras.install_command("int8") == f"pip install -e '{checkout}[int8]'"


def test_what_is_there_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.MODULES, "serve", ("json", "no_such_module"))
    assert extras.missing("serve") == ["no_such_module"]
    with pytest.raises(SettingsError, match=r"^tonearm serve needs the extra 'serve', of which no_such_module is not"):
        extras.require("serve", "tonearm serve", SettingsError)
    monkeypatch.setitem(extras.MODULES, "serve", ("json",))
    extras.require("serve", "tonearm serve")
    assert issubclass(SettingsError, UsageError)


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.MODULES) == set(project["optional-dependencies"]) - {"dev", "docs"}
    assert set(extras.MODULES) == set(VERBS) | NO_VERB
    for page in ("README.md", "docs/quickstart.md"):
        named = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (ROOT / page).read_text(), re.M))
        assert set(extras.MODULES) <= {name for names in named for name in re.findall(r"\w+", names)}, page


def run_without_extras(lines: list[list[str]], folder: Path) -> list[tuple[int, str, str]]:
    """Return status, stdout and stderr of each command in a Python that has no package of any extra."""
    # fsspec's own HTTP and s3fs need aiohttp, whatever the extra.
    modules = sorted({name for names in extras.MODULES.values() for name in names} - {"aiohttp"})
    command = [sys.executable, "-c", WITHOUT, json.dumps([modules, lines])]
    run = subprocess.run(command, cwd=folder, env=commands.environment(), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return [tuple(json.loads(line)) for line in run.stdout.splitlines()]


@pytest.mark.processes
def test_a_verb_says_first_which_extra_it_lacks(tmp_path: Path) -> None:
    """Before models, sources and settings that are missing as well, and before anything is written."""
    lines = [(extra, words) for extra, each in VERBS.items() for words in each]
    ends = run_without_extras([words for _, words in lines], tmp_path)
    for (extra, words), (status, out, err) in zip(lines, ends, strict=True):
        assert status == 2 and not out, f"{words}: {out}{err}"
        assert len(err.splitlines()) == 1, err
        assert f"extra '{extra}'" in err, f"{words}: {err}"
        assert extras.install_command(extra) in err
    assert not list(tmp_path.iterdir())


@pytest.mark.processes
def test_the_command_itself_needs_none(tmp_path: Path) -> None:
    lines = [["--help"], ["serve", "--help"], ["serve", "--new-key", "app"]]
    assert all(status == 0 for status, *_ in run_without_extras(lines, tmp_path))


def test_modules_are_those_of_the_packages() -> None:
    """A module that no package of the extra has would make it missing for ever."""
    absent = {extra: extras.missing(extra) for extra in ("int8", "datasets", "http", "train", "serve")}
    assert not any(absent.values()), absent
    assert importlib.util.find_spec("tonearm") is not None
