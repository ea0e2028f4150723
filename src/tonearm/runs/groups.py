"""Groups of columns, and the facts that decided the content of each at a destination.

A row's columns belong to groups: *read* (identity, decoding, metadata) and one per head. ``_checkpoint/groups.json``
has for each group the facts that decide its content, what the user requested where something else was settled, and how
it was settled. Every row has in its column ``GROUP_settings`` the hash of the facts that its group was made with. Later
runs adopt what was settled, and refuse to mix rows of different facts::

    {"format": 2, "groups": {"genre": {"facts": {...}, "hash": "…", "asked": {...}, "settled": {...}, "adopts": false}}}

Destinations of 0.1.0 have ``_checkpoint/FP.json`` instead, where FP is one hash over all settings, and their rows have
no ``GROUP_settings``: such a row has the groups whose model it names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from tonearm.errors import DestinationError
from tonearm.heads import ACTIVATIONS, PUBLISHED, Head, by_name, head_of
from tonearm.runs.destination import Destination
from tonearm.runs.places import CHECKPOINT, GROUPS
from tonearm.runs.rows.track_files import PENDING_SUFFIX
from tonearm.runs.run_summary import RunSummary
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.wording import counted

FORMAT = 2
READ = "read"
# A fact of a group that was rescored: the term of the run that began it. Settings that are not facts, such as the
# runtime, may be all that has changed; without this fact old and new rows would then have the same hash.
SINCE = "since_term"
# A fact of a head that asks another model when it is unsure: which one, and below which score.
FALLBACK = "fallback"


@dataclasses.dataclass(frozen=True)
class Group:
    """One group of columns at one destination.

    Attributes:
        facts: what decides the content; facts that 0.1.0 did not record are missing.
        asked: what the user requested where something else was settled, such as ``precision``.
        settled: settled values that do not change the columns: the runtime, and why it was chosen.
        known_as: earlier hashes of this group, from before some facts were recorded; rows with one of them have it.
        adopts: whether rows without a settings hash, those of 0.1.0, count as made with these facts.
    """

    facts: Mapping[str, Any]
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settled: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    adopts: bool = False
    known_as: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """16 hex digits that change when any of the facts does."""
        return settings_hash(self.facts)

    @property
    def runtime(self) -> str | None:
        """The runtime that made its columns, as the first finished run noted it, else as requested; None if unknown."""
        runtime: str | None = self.settled.get("runtime") or self.asked.get("runtime")
        return runtime

    @property
    def hashes(self) -> tuple[str, ...]:
        """All hashes by which rows may name the group."""
        return (self.hash, *self.known_as)


def heads_of(groups: Mapping[str, Group]) -> dict[str, Head]:
    """Return the heads among the groups, the published ones first, without kinds that only a later tonearm knows."""
    heads = [PUBLISHED[name] for name in PUBLISHED if name in groups]
    for name, group in groups.items():
        if name not in PUBLISHED and group.facts.get("activation") in ACTIVATIONS:
            heads.append(head_of(name, group.facts["activation"]))
    return by_name(heads)


def settings_hash(facts: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change when any of ``facts`` does."""
    canonical = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def marks_name(groups: Mapping[str, Group]) -> str:
    """Return the name of the folder of Ray Data's marks for runs that write these groups."""
    return settings_hash({name: group.hash for name, group in groups.items()})


def read(destination: Destination, rescored: Collection[str] = ()) -> dict[str, Group]:
    """Return the groups that ``destination`` has; none if it has no rows yet.

    Args:
        rescored: groups that will be made again; they are left out if their stored facts and hash disagree.

    Raises:
        DestinationError: the groups cannot be read, contradict each other, or were written by a newer tonearm.
    """
    url = _groups_url(destination)
    with filesystems.reading(destination.url):
        try:
            text = filesystems.read_bytes(url)
        except FileNotFoundError:
            return _read_without_groups_file(destination, rescored)
    return _parse_groups(destination, url, text, rescored)


