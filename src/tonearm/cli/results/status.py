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
    current = tonearm.Library(dest).status(waiting=_say)
    output = Output(as_json)
    if not as_json:
        output.prose.write("\n".join(lines(current)) + "\n")
    output.result(current)
    return 0


# On stderr: with --json, standard output has the document alone.
def _say(line: str) -> None:
    print(line, file=sys.stderr)


def lines(status: Status) -> list[str]:
    """Return what a person wants to know, one fact per line."""
    place = shown(status.destination)
    if status.num_listed is None:
        seen = f", {counted(status.progress.num_listed, 'track')} so far" if status.progress is not None else ""
        text = [f"{place}: being listed{seen}"]
    else:
        share = status.num_done / status.num_listed if status.num_listed else 1.0
        failed = sum(status.errors_by_code.values())
        tagged = f"{status.num_done - failed:,} of {counted(status.num_listed, 'track')} tagged"
        text = [f"{place}: {tagged}, {failed:,} failed ({share:.1%} done)"]
    for group, count in status.missing_by_group.items():
        if todo := count - (failed := status.failed_by_group.get(group, 0)):
            text.append(f"{group} is missing in {todo:,} of them; tag with that model again to add it")
        if failed:
            why = "their error_message says why, and `tonearm tag --retry-errors` tries again"
            text.append(f"{group} could not be added to {failed:,} of them; {why}")
    if status.num_unlisted:
        text.append(
            f"no longer listed: {counted(status.num_unlisted, 'track', 'has a row', 'have rows')} that nothing shows"
        )
    if status.num_superseded:
        text.append(f"superseded: {counted(status.num_superseded, 'row')}; the next run removes them")
    if status.errors_by_code:
        text.append(f"failed: {by_count(status.errors_by_code)}")
    text.append(_state(status))
    if status.state == "running" and status.progress is not None and status.progress.num_tracks:
        now = status.progress
        elapsed = max(1e-3, (now.at - now.started).total_seconds())
        left = f", {clock(now.left_s)} left" if now.left_s is not None else ""
        text.append(
            f"this run: {counted(now.num_tracks, 'track')}, {hours(now.audio_s)} of audio in {clock(elapsed)}, "
            f"{now.audio_s / elapsed:.0f}× real time{left}"
        )
    if status.last is not None and status.last.speed is not None:
        did = f"{counted(status.last.speed.num_tracks, 'track')} in {clock(status.last.wall_s)}"
        text.append(f"last run that ended: {status.last.run_id}, {did}")
    return text


def _state(status: Status) -> str:
    again = "run the same command to resume"
    if status.state == "complete":
        return "complete: every listed track has its row"
    if status.holder is not None:
        who = f"process {status.holder.pid} on {status.holder.host} since {status.holder.since} UTC"
        if status.state == "killed":
            how = "was killed" if status.silent_s is None else f"gave no sign of life for {status.silent_s:.0f} s"
            return f"not running: {who} {how}; {again}"
        seen = "" if status.silent_s is None else f"; a sign of life came after {status.silent_s:.0f} s"
        return f"running: {who}{seen}"
    if status.state == "stopped" and status.progress is not None:
        return f"stopped at {status.progress.at:%Y-%m-%d %H:%M:%S} UTC: {status.progress.doing}"
    return f"not running and unfinished; {again}"
