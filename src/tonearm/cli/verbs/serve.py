"""Serving: ``serve`` and ``keys``."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.cli.help import SERVE, Verb, Verbs
from tonearm.cli.options import CONFIG, DEMO_MODELS, Given, Json, settings, with_flags
from tonearm.settings import ModelSettings, ServeSettings

keys = typer.Typer(
    cls=Verbs, rich_markup_mode=None, no_args_is_help=False, help="Make API keys for the clients of a server."
)


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command(cls=Verb, rich_help_panel=SERVE)(serve)
    app.add_typer(keys, name="keys", rich_help_panel=SERVE)


@with_flags(settings(ServeSettings), settings(ModelSettings), DEMO_MODELS, CONFIG)
def serve(
    new_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make a key, print it and exit, as `tonearm keys new NAME` does."),
    ] = None,
    *,
    flags: Given,
) -> int:
    """Serve the models over HTTP, and a page at /.

    The Hugging Face API at /models, whole tracks at /v1/tag, many at /v1/bulk; /docs describes the API.
    """
    from tonearm.cli import serve as printer

    return printer.make_key(new_key) if new_key is not None else printer.serve(**flags)


@keys.callback(invoke_without_command=True)
def show_keys_help(context: typer.Context) -> None:
    """Make API keys for the clients of a server."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@keys.command("new", cls=Verb)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; the access log names it.")],
    json_output: Json = False,
) -> int:
    """Make a key for NAME, and the line that a server knows it by.

    The key goes to the client, the line into the file of `tonearm serve --api-key-file`.
    """
    from tonearm.cli import serve as printer

    return printer.make_key(name, as_json=json_output)
