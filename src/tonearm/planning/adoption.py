"""Match a run's plan with what its destination has settled: what the plan adopts, and what must not be mixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tonearm.errors import UsageError
from tonearm.heads import FallbackSettings, Head, heads_among
from tonearm.models.checkpoint import is_hub_id
from tonearm.runs import differences, groups, named_settings
from tonearm.runs.counts import WindowCounts
from tonearm.runs.destination import Destination
from tonearm.runs.differences import Difference
from tonearm.runs.groups import FALLBACK, Group
from tonearm.settings import ModelSettings
from tonearm.storage.uris import shown
from tonearm.tagging import FallbackPlan, HeadPlan, TagPlan, plan_heads, with_fallbacks
from tonearm.tagging.plan import READ, fallback_name

SETTLED_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# How many of the latest terms are tried when a group's hash is looked for: 20 µs per hash, so 0.2 s in all.
MAX_TERMS = 10_000


def planned(
    models: ModelSettings,
    max_windows: int | None,
    max_scored_s: float,
    revisions: Mapping[str, str] | None = None,
    fallback: Mapping[str, FallbackSettings] | None = None,
) -> TagPlan:
    """Return the plan of a run with these settings; see ``plan_heads`` and ``with_fallbacks``."""
    heads = plan_heads(models, max_windows=max_windows, max_scored_s=max_scored_s, revisions=revisions)
    heads = with_fallbacks(heads, fallback or {}, models, revisions)
    return TagPlan(heads, models, max_scored_s, fallback or {})


class Adopted(NamedTuple):
    """A plan with the settings that a destination has fixed already, and the stored groups that it keeps."""

    plan: TagPlan
    groups: dict[str, Group]


def adopt(destination: Destination, plan: TagPlan, max_windows: int | None, rescore: Sequence[str] = ()) -> Adopted:
    """Return the plan with the settings of ``destination``.

    Args:
        plan: as requested, before anything is adopted.
        rescore: groups that may differ from the stored ones; their columns are then made again.

    Raises:
        UsageError: no such group to rescore, or the destination has a head of this name with another activation.
        DestinationError: rows there were made with other settings, or the stored groups cannot be read.
    """
    unknown = sorted({*rescore} - {*plan.heads})
    if unknown:
        raise UsageError(f"got --rescore {unknown[0]}, expected one of the groups of this run: {', '.join(plan.heads)}")
    stored = _recognize_from_rows(destination, plan, groups.read(destination, rescore), rescore)
    _check_activations(destination, plan, stored)
    # Before comparing: a hub id whose branch has moved on since is the same model, at the revision of the first run.
    plan = _keep_pinned_revisions(plan, stored, max_windows)
    different = {}
    for head in plan.heads:
        if head in stored and (head_differences := _head_differences(stored, plan, head, rescore)):
            different[head] = head_differences
    differences.refuse(destination, different, rescore)
    adopted = {name: group for name, group in stored.items() if name not in different}
    heads = {head: _adopt_group(head_plan, adopted.get(head)) for head, head_plan in plan.heads.items()}
    return Adopted(dataclasses.replace(plan, heads=heads), adopted)


def settled(plan: TagPlan, stored: Mapping[str, Group], since: Mapping[str, int] | None = None) -> dict[str, Group]:
    """Return the groups that a destination has once rows of a settled plan are written there.

    Args:
        since: for each group that is scored again, the term of the run that began it; see ``groups.SINCE``.
    """
    requested, facts = _requested_by_name(plan), plan.facts()
    for head, term in (since or {}).items():
        facts[head][groups.SINCE] = term
    settled_groups = dict(stored)
    settled_groups[READ] = groups.adopted(stored.get(READ), facts[READ], {}, {})
    for head, head_plan in plan.heads.items():
        origin = _origin_facts(head_plan)
        if head_plan.fallback is not None:
            origin[FALLBACK] = _origin_facts(head_plan.fallback.model)
        settled_groups[head] = groups.adopted(stored.get(head), facts[head], requested[head], origin)
    return settled_groups


def _origin_facts(plan: HeadPlan) -> dict[str, Any]:
    """Return where a model is from, and why it does not run as requested."""
    return {"source": plan.source, **({"note": plan.note} if plan.note else {})}


def noted(
    stored: Mapping[str, Group],
    described: Mapping[str, Mapping[str, str]],
    routed: Mapping[str, WindowCounts] | None = None,
) -> dict[str, Group]:
    """Return the groups with the runtimes that the workers report, for groups whose runtime is not known yet.

    Args:
        described: how each model ran, by head and by ``fallback_name``.
        routed: by head, the windows that a run has scored and sent to its fallback; added to those of earlier runs.
    """
    noted_groups = dict(stored)
    for head, group in stored.items():
        settled = _with_runtime(group.settled, described.get(head, {}))
        if FALLBACK in settled:
            fallback = _with_runtime(settled[FALLBACK], described.get(fallback_name(head), {}))
            if routed and head in routed:
                before = WindowCounts(fallback.get("num_windows", 0), fallback.get("num_sent", 0))
                fallback |= dataclasses.asdict(before.plus(routed[head]))
            settled[FALLBACK] = fallback
        noted_groups[head] = dataclasses.replace(group, settled=settled)
    return noted_groups


def _with_runtime(settled: Mapping[str, Any], runtime_facts: Mapping[str, str]) -> dict[str, Any]:
    runtime = runtime_facts.get("runtime")
    return {**settled, **({"runtime": runtime} if runtime and "runtime" not in settled else {})}


def _recognize_from_rows(
    destination: Destination, plan: TagPlan, stored: Mapping[str, Group], rescore: Sequence[str]
) -> dict[str, Group]:
    """Return the stored groups, and those that are no longer stored but can be recognized from the rows.

    Somebody may have deleted ``_checkpoint/``. Each row has its groups' settings hashes, and such a hash can be
    computed again from the plan: only the precision and the term of a rescore have to be tried.
    """
    with_recognized = dict(stored)
    lacking = [head for head in plan.heads if head not in stored and head not in rescore]
    if not lacking:
        return with_recognized
    heads = [head_plan.head for head_plan in plan.heads.values()]
    named = named_settings.read(destination, heads)
    _check_columns(destination, [head for head in heads if head.name in lacking], named.columns)
    # The latest rescore counts, even where an older one has more rows.
    since = [{groups.SINCE: term} for term in range(named.highest_term, 0, -1)[:MAX_TERMS]]
    for head in lacking:
        rows_by_hash, facts = named.num_rows[head], plan.facts()[head]
        for begun in [*since, {}] if rows_by_hash else ():
            possible = [Group({**settled_facts, **begun}) for settled_facts in _settled_facts(facts)]
            best = max(possible, key=lambda group: rows_by_hash.get(group.hash, 0))
            if best.hash in rows_by_hash:
                with_recognized[head] = best
                break
    return with_recognized


def _settled_facts(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a head's facts with each precision that its model, and its fallback's, may have been settled to."""
    for precision in SETTLED_PRECISIONS:
        if FALLBACK not in facts:
            yield {**facts, "precision": precision}
            continue
        for other in SETTLED_PRECISIONS:
            yield {**facts, "precision": precision, FALLBACK: {**facts[FALLBACK], "precision": other}}


