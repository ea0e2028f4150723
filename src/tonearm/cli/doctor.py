"""``tonearm doctor``: each finding, said as soon as it is known."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from tonearm.api import doctor as room
from tonearm.api.environment import VARIABLES
from tonearm.cli.output import Output
from tonearm.storage.uris import visible

STYLES = {"ok": "green", "note": "yellow", "bad": "red"}
NAME_WIDTH = 16


def doctor(*, as_json: bool = False) -> int:
    """Print each finding as soon as it is known; return 0 when nothing is bad, else 1."""
    output, findings = Output(as_json), []
    console = Console(file=output.prose, highlight=False, soft_wrap=True, markup=False, emoji=False)
    for finding in room.doctor():
        findings.append(finding)
        status = (f"{finding.status:<5}", STYLES[finding.status])
        console.print(Text.assemble(status, f"{finding.name:<{NAME_WIDTH}}{visible(finding.text)}"))
        output.prose.flush()  # a pipe would get them all at the end, after Ray has taken its time
    output.result(
        {
            "findings": [finding._asdict() for finding in findings],
            "environment": [
                {"name": variable.name, "value": variable.value, "help": variable.help, "read_by": variable.read_by}
                for variable in VARIABLES
            ],
        }
    )
    sys.stdout.flush()
    return 1 if any(finding.status == "bad" for finding in findings) else 0
