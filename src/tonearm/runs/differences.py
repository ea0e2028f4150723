"""Describe how a run's settings differ from those of a destination's rows, and which flags would make them the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tonearm.errors import DestinationError
from tonearm.heads import Head
from tonearm.runs.destination import Destination
from tonearm.runs.groups import FALLBACK, Group
from tonearm.storage.uris import shown
from tonearm.wording import counted

T = TypeVar("T")

MAX_SAID = 60
REVISION_SIGNS = 19


class Difference(NamedTuple):
    """One setting that differs: ``max_windows: 480 there, 3 now``.

    Attributes:
        match: what to give the run so that it equals the rows: a flag, ``no`` and a flag, or a setting of the file;
            empty if nothing does.
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
    fallback: str = "",
) -> list[Difference]:
    """Return how a run's settings for a group differ from those that its rows were made with.

    Only facts that both have are compared: a run adopts the others (see ``groups.adopted``).

    Args:
        facts: the run's facts; those that are not settled yet are missing.
        asked: the settings that the user gave explicitly.
        source: the folder or hub id of the run's model.
        max_scored_s: of the run; it limits the windows where ``max_windows`` does not.
        is_rescored: whether the columns are made again if anything differs; an unknown runtime then differs too.
        fallback: the folder or hub id of the head's fallback in the run.
    """
    different = [*_unknown_precision(stored, asked), *_fallback_difference(stored, facts, head, fallback)]
    for name in sorted({*stored.facts} & {*facts} - {"precision", FALLBACK}):
        stored_value, run_value = _through_json(stored.facts[name]), _through_json(facts[name])
        if stored_value == run_value:
            continue
        if name == "model":
            different.append(
                _model_difference(
                    head, str(stored.settled.get("source", "")), str(stored_value), source, str(run_value)
                )
            )
        elif name == "windows" and isinstance(stored_value, dict) and isinstance(run_value, dict):
            different += _window_differences(head, stored_value, run_value, max_scored_s)
        elif name == "calibration":
            match = "models.calibrated = false" if stored_value is None else "--calibrated" if run_value is None else ""
            different.append(
                Difference(_describe(name, _calibration_text(stored_value), _calibration_text(run_value)), match)
            )
        else:
            different.append(
                Difference(_describe(name, stored_value, run_value), f"models.{name} = {json.dumps(stored_value)}")
            )
    # Precision and runtime differ only where the user asked for one: ``auto`` adopts what the rows have.
    runtime = stored.runtime or ("not known" if is_rescored else None)
    for name, stored_value in (("precision", stored.facts.get("precision")), ("runtime", runtime)):
        run_value = asked.get(name)
        if (
            run_value is not None
            and stored_value is not None
            and run_value not in (stored_value, stored.asked.get(name))
        ):
            match = f"--{name} {stored_value}" if stored_value != "not known" else f"no --{name}"
            different.append(Difference(_describe(name, stored_value, run_value), match))
    guards = stored.asked.get("int8_guard"), asked.get("int8_guard")
    if None not in guards and guards[0] != guards[1]:
        different.append(Difference(_describe("int8_guard", *guards), f"models.int8_guard = {json.dumps(guards[0])}"))
    return different


def changed(stored: Mapping[str, Any], current: Mapping[str, Any], ignored: Collection[str] = ()) -> list[Difference]:
    """Return how the current settings differ from those stored as JSON, with the ``--set`` that would match each.

    Args:
        ignored: names at the top level that do not change the result.
    """
    old, new = (
        dict(_dotted_names({name: value for name, value in _through_json(values).items() if name not in ignored}))
        for values in (stored, current)
    )
    return [
        Difference(
            _describe(name, old[name], new[name]),
            # TOML has no null.
            "" if old[name] is None else f"--set {shlex.quote(f'{name}={json.dumps(old[name])}')}",
        )
        for name in sorted({*old} & {*new})
        if old[name] != new[name]
    ]


