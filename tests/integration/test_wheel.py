"""The wheel: what is in it, that it runs where nothing else of tonearm is, and that each extra can be installed."""

from __future__ import annotations

import email
import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests import commands

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(set(PROJECT["optional-dependencies"]) - {"dev", "docs"})
# One of each kind of data that the code reads from its own package.
DATA = (
    "py.typed",
    "demo/models/genre/model.safetensors",
    "demo/models/tags/openvino/network.bin",
    "report/templates/report.html.j2",
    "training/data/gtzan_fault_filtered.csv",
    "web/page/index.html",
)


def outside(**extra: str) -> dict[str, str]:
    """Return an environment in which this checkout is not on Python's path."""
    return {name: value for name, value in commands.environment(**extra).items() if name != "PYTHONPATH"}


def pip(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=outside(), capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network."""
    pytest.importorskip("hatchling", reason="needs hatchling; `make install` installs it")
    folder = tmp_path_factory.mktemp("wheel")
    made = pip("wheel", ROOT, "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    assert made.returncode == 0, made.stderr
    (path,) = folder.glob("tonearm-*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has the wheel, and the packages that it requires from this environment.

    To install those again takes minutes and gigabytes, and shows nothing more: pip says below whether they fit.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    # A checkout that is installed here, editable, is found by a .pth file; those of folders on a .pth are not read.
    lines = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (packages / "borrowed.pth").write_text("\n".join(lines) + "\n")
    made = pip(
        "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--force-reinstall", wheel
    )
    assert made.returncode == 0, made.stderr
    return python


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """No model, template, page or table is left out, and nothing else is brought along."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("tonearm/") for name in archive.namelist() if name.startswith("tonearm/")}
    source = ROOT / "src" / "tonearm"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert packed == {name for name in files if "__pycache__" not in name}
    assert packed >= set(DATA)


@pytest.mark.slow
def test_the_wheel_declares_its_extras(wheel: Path) -> None:
    """Every extra of pyproject.toml can be asked for, with the packages that it names."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        facts = email.message_from_bytes(archive.read(name))
    assert set(facts.get_all("Provides-Extra") or []) == set(PROJECT["optional-dependencies"])
    required = facts.get_all("Requires-Dist") or []
    assert len(required) == len(PROJECT["dependencies"]) + sum(map(len, PROJECT["optional-dependencies"].values()))


@pytest.mark.slow
def test_the_installed_command_works_away_from_the_checkout(python: Path, songs: Path, tmp_path: Path) -> None:
    """Help, import, models and the report's and page's files come from the wheel alone."""

    def run(*words: str | Path) -> str:
        done = subprocess.run(list(map(str, words)), cwd=tmp_path, env=outside(), capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    where = run(python, "-c", "import tonearm; print(tonearm.__file__)").strip()
    assert Path(where).is_relative_to(python.parents[1]), "the wheel's, not the checkout's"
    tonearm = python.parent / "tonearm"
    assert "tag" in run(tonearm, "--help")
    assert run(tonearm, "--version").strip() == f"tonearm {PROJECT['version']}"
    song = sorted(songs.glob("*/*.flac"))[0]
    assert json.loads(run(tonearm, "tag", song, "--demo-models", "--json"))["genre"]
    files = (
        "from importlib.resources import files; print(all(files('tonearm').joinpath(name).is_file() for name in {}))"
    )
    assert run(python, "-c", files.format(DATA)).strip() == "True"


@pytest.mark.slow
def test_all_extras_resolve_together(python: Path, wheel: Path) -> None:
    """pip finds versions of all packages of all extras that go together, and with those of constraints.txt."""
    asked = f"tonearm[{','.join(EXTRAS)}] @ {wheel.as_uri()}"
    flags = ("--dry-run", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt")
    done = pip("--python", python, "install", *flags, asked)
    assert done.returncode == 0, done.stderr
