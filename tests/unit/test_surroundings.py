"""What is made of a place: folders, proxies, where modules come from, and a Ray that does not answer."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from tonearm import surroundings
from tonearm.api.training_progress import TrainingLine
from tonearm.distributed.cluster import local_ray
from tonearm.distributed.training import driver
from tonearm.errors import ClusterError, DestinationError, UsageError
from tonearm.exports.output import check_output
from tonearm.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("own_surroundings")


def temporary(monkeypatch: pytest.MonkeyPatch, folder: str | Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    os.environ["TMPDIR"] = str(folder)


def test_without_proxies_nothing_is_changed() -> None:
    surroundings.reach_directly(["10.0.0.1"])
    assert "no_proxy" not in os.environ and "NO_PROXY" not in os.environ


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy"])
@pytest.mark.parametrize("given", ["no_proxy", "NO_PROXY"])
def test_this_machine_and_the_cluster_are_reached_without_a_proxy(name: str, given: str) -> None:
    os.environ |= {name: "http://127.0.0.1:9", given: "example.org, localhost"}
    surroundings.reach_directly(["10.0.0.1"])
    expected = "example.org,localhost,127.0.0.1,::1,10.0.0.1"
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == expected


def test_rays_folder_is_below_tmpdir_and_private(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short:
        temporary(monkeypatch, short)
        monkeypatch.setattr(local_ray, "ROOM_BYTES", 1)
        folder = Path(local_ray.make_folder())
        assert folder.parent == Path(short) and stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert Path(local_ray.make_folder()) != folder


@pytest.mark.parametrize("kind", ["long", "missing", "full", "a file"])
def test_rays_folder_where_tmpdir_is_not_fit_for_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {
        "long": tmp_path / ("x" * 90),
        "missing": tmp_path / "no",
        "full": tmp_path / "full",
        "a file": tmp_path / "f",
    }
    if kind in ("long", "full"):
        where[kind].mkdir()
    if kind == "a file":
        where[kind].touch()
    temporary(monkeypatch, where[kind])
    measured = local_ray._free_bytes
    monkeypatch.setattr(local_ray, "_free_bytes", lambda place: 0 if place == str(where["full"]) else measured(place))
    folder = Path(local_ray.make_folder())
    try:
        assert not folder.is_relative_to(tmp_path)
        assert len(f"{folder}{local_ray.LONGEST_SOCKET}") <= 107
    finally:
        folder.rmdir()


def test_a_ray_tmpdir_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    os.environ["RAY_TMPDIR"] = str(tmp_path / ("x" * 90))
    with pytest.raises(ClusterError, match=r"got a RAY_TMPDIR of \d+ bytes, expected at most \d+"):
        local_ray.make_folder()
    with tempfile.NamedTemporaryFile(prefix="t-", dir="/tmp") as file:
        os.environ["RAY_TMPDIR"] = file.name
        with pytest.raises(ClusterError, match="cannot be written"):
            local_ray.make_folder()


def test_rays_token_is_private_and_one_a_process() -> None:
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        del os.environ[name]
    local_ray._make_token()
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (token, token.parent)]
    assert modes == [0o600, 0o700] and len(token.read_text()) == 64
    local_ray._make_token()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)


@pytest.mark.parametrize(
    "given", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": "/keys/ray"}]
)
def test_a_token_that_was_asked_for_stays(given: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        del os.environ[name]
    os.environ |= given
    local_ray._make_token()
    assert {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH_")} == given


def test_no_place_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/no/such/folder"])
    with pytest.raises(UsageError, match="no folder can take temporary files"):
        surroundings.settle_folders()


@pytest.mark.parametrize("home", [None, "/no/such/home"])
def test_without_a_home_an_empty_one_is_used(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ.pop("HOME")
    if home is not None:
        os.environ["HOME"] = home
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # whom no file of users knows
    surroundings.settle_folders()
    made = Path(os.environ["HOME"])
    assert made.is_dir() and stat.S_IMODE(made.stat().st_mode) == 0o700 and not list(made.iterdir())


def test_a_cache_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["HOME"] = str(tmp_path)
    assert surroundings.cache_folder() == surroundings.user_cache() == tmp_path / ".cache" / "tonearm"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    instead = surroundings.cache_folder()
    assert instead.is_dir() and not instead.is_relative_to(tmp_path)
    assert surroundings.cache_folder() == instead, "the same for all that this process starts"


def test_workers_import_from_the_current_folder_only_where_their_driver_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_ray.job_config()._py_driver_sys_path == []
    sys.path.insert(0, "")
    config = local_ray.job_config()
    assert config._py_driver_sys_path == [str(tmp_path)] and config._runtime_env_has_working_dir()


@pytest.mark.parametrize("wrong", ["file://out", "s3:/bucket/out", " s3://bucket/out"])
def test_other_outputs_are_looked_at_as_well(wrong: str) -> None:
    with pytest.raises(DestinationError, match="got OUTPUT"):
        check_output(wrong, is_folder=False, overwrite=False)
    with pytest.raises(DestinationError, match="got --out"):
        driver.train("no such collection", wrong, TrainSettings(), TrainingLine(1))
