"""The ``tonearm`` command: one verb a function."""

from __future__ import annotations

import io
import os
import sys

from tonearm.errors import TonearmError


def main() -> None:
    """Run the command; the exit status is that of ``tonearm.errors``."""
    _open_standard_streams()
    from tonearm.cli.app import app

    try:
        status = app(standalone_mode=False)
    except TonearmError as error:
        print(f"tonearm: {error.message}", file=sys.stderr)
        status = error.exit_status
    except KeyboardInterrupt:
        print("tonearm: stopped", file=sys.stderr)
        status = 4
    except BrokenPipeError:
        # The reader of a pipe (head, less) has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:  # noqa: BLE001  the process boundary: click's own errors know how to show themselves
        status = _unexpected(error)
    sys.exit(status if isinstance(status, int) else 0)


def _open_standard_streams() -> None:
    """Give a command that was started without them its standard streams, and let none of them fail at a sign.

    A closed descriptor would be the next file's that is opened, and what is printed would stand there.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        name = ("stdin", "stdout", "stderr")[number]
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


def _unexpected(error: Exception) -> int:
    import typer

    if isinstance(error, typer.Abort):
        return 4
    # typer brings a click of its own, whose errors have no public name.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        print(f"tonearm: {error.format_message().rstrip('.')}; see {_command_path(error)} --help", file=sys.stderr)
        return int(error.exit_code)
    import traceback

    traceback.print_exception(error)
    print("tonearm: this is a bug; please report it with the lines above", file=sys.stderr)
    return 1


def _command_path(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "tonearm"
