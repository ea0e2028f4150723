"""``tonearm tag``: settings from flags, the run, and what a person is told at its end."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonearm import settings as settings_module
from tonearm.cli.terminal import ProgressLine
from tonearm.errors import DestinationError, UsageError
from tonearm.runs.destination import Destination
from tonearm.runs.run_summary import read_run
from tonearm.settings import TagSettings
from tonearm.storage import filesystems
from tonearm.storage.uris import visible

if TYPE_CHECKING:
    from tonearm.planning.summary import Outcome
    from tonearm.runs.run_summary import RunSummary

# What other verbs read of the same file.
TABLES = ("train", "serve")


def tag_settings(
    flags: Mapping[str, Any],
    config: Path | None,
    *,
    genre_model: str | None,
    tag_model: str | None,
    demo_models: bool,
) -> TagSettings:
    """Return the run's settings: flags over the TOML file over the defaults.

    Raises:
        SettingsError: an unknown key or a wrong value.
        UsageError: flags that contradict each other.
    """
    values = read_values(config)
    for table in TABLES:
        values.pop(table, None)
    values = settings_module.merge(values, flags)
    values["models"] = choose_models(
        values.get("models", {}), genre_model=genre_model, tag_model=tag_model, demo_models=demo_models
    )
    return settings_module.build(TagSettings, values, where=str(config or "settings"))


def read_values(config: Path | None) -> dict[str, Any]:
    """Return the tables of ``config``, or of ./tonearm.toml where there is one.

    Raises:
        SettingsError: not a TOML file.
    """
    if config is None and not Path("tonearm.toml").is_file():
        return {}
    return settings_module.read_toml(config or "tonearm.toml")


def choose_models(
    models: Mapping[str, Any], *, genre_model: str | None, tag_model: str | None, demo_models: bool
) -> dict[str, Any]:
    """Return the table ``[models]`` with the flags that name checkpoints put in.

    Raises:
        UsageError: flags that contradict each other.
    """
    chosen = dict(models)
    if demo_models:
        if genre_model or tag_model:
            raise UsageError("got --demo-models together with --genre-model or --tag-model; give one or the other")
        from tonearm import demo

        chosen |= demo.models()
    chosen |= {
        name: value for name, value in (("genre_model", genre_model), ("tag_model", tag_model)) if value is not None
    }
    # TOML has no null; 'none' turns a head off from a file as from a flag.
    return chosen | {name: None for name in ("genre_model", "tag_model") if chosen.get(name) == "none"}


def tag(
    sources: Sequence[str],
    out: str,
    settings: TagSettings,
    *,
    retry_errors: bool = False,
    rescore: Sequence[str] = (),
    demo_models: bool = False,
) -> int:
    """Run, write the report, print what was done and found; return the exit status."""
    from tonearm import demo
    from tonearm.cli import run_end
    from tonearm.cli.plan import beside_truth
    from tonearm.distributed.tagging import driver
    from tonearm.planning.estimate import kept

    stop_like_ctrl_c()
    if demo_models:
        print(demo.NOTICE, file=sys.stderr)
    with ProgressLine() as watcher:
        outcome = driver.tag_library(sources, out, settings, watcher, retry_errors=retry_errors, rescore=rescore)
    # Before the library is counted, which takes a while where it is large.
    _print(run_end.done_lines(outcome, out))
    summary, report = _report(out, outcome, settings, notice=demo.NOTICE if demo_models else None)
    if outcome.counts is not None:
        _print(run_end.how_lines(summary, outcome))
        beside = beside_truth(
            kept(Destination.of(out)),
            num_tracks=outcome.counts.num_tracks,
            audio_s=outcome.counts.audio_s,
            wall_s=outcome.wall_s,
        )
        _print([] if beside is None else [beside])
    _print(run_end.found_lines(summary.found))
    _print(run_end.next_lines(out, report))
    run_end.refuse_failures(outcome.audit, settings.max_error_rate)
    return 0


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(visible(line))


def _report(out: str, outcome: Outcome, settings: TagSettings, *, notice: str | None) -> tuple[RunSummary, str]:
    """Write the run's summary and the report, unless they say this already; return the summary and where that is."""
    from tonearm.planning.summary import summarize
    from tonearm.report.figures import gather
    from tonearm.report.page import write_report
    from tonearm.runs.run_summary import write_run

    last = _reported(out, outcome)
    if last is not None and last.found is not None:
        return last, Destination(out).report
    figures = gather(out)
    if last is not None:  # the summary of an earlier tonearm
        return dataclasses.replace(last, found=figures.found()), Destination(out).report
    summary = summarize(outcome, settings, command=sys.argv, notice=notice)
    summary = dataclasses.replace(summary, found=figures.found())
    write_run(out, summary)
    return summary, write_report(out, summary, figures)


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
    said = (last.manifest.num_tracks, last.results.num_ok, last.results.num_error)
    return last if said == (audit.num_listed, audit.num_ok, audit.num_error) else None


def stop_like_ctrl_c() -> None:
    """Let SIGTERM, which schedulers send, end a run as cleanly as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