def _check_activations(destination: Destination, plan: TagPlan, stored: Mapping[str, Group]) -> None:
    stored_heads = groups.heads_of(stored)
    for name, head_plan in plan.heads.items():
        if name in stored_heads and stored_heads[name].activation != head_plan.head.activation:
            raise UsageError(
                f"{shown(destination.url)} holds {name} as {stored_heads[name].activation}, and this run has it as "
                f"{head_plan.head.activation}; a head's columns keep their kind: give --head {name}=MODEL:"
                f"{stored_heads[name].activation}, or another name"
            )


def _check_columns(destination: Destination, heads: Iterable[Head], columns: Collection[str]) -> None:
    """Refuse a head whose columns exist already but are not its own: another program's, or another kind of head's.

    Raises:
        UsageError: with the first such column.
    """
    readable_heads = heads_among(columns)
    for head in heads:
        taken_columns = sorted({*head.columns, head.settings} & {*columns})
        if taken_columns and not head.is_published and head not in readable_heads:
            raise UsageError(
                f"tracks/ of {shown(destination.url)} has a column {taken_columns[0]} already, which is not one of a "
                f"{head.activation} head called {head.name}; give the head another name"
            )


def _keep_pinned_revisions(plan: TagPlan, stored: Mapping[str, Group], max_windows: int | None) -> TagPlan:
    """Return the plan in which hub ids without a revision have the one of the destination's first run."""
    revisions = {}
    named = plan.models.named()
    for head, head_plan in plan.heads.items():
        requested = named[head]
        group = stored.get(head)
        stored_revision = group.facts.get("model") if group is not None else None
        is_same = group is not None and group.settled.get("source") == head_plan.source
        is_pinned = requested is None or requested.revision is not None or not is_hub_id(requested.model)
        if not is_pinned and stored_revision and is_same and stored_revision != head_plan.checkpoint.revision:
            revisions[head] = str(stored_revision)
        revisions |= _fallback_revision(plan, head, group)
    if not revisions:
        return plan
    return planned(plan.models, max_windows, plan.max_scored_s, revisions, plan.fallback)


