"""``tonearm tag``: settings from flags, the run, and what a person is told at its end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonearm import settings as settings_module
from tonearm.cli.terminal import ProgressLine, clock, hours
from tonearm.errors import TooManyFailures, UsageError
from tonearm.library.uris import shown, visible
from tonearm.settings import TagSettings

if TYPE_CHECKING:
    from tonearm.library.resume import Audit
    from tonearm.library.run_summary import RunSummary

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
    """Run, write the report, print what was done; return the exit status."""
    from tonearm import demo
    from tonearm.cli.plan import beside_truth
    from tonearm.distributed import batch
    from tonearm.distributed.summary import summarize
    from tonearm.library import stores
    from tonearm.library.report import write_report
    from tonearm.library.report_text import size
    from tonearm.library.run_summary import write_run
    from tonearm.library.runs import Destination
    from tonearm.planning.estimate import kept

    stop_like_ctrl_c()
    if demo_models:
        print(demo.NOTICE, file=sys.stderr)
    with ProgressLine() as watcher:
        outcome = batch.tag_library(sources, out, settings, watcher, retry_errors=retry_errors, rescore=rescore)
    audit = outcome.audit
    if outcome.counts is None:
        print(f"nothing to do: all {audit.num_listed:,} tracks are in {shown(out)} already")
        _print_missing(audit)
    with stores.reading(out):
        is_reported = outcome.counts is None and stores.exists(Destination(out).report)
    if not is_reported:
        summary = summarize(outcome, settings, command=sys.argv, notice=demo.NOTICE if demo_models else None)
        write_run(out, summary)
        report = write_report(out, summary)
        if outcome.counts is not None:
            _print_end(outcome)
            _print_how(summary)
            beside = beside_truth(
                kept(Destination.of(out)),
                num_tracks=outcome.counts.num_tracks,
                audio_s=outcome.counts.audio_s,
                wall_s=outcome.wall_s,
            )
            if beside is not None:
                print(beside)
            if outcome.spilled_bytes:
                spilled = size(outcome.spilled_bytes)
                print(f"Ray's object store spilled {spilled} to disk; give it more memory, or more scoring workers")
        print(f"report: {shown(report)}")
    if audit.error_rate > settings.max_error_rate:
        codes = [f"{count} {code}" for code, count in audit.errors_by_code.items()]
        codes += [f"{count} without {group}" for group, count in audit.missing_by_group.items()]
        failed = audit.num_error + audit.num_incomplete
        raise TooManyFailures(
            f"{failed:,} of {audit.num_listed:,} tracks failed ({', '.join(codes)}), more than --max-error-rate "
            f"{settings.max_error_rate:g} allows; every track has its row, with the reason in error_message"
        )
    return 0


def _print_end(outcome: Any) -> None:
    audit = outcome.audit
    num_new = audit.num_written - outcome.num_done_before
    speed = f", {outcome.counts.audio_s / outcome.wall_s:.0f}× real time" if outcome.wall_s else ""
    print(f"{num_new:,} tracks tagged ({hours(outcome.counts.audio_s)} of audio) in {clock(outcome.wall_s)}{speed}")
    if audit.num_error:
        codes = ", ".join(f"{count} {code}" for code, count in audit.errors_by_code.items())
        print(f"{audit.num_error:,} failed: {codes}")
    _print_missing(audit)
    if outcome.num_skipped:
        skipped = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in outcome.num_skipped.items())
        print(visible(f"skipped, not audio: {skipped}"))
    print(f"audit: {audit.num_written:,} rows for {audit.num_listed:,} tracks, none lost, none twice")


def _print_missing(audit: Audit) -> None:
    for group, count in audit.missing_by_group.items():
        line = f"{group} could not be added to {count:,} rows, which stay as they were; their error_message says why"
        failed = audit.failed_by_group.get(group, 0)
        print(f"{line}; --retry-errors tries {failed:,} of them again" if failed else line)


def _print_how(summary: RunSummary) -> None:
    models = {"genre": summary.genre_model, "tags": summary.tag_model}
    ran: dict[str, list[str]] = {}
    for head, model in models.items():
        if model is not None and model.runtime:
            note = f" ({model.note})" if model.note else ""
            ran.setdefault(f"{model.runtime} {model.precision} on {model.device}{note}", []).append(head)
    texts = [f"{' and '.join(heads)} ran on {how}" for how, heads in ran.items()]
    if summary.speed is not None and summary.speed.bottleneck:
        texts.append(f"bottleneck: {summary.speed.bottleneck}")
    print("; ".join(texts))


def stop_like_ctrl_c() -> None:
    """Let SIGTERM, which schedulers send, end a run as cleanly as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
