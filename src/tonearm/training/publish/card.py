"""Write the model card: what the model is, how it was evaluated, and what the figures do and do not show."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from tonearm import __version__
from tonearm.models.checkpoint import is_hub_id
from tonearm.sources.extensions import is_table
from tonearm.storage.uris import local_path, scheme
from tonearm.training.data.duplicates import count_by_side
from tonearm.training.data.splits import FAULT_FILTERED, STRATIFIED, straddling_groups
from tonearm.training.fit.job import TrainingJob
from tonearm.training.fit.result import Result
from tonearm.training.judge.headline import main_side
from tonearm.training.plan import TrainingPlan
from tonearm.wording import counted

MOST_CLASSES_SHOWN = 60
# With fewer held-out clips the card says that they are few: the 95% interval is then up to 7 points wide on each side.
FEW_CLIPS = 200


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The figures of the same training on another split."""

    split: str
    side: str
    figures: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is found of a finished training, for its figures' file and for its card.

    Attributes:
        source: what the collection was listed from.
        figures: by side.
        side: the one whose figures a reader should see first; None where nothing was held out.
        split: how the split was made, for a sentence.
        source_alone: see ``source_share``; None where no field says the source.
        copies: by side, how many held-out clips have their same samples in training, and how many others a copy.
        straddling: the groups with clips both to learn from and to be judged by.
        run: what the run said at its start, and the version that made it.
    """

    source: str
    figures: Mapping[str, Any]
    side: str | None
    split: str
    source_alone: SourceShare | None
    copies: Mapping[str, tuple[int, int]]
    straddling: Sequence[str]
    comparisons: Sequence[Comparison]
    run: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        plan: TrainingPlan,
        result: Result,
        figures: Mapping[str, Any],
        source: str,
        comparisons: Sequence[Comparison],
    ) -> Findings:
        """Return what is found of a training with these figures."""
        side = main_side(figures)
        return cls(
            source,
            figures,
            side,
            describe_split(plan),
            None if side is None else source_share(plan, side),
            count_by_side(plan.duplicates),
            straddling_groups(plan.collection.clips, plan.split),
            comparisons,
            {**result.run, "tonearm": __version__},
        )


class DatasetName(NamedTuple):
    """What a collection is called, and its hub id if it has one."""

    name: str
    hub_id: str | None = None


def dataset_name(source: str) -> DatasetName:
    """Return the name of a collection for the card, and its hub id if it has one."""
    if scheme(source) == "hf":
        name = "/".join(source.partition("://")[2].removeprefix("datasets/").split("/")[:2]).partition("@")[0]
        return DatasetName(name, hub_id=name)
    # Only the last part: a card is published, and a path may have a person's name in it.
    path = (local_path(source) if scheme(source) == "file" else source).rstrip("/")
    folder, _, name = path.rpartition("/")
    if is_table(name) and folder:
        name = folder.rpartition("/")[2]
    return DatasetName(name or path)


def describe_split(plan: TrainingPlan, split_by: str | None = None) -> str:
    """Return a phrase that says how the split was made."""
    labels = plan.job.settings.labels
    split_by = split_by or labels.split_by
    if split_by == STRATIFIED:
        description = f"stratified, {labels.validation_share:.0%} held out, seed {plan.job.settings.seed}"
    elif split_by == FAULT_FILTERED:
        description = "the artist-aware fault-filtered split of GTZAN"
    else:
        description = f"by `{split_by}`"
        for name, values in (("validation", labels.validation_on), ("test", labels.test_on)):
            description += f", {name} on {', '.join(values)}" if values else ""
    return description + (f", grouped by `{labels.group_by}`" if labels.group_by else "")


def write_card(plan: TrainingPlan, findings: Findings) -> str:
    """Return the text of README.md, with the metadata that the Hub reads, including ``model-index``."""
    job, initial = plan.job, plan.job.initial
    figures, side = findings.figures, findings.side
    name, hub_id = dataset_name(findings.source)
    metrics = ("macro_map", "micro_map", "mean_auc") if job.is_multi else ("accuracy", "macro_f1")
    rows = [(findings.split, side, figures[side])] if side is not None else []
    rows += [(entry.split, entry.side, entry.figures) for entry in findings.comparisons]
    results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=hub_id or name.lower(),
            dataset_name=f"{name} ({split})",
            dataset_split=held_out,
            # The Hub's own names for metrics.
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
    lines += _introduction(plan, findings.run)
    lines += ["", "## Figures", ""]
    lines += _figure_tables(plan, rows, figures, side)
    lines += ["", "## What the figures mean", ""]
    lines += [f"- {line}" for line in _caveats(plan, findings)]
    lines += ["", "## Use", "", *_usage(job)]
    lines += ["", "## Recipe", "", *_recipe_lines(plan, findings)]
    return "\n".join(lines) + "\n"


def _introduction(plan: TrainingPlan, run: Mapping[str, Any]) -> list[str]:
    initial, job = plan.job.initial, plan.job
    origin = (
        f"Trained from random weights ({initial.name})"
        if initial.from_scratch
        else f"Fine-tuned from {initial.name if is_hub_id(initial.name) else initial.folder.resolve().name}"
    )
    task = "says which of these tags a clip has" if job.is_multi else "says which of these classes a clip is"
    return [
        f"{origin}; {counted(plan.num_parameters, 'parameter')}. It {task}: "
        f"{', '.join(job.labels[:MOST_CLASSES_SHOWN])}"
        f"{' ...' if len(job.labels) > MOST_CLASSES_SHOWN else ''}.",
        "",
        f"Trained on {counted(len(job.train), 'clip')} by tonearm {run['tonearm']}.",
    ]


def _figure_tables(plan: TrainingPlan, rows: list[Any], figures: Mapping[str, Any], side: str | None) -> list[str]:
    job = plan.job
    if side is None:
        return ["No clips were held out, so nothing is known of how well it does."]
    if job.is_multi:
        lines = ["| split | tracks | macro mAP | micro mAP | mean AUC | d' |", "|---|---|---|---|---|---|"]
        for split, held_out, judged in rows:
            track = judged["track"]
            lines.append(
                f"| {_escape_cell(split)} ({held_out}) | {judged['num_tracks']:,} | {track['macro_map']:.3f} "
                f"| {track['micro_map']:.3f} | {track['mean_auc']:.3f} | {track['d_prime']:.2f} |"
            )
    else:
        lines = ["| split | tracks | accuracy | 95% interval | macro F1 | ECE |", "|---|---|---|---|---|---|"]
        for split, held_out, judged in rows:
            track = judged["track"]
            low, high = track["accuracy_interval"]
            lines.append(
                f"| {_escape_cell(split)} ({held_out}) | {judged['num_tracks']:,} | {track['accuracy']:.3f} "
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


def _escape_cell(text: str) -> str:
    # In Markdown a bar would end the cell.
    return text.replace("|", "\\|")


def _caveats(plan: TrainingPlan, findings: Findings) -> list[str]:
    labels, note = plan.job.settings.labels, plan.job.settings.note
    figures, side = findings.figures, findings.side
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
        straddling = len(findings.straddling)
        groups = counted(straddling, "group") if straddling else "No groups"
        groups_stand = "stands" if straddling == 1 else "stand"
        lines.append(f"{groups} by `{labels.group_by}` {groups_stand} on both sides of the split.")
    if findings.source_alone is not None:
        share, chance = findings.source_alone
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
    if side in findings.copies:
        num_exact, num_other = findings.copies[side]
        counted_note = "" if labels.duplicates == "drop" else " They are counted in the figures."
        lines.append(
            f"{num_exact + num_other} of the held-out clips are in the training collection too ({num_exact} the same "
            f"samples).{counted_note}"
        )
    elif labels.duplicates != "ignore":
        lines.append("No held-out clip was found in training, neither the same samples nor another copy of them.")
    return lines + plan.omitted.lines(labels.split_by)


class SourceShare(NamedTuple):
    """How often a clip's label is its source's most frequent one in training, and the most frequent one of all."""

    by_source: float
    by_chance: float


def source_share(plan: TrainingPlan, side: str) -> SourceShare | None:
    """Return the accuracy of guessing each held-out clip's label from its source alone, and of one constant guess."""
    if plan.job.settings.labels.source_by is None or plan.job.is_multi:
        return None
    clips, held_out = plan.collection.clips, plan.split.sides()[side]
    by_source: dict[str | None, Counter[str]] = {}
    all_labels: Counter[str] = Counter()
    for clip in plan.split.train:
        (label,) = clips[clip].labels or ("",)
        by_source.setdefault(clips[clip].source, Counter())[label] += 1
        all_labels[label] += 1
    # A source that is not in training tells nothing, so the guess is the most frequent class overall.
    most_frequent = all_labels.most_common(1)[0][0]
    guesses = [by_source.get(clips[clip].source, all_labels).most_common(1)[0][0] for clip in held_out]
    truths = [(clips[clip].labels or ("",))[0] for clip in held_out]
    num_right = sum(guess == truth for guess, truth in zip(guesses, truths, strict=True))
    return SourceShare(num_right / len(held_out), truths.count(most_frequent) / len(held_out))


def _usage(job: TrainingJob) -> list[str]:
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


def _recipe_lines(plan: TrainingPlan, findings: Findings) -> list[str]:
    settings, run = plan.job.settings, findings.run
    lines = [
        f"- {counted(settings.epochs, 'epoch')}, AdamW, learning rate {settings.learning_rate:g}, weight decay "
        f"{settings.weight_decay:g}, warm-up {settings.warmup_ratio:g}, linear decay",
        f"- {counted(run['step_size'], 'clip')} a step: workers {run['workers']} × batch {settings.batch_size} × "
        f"accumulated {settings.accumulate}",
        f"- {run['precision']} on {run['device']} ({run['why']}), seed {settings.seed}",
        f"- split: {findings.split}",
    ]
    # Only the augmentation that was changed is listed.
    default = type(settings.augment)()
    changed = {
        field.name: getattr(settings.augment, field.name)
        for field in dataclasses.fields(default)
        if getattr(settings.augment, field.name) != getattr(default, field.name)
    }
    if changed:
        lines.append(f"- augmentation: {', '.join(f'{name} {value}' for name, value in changed.items())}")
    return lines
