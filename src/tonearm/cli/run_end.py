"""What is printed at the end of a run: what was done, what failed, which labels were given, what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from tonearm.report import text as report_text
from tonearm.report.text import size
from tonearm.storage.uris import shown
from tonearm.wording import by_count, clock, counted, hours, some

if TYPE_CHECKING:
    from tonearm.planning.summary import Outcome
    from tonearm.runs.resume import Audit
    from tonearm.runs.run_summary import FoundLabels, RunSummary

NUM_CODES, NUM_GENRES, NUM_TAGS, NUM_EXTENSIONS = 6, 8, 5, 8


def done_lines(outcome: Outcome, out: str) -> list[str]:
    """Return what a run did; what it had nothing to do with is said too."""
    audit, counts = outcome.audit, outcome.counts
    if counts is None:
        are = counted(audit.num_listed, "track", "is", "are")
        failed = f", {audit.num_error:,} failed" if audit.num_error else ""
        lines = [
            f"nothing to do: {'all ' * (audit.num_listed > 1)}{are} in {shown(out)} already",
            f"{counted(audit.num_ok, 'track')} tagged{failed} ({hours(audit.audio_s)} of audio)",
        ]
    else:
        num_new = audit.num_written - outcome.num_done_before
        num_failed = min(counts.num_failed, num_new)  # a track of a worker that died is counted twice
        failed = f", {num_failed:,} failed" if num_failed else ""
        speed = f", {counts.audio_s / outcome.wall_s:.0f}× real time" if outcome.wall_s else ""
        tagged = counted(num_new - num_failed, "track")
        lines = [f"{tagged} tagged{failed} ({hours(counts.audio_s)} of audio) in {clock(outcome.wall_s)}{speed}"]
    if audit.num_error:
        earlier = ", earlier runs included" if counts is not None and outcome.num_done_before else ""
        lines.append(f"failed{earlier}: {by_count(audit.errors_by_code, NUM_CODES)}")
    lines += missing_lines(audit)
    if outcome.num_skipped:
        kinds = {kind or "without extension": count for kind, count in outcome.num_skipped.items()}
        lines.append(f"skipped, not audio: {by_count(kinds, NUM_EXTENSIONS)}")
    if counts is not None:
        rows = f"{counted(audit.num_written, 'row')} for {counted(audit.num_listed, 'track')}"
        lines.append(f"audit: {rows}, none lost, none twice")
    return lines


def missing_lines(audit: Audit) -> list[str]:
    """Return which groups of columns could not be added."""
    lines = []
    for group, count in audit.missing_by_group.items():
        stay = "which stays as it was; its" if count == 1 else "which stay as they were; their"
        failed = audit.failed_by_group.get(group, 0)
        again = f"; `tonearm tag --retry-errors` tries {failed:,} of them again" if failed else ""
        lines.append(f"{group} could not be added to {counted(count, 'row')}, {stay} error_message says why{again}")
    return lines


def found_lines(labels: FoundLabels | None) -> list[str]:
    """Return the genres by their tracks, and the tags that say most."""
    lines: list[str] = []
    if labels is None:
        return lines
    if labels.genres:
        lines.append(f"genres: {_most(labels.genres, NUM_GENRES, labels.num_genres)}")
    if labels.tags:
        lines.append(f"tags, those that say most first: {_most(labels.tags, NUM_TAGS, labels.num_tags)}")
    elif labels.faint_tags:
        means = ", ".join(f"{label} {mean:.2f}" for label, mean in list(labels.faint_tags.items())[:NUM_TAGS])
        lines.append(f"tags: none scores 0.5 or more; the highest means are {means}")
    for head, counts in labels.heads.items():
        if counts:
            lines.append(f"{head}: {_most(counts, NUM_GENRES, len(counts))}")
    return lines


def _most(counts: dict[str, int], most: int, num_all: int) -> str:
    names = [f"{count:,} {label}" for label, count in counts.items()]
    # Of a long tail only the number is kept.
    return some(names + [""] * (num_all - len(names)), most)


def how_lines(summary: RunSummary, outcome: Outcome) -> list[str]:
    """Return what the heads ran on, what the rest waited for, and whether Ray wanted for memory."""
    ran: dict[str, list[str]] = {}
    for head, model in summary.models().items():
        if model.runtime:
            note = f" ({model.note})" if model.note else ""
            graphs = {"graphs": " with graphs", "eager": " without graphs"}.get(model.passes, "")
            ran.setdefault(f"{model.runtime} {model.precision} on {model.device}{graphs}{note}", []).append(head)
    texts = [f"{' and '.join(heads)} ran on {how}" for how, heads in ran.items()]
    fallbacks = {head: model.fallback for head, model in summary.models().items() if model.fallback is not None}
    if summary.speed is not None and summary.speed.bottleneck:
        texts.append(f"bottleneck: {summary.speed.bottleneck}")
    lines = ["; ".join(texts)] if texts else []
    lines += [f"{head}: {report_text.fallback(facts)}" for head, facts in fallbacks.items()]
    if outcome.spilled_bytes:
        spilled = size(outcome.spilled_bytes)
        lines.append(f"Ray's object store spilled {spilled} to disk; give it more memory, or more scoring workers")
    return lines


def next_lines(out: str, report: str) -> list[str]:
    """Return where the report is, and the commands to run next, quoted for a shell."""
    commands: list[tuple[str, Any]] = [
        (
            f"tonearm export {shlex.quote(out)} tracks.csv",
            "every track as a table; also .jsonl, playlists, ...: tonearm export --help",
        ),
        (f"tonearm status {shlex.quote(out)}", "what is done, and what failed"),
        (f"tonearm report {shlex.quote(out)}", "the report written again"),
    ]
    width = max(len(command) for command, _ in commands)
    lines = [f"{command:{width}}  {what}" for command, what in commands]
    return [f"report: {report}", *(f"{'next:' if not place else '':6}{line}" for place, line in enumerate(lines))]


def compare_with_estimate(
    estimate: dict[str, Any] | None, *, num_tracks: int, audio_s: float, wall_s: float
) -> str | None:
    """Return the line that compares a run with its estimate, or None where there is none for it."""
    if estimate is None or estimate["num_tracks"] != num_tracks:
        return None
    return (
        f"planned: {hours(estimate['audio_s'])} of audio in {clock(estimate['wall_s'])}; "
        f"it was {hours(audio_s)} in {clock(wall_s)}"
    )
