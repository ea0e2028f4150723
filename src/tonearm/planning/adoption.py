"""What a destination has settled already, and a run's plan: what it adopts, and where the two cannot be mixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tonearm.errors import UsageError
from tonearm.heads import Head, heads_among
from tonearm.models.checkpoint import is_hub_id
from tonearm.runs import differences, groups, named_settings
from tonearm.runs.destination import Destination
from tonearm.runs.differences import Difference
from tonearm.runs.groups import Group
from tonearm.settings import ModelSettings
from tonearm.storage.uris import shown
from tonearm.tagging import HeadPlan, TagPlan, plan_heads
from tonearm.tagging.plan import READ

SETTLED_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# Of those that a group may have been made again in, the last ones: a hash each, some 20 µs.
MAX_TERMS = 10_000


def planned(
    models: ModelSettings, max_windows: int | None, max_scored_s: float, revisions: Mapping[str, str] | None = None
) -> TagPlan:
    """Return what a run with these settings does to a track; see ``plan_heads``."""
    heads = plan_heads(models, max_windows=max_windows, max_scored_s=max_scored_s, revisions=revisions)
    return TagPlan(heads, models, max_scored_s)


def adopt(
    destination: Destination, plan: TagPlan, max_windows: int | None, rescore: Sequence[str] = ()
) -> tuple[TagPlan, dict[str, Group]]:
    """Return the plan with what ``destination`` has settled, and the groups that it has with these.

    Args:
        plan: as asked for.
        rescore: groups that may differ from what is there; their columns are then made again.

    Raises:
        UsageError: no such group to rescore, or a head that stands there with another activation.
        DestinationError: rows there were made with other settings, or its facts cannot be read.
    """
    unknown = sorted({*rescore} - {*plan.heads})
    if unknown:
        raise UsageError(f"got --rescore {unknown[0]}, expected one of the groups of this run: {', '.join(plan.heads)}")
    stored = _taken_up(destination, plan, groups.read(destination, rescore), rescore)
    _check_activations(destination, plan, stored)
    plan = _pinned(plan, stored, max_windows)
    different = {}
    for head in plan.heads:
        if head in stored and (found := _differences(stored, plan, head, rescore)):
            different[head] = found
    differences.refuse(destination, different, rescore)
    adopted = {name: group for name, group in stored.items() if name not in different}
    heads = {head: _adopted(each, adopted.get(head)) for head, each in plan.heads.items()}
    return dataclasses.replace(plan, heads=heads), adopted


def settled(plan: TagPlan, stored: Mapping[str, Group], since: Mapping[str, int] | None = None) -> dict[str, Group]:
    """Return the groups that a destination has once rows of a settled plan are written there.

    Args:
        since: by group the term of the run that begins to make its columns again; see ``groups.SINCE``.
    """
    asked, facts = _asked(plan), plan.facts()
    for head, term in (since or {}).items():
        facts[head][groups.SINCE] = term
    found = dict(stored)
    found[READ] = groups.adopted(stored.get(READ), facts[READ], {}, {})
    for head, each in plan.heads.items():
        how = {"source": each.source, **({"note": each.note} if each.note else {})}
        found[head] = groups.adopted(stored.get(head), facts[head], asked[head], how)
    return found


def noted(stored: Mapping[str, Group], described: Mapping[str, Mapping[str, str]]) -> dict[str, Group]:
    """Return the groups with the runtimes that the workers had, where none is known yet."""
    found = dict(stored)
    for head, how in described.items():
        group = found[head]
        if "runtime" not in group.settled and how.get("runtime"):
            found[head] = dataclasses.replace(group, settled={**group.settled, "runtime": how["runtime"]})
    return found


def _taken_up(
    destination: Destination, plan: TagPlan, stored: Mapping[str, Group], rescore: Sequence[str]
) -> dict[str, Group]:
    """Return the groups with those whose facts are gone, where rows name the hash of what the plan would write.

    Somebody may have deleted ``_checkpoint/``: rows say by which settings they have a group, in a hash that can be made
    again from the plan and the little that it leaves open.
    """
    found = dict(stored)
    lacking = [head for head in plan.heads if head not in stored and head not in rescore]
    if not lacking:
        return found
    heads = [each.head for each in plan.heads.values()]
    named = named_settings.read(destination, heads)
    _check_columns(destination, [head for head in heads if head.name in lacking], named.columns)
    # What was made again last counts, whoever has the most rows.
    since = [{groups.SINCE: term} for term in range(named.highest_term, 0, -1)[:MAX_TERMS]]
    for head in lacking:
        there, facts = named.num_rows[head], plan.facts()[head]
        for begun in [*since, {}] if there else ():
            possible = [Group({**facts, "precision": precision, **begun}) for precision in SETTLED_PRECISIONS]
            best = max(possible, key=lambda group: there.get(group.hash, 0))
            if best.hash in there:
                found[head] = best
                break
    return found


def _check_activations(destination: Destination, plan: TagPlan, stored: Mapping[str, Group]) -> None:
    there = groups.heads_of(stored)
    for name, each in plan.heads.items():
        if name in there and there[name].activation != each.head.activation:
            raise UsageError(
                f"{shown(destination.url)} holds {name} as {there[name].activation}, and this run has it as "
                f"{each.head.activation}; a head's columns keep their kind: give --head {name}=MODEL:"
                f"{there[name].activation}, or another name"
            )


def _check_columns(destination: Destination, heads: Iterable[Head], columns: Collection[str]) -> None:
    """Refuse a head whose columns are there and somebody else's, or those of another kind of head.

    Raises:
        UsageError: one of them.
    """
    ours = heads_among(columns)
    for head in heads:
        taken = sorted({*head.columns, head.settings} & {*columns})
        if taken and not head.is_published and head not in ours:
            raise UsageError(
                f"tracks/ of {shown(destination.url)} has a column {taken[0]} already, which is not one of a "
                f"{head.activation} head called {head.name}; give the head another name"
            )


def _pinned(plan: TagPlan, stored: Mapping[str, Group], max_windows: int | None) -> TagPlan:
    """Return the plan with the revisions that hub ids without one had when the destination was begun."""
    revisions = {}
    named = plan.models.named()
    for head, each in plan.heads.items():
        asked = named[head]
        group = stored.get(head)
        there = group.facts.get("model") if group is not None else None
        is_same = group is not None and group.settled.get("source") == each.source
        is_pinned = asked is None or asked.revision is not None or not is_hub_id(asked.model)
        if not is_pinned and there and is_same and there != each.checkpoint.revision:
            revisions[head] = str(there)
    return planned(plan.models, max_windows, plan.max_scored_s, revisions) if revisions else plan


def _differences(stored: Mapping[str, Group], plan: TagPlan, head: str, rescore: Sequence[str]) -> list[Difference]:
    return differences.differences(
        stored[head],
        plan.facts()[head],
        _asked(plan)[head],
        head=plan.heads[head].head,
        source=plan.heads[head].source,
        max_scored_s=plan.max_scored_s,
        is_rescored=head in rescore,
    )


def _asked(plan: TagPlan) -> dict[str, dict[str, Any]]:
    """Return for each head what a person asked for by name that may be settled otherwise."""
    models = plan.models
    asked: dict[str, Any] = {}
    if models.precision != "auto":
        asked["precision"] = models.precision
    if models.runtime != "auto":
        asked["runtime"] = models.runtime
    if models.precision == "int8":
        asked["int8_guard"] = models.int8_guard
    return {head: dict(asked) for head in plan.heads}


def _adopted(plan: HeadPlan, group: Group | None) -> HeadPlan:
    if group is None:
        return plan
    if "precision" not in group.facts:
        # What 0.1.0 was asked for, so that auto does not put fp32 beside its int8.
        return dataclasses.replace(plan, precision=group.asked.get("precision", plan.precision))
    # torch runs everywhere; OpenVINO is what auto takes on a processor, where it is installed.
    runtime = "torch" if plan.runtime == "auto" and group.runtime == "torch" else plan.runtime
    note = str(group.settled.get("note", ""))
    return dataclasses.replace(plan, runtime=runtime, precision=group.facts["precision"], is_settled=True, note=note)
