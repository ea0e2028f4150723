"""Check whether a run's GPUs can do its half precision, before the first rows of a destination settle it.

A worker whose check fails scores in fp32 and reports that (``models.cuda.self_check``). If every worker's check fails,
the destination's facts would say fp16 while all its rows were scored in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ray

from tonearm.distributed.tagging import plans
from tonearm.planning.layout import Layout
from tonearm.runs.groups import Group
from tonearm.tagging import Tagger, TagPlan
from tonearm.watchers import Say

Described = dict[str, dict[str, str]]


def _describe_heads(plan: TagPlan) -> Described:
    return Tagger.of(plan, num_threads=1).describe()


def settled(
    plan: TagPlan,
    stored: Mapping[str, Group],
    layout: Layout,
    say: Say,
    describe: Callable[[TagPlan], Described] = _describe_heads,
) -> TagPlan:
    """Return the plan with fp32 for the heads whose half precision fails on a GPU of this run.

    Args:
        plan: settled for the workers of ``layout``.
        stored: the groups that the destination has; a precision that they have settled is not checked again.
        say: called with a line for each head whose half precision is not used.
        describe: returns what the heads of a plan run on; called in a process with a GPU.
    """
    unknown = [
        head
        for head, head_plan in plan.heads.items()
        if head_plan.precision in ("fp16", "bf16")
        and not head_plan.checkpoint.is_exported
        and (head not in stored or "precision" not in stored[head].facts)
    ]
    # A forced precision stays even if the check fails, so there is nothing to decide.
    if not unknown or not layout.scorer_gpus or plan.models.force_precision:
        return plan
    # The process ends after one call, so that the workers get the GPU's memory.
    remote_describe = ray.remote(num_cpus=layout.scorer_cpus, num_gpus=layout.scorer_gpus, max_calls=1, max_retries=0)(
        describe
    )
    try:
        described: Described = ray.get(remote_describe.remote(plan.only(unknown)))
    except ray.exceptions.RayError:
        # A model that cannot be loaded here fails in the workers too, and they report it in one line.
        return plan
    return plans.as_described(plan, described, say)
