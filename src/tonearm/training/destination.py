"""What a training's --out holds: a finished model, unfinished runs, somebody's files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tonearm.errors import DestinationError
from tonearm.runs import differences
from tonearm.runs.places import TERMS
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.prepare import UNDECIDING, Prepared
from tonearm.training.publish.model_folder import CONFIG, METRICS

WORK, LOCK = ".training", "lock.json"


def check_empty(out: str, overwrite: bool) -> None:
    """Refuse a place that holds something else, before anything is decoded."""
    if overwrite:
        return
    names = filesystems.list_files(out)
    if names and METRICS not in names and not _unfinished(out):
        raise DestinationError(
            f"{shown(out)} holds other files ({names[0]}); give an empty --out, or --overwrite to write among them"
        )


def _unfinished(out: str) -> list[str]:
    """Return the fingerprints of the runs that have been begun there."""
    found, path = filesystems.filesystem(f"{out.rstrip('/')}/{WORK}")
    try:
        entries = found.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"}
    return sorted(names - {TERMS})


def find_finished(out: str, prepared: Prepared, overwrite: bool) -> dict[str, Any] | None:
    """Return what a finished run of the same settings has written to ``out``, if it has."""
    base = out.rstrip("/")
    if filesystems.exists(f"{base}/{METRICS}") and filesystems.exists(f"{base}/{CONFIG}"):
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{base}/{METRICS}"))
        if not overwrite:
            if facts.get("fingerprint") == prepared.fingerprint:
                return facts
            what = _differences(facts.get("settings"), prepared)
            raise DestinationError(
                f"{shown(out)} holds a model trained otherwise: {what}, another --out, or --overwrite to replace it"
            )
    begun = _unfinished(out)
    if begun and not overwrite and prepared.fingerprint not in begun:
        what = _differences(_begun(out, begun[-1]), prepared)
        raise DestinationError(
            f"{shown(out)} holds an unfinished run with other settings or clips: {what} to go on with it, another "
            "--out, or --overwrite to drop it"
        )
    return None


def note_settings(out: str, prepared: Prepared) -> None:
    """Write down with what a run is begun, so that one with other settings can be told in words what differs."""
    text = json.dumps(dataclasses.asdict(prepared.job.settings), indent=1, default=str)
    filesystems.write_text(f"{out.rstrip('/')}/{WORK}/{prepared.fingerprint}.json", text)


def _begun(out: str, fingerprint: str) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{out.rstrip('/')}/{WORK}/{fingerprint}.json"))
    except (FileNotFoundError, ValueError):  # begun by an earlier tonearm
        return None
    return facts


def _differences(there: Mapping[str, Any] | None, prepared: Prepared) -> str:
    """Return what of the settings differs, and how to give the same."""
    now = dataclasses.asdict(prepared.job.settings)
    changed = differences.changed(there, now, UNDECIDING) if there is not None else []
    if not changed:
        return "other clips or labels; give the same" if there is not None else "give the same again"
    same = " ".join(each.match for each in changed if each.match) or "the same"
    return f"{'; '.join(each.text for each in changed)}; give {same}"


def remove_old(out: str) -> None:
    """Take away what would pass for this run's: a finished model, and other runs' checkpoints."""
    filesystems.delete(f"{out.rstrip('/')}/{CONFIG}")
    for name in _unfinished(out):
        remove(f"{out.rstrip('/')}/{WORK}/{name}")


def remove(url: str) -> None:
    found, path = filesystems.filesystem(url)
    with filesystems.writing(url), contextlib.suppress(FileNotFoundError):
        found.rm(path, recursive=True)
