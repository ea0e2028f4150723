"""The ``tonearm`` command: one function per verb."""

from __future__ import annotations

import errno
import os
import sys

from tonearm import own_process
from tonearm.errors import TonearmError

# What typer returns for a Ctrl-C that a verb leaves to it.
INTERRUPTED = 130


def main() -> None:
    """Run the command; the exit status is that of ``tonearm.errors``."""
    # Before anything else is imported: a random.py beside somebody's music would be run.
    own_process.leave_current_folder()
    from tonearm import surroundings

    surroundings.open_standard_streams()
    try:
        surroundings.settle_folders()
        from tonearm.cli.app import app

        status = app(standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
    except TonearmError as error:
        _say(error.message)
        status = error.exit_status
    except KeyboardInterrupt:
        print("tonearm: stopped", file=sys.stderr)
        status = 4
    except BrokenPipeError:
        # The reader of a pipe (head, less) has what it wanted.
        # Python flushes standard output once more when it ends, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:  # noqa: BLE001  the process boundary: click's own errors know how to show themselves
        status = _unexpected(error)
    sys.exit(status if isinstance(status, int) else 0)


def _unexpected(error: Exception) -> int:
    import tempfile
    import traceback

    import typer

    if isinstance(error, typer.Abort):
        return 4
    # typer brings a click of its own, whose errors have no public name.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        _say(f"{error.format_message().rstrip('.')}; see {_command_path(error)} --help")
        return int(error.exit_code)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = str(error.filename) if error.filename else f"the folder for temporary files ({tempfile.gettempdir()})"
        _say(f"no space left for {place}; free some and run the same command again")
        return 4
    traceback.print_exception(error)
    _say("this is a bug; please report it with the lines above")
    return 1


def _say(line: str) -> None:
    from tonearm.storage.uris import visible

    print(f"tonearm: {visible(line)}", file=sys.stderr)


def _command_path(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "tonearm"
