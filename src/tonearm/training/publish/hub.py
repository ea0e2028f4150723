"""Publish a trained model on the Hugging Face Hub: prepare the files, and send them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from tonearm.errors import CheckpointError, DestinationError, SettingsError
from tonearm.models.calibration import FILE as COMPANION
from tonearm.models.checkpoint import CONFIG_FILES, WEIGHT_FILES, CheckpointInfo, describe_checkpoint
from tonearm.training.destination import METRICS
from tonearm.training.judge.json_text import json_text

CARD = "README.md"
NAMES = (*CONFIG_FILES, METRICS, COMPANION, CARD)
PATTERNS = (*WEIGHT_FILES, "*.png")
REPO = re.compile(r"[\w.-]+/[\w.-]+")
# Settings that describe the machine of the run and not the model are not published.
OWN_SETTINGS = ("cache", "verbose", "trackers", "workers")


@dataclasses.dataclass(frozen=True)
class Package:
    """The files to publish: for each name its bytes, or the path of a file with them."""

    repo: str
    files: dict[str, bytes | Path]
    metadata: dict[str, Any]

    def size_of(self, name: str) -> int:
        """Return a file's size in bytes."""
        content = self.files[name]
        return content.stat().st_size if isinstance(content, Path) else len(content)


def package(
    folder: str | Path,
    repo: str,
    *,
    license: str | None = None,
    datasets: Sequence[str] = (),
    base_model: str | None = None,
    tags: Sequence[str] = (),
) -> Package:
    """Return the files of a model folder that would be published.

    Args:
        repo: ``OWNER/NAME``.
        license, datasets, base_model, tags: for the card's metadata, in addition to what it has.

    Raises:
        CheckpointError: the folder does not hold a complete model.
        SettingsError: the Hub does not accept the name or the metadata.
    """
    folder = Path(folder)
    if not REPO.fullmatch(repo):
        raise SettingsError(f"got the repository {repo!r}, expected OWNER/NAME")
    info = describe_checkpoint(str(folder))
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} has no safetensors; the Hub's tools refuse pickled weights")
    paths = [folder / name for name in NAMES] + [path for pattern in PATTERNS for path in sorted(folder.glob(pattern))]
    # Only names that a model folder has: snapshots and other files in it stay where they are.
    files: dict[str, bytes | Path] = {path.name: path for path in paths if path.is_file()}
    if (folder / METRICS).is_file():
        files[METRICS] = _without_private_settings(folder / METRICS)
    card = ModelCard.load(folder / CARD) if (folder / CARD).is_file() else ModelCard(_minimal_card(info))
    data: Any = card.data
    data.library_name, data.pipeline_tag = "transformers", "audio-classification"
    data.license = license or data.license
    data.base_model = base_model or data.base_model
    data.datasets = list(dict.fromkeys([*(data.datasets or []), *datasets])) or None
    data.tags = list(dict.fromkeys([*(data.tags or []), *tags])) or None
    # The card's example names the model MODEL; now it has a name.
    card.text = re.sub(r"\bMODEL\b", repo, card.text)
    files[CARD] = str(card).encode()
    return Package(repo, files, data.to_dict())


def _minimal_card(info: CheckpointInfo) -> str:
    return f"---\nlibrary_name: transformers\n---\n# {info.name}\n\nLabels: {', '.join(info.labels)}.\n"


def _without_private_settings(path: Path) -> bytes:
    facts = json.loads(path.read_text())
    # Paths on the machine may have a person's name in them, so only the last part is published.
    facts["source"] = str(facts.get("source", "")).rstrip("/").rpartition("/")[2]
    settings = facts.get("settings", {})
    for name in OWN_SETTINGS:
        settings.pop(name, None)
    if Path(str(settings.get("model", ""))).is_absolute():
        settings["model"] = Path(settings["model"]).name
    return json_text(facts).encode()


def publish(package: Package, *, private: bool = False, message: str | None = None) -> str:
    """Send a package to the Hub in one commit, creating the repository if needed; return its address.

    Raises:
        DestinationError: there is no token, no permission or no network.
    """
    api = HfApi(library_name="tonearm")
    try:
        address = api.create_repo(package.repo, private=private, exist_ok=True)
        operations = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in package.files.items()
        ]
        api.create_commit(package.repo, operations, commit_message=message or "Publish a model trained with tonearm")
    except LocalTokenNotFoundError:
        raise DestinationError(f"{package.repo}: no Hub token; run `hf auth login` or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise DestinationError(
                f"{package.repo}: the Hub refused ({status}); give a token that may write there with `hf auth login` "
                "or HF_TOKEN"
            ) from None
        raise DestinationError(f"{package.repo}: the Hub refused ({_first_line(error)})") from None
    except (httpx2.HTTPError, OSError) as error:
        raise DestinationError(
            f"{package.repo}: the Hub could not be reached ({_first_line(error)}); try again"
        ) from None
    return str(address)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
