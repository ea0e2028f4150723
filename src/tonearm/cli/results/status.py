"""``tonearm status``: how far a destination is."""

from __future__ import annotations

import sys

import tonearm
from tonearm.cli.output import Output
from tonearm.runs.status import Status
from tonearm.storage.uris import shown
from tonearm.wording import by_count, clock, counted, hours


def status(dest: str, *, as_json: bool = False) -> int:
    """Print how far ``dest`` is."""
    found = tonearm.Library(dest).status(waiting=_say)
    output = Output(as_json)
    if not as_json:
        output.prose.write("\n".join(lines(found)) + "\n")
    output.result(found)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def lines(found: Status) -> list[str]:
    """Return what a person wants to know, a line each."""
    place = shown(found.destination)
    if found.num_listed is None:
        seen = f", {counted(found.progress.num_listed, 'track')} so far" if found.progress is not None else ""
        text = [f"{place}: being listed{seen}"]
    else:
        share = found.num_done / found.num_listed if found.num_listed else 1.0
        failed = sum(found.errors_by_code.values())
        tagged = f"{found.num_done - failed:,} of {counted(found.num_listed, 'track')} tagged"
        text = [f"{place}: {tagged}, {failed:,} failed ({share:.1%} done)"]
    for group, count in found.missing_by_group.items():
        if todo := count - (failed := found.failed_by_group.get(group, 0)):
            text.append(f"{group} is missing in {todo:,} of them; tag with that model again to add it")
        if failed:
            why = "their error_message says why, and `tonearm tag --retry-errors` tries again"
            text.append(f"{group} could not be added to {failed:,} of them; {why}")
    if found.num_unlisted:
        text.append(
            f"no longer listed: {counted(found.num_unlisted, 'track', 'has a row', 'have rows')} that nothing shows"
        )
    if found.num_superseded:
        text.append(f"superseded: {counted(found.num_superseded, 'row')}; the next run removes them")
    if found.errors_by_code:
        text.append(f"failed: {by_count(found.errors_by_code)}")
    text.append(_state(found))
    if found.state == "running" and found.progress is not None and found.progress.num_tracks:
        now = found.progress
        elapsed = max(1e-3, (now.at - now.started).total_seconds())
        left = f", {clock(now.left_s)} left" if now.left_s is not None else ""
        text.append(
            f"this run: {counted(now.num_tracks, 'track')}, {hours(now.audio_s)} of audio in {clock(elapsed)}, "
            f"{now.audio_s / elapsed:.0f}× real time{left}"
        )
    if found.last is not None and found.last.speed is not None:
        did = f"{counted(found.last.speed.num_tracks, 'track')} in {clock(found.last.wall_s)}"
        text.append(f"last run that ended: {found.last.run_id}, {did}")
    return text


def _state(found: Status) -> str:
    again = "run the same command to go on"
    if found.state == "complete":
        return "complete: every listed track has its row"
    if found.holder is not None:
        who = f"process {found.holder.pid} on {found.holder.host} since {found.holder.since} UTC"
        if found.state == "killed":
            how = "was killed" if found.silent_s is None else f"gave no sign of life for {found.silent_s:.0f} s"
            return f"not running: {who} {how}; {again}"
        seen = "" if found.silent_s is None else f"; a sign of life came after {found.silent_s:.0f} s"
        return f"running: {who}{seen}"
    if found.state == "stopped" and found.progress is not None:
        return f"stopped at {found.progress.at:%Y-%m-%d %H:%M:%S} UTC: {found.progress.doing}"
    return f"not running and unfinished; {again}"
