"""What decided the content of a destination's rows: groups of columns, and the facts of each.

A row's columns belong to groups: *read* (identity, decoding, metadata) and one per head. ``_checkpoint/groups.json``
keeps for each group the facts that decide its content, what was asked for where that was settled otherwise, and how it
was settled; every row says in ``GROUP_settings`` by the hash of which facts it has the group. Later runs adopt what was
settled, and refuse to mix a group with other facts::

    {"format": 2, "groups": {"genre": {"facts": {...}, "hash": "…", "asked": {...}, "settled": {...}, "adopts": false}}}

Destinations of 0.1.0 have ``_checkpoint/FP.json`` instead, with one fingerprint FP over everything, and rows that say
nothing: those have the groups whose model they name.
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
# A fact of a group that was made again: the term of the run that began it. Without it the rows of before would have the
# same hash wherever settings differ that decide no number, such as the runtime.
SINCE = "since_term"


@dataclasses.dataclass(frozen=True)
class Group:
    """One group of columns at one destination.

    Attributes:
        facts: what decides the content; a fact that 0.1.0 did not write down is missing.
        asked: what a person asked for where that was settled otherwise, such as ``precision``.
        settled: what was settled and decides nothing that can be seen in the columns: the runtime, and why.
        known_as: hashes of facts that lacked some of today's; rows that name one have the group.
        adopts: whether rows that do not say by which settings they have the group, those of 0.1.0, have it by these.
    """

    facts: Mapping[str, Any]
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settled: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    adopts: bool = False
    known_as: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """16 hex digits that change when any of the facts does."""
        return fingerprint(self.facts)

    @property
    def runtime(self) -> str | None:
        """What made its columns: as the first run that ended has noted, or else as was asked for; None if unknown."""
        found: str | None = self.settled.get("runtime") or self.asked.get("runtime")
        return found

    @property
    def hashes(self) -> tuple[str, ...]:
        """What rows that have the group may say."""
        return (self.hash, *self.known_as)


def heads_of(groups: Mapping[str, Group]) -> dict[str, Head]:
    """Return the heads among the groups, the published ones first; what a later tonearm may have added is left out."""
    found = [PUBLISHED[name] for name in PUBLISHED if name in groups]
    for name, group in groups.items():
        if name not in PUBLISHED and group.facts.get("activation") in ACTIVATIONS:
            found.append(head_of(name, group.facts["activation"]))
    return by_name(found)


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change when any of ``facts`` does."""
    canonical = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def marks_name(groups: Mapping[str, Group]) -> str:
    """Return the name of the folder of Ray Data's marks for runs that write these groups."""
    return fingerprint({name: group.hash for name, group in groups.items()})


def read(destination: Destination, rescored: Collection[str] = ()) -> dict[str, Group]:
    """Return the groups that ``destination`` has; none where it holds no rows yet.

    Args:
        rescored: groups that are to be made again: left out where their facts cannot be believed.

    Raises:
        DestinationError: facts that cannot be read, contradict each other, or are of a newer tonearm.
    """
    url = _url(destination)
    with filesystems.reading(destination.url):
        try:
            text = filesystems.read_bytes(url)
        except FileNotFoundError:
            return _read_old(destination, rescored)
    return _parsed(destination, url, text, rescored)


