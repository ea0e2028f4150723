"""The plan of a run: which heads score a track and how, as one value that all processes of the run get.

It is made once, where the run begins. Workers, the server and evaluation use it as it is and plan nothing again: a hub
id or a folder may hold something else by then, and another machine may settle ``auto`` differently.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tonearm.audio.decode import DecodeRequest
from tonearm.audio.windows import FollowingPlan, WindowPlan
from tonearm.errors import CheckpointError, UsageError
from tonearm.heads import PUBLISHED, FallbackSettings, Head, by_name, head_of
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, is_hub_id
from tonearm.models.window_plan import plan_windows

if TYPE_CHECKING:
    from tonearm.models.classifier import Classifier
    from tonearm.settings import ModelSettings

READ = "read"
# The column that says by which settings a row was read.
READ_SETTINGS = "read_settings"


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What every row of a run says about how it was made.

    Attributes:
        models: by head of the run, the checkpoint's name and revision.
        settings: the settings hash of each group that the destination has.
        adopts: the groups whose columns count as made with these settings if a row does not say; see ``groups.Group``.
        term: the term of the run's lock.
    """

    run_id: str
    version: str
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    term: int | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    adopts: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class HeadPlan:
    """One head without its weights: its checkpoint, how it cuts a track, and what it runs on.

    Attributes:
        head: its name, what its logits mean, and its columns.
        source: a folder, here or in an object store, or a hub id.
        runtime, precision: as requested, or settled.
        is_settled: whether the rows are to have exactly this ``precision``; a machine that cannot do it must not score.
        note: why they are not what was requested.
        fallback: the model that windows go to of which this one is unsure.
    """

    head: Head
    checkpoint: CheckpointInfo
    windows: WindowPlan
    source: str = ""
    runtime: str = "auto"
    precision: str = "auto"
    is_settled: bool = False
    note: str = ""
    fallback: FallbackPlan | None = None

    @property
    def revision(self) -> str | None:
        """The commit of a hub id, so that all machines load the same one; None for a folder."""
        return self.checkpoint.revision if is_hub_id(self.source) else None

    @property
    def window_s(self) -> float:
        """Seconds of a window."""
        return self.windows.window_s

    @property
    def all_windows(self) -> tuple[WindowPlan, ...]:
        """The head's windows and, if it has a fallback, the same seconds at the fallback's sample rate."""
        return (self.windows, *([] if self.fallback is None else [self.fallback.following(self.windows)]))


@dataclasses.dataclass(frozen=True)
class FallbackPlan:
    """The model that scores a head's windows where the head's own model is unsure.

    Attributes:
        model: its plan, as if it were the head's own model, with windows as long as the head's.
        threshold: a window goes to the fallback if its highest score is below this.
        order: for each of the head's labels, its index among the fallback's labels.
        share: the share of windows that go to the fallback, as measured by the student's distillation; None if unknown.
        chosen_for: name and revision of the teacher that the threshold was chosen with; None if the user gave it.
    """

    model: HeadPlan
    threshold: float
    order: tuple[int, ...]
    share: float | None = None
    chosen_for: tuple[str, str] | None = None

    def following(self, leader: WindowPlan) -> FollowingPlan:
        """Return the fallback's windows: the same seconds as ``leader``, the head's, at the fallback's sample rate."""
        windows = self.model.windows
        # At least 1 sample, as the head's plan decides how many windows there are. A track that is too short for the
        # fallback keeps the scores of the head's own model.
        return FollowingPlan(
            windows.sample_rate, windows.window_samples, windows.hop_samples, leader.max_windows, 1, leader
        )

    def facts(self) -> dict[str, Any]:
        """Return what decides the head's columns besides its own model; see ``TagPlan.facts``."""
        facts = {"model": self.model.checkpoint.revision, "threshold": self.threshold}
        return facts | ({"precision": self.model.precision} if self.model.is_settled else {})