def _dotted_names(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _dotted_names(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _unknown_precision(stored: Group, asked: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield a difference if rows of 0.1.0, whose precision is unknown, may have another than the requested one."""
    before, now = stored.asked.get("precision", "auto"), asked.get("precision")
    if "precision" not in stored.facts and now not in (None, before):
        text = f"precision: {before} there and not known what came of it, {now} now"
        yield Difference(text, f"--precision {before}")


def _model_difference(head: Head, there: str, old: str, here: str, new: str) -> Difference:
    """Return the difference of two models, by name and by revision where known; the name alone may be the same."""
    is_same = there == here
    old_name, new_name = (
        f"{shown(name)} ({revision[:REVISION_SIGNS]})" if name else revision[:REVISION_SIGNS]
        for name, revision in ((there, old), (here, new))
    )
    if there and not is_same:
        match = head.flag(there)
    else:
        # The revision of a local folder is a hash of its content, which no flag can ask for.
        match = "" if old.startswith("sha256:") or not there else f"{head.setting('revision')} = {json.dumps(old)}"
    return Difference(f"{head.name} model: {old_name} there, {new_name} now", match)


def _fallback_difference(stored: Group, facts: Mapping[str, Any], head: Head, source: str) -> Iterator[Difference]:
    """Yield that windows went to another fallback, to none, or below another score."""
    # Unlike other facts, this one is known where it is missing: the head has no fallback.
    there, now = stored.facts.get(FALLBACK), facts.get(FALLBACK)
    same = ("model", "threshold")
    if [there and there[name] for name in same] == [now and now[name] for name in same]:
        return
    old = str(stored.settled.get(FALLBACK, {}).get("source", ""))
    texts = [_fallback_text(values, name) for values, name in ((there, old), (now, source))]
    match = "no --fallback"
    if there is not None:
        # If the same place holds another model now, no flag brings the old one back.
        can_match = old and (now is None or there["model"] == now["model"] or old != source)
        given = shlex.quote(f"{head.name}={old}:{there['threshold']!r}")
        match = f"--fallback {given}" if can_match else ""
    yield Difference(f"{head.name} fallback: {texts[0]} there, {texts[1]} now", match)


def _fallback_text(facts: Mapping[str, Any] | None, source: str) -> str:
    if facts is None:
        return "none"
    revision = str(facts["model"])[:REVISION_SIGNS]
    return f"{f'{shown(source)} ({revision})' if source else revision} below {facts['threshold']:g}"


def _window_differences(
    head: Head, there: Mapping[str, Any], now: Mapping[str, Any], max_scored_s: float
) -> Iterator[Difference]:
    """Yield how windows differ, in seconds rather than samples, leaving out values that follow from others."""
    lengths = [_window_seconds(windows) for windows in (there, now)]
    for name in sorted({*there, *now}):
        old, new = there.get(name), now.get(name)
        if old == new:
            continue
        if name == "window_samples" and None not in lengths:
            match = f"{head.setting('window_s')} = {lengths[0]:g}"
            yield Difference(_describe(f"{head.name} window_s", *lengths), match)
        # Windows that do not overlap: the hop differs because the length does.
        elif name == "hop_samples" and old == there.get("window_samples") and new == now.get("window_samples"):
            continue
        elif name == "max_windows":
            bounds = [_windows_for(windows, max_scored_s) for windows in (there, now)]
            # Where the bound comes from ``max_scored_s``, it differs because the length does.
            if lengths[0] == lengths[1] or [old, new] != bounds:
                yield Difference(
                    _describe(name, old, new),
                    "no --max-windows" if old in (None, bounds[0]) else f"--{_max_windows_flag(old)}",
                )
        else:
            yield Difference(_describe(f"{head.name} {name}", old, new))


def _max_windows_flag(num_windows: int) -> str:
    return f"max-windows {num_windows}"


def _window_seconds(windows: Mapping[str, Any]) -> float | None:
    samples, rate = windows.get("window_samples"), windows.get("sample_rate")
    return samples / rate if samples and rate else None


def _windows_for(windows: Mapping[str, Any], max_scored_s: float) -> int | None:
    """Return how many windows ``max_scored_s`` allows for a track, as ``plan_heads`` computes it."""
    samples, rate = windows.get("window_samples"), windows.get("sample_rate")
    if not samples or not rate or max_scored_s == float("inf"):
        return None
    return max(1, int(max_scored_s * rate) // int(samples))


def _calibration_text(value: object) -> str:
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    parts = [f"temperature {value['temperature']:g}"] if isinstance(value.get("temperature"), int | float) else []
    parts += [counted(len(value["thresholds"]), "threshold")] if value.get("thresholds") else []
    return " and ".join(parts) or "another"


def _describe(name: str, stored: object, current: object) -> str:
    # Thresholds, for one, are only counted in the text: the difference is in what it leaves out.
    if stored == current:
        stored, current = f"{stored}", f"another {current}"
    return f"{name}: {_value_text(stored)} there, {_value_text(current)} now"


def _value_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SAID else f"{text[:MAX_SAID]}…"


def _through_json(value: T) -> T:
    """Return the value as it comes back from JSON, so that tuples equal the lists that were stored."""
    plain: T = json.loads(json.dumps(value, default=str))
    return plain


def refuse(
    destination: Destination, different: Mapping[str, Sequence[Difference]], rescored: Collection[str] = ()
) -> None:
    """Refuse to mix rows of different facts.

    Args:
        different: for each group how it differs.
        rescored: groups that may differ.

    Raises:
        DestinationError: another group differs.
    """
    refused = {
        name: head_differences
        for name, head_differences in different.items()
        if head_differences and name not in rescored
    }
    if not refused:
        return
    heads: dict[str, list[str]] = {}
    for head, head_differences in refused.items():
        for difference in head_differences:
            heads.setdefault(difference.text, []).append(head)
    # Name the head unless all heads differ alike, or the text names it already.
    sentences = [
        f"{text} ({names[0]})" if len(names) < len(refused) and names[0] not in text else text
        for text, names in heads.items()
    ]
    # Including the groups that were given already: the command has to be complete.
    flags = " ".join(f"--rescore {name}" for name, head_differences in different.items() if head_differences)
    matches = [difference.match for head_differences in refused.values() for difference in head_differences]
    raise DestinationError(
        f"{shown(destination.url)} holds tracks tagged with other settings: {'; '.join(sentences)}; "
        f"{_advise(matches)} to add to it, "
        f"`tonearm tag {flags}` to have those columns made again, or another destination"
    )


def _advise(matches: Sequence[str]) -> str:
    """Return advice on how to give the settings that the rows have."""
    flags = list(dict.fromkeys(match for match in matches if match.startswith("--")))
    flags_to_leave_out = list(dict.fromkeys(match.removeprefix("no ") for match in matches if match.startswith("no ")))
    settings = list(dict.fromkeys(match for match in matches if match.startswith("models.")))
    names = [flag.partition(" ")[0] for flag in flags] + flags_to_leave_out
    # No flag does it, or two heads need different values of one flag.
    if "" in matches or len(names) > len(set(names)):
        return "give the same settings"
    parts_to_give = [f"`tonearm tag {' '.join(flags)}`"] if flags else []
    parts_to_give += [f"{', '.join(settings)} in the settings file"] if settings else []
    parts = [f"give {' and '.join(parts_to_give)}"] if parts_to_give else []
    parts += [f"leave out {' and '.join(flags_to_leave_out)}"] if flags_to_leave_out else []
    return " and ".join(parts)
