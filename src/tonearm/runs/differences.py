"""How the settings of a destination's rows differ from those of a run, in words, and what would make them the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tonearm.errors import DestinationError
from tonearm.heads import Head
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.storage.uris import shown
from tonearm.wording import counted

T = TypeVar("T")

MAX_SAID = 60
REVISION_SIGNS = 19


class Difference(NamedTuple):
    """One setting: ``max_windows: 480 there, 3 now``.

    Attributes:
        match: what a run would be given to be like the rows: a flag, ``no`` and a flag, or a setting of the file; empty
            where nothing would.
    """

    text: str
    match: str = ""


def differences(
    stored: Group,
    facts: Mapping[str, Any],
    asked: Mapping[str, Any],
    *,
    head: Head,
    source: str = "",
    max_scored_s: float = float("inf"),
    is_rescored: bool = False,
) -> list[Difference]:
    """Return how a run that wants a group differs from what its rows were made with.

    Args:
        facts: those of the run; what is not settled yet is missing, and so is what the stored ones lack adopted.
        asked: what its person asked for by name.
        source: where the run has its model from.
        max_scored_s: of the run; it bounds the windows where nothing else does.
        is_rescored: whether the columns are to be made again where anything differs: so an unknown runtime does.
    """
    found = [*_unknown_precision(stored, asked)]
    for name in sorted({*stored.facts} & {*facts} - {"precision"}):
        there, now = _plain(stored.facts[name]), _plain(facts[name])
        if there == now:
            continue
        if name == "model":
            found.append(_model(head, str(stored.settled.get("source", "")), str(there), source, str(now)))
        elif name == "windows" and isinstance(there, dict) and isinstance(now, dict):
            found += _windows(head, there, now, max_scored_s)
        elif name == "calibration":
            match = "models.calibrated = false" if there is None else "--calibrated" if now is None else ""
            found.append(Difference(_said(name, _calibration(there), _calibration(now)), match))
        else:
            found.append(Difference(_said(name, there, now), f"models.{name} = {json.dumps(there)}"))
    runtime = stored.runtime or ("not known" if is_rescored else None)
    for name, there in (("precision", stored.facts.get("precision")), ("runtime", runtime)):
        now = asked.get(name)
        if now is not None and there is not None and now not in (there, stored.asked.get(name)):
            match = f"--{name} {there}" if there != "not known" else f"no --{name}"
            found.append(Difference(_said(name, there, now), match))
    guards = stored.asked.get("int8_guard"), asked.get("int8_guard")
    if None not in guards and guards[0] != guards[1]:
        found.append(Difference(_said("int8_guard", *guards), f"models.int8_guard = {json.dumps(guards[0])}"))
    return found


def changed(there: Mapping[str, Any], now: Mapping[str, Any], ignored: Collection[str] = ()) -> list[Difference]:
    """Return how settings of which ``there`` were kept as JSON differ, with the ``--set`` that would match each.

    Args:
        ignored: names at the top that decide nothing.
    """
    old, new = (dict(_flat({name: each for name, each in _plain(values).items() if name not in ignored}))
                for values in (there, now))  # fmt: skip
    return [
        Difference(
            _said(name, old[name], new[name]),
            # TOML has no null.
            "" if old[name] is None else f"--set {shlex.quote(f'{name}={json.dumps(old[name])}')}",
        )
        for name in sorted({*old} & {*new})
        if old[name] != new[name]
    ]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _unknown_precision(stored: Group, asked: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield that rows of 0.1.0, whose precision is not known, may have another one than is asked for."""
    before, now = stored.asked.get("precision", "auto"), asked.get("precision")
    if "precision" not in stored.facts and now not in (None, before):
        text = f"precision: {before} there and not known what came of it, {now} now"
        yield Difference(text, f"--precision {before}")


def _model(head: Head, there: str, old: str, here: str, new: str) -> Difference:
    """Return that two models differ, by their names and revisions as far as these are known and tell them apart."""
    is_same = there == here
    old_name, new_name = (
        f"{shown(name)} ({revision[:REVISION_SIGNS]})" if name else revision[:REVISION_SIGNS]
        for name, revision in ((there, old), (here, new))
    )
    if there and not is_same:
        match = head.flag(there)
    else:
        # The revision of a folder is a hash of its content, which cannot be asked for.
        match = "" if old.startswith("sha256:") or not there else f"{head.setting('revision')} = {json.dumps(old)}"
    return Difference(f"{head.name} model: {old_name} there, {new_name} now", match)


