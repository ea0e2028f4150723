"""The optional packages: what each extra is for, whether it is installed, and the command that installs it here.

A verb asks before it does anything else, so that nobody waits for a listing or a model to be told that a package is
missing.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
import tomllib
import urllib.parse
import urllib.request
from importlib import metadata
from pathlib import Path

from tonearm.errors import UsageError

# The modules by which an extra is known to be there; those of an extra that something else needs too do not tell.
MODULES: dict[str, tuple[str, ...]] = {
    "int8": ("nncf",),
    "datasets": ("datasets",),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "http": ("aiohttp", "brotli"),
    "train": ("tensorboard",),
    "serve": (
        *("fastapi", "fastapi_offline", "limits", "prometheus_client", "python_multipart", "starlette", "uvicorn"),
    ),
    "cluster": ("aiohttp_cors", "colorful", "prometheus_client", "virtualenv"),
}


def missing(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed; loads none of them."""
    # find_spec looks and imports nothing: some of these take a second to load.
    return [name for name in MODULES[extra] if importlib.util.find_spec(name) is None]


def require(extra: str, what: str, kind: type[UsageError] = UsageError) -> None:
    """Refuse to work without an extra.

    Args:
        what: what needs it, such as ``tonearm serve``.
        kind: of the error.

    Raises:
        UsageError: a package of it is not installed; the message has the command that installs it.
    """
    if lacking := missing(extra):
        raise kind(
            f"{what} needs the extra {extra!r}, of which {lacking[0]} is not installed; run {install_command(extra)}"
        )


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation: by uv, pipx or pip, or from its checkout."""
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").is_file():
        extras = ",".join(sorted({extra, *_extras_of_uv(prefix / "uv-receipt.toml")}))
        return f"uv tool install 'tonearm[{extras}]'"
    if (prefix / "pipx_metadata.json").is_file():
        # Without --force pipx says that tonearm is installed already, and adds nothing.
        return f"pipx install --force 'tonearm[{extra}]'"
    try:
        installed = metadata.distribution("tonearm")
    except metadata.PackageNotFoundError:  # run from a folder of sources
        return f"{_pip()} install 'tonearm[{extra}]'"
    pip = "uv pip" if (installed.read_text("INSTALLER") or "").strip() == "uv" else _pip()
    checkout = _checkout(installed)
    if checkout is None:
        return f"{pip} install 'tonearm[{extra}]'"
    if prefix == checkout / ".venv" and (checkout / "Makefile").is_file() and _is_of_dev(installed, extra):
        return f"make -C {shlex.quote(str(checkout))} install"
    return f"{pip} install -e {shlex.quote(f'{checkout}[{extra}]')}"


def _pip() -> str:
    """Return ``pip`` where that is this environment's, else how this environment's is called."""
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == Path(sys.prefix) / "bin":
        return "pip"
    return f"{shlex.quote(sys.executable)} -m pip"


def _extras_of_uv(receipt: Path) -> list[str]:
    """Return the extras that a tool of uv was installed with: installing it again replaces them."""
    requirements = tomllib.loads(receipt.read_text()).get("tool", {}).get("requirements", [])
    return [
        extra
        for requirement in requirements
        if requirement.get("name") == "tonearm"
        for extra in requirement.get("extras", [])
    ]


def _checkout(installed: metadata.Distribution) -> Path | None:
    """Return the folder that an editable installation runs from (PEP 610)."""
    text = installed.read_text("direct_url.json")
    facts = json.loads(text) if text else {}
    if not facts.get("dir_info", {}).get("editable"):
        return None
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(facts["url"]).path))


def _is_of_dev(installed: metadata.Distribution, extra: str) -> bool:
    """Return whether the checkout's ``make install`` brings the extra's packages."""
    return _packages(installed, extra) <= _packages(installed, "dev")


def _packages(installed: metadata.Distribution, extra: str) -> set[str]:
    pattern = re.compile(rf"""([\w.-]+(?:\[[\w,-]+\])?).*\bextra == ['"]{extra}['"]""")
    return {match[1] for text in installed.requires or () if (match := pattern.match(text))}