@dataclasses.dataclass(frozen=True)
class TagPlan:
    """What a run does to each track.

    Attributes:
        heads: ``genre``, ``tags``, then the others; only those that are on.
        models: how scores become columns and how weights are loaded; the models themselves are those of ``heads``.
        max_scored_s: seconds of a track that are scored at most.
        fallback: as requested, by head; the resulting ``FallbackPlan`` is in ``heads``.
    """

    heads: Mapping[str, HeadPlan]
    models: ModelSettings
    max_scored_s: float
    fallback: Mapping[str, FallbackSettings] = dataclasses.field(default_factory=dict)

    def decode_request(self) -> DecodeRequest:
        """Return what decoding must provide for the heads."""
        return decode_request(self.heads, self.max_scored_s)

    def only(self, heads: Sequence[str]) -> TagPlan:
        """Return the plan of some of the heads."""
        return dataclasses.replace(self, heads={head: plan for head, plan in self.heads.items() if head in heads})

    def unfolded(self) -> TagPlan:
        """Return the plan with every model as a head of its own; see ``every_model``."""
        return dataclasses.replace(self, heads=every_model(self.heads))

    def folded(self, models: Mapping[str, HeadPlan]) -> TagPlan:
        """Return the plan with the models of an ``unfolded`` plan put back: heads as heads, fallbacks as fallbacks."""
        heads = {}
        for name in self.heads:
            head, fallback = models[name], models[name].fallback
            if fallback is not None:
                fallback = dataclasses.replace(fallback, model=models[fallback_name(name)])
            heads[name] = dataclasses.replace(head, fallback=fallback)
        return dataclasses.replace(self, heads=heads)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return by group what decides its columns besides the track; its hash is the settings hash."""
        return {READ: {}} | {head: self._head_facts(head) for head in self.heads}

    def _head_facts(self, name: str) -> dict[str, Any]:
        plan = self.heads[name]
        facts: dict[str, Any] = {"model": plan.checkpoint.revision, "windows": dataclasses.asdict(plan.windows)}
        # ``auto`` decides nothing until it is settled.
        if plan.is_settled:
            facts["precision"] = plan.precision
        calibration = plan.checkpoint.sidecar.calibration if self.models.calibrated else None
        facts["calibration"] = None if calibration is None else calibration.facts()
        if plan.head.is_multi:
            facts |= {"top_tags": self.models.top_tags, "top_window_tags": self.models.top_window_tags}
        # Those of ``genre`` and ``tags`` never change, and a new key would change the hashes of existing destinations.
        if not plan.head.is_published:
            facts["activation"] = plan.head.activation
        if plan.fallback is not None:
            facts["fallback"] = plan.fallback.facts()
        return facts


def plan_heads(
    models: ModelSettings,
    *,
    max_windows: int | None,
    max_scored_s: float,
    revisions: Mapping[str, str] | None = None,
) -> dict[str, HeadPlan]:
    """Return the plans of the heads that are on, ``genre`` and ``tags`` first; no weights are loaded.

    Args:
        revisions: commits of hub ids by head, for those without one in the settings.

    Raises:
        UsageError: all heads are off.
        CheckpointError: a checkpoint cannot be used.
    """
    plans = {}
    for name, asked in models.named().items():
        if asked is None:
            continue
        info = describe_checkpoint(asked.model, revision=asked.revision or (revisions or {}).get(name))
        windows = plan_windows(info, asked.window_s, max_windows).within(max_scored_s)
        head = head_of(name, asked.activation or ("multi" if info.multi_label else "single"))
        plans[name] = HeadPlan(head, info, windows, str(asked.model), models.runtime, models.precision)
    if not plans:
        raise UsageError("both heads are off; give at least one of --genre-model and --tag-model")
    if models.calibrated and not any(plan.checkpoint.sidecar.calibration for plan in plans.values()):
        names = " and ".join(plan.checkpoint.name for plan in plans.values())
        raise UsageError(
            f"scores are to be calibrated, but {names} have no calibration; fit one with "
            "`tonearm evaluate MODEL SOURCE --calibrate`"
        )
    return plans


def every_model(plans: Mapping[str, HeadPlan]) -> dict[str, HeadPlan]:
    """Return the heads, each followed by its fallback's model, if it has one, under ``fallback_name``."""
    models = {}
    for name, plan in plans.items():
        models[name] = plan
        if plan.fallback is not None:
            models[fallback_name(name)] = plan.fallback.model
    return models


