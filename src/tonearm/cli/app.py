"""The command: what is the same for every verb, and the verbs by their headings in ``--help``."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm import __version__
from tonearm.cli.help import Verbs
from tonearm.cli.verbs import label, models, results, serve, set_up

app = typer.Typer(
    name="tonearm",
    cls=Verbs,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (label, results, models, serve, set_up):
    group.add(app)


def version(value: bool) -> None:
    """Print the version and end."""
    if value:
        print(f"tonearm {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Label a music library: genre, AudioSet tags, embeddings and a timeline, one row per track."""
    if context.invoked_subcommand is None:
        print(context.get_help())
