"""The fenced blocks of README, CONTRIBUTING and docs/, and which test runs each.

A block says behind its language what runs it, as in `` ```console tagged ``: ``RUN_BY`` has the test for each such
role. A block that no test runs says why: `` ```console not-run: needs a cluster ``. Blocks of ``text`` are drawings and
output.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = re.compile(r"not-run: (.+)")
DOCS, JOBS, READERS = (f"tests/integration/test_{name}.py" for name in ("docs", "jobs", "readers"))

# (page, what stands behind ```) → the test that runs it; * is any page.
RUN_BY: dict[tuple[str, str], str] = {
    ("*", "console tagged"): f"{DOCS}::test_commands_about_a_tagged_library",
    ("*", "python tagged"): f"{DOCS}::test_python_about_a_tagged_library",
    ("*", "console trained"): f"{DOCS}::test_commands_of_training",
    ("distill.md", "console distilled"): f"{DOCS}::test_commands_of_distilling",
    ("distill.md", "json fallback"): "tests/unit/test_docs.py::test_the_fallback_is_accepted",
    ("serve.md", "console served"): f"{DOCS}::test_a_server_and_what_it_is_asked",
    ("serve.md", "console asked"): f"{DOCS}::test_a_server_and_what_it_is_asked",
    ("serve.md", "python asked"): f"{DOCS}::test_a_server_and_what_it_is_asked",
    ("first-hour.md", "console hour"): f"{DOCS}::test_the_first_hour",
    ("first-hour.md", "console hour-shell"): f"{DOCS}::test_the_first_hour",
    ("first-hour.md", "toml hour"): f"{DOCS}::test_the_first_hour",
    ("*", "python toy"): "tests/unit/test_plugins.py::test_the_recipes_show_the_toys",
    ("*", "toml toy"): "tests/unit/test_docs.py::test_the_entry_points_are_those_of_the_toys",
    ("*", "toml checked"): "tests/unit/test_docs.py::test_settings_files_are_accepted",
    ("exported-models.md", "json described"): "tests/unit/test_docs.py::test_the_description_is_accepted",
    ("cluster.md", "json checked"): "tests/unit/test_docs.py::test_the_policy_allows_what_a_run_does",
    ("python.md", "python"): "tests/integration/test_python_docs.py::test_the_page_runs",
    ("rows.md", "sql duckdb"): f"{READERS}::test_duckdb_gives_the_rows_that_tonearm_gives",
    ("rows.md", "python pandas"): f"{READERS}::test_pandas_gives_the_rows_that_tonearm_gives",
    ("rows.md", "python spark"): f"{READERS}::test_spark",
    ("cluster.md", "console"): f"{JOBS}::test_every_command_of_the_runbook",
    ("cluster.md", "console store"): f"{JOBS}::test_every_command_of_the_runbook",
    ("cluster.md", "console head"): f"{JOBS}::test_every_command_of_the_runbook",
    ("cluster.md", "console worker"): f"{JOBS}::test_every_command_of_the_runbook",
}


@dataclasses.dataclass(frozen=True)
class Fence:
    """A fenced block of a page; ``info`` is what stands behind the three signs that begin it."""

    page: str
    line: int
    info: str
    text: str

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def runner(self) -> str | None:
        """The test that runs the block, or None."""
        return RUN_BY.get((self.page, self.info)) or RUN_BY.get(("*", self.info))

    @property
    def reason(self) -> str | None:
        """Why no test runs it, or None."""
        _, _, role = self.info.partition(" ")
        if self.info == "text":
            return "a drawing, or output"
        if role == "needs-account":
            return "needs an account with somebody who has machines"
        said = NOT_RUN.fullmatch(role)
        return said[1] if said else None

    def lines(self) -> list[str]:
        """Return what is typed, a line per command, without the output."""
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]

    def commands(self) -> list[list[str]]:
        """Return the words of each command, without comments and output."""
        return [shlex.split(line, comments=True) for line in self.lines()]


def fences(info: str | None = None) -> list[Fence]:
    """Return the blocks of all pages, in order; only those with this ``info`` where it is given."""
    blocks = []
    for path in PAGES:
        text = path.read_text()
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
            blocks.append(Fence(path.name, text.count("\n", 0, match.start()) + 1, match[1].strip(), match[2]))
    return blocks if info is None else [block for block in blocks if block.info == info]