def _parse_groups(destination: Destination, url: str, text: bytes, rescored: Collection[str]) -> dict[str, Group]:
    try:
        values = json.loads(text)
        format_number = values["format"]
        if format_number == FORMAT:
            parsed_groups = {name: _group_from_json(group) for name, group in values["groups"].items()}
            contradicting = [
                name for name, group in parsed_groups.items() if group.hash != values["groups"][name]["hash"]
            ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DestinationError(
            f"{shown(url)} is not what tonearm writes ({type(error).__name__}: {error}); its rows are as they were. "
            "Put back that file, or give another destination"
        ) from None
    if format_number != FORMAT:
        raise DestinationError(
            f"{shown(destination.url)} has format {format_number}, and this tonearm knows formats up to {FORMAT}; "
            "install a newer tonearm, or give another destination"
        )
    # Somebody has edited the file. Rows have the hash, so the facts can no longer be believed.
    if not {*contradicting} <= {*rescored}:
        flags = " ".join(f"--rescore {name}" for name in contradicting)
        advice = (
            f"have those columns made again with `tonearm tag {flags}`"
            if READ not in contradicting
            else "give another destination"
        )
        raise DestinationError(
            f"{shown(url)} contradicts itself: the facts of {contradicting[0]} are not those of its hash; its rows are "
            f"as they were. Put back that file, or {advice}"
        )
    return {name: group for name, group in parsed_groups.items() if name not in contradicting}


def write(destination: Destination, groups: Mapping[str, Group]) -> str:
    """Write the groups, and return the name of the folder of marks; the caller holds the lock.

    Raises:
        DestinationError: the destination cannot be written.
    """
    values = {name: dataclasses.asdict(group) | {"hash": group.hash} for name, group in groups.items()}
    text = json.dumps({"format": FORMAT, "groups": values}, indent=1, default=str)
    filesystems.write_text(_groups_url(destination), text)
    # Version 0.1.0 reads only files of this name: with it, it refuses to add its own rows to these.
    name = marks_name(groups)
    filesystems.write_text(destination.checkpoint(f"{name}.json"), text)
    return name


def adopted(
    stored: Group | None, facts: Mapping[str, Any], asked: Mapping[str, Any], settled: Mapping[str, Any]
) -> Group:
    """Return the stored group, completed with those of the run's values that it lacks."""
    if stored is None:
        return Group(dict(facts), dict(asked), dict(settled))
    merged_facts = {**facts, **stored.facts}
    known_as = (*stored.known_as, stored.hash) if settings_hash(merged_facts) != stored.hash else stored.known_as
    return Group(merged_facts, {**asked, **stored.asked}, {**settled, **stored.settled}, stored.adopts, known_as)


def _group_from_json(values: Mapping[str, Any]) -> Group:
    # A later tonearm of the same format may have added fields.
    names = {field.name for field in dataclasses.fields(Group)}
    known = {name: value for name, value in values.items() if name in names}
    return Group(**known | {"known_as": tuple(values.get("known_as", ()))})


def _groups_url(destination: Destination) -> str:
    return destination.checkpoint(GROUPS)


def _read_without_groups_file(destination: Destination, rescored: Collection[str]) -> dict[str, Group]:
    """Return the groups of a destination without ``groups.json``.

    Version 0.1.0 wrote one set of facts for all rows. If somebody has deleted ``groups.json``, the copies are read that
    ``write`` leaves next to it.
    """
    with filesystems.reading(destination.url):
        filesystem, folder = filesystems.arrow_filesystem(destination.checkpoint())
        entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        names = {posixpath.basename(entry.path) for entry in entries if entry.type == FileType.File}
        facts_by_name: dict[str, dict[str, Any]] = {}
        for entry in entries:
            name = posixpath.basename(entry.path)
            # Without a mark in the folder, that run has finished no file.
            if entry.type == FileType.Directory and f"{name}.json" in names and _has_marks(filesystem, entry.path):
                facts_by_name[name] = _read_old_facts(destination, name)
    copies = [name for name, facts in facts_by_name.items() if "format" in facts]
    if copies:
        return _merge_copies(destination, sorted(copies), rescored)
    if not facts_by_name:
        return {}
    if len({settings_hash(facts) for facts in facts_by_name.values()}) > 1:
        raise DestinationError(
            f"{shown(destination.url)} holds rows of {counted(len(facts_by_name), 'different setting')} ({CHECKPOINT}/"
            f"{'.json, '.join(sorted(facts_by_name))}.json), and its rows do not say which have which; nothing is "
            "lost. Export what you need, and tag into another destination"
        )
    facts = next(iter(facts_by_name.values()))
    return _groups_from_old_facts(facts, _precisions_of_old_runs(destination, facts))


def _merge_copies(destination: Destination, copies: Sequence[str], rescored: Collection[str]) -> dict[str, Group]:
    """Return all groups that the copies name. Each run's copy has the groups of the runs before it and its own."""
    merged: dict[str, Group] = {}
    for name in copies:
        url = destination.checkpoint(f"{name}.json")
        for group, candidate in _parse_groups(destination, url, filesystems.read_bytes(url), rescored).items():
            current = merged.setdefault(group, candidate)
            if (since := candidate.facts.get(SINCE, 0) - current.facts.get(SINCE, 0)) != 0:
                merged[group] = candidate if since > 0 else current
            # The same group, recorded more fully in one of the copies.
            elif current.hash in candidate.hashes:
                merged[group] = candidate if len(candidate.settled) >= len(current.settled) else current
            elif candidate.hash not in current.hashes and group not in rescored:
                raise DestinationError(
                    f"{shown(_groups_url(destination))} is gone, and its copies {'.json, '.join(copies)}.json do not "
                    f"agree about {group}; nothing is lost. Copy the latest of them to {GROUPS}, or have those columns "
                    f"made again with `tonearm tag --rescore {group}`"
                )
    return merged


def _has_marks(filesystem: FileSystem, folder: str) -> bool:
    entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return any(entry.type == FileType.File and not entry.path.endswith(PENDING_SUFFIX) for entry in entries)


def _read_old_facts(destination: Destination, name: str) -> dict[str, Any]:
    url = destination.checkpoint(f"{name}.json")
    try:
        facts = json.loads(filesystems.read_bytes(url))
        if not isinstance(facts, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise DestinationError(
            f"{shown(url)} is not what tonearm writes ({error}); its rows are as they were. Put back that file, or "
            "give another destination"
        ) from None
    return facts


def _precisions_of_old_runs(destination: Destination, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the precision of each head whose finished runs of 0.1.0 all had the same one.

    The facts of 0.1.0 have only the requested precision, which is mostly "auto", and its rows have none.
    """
    precisions: dict[str, set[str]] = {name: set() for name in PUBLISHED}
    for name in filesystems.list_files(destination.join("runs")):
        try:
            run = RunSummary.from_json(filesystems.read_bytes(destination.join("runs", name)))
        except DestinationError:  # another program's file
            continue
        for head, model in run.models().items():
            if head in precisions and model.precision and model.revision == facts.get(f"{head}_model"):
                precisions[head].add(model.precision)
    return {head: next(iter(values)) for head, values in precisions.items() if len(values) == 1}


def _groups_from_old_facts(facts: Mapping[str, Any], precisions: Mapping[str, str]) -> dict[str, Group]:
    groups = {READ: Group({}, adopts=True)}
    for name, head in PUBLISHED.items():
        if facts.get(f"{name}_model") is None:
            continue
        head_facts: dict[str, Any] = {"model": facts[f"{name}_model"], "windows": facts.get(f"{name}_windows")}
        head_facts["calibration"] = facts.get(f"{name}_calibration")
        if name in precisions:
            head_facts["precision"] = precisions[name]
        if head.is_multi:
            head_facts |= {fact: facts[fact] for fact in ("top_tags", "top_window_tags") if fact in facts}
        asked = {}
        if (precision := facts.get("precision", "auto")) != "auto":
            asked["precision"] = precision
        groups[name] = Group(head_facts, asked, adopts=True)
    return groups