def fallback_name(head: str) -> str:
    """Return what messages and mappings of models call a head's fallback; no head has such a name."""
    return f"{head}'s fallback"


def model_names(plans: Mapping[str, HeadPlan]) -> dict[str, str]:
    """Return by head the value of its ``model`` column: the checkpoint's name and revision, and its fallback's.

    With a fallback it is ``small@sha256:0123456789ab, below 0.5 large@sha256:ba9876543210``.
    """
    names = {}
    for name, plan in plans.items():
        names[name] = _model_name(plan.checkpoint)
        if plan.fallback is not None:
            names[name] += f", below {plan.fallback.threshold:g} {_model_name(plan.fallback.model.checkpoint)}"
    return names


def _model_name(info: CheckpointInfo) -> str:
    # 19 characters are ``sha256:`` and 12 digits, or enough of a commit.
    return f"{info.name}@{info.revision[:19]}"


def model_columns(plans: Mapping[str, HeadPlan]) -> dict[str, str | None]:
    """Return the columns that name the checkpoints; those of ``genre`` and ``tags`` are there even if they are off."""
    names = model_names(plans)
    heads = by_name(PUBLISHED.values(), (plan.head for plan in plans.values()))
    return {head.model: names.get(name) for name, head in heads.items()}


def decode_request(plans: Mapping[str, HeadPlan], max_scored_s: float) -> DecodeRequest:
    """Return what decoding must provide for these heads."""
    windows = [window_plan for plan in plans.values() for window_plan in plan.all_windows]
    return DecodeRequest(plans=tuple(windows), max_scored_s=max_scored_s)


def load_head(
    head: str,
    plan: HeadPlan,
    models: ModelSettings,
    *,
    num_threads: int | None = None,
    is_bulk: bool = False,
    is_server: bool = False,
) -> Classifier:
    """Load the weights of one head as planned.

    Args:
        head: its name in messages.
        num_threads, is_bulk, is_server: see ``Classifier.load``.

    Raises:
        CheckpointError: its checkpoint cannot be used, differs from the planned one, or does not run here as planned.
        SettingsError: a runtime, precision and device that do not go together.
    """
    # It loads torch, which planning does without.
    from tonearm.models.classifier import Classifier

    classifier = Classifier.load(
        plan.source,
        revision=plan.revision,
        window_s=plan.window_s,
        runtime=plan.runtime,
        precision=plan.precision,
        batch_size=models.batch_size,
        allow_pickle=models.allow_pickle,
        num_threads=num_threads,
        is_bulk=is_bulk,
        is_server=is_server,
        is_multi=plan.head.is_multi,
        is_forced=models.force_precision,
    )
    # A folder on another machine may hold another model, whose scores must not be mixed into the same columns.
    if classifier.info.revision != plan.checkpoint.revision:
        raise CheckpointError(
            f"{head}: {plan.source} holds revision {classifier.info.revision[:19]} on this machine, but the run was "
            f"planned with {plan.checkpoint.revision[:19]}; give every machine the same model folder"
        )
    precision = classifier.describe()["precision"]
    # A GPU whose half precision fails its check scores in fp32 instead. Half precision may differ from fp32 only within
    # the bounds of ``models.cuda.agreement``, so rows of both may be mixed. The run reports which workers fell back.
    if plan.is_settled and plan.precision != precision and not classifier.fell_back:
        why = classifier.describe()["note"] or "its kind of processor"
        raise CheckpointError(
            f"{head}: a worker runs {plan.checkpoint.name} in {precision} ({why}), but the run was planned in "
            f"{plan.precision}; give precision {precision}, or only machines that can do {plan.precision}"
        )
    return classifier
