"""The model card: what the model is, what it was judged on, and what the figures can and cannot mean."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from tonearm.models.checkpoint import is_hub_id
from tonearm.sources.extensions import is_table
from tonearm.storage.uris import local_path, scheme
from tonearm.training.data.duplicates import count_by_side
from tonearm.training.data.sides import FAULT_FILTERED, STRATIFIED
from tonearm.training.data.splits import straddling_groups
from tonearm.training.fit.job import TrainingJob
from tonearm.training.judge.headline import main_side
from tonearm.training.plan import TrainingPlan
from tonearm.wording import counted

MOST_CLASSES_SHOWN = 60
FEW_CLIPS = 200


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The figures of the same recipe on another split."""

    split: str
    side: str
    figures: Mapping[str, Any]


def dataset_name(source: str) -> tuple[str, str | None]:
    """Return what a collection is called, and its hub id if it has one."""
    if scheme(source) == "hf":
        name = "/".join(source.partition("://")[2].removeprefix("datasets/").split("/")[:2]).partition("@")[0]
        return name, name
    path = (local_path(source) if scheme(source) == "file" else source).rstrip("/")
    folder, _, name = path.rpartition("/")
    if is_table(name) and folder:
        name = folder.rpartition("/")[2]
    return name or path, None


def describe_split(plan: TrainingPlan, split_by: str | None = None) -> str:
    """Return how the split was made, for a sentence."""
    labels = plan.job.settings.labels
    split_by = split_by or labels.split_by
    if split_by == STRATIFIED:
        how = f"stratified, {labels.validation_share:.0%} held out, seed {plan.job.settings.seed}"
    elif split_by == FAULT_FILTERED:
        how = "the artist-aware fault-filtered split of GTZAN"
    else:
        how = f"by `{split_by}`"
        for name, values in (("validation", labels.validation_on), ("test", labels.test_on)):
            how += f", {name} on {', '.join(values)}" if values else ""
    return how + (f", grouped by `{labels.group_by}`" if labels.group_by else "")


def write_card(
    plan: TrainingPlan,
    figures: Mapping[str, Any],
    comparisons: list[Comparison],
    *,
    source: str,
    run: Mapping[str, Any],
) -> str:
    """Return README.md: metadata with ``model-index``, and the text."""
    job, initial = plan.job, plan.job.initial
    side = main_side(figures)
    name, hub_id = dataset_name(source)
    metrics = ("macro_map", "micro_map", "mean_auc") if job.is_multi else ("accuracy", "macro_f1")
    rows = [(describe_split(plan), side, figures[side])] if side is not None else []
    rows += [(entry.split, entry.side, entry.figures) for entry in comparisons]
    results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=hub_id or name.lower(),
            dataset_name=f"{name} ({split})",
            dataset_split=held_out,
            metric_type={"macro_f1": "f1", "mean_auc": "roc_auc", "macro_map": "mAP", "micro_map": "mAP"}.get(
                metric, metric
            ),
            metric_name=metric,
            metric_value=round(judged["track"][metric], 4),
        )
        for split, held_out, judged in rows
        for metric in metrics
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        license=job.settings.license,
        tags=["audio-classification", "tonearm"],
        base_model=initial.name if is_hub_id(initial.name) and not initial.from_scratch else None,
        datasets=[hub_id] if hub_id else None,
        metrics=["mAP", "roc_auc"] if job.is_multi else ["accuracy", "f1"],
        model_name=f"{initial.family} on {name}",
        eval_results=results or None,
    )
    lines = [f"---\n{data.to_yaml()}\n---", f"# {initial.family} on {name}", ""]
    lines += _about(plan, run)
    lines += ["", "## Figures", ""]
    lines += _figures(plan, rows, figures, side)
    lines += ["", "## What the figures mean", ""]
    lines += [f"- {line}" for line in _meaning(plan, figures, side)]
    lines += ["", "## Use", "", *_use(job)]
    lines += ["", "## Recipe", "", *_recipe(plan, run)]
    return "\n".join(lines) + "\n"


