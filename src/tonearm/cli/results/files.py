"""``tonearm report``, ``export`` and ``compact``: what is said of the files that they have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tonearm
from tonearm.api.progress import ProgressLine
from tonearm.cli.output import Output
from tonearm.exports.export import named_options
from tonearm.report import text as report_text
from tonearm.storage.uris import shown
from tonearm.wording import counted


def report(dest: str, *, as_json: bool = False) -> int:
    """Write the report, and print where it is; return the exit status."""
    output, path = Output(as_json), tonearm.Library(dest).report()
    if not as_json:
        output.say(path)
    output.result({"run": dest, "report": path})
    return 0


def export(
    dest: str,
    place: str,
    *,
    format: str | None,
    options: Mapping[str, object],
    named: Sequence[str],
    where: str | None,
    all_versions: bool,
    overwrite: bool,
    as_json: bool = False,
) -> int:
    """Write the rows, and print how many; return the exit status.

    Args:
        named: of formats that packages have added, ``NAME=VALUE`` each.
    """
    output = Output(as_json)
    counts = tonearm.Library(dest).export(
        place,
        format=format,
        where=where,
        all_versions=all_versions,
        overwrite=overwrite,
        **{**options, **named_options(named)},
    )
    output.say(f"{counts.output}: {counted(counts.num_tracks, 'track')} in {counted(counts.num_files, 'file')}")
    for note in counts.notes:
        output.say(note)
    if counts.num_unlisted:
        unlisted = counted(counts.num_unlisted, "track")
        output.say(f"left out: {unlisted} that are no longer listed; --all-versions takes them too")
    output.result(counts)
    return 0


def compact(dest: str, *, as_json: bool = False) -> int:
    """Rewrite the small files of ``dest`` as few large ones; return the exit status."""
    output = Output(as_json)
    with ProgressLine("compacting") as line:
        done = tonearm.Library(dest).compact(watcher=line)
    if done.num_before:
        output.say(
            f"{counted(done.num_rows, 'row')} of {counted(done.num_before, 'file')} are in {done.num_after:,} now, "
            f"sorted by key, {report_text.size(done.num_bytes)}"
        )
    else:
        output.say(f"nothing to do: {shown(dest)}/tracks has no small files to put together")
    output.result(done)
    return 0
