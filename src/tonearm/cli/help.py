"""``--help`` in plain text: verbs and options under headings, and no summary cut off at 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter, Parameter

# Names with what is said of each, by the heading above them.
Tables = dict[str, list[tuple[str, str]]]
MAX_NAME, GAP = 26, 2
# The headings of ``tonearm --help``.
LABEL, RESULTS, MODELS, SERVE, SET_UP = "Label", "Results", "Models", "Serve", "Set-up"


class Verb(TyperCommand):
    """A verb, whose options stand under the headings that they name."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the arguments, then the options of each heading, the verb's own first."""
        _write(formatter, panels(self.get_params(ctx), ctx))

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return what follows the verb's name, an argument that is needed without braces."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


class Verbs(TyperGroup):
    """The verbs, each under the heading that it names, with its whole summary."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the verbs of each heading."""
        shown = [(name, verb) for name, verb in self.commands.items() if not verb.hidden]
        width = max(len(name) for name, _ in shown)
        headings = [getattr(verb, "rich_help_panel", None) or "Verbs" for _, verb in shown]
        # All of them as wide as the longest: the headings stand above one table.
        rows = [(f"{name:{width}}", verb.get_short_help_str(limit=200).rstrip(".")) for name, verb in shown]
        _write(formatter, _by_heading(zip(headings, rows, strict=True)))


class VerbWithParts(Verbs):
    """A verb that does something by itself and has further ones below it, as ``models`` has ``models add``."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the options of each heading, then the verbs below."""
        _write(formatter, panels(self.get_params(ctx), ctx))
        self.format_commands(ctx, formatter)


def panels(given: Iterable[Parameter], ctx: Context) -> Tables:
    """Return a verb's arguments and options, each as name and help, under the headings that they stand under."""
    rows = []
    for parameter in given:
        record = parameter.get_help_record(ctx)
        if record is not None and parameter.param_type_name == "argument":
            # The usage says how many, and that they are needed.
            rows.append(("Arguments", (str(parameter.metavar), str(getattr(parameter, "help", "")))))
        elif record is not None:
            rows.append((getattr(parameter, "rich_help_panel", None) or "Options", record))
    return _by_heading(rows)


def _by_heading(rows: Iterable[tuple[str, tuple[str, str]]]) -> Tables:
    """Return the rows of each heading, in the order in which the headings come up."""
    tables: Tables = {}
    for heading, row in rows:
        tables.setdefault(heading, []).append(row)
    return tables


def _write(formatter: HelpFormatter, tables: Tables) -> None:
    """Write tables of name and help, one under each heading."""
    for heading, table in tables.items():
        with formatter.section(heading):
            _write_table(formatter, table)


def _write_table(formatter: HelpFormatter, rows: Sequence[tuple[str, str]]) -> None:
    """Write names with what is said of each; unlike ``write_dl`` it never breaks ``gtzan-fault-filtered`` in two."""
    indent = " " * formatter.current_indent
    column = min(MAX_NAME, max(len(name) for name, _ in rows)) + GAP
    width = formatter.width - formatter.current_indent - column
    for name, help_text in rows:
        lines = textwrap.wrap(help_text, width, break_on_hyphens=False, break_long_words=False)
        if len(name) + GAP > column:
            formatter.write(f"{indent}{name}\n")
            name = ""
        for place, line in enumerate(lines or [""]):
            formatter.write(f"{indent}{'' if place else name:{column}}{line}".rstrip() + "\n")
