"""README, CONTRIBUTING and docs/: every block is run or says why not, links lead somewhere, figures are measured."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs_fences import PAGES, ROOT, RUN_BY, fences
from tests.toys import TOY_ENTRIES
from tonearm import settings
from tonearm.error_codes import REQUEST, TRACK
from tonearm.heads import HeadSettings, read_heads
from tonearm.models.calibration import read_fallback
from tonearm.models.exported import description
from tonearm.runs.rows.schema import TRACKS

SITE = ROOT / "docs" / "_site"
README = (ROOT / "README.md").read_text()


def site_module(name: str) -> ModuleType:
    """Return a module of the site's builder."""
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_block_is_run_by_a_test_or_says_why_not() -> None:
    """A command that nobody tries is wrong sooner or later."""
    blocks = fences()
    assert len(blocks) > 50
    for block in blocks:
        assert (block.runner is None) != (block.reason is None), (
            f"{block.where}: got ```{block.info}, expected a role of tests/docs_fences.py, or `not-run: REASON`"
        )
        assert block.reason is None or len(block.reason.split()) >= 3, f"{block.where}: give the reason in a few words"


def test_the_tests_that_are_named_exist_and_have_blocks_to_run() -> None:
    blocks = fences()
    for (page, info), name in RUN_BY.items():
        path, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text(), name
        assert any(block.info == info and page in ("*", block.page) for block in blocks), f"{page} has no ```{info}"


def test_files_that_reasons_name_exist() -> None:
    for block in fences():
        for path in re.findall(r"\b(?:tests|bench|deploy)/[\w/]+\.\w+", block.reason or ""):
            assert (ROOT / path).is_file(), f"{block.where}: there is no {path}"


def test_settings_files_are_accepted() -> None:
    """Each table of the documented files builds the settings that it is of."""
    kinds = {"tag": settings.TagSettings, "serve": settings.ServeSettings, "train": settings.TrainSettings}
    shared = {"models": settings.ModelSettings, "fetch": settings.FetchSettings, "decode": settings.DecodeSettings}
    blocks = fences("toml checked")
    assert {block.page for block in blocks} == {"settings.md", "heads.md", "distill.md"}
    for block in blocks:
        for name, values in tomllib.loads(block.text).items():
            if "heads" in values:
                values["heads"] = read_heads(values["heads"], "heads", lambda table, where: HeadSettings(**table))
            settings.build((kinds | shared)[name], values)


def test_the_entry_points_are_those_of_the_toys() -> None:
    blocks = fences("toml toy")
    assert len(blocks) == len(TOY_ENTRIES)
    for block in blocks:
        ((group, points),) = tomllib.loads(block.text)["project"]["entry-points"].items()
        assert TOY_ENTRIES[group] == points, block.where


def test_the_policy_allows_what_a_run_does() -> None:
    (block,) = fences("json checked")
    actions = {action for statement in json.loads(block.text)["Statement"] for action in statement["Action"]}
    assert actions == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}


def test_the_readme_is_short_and_its_figures_are_measured() -> None:
    assert len(README.splitlines()) <= 150
    section = README.partition("## Three figures")[2].partition("\n## ")[0]
    figures = re.findall(r"\| ([\d.,]+[×%]?) \|", section)
    results = (ROOT / "bench" / "RESULTS.md").read_text()
    assert len(figures) == 3
    assert all(re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", results) for figure in figures), figures


def heading_ids(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Those of docs/ are checked by `make docs`, which is strict."""
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text())
    assert len(links) >= 3
    for link in links:
        path, _, anchor = link.partition("#")
        if not path.startswith("https://"):
            assert (ROOT / path).exists(), link
            assert not anchor or anchor in heading_ids(ROOT / path), link


def test_lines_fit_an_editor() -> None:
    """Tables and commands may be longer: neither can be broken."""
    for path in PAGES:
        text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
        long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
        assert not long, f"{path.name}: {long[0]}"


def test_the_architecture_page_has_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in (ROOT / "src" / "tonearm").rglob("__init__.py")} - {"tonearm"}
    missing = {name for name in folders if not re.search(rf"^ *.*\b{name}/", page, re.M)}
    assert not missing


def test_the_description_is_accepted() -> None:
    (block,) = fences("json described")
    assert description.parse(json.loads(block.text)["model"]).hop_s == 0.4875


def test_the_fallback_is_accepted(tmp_path: Path) -> None:
    (block,) = fences("json fallback")
    (tmp_path / "tonearm.json").write_text(block.text)
    found = read_fallback(tmp_path)
    assert found is not None and found.chosen.threshold == 0.62


def test_the_picture_of_a_track_is_the_script_s() -> None:
    module = site_module("track_way")
    assert (ROOT / "docs" / "track.svg").read_text() == module.draw(), "run python docs/_site/track_way.py"
    for place in module.PLACES:
        for step in place.steps:
            for name in step.module.split(", "):
                assert importlib.util.find_spec(f"tonearm.{name}") is not None, name


def test_the_glossary_is_in_order_and_has_each_term_once() -> None:
    terms = re.findall(r"^\*\*([^*]+)\*\* · ", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    assert len(terms) > 25
    assert terms == sorted(set(terms), key=str.lower)


def test_what_is_generated_has_every_column_and_code() -> None:
    """A new column without words, or a code without advice, would leave a hole in the site."""
    generate = site_module("generate")
    assert list(generate.COLUMNS) == TRACKS.names
    for code in TRACK:
        assert f"| `{code}` |" in generate.track_codes()
    for code in [*TRACK, *REQUEST]:
        assert f"| `{code}` |" in generate.request_codes()
    assert all(f"`{name}`" in generate.setting_tables() for name in ("num_attempts", "max_queue", "mixup", "split_by"))
    names = re.findall(r"^## tonearm (\S+)$", generate.verbs(), re.M)
    assert {"tag", "train", "serve", "export"} <= set(names)
    marks = {mark for path in PAGES for mark in re.findall(r"^<!-- generated: (\S+) -->$", path.read_text(), re.M)}
    assert marks == set(generate.SECTIONS)


def test_the_site_refuses_what_would_be_loaded_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="needs MkDocs; `make install` installs it")
    monkeypatch.syspath_prepend(str(SITE))
    loads = site_module("hooks").LOADED
    assert loads.search('<script src="https://unpkg.com/x"></script>')
    assert loads.search('<link rel="stylesheet" href="//fonts.googleapis.com/css">')
    assert not loads.search(
        '<a href="https://duckdb.org">DuckDB</a><img src="report.png"><link rel="stylesheet" href="a.css">'
    )
