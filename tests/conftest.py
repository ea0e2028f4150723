"""Fixtures that every suite shares."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import lanes, one_process
from tests.commands import SIDE_BY_SIDE
from tests.made_once import made_once

# Before any test imports Ray or torch.
os.environ.update(SIDE_BY_SIDE)
# A busy machine is no failure; in CI and for mutants the same examples each time.
hypothesis.settings.register_profile("tonearm", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tonearm")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the checkout; it is not part of the project")
    return folder


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """The folder of real recordings beside the checkout."""
    return _shared("audio")


@pytest.fixture(scope="session")
def shared_facts() -> Path:
    """The folder of published model configurations beside the checkout."""
    return _shared("facts")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of real exported models beside the checkout; read only."""
    return _shared("models")


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine short synthesized songs in several codecs, a folder an artist; read only."""
    from tonearm.demo.library import write_library

    return made_once(
        tmp_path_factory, "songs", lambda folder: write_library(folder, num_tracks=9, seed=3, min_s=12, max_s=16)
    )


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-eight synthesized songs of 12 to 30 s: enough for a run to be disturbed in its midst; read only."""
    from tonearm.demo.library import write_library

    return made_once(
        tmp_path_factory, "music", lambda folder: write_library(folder, num_tracks=28, seed=5, min_s=12, max_s=30)
    )


@pytest.fixture(scope="session", autouse=True)
def _shared_processes() -> Iterator[None]:
    yield
    one_process.close_all()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lanes.mark_lanes(items)
    lanes.longest_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    with lanes.kept_in_lane(item):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lanes.list_slow_proofs(terminalreporter)
