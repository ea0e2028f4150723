"""``tonearm.tag``: a library tagged into a destination, with the run's summary and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from tonearm import demo
from tonearm.api import flags as flags_
from tonearm.api.flags import Source, Sources, TagFlags
from tonearm.api.library import Library
from tonearm.api.progress import ProgressLine
from tonearm.distributed.tagging import driver
from tonearm.errors import DestinationError, TooManyFailures
from tonearm.planning.estimate import read_estimate
from tonearm.planning.summary import Outcome, summarize
from tonearm.report import figures as report_figures
from tonearm.report.page import write_report
from tonearm.runs.destination import Destination
from tonearm.runs.resume import Audit
from tonearm.runs.run_summary import RunSummary, read_run, write_run
from tonearm.settings import TagSettings
from tonearm.sources.registry import check_extras
from tonearm.storage import filesystems
from tonearm.watchers import Watcher
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a run did, once its summary and the report are written.

    Attributes:
        report: where the report is.
        planned: the estimate that ``plan`` has kept at the destination, as JSON has it; None without one.
    """

    outcome: Outcome
    summary: RunSummary
    report: str
    planned: dict[str, Any] | None


def tag(
    sources: Sources,
    *,
    out: Source,
    retry_errors: bool = False,
    rescore: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: Sequence[str] | None = None,
    **flags: Unpack[TagFlags],
) -> Library:
    """Tag every track of ``sources`` into ``out``: what ``tonearm tag SOURCES --out OUT`` does.

    The same call resumes a run that was stopped, and adds what is new. It blocks; meanwhile a progress line is shown in
    a terminal or a notebook.

    Args:
        sources: one or several: folders, files, globs, ``s3://``, ``gs://``, ``az://`` and ``https://`` URLs, tables of
            URIs, ``hf://datasets/OWNER/NAME``.
        out: a folder or object-store prefix for the rows and the report.
        retry_errors: take up the failed tracks of earlier runs again.
        rescore: one or several groups (``"genre"``, ``"tags"``) whose columns are made again where other settings made
            them.
        watcher: reports how the run goes, instead of a progress line.
        command: what the run's summary says was run; by default this call, as a command.
        flags: see ``api.flags.TagFlags``, ``ScoreFlags`` and ``ModelFlags``.

    Raises:
        UsageError: sources, models, a destination or a cluster that cannot be used.
        Stopped: the run ended early; the same call resumes it.
        TooManyFailures: more tracks failed than ``max_error_rate`` allows; all rows and the report are written.
    """
    listed, place = flags_.source_list(sources), flags_.place_of(out, "out")
    rescore = flags_.texts(rescore, "rescore")
    check_extras([*listed, place])
    settings = flags_.tag_settings(flags)
    notice = demo.NOTICE if flags.get("demo_models") else None
    words = command if command is not None else _command(listed, place, flags, retry_errors, rescore)
    with contextlib.ExitStack() as stack:
        watcher = watcher or stack.enter_context(ProgressLine())
        outcome = driver.tag_library(listed, place, settings, watcher, retry_errors=retry_errors, rescore=rescore)
        watcher.tagged(outcome)
        summary = _report(place, outcome, settings, words, notice)
        estimated = read_estimate(Destination.of(place))
        watcher.reported(FinishedRun(outcome, summary, Destination(place).report, estimated))
    # Last: the report is what shows why so many failed.
    refuse_failures(outcome.audit, settings.max_error_rate)
    return Library(place)


def refuse_failures(audit: Audit, max_error_rate: float) -> None:
    """Raise ``TooManyFailures`` where a larger share than ``max_error_rate`` failed."""
    if audit.error_rate <= max_error_rate:
        return
    codes = [f"{count:,} {code}" for code, count in audit.errors_by_code.items()]
    codes += [f"{count:,} without {group}" for group, count in audit.missing_by_group.items()]
    raise TooManyFailures(
        f"{audit.num_error + audit.num_incomplete:,} of {counted(audit.num_listed, 'track')} failed "
        f"({', '.join(codes)}), more than --max-error-rate {max_error_rate:g} allows; every track has its row, with "
        "the reason in error_message"
    )


def _report(
    out: str, outcome: Outcome, settings: TagSettings, command: Sequence[str], notice: str | None
) -> RunSummary:
    """Write the run's summary and the report, unless they say this already; return the summary."""
    last = _reported(out, outcome)
    if last is not None and last.found is not None:
        return last
    figures = report_figures.gather(out)
    if last is not None:  # the summary of an earlier tonearm
        return dataclasses.replace(last, found=figures.found())
    summary = summarize(outcome, settings, command=command, notice=notice)
    summary = dataclasses.replace(summary, found=figures.found())
    write_run(out, summary)
    write_report(out, summary, figures)
    return summary


def _reported(out: str, outcome: Outcome) -> RunSummary | None:
    """Return the last run where this one had nothing to do and the report of that one says it all."""
    if outcome.counts is not None:
        return None
    try:
        with filesystems.reading(out):
            if not filesystems.exists(Destination(out).report):
                return None
        last = read_run(out)
    except DestinationError:
        return None
    audit = outcome.audit
    reported = (last.manifest.num_tracks, last.results.num_ok, last.results.num_error)
    return last if reported == (audit.num_listed, audit.num_ok, audit.num_error) else None


def _command(
    sources: Sequence[str], out: str, flags: Mapping[str, Any], retry_errors: bool, rescore: Sequence[str]
) -> list[str]:
    """Return the command that does the same."""
    words = ["tonearm", "tag", *sources, "--out", out]
    given = {**flags, "retry_errors": retry_errors}
    heads, fallback = given.pop("heads", None) or {}, given.pop("fallback", None) or {}
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, str(value)]
    for group in rescore:
        words += ["--rescore", group]
    for name, model in heads.items():
        words += ["--head", f"{name}={os.fspath(model)}" if model else name]
    for name, model in fallback.items():
        words += ["--fallback", f"{name}={os.fspath(model)}"]
    return words
