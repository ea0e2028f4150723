"""The card of a student: its teacher, how far both agree, what it costs, and what the figures do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from tonearm.training.data.splits import STRATIFIED
from tonearm.training.judge.headline import main_side
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import FEW_CLIPS, MOST_CLASSES_SHOWN, dataset_name, describe_split
from tonearm.wording import counted

UNKNOWN = "not known"


def describe_recordings(plan: TrainingPlan) -> str:
    """Return how the split was made, to be put into a sentence."""
    labels = plan.job.settings.labels
    if labels.split_by != STRATIFIED:
        return describe_split(plan)
    by = f"whole groups by `{labels.group_by}`" if labels.group_by else "whole recordings"
    return f"{by}, {labels.validation_share:.0%} held out, seed {plan.job.settings.seed}"


def write_student_card(plan: TrainingPlan, facts: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Return README.md: metadata, and the text.

    Args:
        facts: what metrics.json says.
    """
    job, teacher = plan.job, facts["teacher"]
    name, hub_id = dataset_name(facts["source"])
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        license=job.settings.license,
        tags=["audio-classification", "tonearm", "distillation"],
        datasets=[hub_id] if hub_id else None,
        model_name=f"{job.initial.family}, a student of {teacher['name']}",
    )
    title = f"{job.initial.family}, a student of {teacher['name']}"
    lines = [f"---\n{data.to_yaml()}\n---", f"# {title}", "", *_introduction(plan, facts, name, run)]
    lines += ["", "## Figures", "", *_figure_lines(facts)]
    lines += ["", "## What it costs", "", *_cost_table(facts["cost"])]
    lines += ["", "## When to ask the teacher", "", *_fallback_lines(facts["fallback"])]
    lines += ["", "## What the figures mean", "", *(f"- {line}" for line in _caveats(plan, facts))]
    lines += ["", "## Use", "", *_usage(plan)]
    lines += ["", "## Recipe", "", *_recipe_lines(plan, facts, run)]
    return "\n".join(lines) + "\n"


def _introduction(plan: TrainingPlan, facts: Mapping[str, Any], name: str, run: Mapping[str, Any]) -> list[str]:
    job, teacher = plan.job, facts["teacher"]
    kind = "which of these labels a clip has" if job.is_multi else "which of these labels a clip is"
    more = " ..." if len(job.labels) > MOST_CLASSES_SHOWN else ""
    begun = "from random weights" if job.initial.from_scratch else "from its own weights"
    return [
        f"It was trained ({job.initial.name}, {begun}, {counted(plan.num_parameters, 'parameter')}) to say of "
        f"{counted(len(job.train), 'recording')} of {name} what **{teacher['name']}** says of them, by tonearm "
        f"{run['tonearm']}. It says {kind}: {', '.join(job.labels[:MOST_CLASSES_SHOWN])}{more}.",
        "",
        f"- teacher: {teacher['name']}, revision {teacher['revision']}",
        f"- licence of the teacher: {teacher['licence'] or UNKNOWN}. What it asks of a model that was trained on the "
        "teacher's scores is for you to find out.",
    ]


def _figure_lines(facts: Mapping[str, Any]) -> list[str]:
    figures = facts["evaluation"]
    side = main_side(figures)
    if side is None or not figures[side]["num_tracks"]:
        return ["No recordings were held out, so nothing is known of how well it does."]
    of_side = figures[side]
    first = of_side["first_label"]
    rows = [
        ("first label of a recording is the teacher's", first["track"]),
        ("first label of a window is the teacher's", first["window"]),
        (f"mAP against the teacher, {counted(of_side['map']['num_labels'], 'label')}", of_side["map"]),
        (f"rank correlation by label, {counted(of_side['spearman']['num_labels'], 'label')}", of_side["spearman"]),
        ("the same over the labels of the mAP", of_side["spearman_of_said"]),
    ]
    lines = [
        f"On {counted(of_side['num_tracks'], 'held-out recording')}, {counted(of_side['num_windows'], 'window')} "
        f"({side}):",
        "",
        "| | value | 95% interval |",
        "|---|---:|---|",
        *(f"| {name} | {_format_number(figure['value'])} | {_format_interval(figure)} |" for name, figure in rows),
    ]
    truth = of_side.get("truth")
    if truth is not None:
        lines += [
            "",
            f"Against the collection's own labels ({counted(truth['num_tracks'], 'held-out recording')}, "
            f"{counted(truth['num_labels'], 'label')}):",
            "",
            "| | first of these labels is right | 95% interval | macro mAP |",
            "|---|---:|---|---:|",
        ]
        for who in ("student", "teacher"):
            right = truth[who]["first_of_known"]
            macro = _format_number(truth[who].get("macro_map"))
            lines.append(f"| {who} | {_format_number(right['value'])} | {_format_interval(right)} | {macro} |")
    return [*lines, "", "![curves](curves.png)"]


