"""What a message tells a person to give is a flag of the command that said it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from tonearm.cli.app import app

PACKAGE = Path(__file__).parents[2] / "src" / "tonearm"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
COMMAND = re.compile(r"`(tonearm|docker|curl|ffmpeg) ([a-z]+)([^`]*)`|\btonearm (?P<verb>[a-z]+)(?P<rest>[^;.`]*)")
# The modules of a verb; what they import is reached by it too.
ENTRIES = {
    verb: [f"cli.{module}"]
    for verb, module in {
        "tag": "tag", "plan": "plan", "plot": "results.plot", "models": "models", "serve": "serve", "demo": "demo",
        "doctor": "doctor", "status": "results.status", "prune": "results.prune", "train": "training.train",
        "evaluate": "training.evaluate", "publish": "training.publish", "distill": "training.distill",
    }.items()
}  # fmt: skip
ENTRIES |= {"report": ["report.page"], "export": ["exports.export"], "compact": ["runs.compaction"]}
ENTRIES |= {"keys": ["web.requests.keys"]}
# Where an import says less than it seems to: who can come to the messages of a module.
SAYS = {
    "cli.training.evaluate": "evaluate",
    "api.flags": "tag plan plot models serve",  # the flags that name models; demo and evaluate choose them themselves
    "api.library": "prune",
    "api.doctor": "doctor",
    "api.models": "models",
    "api.pictures": "plot",
    "api.publishing": "publish",
    "api.serving": "serve",
    "api.tagger": "tag",
    "api.tagging": "tag",
    "api.training": "evaluate",
    "cli.plan": "plan",
    "cli.results.plot": "plot",
    "cli.results.prune": "prune",
    "cli.results.files": "export",
    "cli.serve": "serve",
    "cli.tag": "tag",
    "cli.tag_files": "tag",
    "cli.run_end": "tag",
    "cli.training.train": "train",
    "cli.training.distill": "distill",
    # doctor and serve ask for no number of workers
    "planning.layout": "tag plan train evaluate demo",
    "distributed.tagging.evaluate": "evaluate",
    "distributed.serving.app": "serve",
    "distributed.training.driver": "train",
    "distributed.training.process_group": "train",
    "training.destination": "train",
    "exports.export": "export",
    "exports.output": "export",
    "exports.registry": "export",
    "sources.labelled": "train evaluate",
    "heads": "tag plan models serve evaluate",
    "sources.source": "train evaluate",
    "models.exported.add": "models",
    "models.musicnn.wheel": "models",
    "models.networks.efficientat": "models",
    "planning.adoption": "tag",  # of --rescore
    "planning.measure": "plan",
    "planning.preparation": "tag plan serve",
    "settings_files": "tag plan plot models serve train evaluate",  # a file that was named and is not there
    "tagging.fallbacks": "tag plan",
    "tagging.plan": "tag plan plot serve",  # evaluate and demo have a model always
    "training.publish.card": "train",
    "training.data.duplicates": "train",
    "training.data.holdout": "train",
    "training.fit.initial": "train",
    "training.fit.loop": "train",
    "training.plan": "train",
    "training.data.collection": "train evaluate",
    "training.fit.recipe": "train",
    "training.publish.space": "publish",
    "training.data.splits": "train",
    "training.fit.step": "train",
    "training.publish.trackers": "train",
    "web.requests.keys": "serve",
}
# Parts of a command line that is put together.
PARTS = {
    ("cli.training.train", "--tag-model"),
    ("cli.training.train", "--genre-model"),
    ("training.publish.card", "--tag-model"),
    ("cli.training.distill", "--tag-model"),
    ("cli.training.distill", "--genre-model"),
    ("cli.training.distill", "--fallback"),
    ("training.publish.student_card", "--tag-model"),
    ("training.publish.student_card", "--genre-model"),
}
PARTS |= {("training.publish.card", "--genre-model"), ("runs.groups", "--rescore")}
PARTS |= {("runs.differences", flag) for flag in ("--rescore", "--precision", "--calibrated")}
PARTS |= {("runs.differences", flag) for flag in ("--max-windows", "--fallback")}
PARTS |= {("api.flags", "--set")}
PIPS = ("--no-deps", "--only-binary", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "--timeout")
PARTS |= {("models.musicnn.wheel", flag) for flag in (*PIPS, "--dest")}
PARTS |= {("runs.differences", "--set")}  # of a message of training
PARTS |= {("extras", "--force")}  # of pipx
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# What they say is the help of the flags themselves.
DECLARING = {"cli.app", "cli.options", "cli.settings_flags"}
DECLARING |= {
    f"cli.verbs.{name}" for name in ("label", "results", "models", "models_add", "models_convert", "serve", "set_up")
}


@cache
def flags() -> dict[str, set[str]]:
    group: Any = typer.main.get_command(app)
    return {
        verb: {"--help"} | {name for part in with_parts(command) for name in names_of(part)}
        for verb, command in group.commands.items()
    }


def with_parts(command: Any) -> list[Any]:
    """Return a command and those below it, as `tonearm models convert` is below `tonearm models`."""
    return [command, *getattr(command, "commands", {}).values()]


def names_of(command: Any) -> Iterator[str]:
    return (name for given in command.params for name in (*given.opts, *given.secondary_opts))


@cache
def imported(module: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(name.removeprefix("tonearm.") for name in names if name.removeprefix("tonearm.") in MODULES)


@cache
def reached(verb: str) -> frozenset[str]:
    seen, ahead = set(), list(ENTRIES[verb])
    while ahead:
        if (module := ahead.pop()) not in seen:
            seen.add(module)
            ahead += imported(module)
    return frozenset(seen)


def verbs_of(module: str) -> list[str]:
    return SAYS[module].split() if module in SAYS else [verb for verb in flags() if module in reached(verb)]


def messages(module: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that are no docstrings, those of an f-string together."""
    tree = ast.parse(MODULES[module].read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | docs):
            yield node.lineno, node.value


def wrong(module: str, text: str) -> Iterator[str]:
    """Yield what a message names wrongly: of a command that it names too, or of those that say it."""
    for match in COMMAND.finditer(text):
        program, verb, rest = match[1], match[2] or match["verb"], match[3] or match["rest"] or ""
        if program in (None, "tonearm"):
            known = flags().get(verb, set()) if verb in flags() else set().union(*flags().values())
            yield from (f"`tonearm {verb}` has no {flag}" for flag in FLAG.findall(rest) if flag not in known)
    for flag in FLAG.findall(COMMAND.sub("", text)):
        if (module, flag) not in PARTS:
            yield from (f"{verb} has no {flag}" for verb in verbs_of(module) if flag not in flags()[verb])


@pytest.mark.parametrize("module", sorted(set(MODULES) - DECLARING))
def test_messages_name_only_flags_that_their_command_has(module: str) -> None:
    said = [f"line {line}: {text!r}: {each}" for line, text in messages(module) for each in wrong(module, text)]
    assert not said, "\n".join(said)


def test_every_verb_is_looked_at() -> None:
    assert set(ENTRIES) == set(flags())
    assert set(SAYS) <= set(MODULES)