def _parsed(destination: Destination, url: str, text: bytes, rescored: Collection[str]) -> dict[str, Group]:
    try:
        values = json.loads(text)
        number = values["format"]
        if number == FORMAT:
            found = {name: _group(group) for name, group in values["groups"].items()}
            wrong = [name for name, group in found.items() if group.hash != values["groups"][name]["hash"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DestinationError(
            f"{shown(url)} is not what tonearm writes ({type(error).__name__}: {error}); its rows are as they were. "
            "Put back that file, or give another destination"
        ) from None
    if number != FORMAT:
        raise DestinationError(
            f"{shown(destination.url)} has format {number}, and this tonearm knows formats up to {FORMAT}; install a "
            "newer tonearm, or give another destination"
        )
    if not {*wrong} <= {*rescored}:
        flags = " ".join(f"--rescore {name}" for name in wrong)
        advice = (
            f"have those columns made anew with `tonearm tag {flags}`"
            if READ not in wrong
            else "give another destination"
        )
        raise DestinationError(
            f"{shown(url)} contradicts itself: the facts of {wrong[0]} are not those of its hash; its rows are as they "
            f"were. Put back that file, or {advice}"
        )
    return {name: group for name, group in found.items() if name not in wrong}


def write(destination: Destination, groups: Mapping[str, Group]) -> str:
    """Write down the groups, and return the name of the folder of marks; the caller holds the lock.

    Raises:
        DestinationError: the destination cannot be written.
    """
    values = {name: dataclasses.asdict(group) | {"hash": group.hash} for name, group in groups.items()}
    text = json.dumps({"format": FORMAT, "groups": values}, indent=1, default=str)
    filesystems.write_text(_url(destination), text)
    # 0.1.0 looks at such files alone: it shall see that these rows are none of its own.
    name = marks_name(groups)
    filesystems.write_text(destination.checkpoint(f"{name}.json"), text)
    return name


def adopted(
    stored: Group | None, facts: Mapping[str, Any], asked: Mapping[str, Any], settled: Mapping[str, Any]
) -> Group:
    """Return the group as a run leaves it: what was stored, and of the run's what that lacks."""
    if stored is None:
        return Group(dict(facts), dict(asked), dict(settled))
    both = {**facts, **stored.facts}
    known = (*stored.known_as, stored.hash) if fingerprint(both) != stored.hash else stored.known_as
    return Group(both, {**asked, **stored.asked}, {**settled, **stored.settled}, stored.adopts, known)


def _group(values: Mapping[str, Any]) -> Group:
    names = {field.name for field in dataclasses.fields(Group)}
    known = {name: value for name, value in values.items() if name in names}
    return Group(**known | {"known_as": tuple(values.get("known_as", ()))})


def _url(destination: Destination) -> str:
    return destination.checkpoint(GROUPS)


def _read_old(destination: Destination, rescored: Collection[str]) -> dict[str, Group]:
    """Return the groups of a destination without ``groups.json``.

    One of 0.1.0 has what its one set of facts says, for rows that do not say; one where somebody has deleted that file
    has what the copies say that ``write`` has left.
    """
    with filesystems.reading(destination.url):
        filesystem, folder = filesystems.arrow_filesystem(destination.checkpoint())
        entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        names = {posixpath.basename(entry.path) for entry in entries if entry.type == FileType.File}
        found: dict[str, dict[str, Any]] = {}
        for entry in entries:
            name = posixpath.basename(entry.path)
            if entry.type == FileType.Directory and f"{name}.json" in names and _has_marks(filesystem, entry.path):
                found[name] = _old_facts(destination, name)
    copies = [name for name, facts in found.items() if "format" in facts]
    if copies:
        return _from_copies(destination, sorted(copies), rescored)
    if not found:
        return {}
    if len({fingerprint(facts) for facts in found.values()}) > 1:
        raise DestinationError(
            f"{shown(destination.url)} holds rows of {counted(len(found), 'different setting')} ({CHECKPOINT}/"
            f"{'.json, '.join(sorted(found))}.json), and its rows do not say which have which; nothing is lost. Export "
            "what you need, and tag into another destination"
        )
    facts = next(iter(found.values()))
    return _from_old(facts, _old_precisions(destination, facts))


def _from_copies(destination: Destination, copies: Sequence[str], rescored: Collection[str]) -> dict[str, Group]:
    """Return all groups that ``copies`` name, each run's being those of the runs before and its own."""
    both: dict[str, Group] = {}
    for name in copies:
        url = destination.checkpoint(f"{name}.json")
        for group, there in _parsed(destination, url, filesystems.read_bytes(url), rescored).items():
            other = both.setdefault(group, there)
            if (since := there.facts.get(SINCE, 0) - other.facts.get(SINCE, 0)) != 0:
                both[group] = there if since > 0 else other
            elif other.hash in there.hashes:
                both[group] = there if len(there.settled) >= len(other.settled) else other
            elif there.hash not in other.hashes and group not in rescored:
                raise DestinationError(
                    f"{shown(_url(destination))} is gone, and its copies {'.json, '.join(copies)}.json do not agree "
                    f"about {group}; nothing is lost. Copy the latest of them to {GROUPS}, or have those columns made "
                    f"anew with `tonearm tag --rescore {group}`"
                )
    return both


def _has_marks(filesystem: FileSystem, folder: str) -> bool:
    entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return any(entry.type == FileType.File and not entry.path.endswith(PENDING_SUFFIX) for entry in entries)


def _old_facts(destination: Destination, name: str) -> dict[str, Any]:
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


def _old_precisions(destination: Destination, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the precision of each head in all runs of 0.1.0 that have ended; of none where they differ.

    Its facts say what was asked for, which is "auto" mostly, and its rows say nothing.
    """
    found: dict[str, set[str]] = {name: set() for name in PUBLISHED}
    for name in filesystems.list_files(destination.join("runs")):
        try:
            run = RunSummary.from_json(filesystems.read_bytes(destination.join("runs", name)))
        except DestinationError:  # somebody else's file
            continue
        for head, model in run.models().items():
            if head in found and model.precision and model.revision == facts.get(f"{head}_model"):
                found[head].add(model.precision)
    return {head: next(iter(values)) for head, values in found.items() if len(values) == 1}


def _from_old(facts: Mapping[str, Any], precisions: Mapping[str, str]) -> dict[str, Group]:
    groups = {READ: Group({}, adopts=True)}
    for name, head in PUBLISHED.items():
        if facts.get(f"{name}_model") is None:
            continue
        own: dict[str, Any] = {"model": facts[f"{name}_model"], "windows": facts.get(f"{name}_windows")}
        own["calibration"] = facts.get(f"{name}_calibration")
        if name in precisions:
            own["precision"] = precisions[name]
        if head.is_multi:
            own |= {fact: facts[fact] for fact in ("top_tags", "top_window_tags") if fact in facts}
        asked = {}
        if (precision := facts.get("precision", "auto")) != "auto":
            asked["precision"] = precision
        groups[name] = Group(own, asked, adopts=True)
    return groups