def _cost_table(cost: Mapping[str, Any]) -> list[str]:
    lines = [f"| a window of {cost['window_s']:g} s | parameters | multiply-adds |", "|---|---:|---:|"]
    for who in ("student", "teacher"):
        parameters, adds = cost[who]["num_parameters"], cost[who]["multiply_adds"]
        lines.append(
            f"| {who} | {UNKNOWN if parameters is None else f'{parameters / 1e6:,.2f} M'} "
            f"| {UNKNOWN if adds is None else f'{adds / 1e6:,.1f} M'} |"
        )
    if cost["times_less"] is not None:
        lines += ["", f"The student multiplies {cost['times_less']:,.1f} times less."]
    return lines


def _fallback_lines(fallback: Mapping[str, Any] | None) -> list[str]:
    if fallback is None:
        return ["No recordings were held out to find out."]
    lines = [
        f"Where its highest score of a window is below {fallback['threshold']:.4f}, ask the teacher: "
        f"{fallback['share_sent']:.1%} of {counted(fallback['num_windows'], 'held-out window')}, and then the first "
        f"label of {fallback['agreement']:.1%} of all is the teacher's (asked for: "
        f"{fallback['target_agreement']:.1%}). Chosen on these windows, it may be a little off on others. "
        "`tonearm tag --fallback HEAD=TEACHER` asks the teacher.",
        "",
        "| ask below | windows sent on | first labels that agree | of those not sent |",
        "|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {point['threshold']:.4f} | {point['share_sent']:.1%} | {point['agreement']:.3f} "
        f"| {_format_number(point['agreement_of_kept'])} |"
        for point in fallback["curve"]
    ]


def _caveats(plan: TrainingPlan, facts: Mapping[str, Any]) -> list[str]:
    settings, figures = plan.job.settings, facts["evaluation"]
    lines = [settings.note] if settings.note else []
    lines.append(
        "Agreement is with the teacher, not with the truth: where the teacher is wrong, a student that agrees is too."
    )
    side = main_side(figures)
    if side is not None and figures[side]["num_tracks"] < FEW_CLIPS:
        lines.append(
            f"It was judged on {counted(figures[side]['num_tracks'], 'recording')}. That is few: the intervals say how "
            "far another draw of as many could be off."
        )
    if side == "validation" and settings.keep == "best":
        lines.append("The same recordings chose the best epoch, so the figures flatter the student a little.")
    if settings.labels.group_by is None and settings.labels.split_by == STRATIFIED:
        lines.append(
            "No recording stands on both sides of the split, but recordings of one album or artist may: "
            "`--group-by` keeps them apart."
        )
    lines.append("It has heard one library. Of other music, rooms and encoders these figures say little.")
    return lines + plan.omitted.lines(settings.labels.split_by)


def _usage(plan: TrainingPlan) -> list[str]:
    head = "--tag-model" if plan.job.is_multi else "--genre-model"
    return [f"`tonearm tag SOURCE {head} MODEL --out OUT`, or any tool that takes a model of transformers."]


def _recipe_lines(plan: TrainingPlan, facts: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    settings, teacher = plan.job.settings, facts["teacher"]
    loss = "binary cross entropy" if plan.job.is_multi else "Kullback-Leibler divergence"
    return [
        f"- targets: the teacher's scores of windows of {teacher['window_s']:g} s at {teacher['sample_rate']:,} Hz, at "
        f"most {settings.max_windows} a recording; the student hears the same seconds at "
        f"{plan.job.windows.sample_rate:,} Hz; {loss}, mixup {settings.augment.mixup:g}",
        f"- {counted(settings.epochs, 'epoch')} of one window a recording, AdamW, learning rate "
        f"{settings.learning_rate:g}, weight decay {settings.weight_decay:g}, warm-up {settings.warmup_ratio:g}",
        f"- {counted(run['step_size'], 'window')} a step on {counted(run['workers'], 'worker')}; {run['precision']} on "
        f"{run['device']} ({run['why']}), seed {settings.seed}",
        f"- split: {describe_recordings(plan)}",
    ]


def _format_number(value: float | None) -> str:
    return "n/a" if value is None or value != value else f"{value:.3f}"


def _format_interval(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval"]
    return "n/a" if low is None or low != low else f"{low:.3f} to {high:.3f}"