def _about(plan: TrainingPlan, run: Mapping[str, Any]) -> list[str]:
    initial, job = plan.job.initial, plan.job
    begun = (
        f"Trained from random weights ({initial.name})"
        if initial.from_scratch
        else f"Fine-tuned from {initial.name if is_hub_id(initial.name) else initial.folder.resolve().name}"
    )
    kind = "says which of these tags a clip has" if job.is_multi else "says which of these classes a clip is"
    return [
        f"{begun}; {counted(plan.num_parameters, 'parameter')}. It {kind}: "
        f"{', '.join(job.labels[:MOST_CLASSES_SHOWN])}"
        f"{' ...' if len(job.labels) > MOST_CLASSES_SHOWN else ''}.",
        "",
        f"Trained on {counted(len(job.train), 'clip')} by tonearm {run['tonearm']}.",
    ]


def _figures(plan: TrainingPlan, rows: list[Any], figures: Mapping[str, Any], side: str | None) -> list[str]:
    job = plan.job
    if side is None:
        return ["No clips were held out, so nothing is known of how well it does."]
    if job.is_multi:
        lines = ["| split | tracks | macro mAP | micro mAP | mean AUC | d' |", "|---|---|---|---|---|---|"]
        for split, held_out, judged in rows:
            track = judged["track"]
            lines.append(
                f"| {_cell(split)} ({held_out}) | {judged['num_tracks']:,} | {track['macro_map']:.3f} "
                f"| {track['micro_map']:.3f} | {track['mean_auc']:.3f} | {track['d_prime']:.2f} |"
            )
    else:
        lines = ["| split | tracks | accuracy | 95% interval | macro F1 | ECE |", "|---|---|---|---|---|---|"]
        for split, held_out, judged in rows:
            track = judged["track"]
            low, high = track["accuracy_interval"]
            lines.append(
                f"| {_cell(split)} ({held_out}) | {judged['num_tracks']:,} | {track['accuracy']:.3f} "
                f"| {low:.3f} to {high:.3f} | {track['macro_f1']:.3f} | {track['ece']:.3f} |"
            )
    lines += ["", "Track level: the mean of the scores of a track's windows.", ""]
    per_class = figures[side]["track"]["per_class"]
    shown_classes = list(per_class)[:MOST_CLASSES_SHOWN]
    lines += ["| class | precision | recall | tracks |", "|---|---|---|---|"]
    lines += [
        f"| {label} | {per_class[label]['precision']:.2f} | {per_class[label]['recall']:.2f} "
        f"| {per_class[label]['support']} |"
        for label in shown_classes
    ]
    if not job.is_multi:
        lines += ["", "![confusion matrix](confusion.png)"]
    return [*lines, "", "![curves](curves.png)"]


def _cell(text: str) -> str:
    # A bar in a cell would end it.
    return text.replace("|", "\\|")