def _fallback_revision(plan: TagPlan, head: str, group: Group | None) -> dict[str, str]:
    """Return the stored revision of a head's fallback, by ``fallback_name``, if it is the same hub id without one."""
    fallback = plan.heads[head].fallback
    if group is None or fallback is None or plan.fallback[head].revision or not is_hub_id(fallback.model.source):
        return {}
    stored_revision = group.facts.get(FALLBACK, {}).get("model")
    is_same = group.settled.get(FALLBACK, {}).get("source") == fallback.model.source
    return {fallback_name(head): stored_revision} if stored_revision and is_same else {}


def _head_differences(
    stored: Mapping[str, Group], plan: TagPlan, head: str, rescore: Sequence[str]
) -> list[Difference]:
    return differences.differences(
        stored[head],
        plan.facts()[head],
        _requested_by_name(plan)[head],
        head=plan.heads[head].head,
        source=plan.heads[head].source,
        max_scored_s=plan.max_scored_s,
        is_rescored=head in rescore,
        fallback=_fallback_source(plan.heads[head].fallback),
    )


def _fallback_source(fallback: FallbackPlan | None) -> str:
    return "" if fallback is None else fallback.model.source


def _requested_by_name(plan: TagPlan) -> dict[str, dict[str, Any]]:
    """Return for each head the settings that the user gave explicitly instead of ``auto``."""
    models = plan.models
    requested: dict[str, Any] = {}
    if models.precision != "auto":
        requested["precision"] = models.precision
    if models.runtime != "auto":
        requested["runtime"] = models.runtime
    if models.precision == "int8":
        requested["int8_guard"] = models.int8_guard
    return {head: dict(requested) for head in plan.heads}


def _adopt_group(plan: HeadPlan, group: Group | None) -> HeadPlan:
    if group is None:
        return plan
    if plan.fallback is not None and "precision" in (facts := group.facts[FALLBACK]):
        fallback_group = Group(facts, settled=group.settled.get(FALLBACK, {}))
        fallback = dataclasses.replace(plan.fallback, model=_adopt_group(plan.fallback.model, fallback_group))
        plan = dataclasses.replace(plan, fallback=fallback)
    if "precision" not in group.facts:
        # Version 0.1.0 stored no settled precision, only the requested one. Take that, so that ``auto`` does not write
        # fp32 rows next to its int8 rows.
        return dataclasses.replace(plan, precision=group.asked.get("precision", plan.precision))
    # torch is adopted because it runs everywhere. OpenVINO is not: it may be missing here, and where it is installed
    # ``auto`` takes it on a processor anyway.
    runtime = "torch" if plan.runtime == "auto" and group.runtime == "torch" else plan.runtime
    note = str(group.settled.get("note", ""))
    return dataclasses.replace(plan, runtime=runtime, precision=group.facts["precision"], is_settled=True, note=note)