def _windows(head: Head, there: Mapping[str, Any], now: Mapping[str, Any], max_scored_s: float) -> Iterator[Difference]:
    """Yield how windows differ, in seconds rather than samples, and without what follows from the rest."""
    lengths = [_seconds(windows) for windows in (there, now)]
    for name in sorted({*there, *now}):
        old, new = there.get(name), now.get(name)
        if old == new:
            continue
        if name == "window_samples" and None not in lengths:
            match = f"{head.setting('window_s')} = {lengths[0]:g}"
            yield Difference(_said(f"{head.name} window_s", *lengths), match)
        elif name == "hop_samples" and old == there.get("window_samples") and new == now.get("window_samples"):
            continue
        elif name == "max_windows":
            most = [_most(windows, max_scored_s) for windows in (there, now)]
            if lengths[0] == lengths[1] or [old, new] != most:
                yield Difference(
                    _said(name, old, new), "no --max-windows" if old in (None, most[0]) else f"--{_flag(old)}"
                )
        else:
            yield Difference(_said(f"{head.name} {name}", old, new))


def _flag(num_windows: int) -> str:
    return f"max-windows {num_windows}"


def _seconds(windows: Mapping[str, Any]) -> float | None:
    samples, rate = windows.get("window_samples"), windows.get("sample_rate")
    return samples / rate if samples and rate else None


def _most(windows: Mapping[str, Any], max_scored_s: float) -> int | None:
    """Return the bound that a track's scored seconds put on its windows, as ``plan_heads`` does."""
    samples, rate = windows.get("window_samples"), windows.get("sample_rate")
    if not samples or not rate or max_scored_s == float("inf"):
        return None
    return max(1, int(max_scored_s * rate) // int(samples))


def _calibration(value: object) -> str:
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    parts = [f"temperature {value['temperature']:g}"] if isinstance(value.get("temperature"), int | float) else []
    parts += [counted(len(value["thresholds"]), "threshold")] if value.get("thresholds") else []
    return " and ".join(parts) or "another"


def _said(name: str, there: object, now: object) -> str:
    if there == now:  # what is left out of the words
        there, now = f"{there}", f"another {now}"
    return f"{name}: {_value(there)} there, {_value(now)} now"


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SAID else f"{text[:MAX_SAID]}…"


def _plain(value: T) -> T:
    """Return the value as JSON gives it back."""
    plain: T = json.loads(json.dumps(value, default=str))
    return plain


def refuse(
    destination: Destination, different: Mapping[str, Sequence[Difference]], rescored: Collection[str] = ()
) -> None:
    """Refuse to mix rows of other facts.

    Args:
        different: by group how it differs.
        rescored: groups that may.

    Raises:
        DestinationError: another one does.
    """
    refused = {name: found for name, found in different.items() if found and name not in rescored}
    if not refused:
        return
    heads: dict[str, list[str]] = {}
    for head, found in refused.items():
        for each in found:
            heads.setdefault(each.text, []).append(head)
    # What all heads have alike is said once.
    said = [f"{text} ({of[0]})" if len(of) < len(refused) and of[0] not in text else text for text, of in heads.items()]
    # With those that were asked for: whoever gave one flag needs both.
    names = " ".join(f"--rescore {name}" for name, found in different.items() if found)
    raise DestinationError(
        f"{shown(destination.url)} holds tracks tagged with other settings: {'; '.join(said)}; "
        f"{_same([each.match for found in refused.values() for each in found])} to add to it, "
        f"`tonearm tag {names}` to have those columns made anew, or another destination"
    )


def _same(matches: Sequence[str]) -> str:
    """Return the advice that gives what the rows have."""
    flags = list(dict.fromkeys(match for match in matches if match.startswith("--")))
    without = list(dict.fromkeys(match.removeprefix("no ") for match in matches if match.startswith("no ")))
    settings = list(dict.fromkeys(match for match in matches if match.startswith("models.")))
    names = [flag.partition(" ")[0] for flag in flags] + without
    if "" in matches or len(names) > len(set(names)):  # nothing would, or only a run for each head
        return "give the same settings"
    given = [f"`tonearm tag {' '.join(flags)}`"] if flags else []
    given += [f"{', '.join(settings)} in the settings file"] if settings else []
    parts = [f"give {' and '.join(given)}"] if given else []
    parts += [f"leave out {' and '.join(without)}"] if without else []
    return " and ".join(parts)