def _meaning(plan: TrainingPlan, figures: Mapping[str, Any], side: str | None) -> list[str]:
    labels, note = plan.job.settings.labels, plan.job.settings.note
    lines = [note] if note else []
    if side is None:
        lines.append("Hold clips out with `--validation-share` or `--test-on` to learn how well the model does.")
        return lines + plan.omitted.lines(labels.split_by)
    count, num_failed = figures[side]["num_tracks"], figures[side].get("num_failed")
    if num_failed:
        lines.append(
            f"For {counted(num_failed, 'other track')} the model gave no score that is a number; the figures lack them."
        )
    if count < FEW_CLIPS:
        lines.append(
            f"It was judged on {counted(count, 'track')}. That is few: the interval above says how far another draw "
            "of as many could be off."
        )
    if side == "validation" and plan.job.settings.keep == "best":
        lines.append(
            "The same clips chose the best epoch, so the figure flatters the model a little; `--test-on` keeps some "
            "apart."
        )
    if labels.group_by is None and labels.split_by == STRATIFIED:
        lines.append(
            "The split knows no artists: clips of one artist or recording may stand on both sides, and then to know "
            "the artist looks like recognizing the class. `--group-by` keeps them apart."
        )
    elif labels.group_by is not None:
        straddling = len(straddling_groups(plan.collection.clips, plan.split))
        groups = counted(straddling, "group") if straddling else "No groups"
        stand = "stands" if straddling == 1 else "stand"
        lines.append(f"{groups} by `{labels.group_by}` {stand} on both sides of the split.")
    confounded = source_share(plan, side)
    if confounded is not None:
        share, chance = confounded
        lines.append(
            f"**Knowing nothing but `{labels.source_by}`, one guesses the class of {share:.0%} of these tracks** (the "
            f"most frequent class alone: {chance:.0%}). "
            + (
                "A model that has learnt to tell the sources apart by their sound (encoder, loudness, studio) would "
                "score as well; the figure cannot tell that from knowing the music, and says little of other sources."
                if share > chance + 0.1
                else "So the source does not give the class away."
            )
        )
    counts = count_by_side(plan.duplicates)
    if side in counts:
        same, alike = counts[side]
        done = "" if labels.duplicates == "drop" else " They are counted in the figures."
        lines.append(
            f"{same + alike} of the held-out clips are in the training collection too ({same} the same samples).{done}"
        )
    elif labels.duplicates != "ignore":
        lines.append("No held-out clip was found in training, neither the same samples nor another copy of them.")
    return lines + plan.omitted.lines(labels.split_by)


def source_share(plan: TrainingPlan, side: str) -> tuple[float, float] | None:
    """Return how often a held-out clip's label is its source's most frequent one in training, and plain chance."""
    if plan.job.settings.labels.source_by is None or plan.job.is_multi:
        return None
    clips, held = plan.collection.clips, plan.split.sides()[side]
    by_source: dict[str | None, Counter[str]] = {}
    every: Counter[str] = Counter()
    for clip in plan.split.train:
        (label,) = clips[clip].labels or ("",)
        by_source.setdefault(clips[clip].source, Counter())[label] += 1
        every[label] += 1
    # A source that training does not have says nothing, so the guess is the most frequent class of all.
    most = every.most_common(1)[0][0]
    guesses = [by_source.get(clips[clip].source, every).most_common(1)[0][0] for clip in held]
    truths = [(clips[clip].labels or ("",))[0] for clip in held]
    right = sum(guess == truth for guess, truth in zip(guesses, truths, strict=True))
    return right / len(held), truths.count(most) / len(held)


def _use(job: TrainingJob) -> list[str]:
    window_s, head = job.windows.window_s, "--tag-model" if job.is_multi else "--genre-model"
    return [
        "```python",
        "from transformers import pipeline",
        "",
        'pipeline("audio-classification", model="MODEL")("clip.wav")',
        "```",
        "",
        f"It was trained on windows of {window_s:g} s at {job.windows.sample_rate} Hz. For whole tracks and libraries: "
        f"`tonearm tag SOURCE {head} MODEL --out OUT`.",
    ]


def _recipe(plan: TrainingPlan, run: Mapping[str, Any]) -> list[str]:
    settings = plan.job.settings
    lines = [
        f"- {counted(settings.epochs, 'epoch')}, AdamW, learning rate {settings.learning_rate:g}, weight decay "
        f"{settings.weight_decay:g}, warm-up {settings.warmup_ratio:g}, linear decay",
        f"- {counted(run['step_size'], 'clip')} a step: workers {run['workers']} × batch {settings.batch_size} × "
        f"accumulated {settings.accumulate}",
        f"- {run['precision']} on {run['device']} ({run['why']}), seed {settings.seed}",
        f"- split: {describe_split(plan)}",
    ]
    default = type(settings.augment)()
    changed = {
        field.name: getattr(settings.augment, field.name)
        for field in dataclasses.fields(default)
        if getattr(settings.augment, field.name) != getattr(default, field.name)
    }
    if changed:
        lines.append(f"- augmentation: {', '.join(f'{name} {value}' for name, value in changed.items())}")
    return lines
