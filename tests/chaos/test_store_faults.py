"""A store on its bad days: a run ends or says that it can go on, and the table becomes the undisturbed one.

Every run asks the same proxy, which has faults or none, so that all share a process and its Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.test_kill import assert_equal
from tests.commands import VOLATILE, wait_for
from tests.integration.conftest import s3 as s3
from tests.one_process import tonearm
from tests.servers.fault_proxy import Fault, FaultProxy, faulty
from tests.servers.s3 import S3Server
from tonearm.demo.library import write_library
from tonearm.runs.rows import track_rows
from tonearm.sources.listing import list_tracks

pytestmark = pytest.mark.slow

CONFIG = "tracks_per_block = 2\n[fetch]\nstall_timeout_s = 2.0\nbackoff_s = 0.1\n"


@pytest.fixture(scope="module")
def music(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bucket of short songs and one broken file."""
    folder, bucket = tmp_path_factory.mktemp("songs"), s3.bucket()
    write_library(folder, num_tracks=16, seed=11, min_s=8, max_s=12)
    for path in sorted(folder.glob("*/*")):
        s3.fs.put_file(str(path), f"{bucket}/music/{path.name}")
    s3.put(bucket, {"music/broken.mp3": b"not audio at all" * 50})
    return bucket


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small-blocks.toml"
    path.write_text(CONFIG)
    return path


def command(bucket: str, out: str, config: Path) -> list[str]:
    options = ["--demo-models", "--config", str(config), "--max-error-rate", "0.5"]
    return ["tag", f"s3://{bucket}/music", "--out", f"s3://{bucket}/{out}", *options]


def rows(s3: S3Server, place: str) -> pa.Table:
    """Return the table at ``place`` as any reader of its files finds it."""
    parts = [pq.read_table(io.BytesIO(s3.fs.cat_file(path))) for path in s3.fs.glob(f"{place}/tracks/*.parquet")]
    return pa.concat_tables(parts).drop_columns(list(VOLATILE)).sort_by("track_key")


@pytest.fixture(scope="module")
def way(s3: S3Server) -> Iterator[FaultProxy]:
    with faulty(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def env(s3: S3Server, way: FaultProxy) -> dict[str, str]:
    return {**s3.env, "AWS_ENDPOINT_URL": way.url}


@pytest.fixture(scope="module")
def undisturbed(s3: S3Server, music: str, config: Path, env: dict[str, str]) -> pa.Table:
    run = tonearm(*command(music, "undisturbed", config), **env)
    assert run.returncode == 0, run.stderr
    return rows(s3, f"{music}/undisturbed")


@pytest.fixture
def proxy(way: FaultProxy, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    way.begin(seed=len(request.node.name))
    yield way
    way.begin(seed=0)


@contextlib.contextmanager
def started(*arguments: str, env: dict[str, str]) -> Iterator[Future[subprocess.CompletedProcess[str]]]:
    """Run a command beside the block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(tonearm, *arguments, **env)


def finish(s3: S3Server, proxy: FaultProxy, out: str, config: Path, undisturbed: pa.Table, env: dict[str, str]) -> None:
    """Run again without faults; the table is then that of the undisturbed run."""
    proxy.faults = []
    music, _, name = out.partition("/")
    again = tonearm(*command(music, name, config), **env)
    assert again.returncode == 0, again.stderr
    assert_equal(rows(s3, out), undisturbed)


MUSIC = r"^GET \S+/music/"
BAD_DAYS: dict[str, list[Fault]] = {
    # A fifth of all requests, whatever they are for, and no two kinds of fault that could hide one another.
    "slow down, reset, cut": [Fault("slow_down", 0.08), Fault("reset", 0.08), Fault("truncate", 0.08)],
    # A stalled write waits for the client's own time-out, half a minute; reads have theirs from the settings.
    "stall": [Fault("stall", 0.5, most=6, match=MUSIC)],
}


@pytest.mark.parametrize("day", BAD_DAYS)
def test_passing_store_faults_are_retried(
    s3: S3Server, music: str, config: Path, undisturbed: pa.Table, proxy: FaultProxy, env: dict[str, str], day: str
) -> None:
    """Slow-downs, resets, cut answers and stalls of a store lose no row."""
    proxy.faults, out = [dataclasses.replace(fault) for fault in BAD_DAYS[day]], day.replace(" ", "-").replace(",", "")
    run = tonearm(*command(music, out, config), **env)
    assert all(proxy.hits[fault.kind] >= 3 for fault in proxy.faults), f"the run met too few faults: {proxy.hits}"
    assert "Traceback" not in run.stderr
    if run.returncode != 0:
        assert run.returncode == 4, run.stderr
        assert "same command" in run.stderr
    finish(s3, proxy, f"{music}/{out}", config, undisturbed, env)


def test_credentials_refused_for_a_while(
    s3: S3Server, music: str, config: Path, undisturbed: pa.Table, proxy: FaultProxy, env: dict[str, str]
) -> None:
    """Credentials that stop working in mid-run and work again lose no row."""
    fault = Fault("refuse", is_on=False)
    proxy.faults = [fault]
    with started(*command(music, "refused", config), env=env) as ending:
        wait_for(
            lambda: any("/music/" in line and "GET" in line for line in list(proxy.requests)) or ending.done(),
            what="the first read",
        )
        fault.is_on = True
        wait_for(lambda: proxy.hits["refuse"] >= 10 or ending.done(), what="ten refusals")
        fault.is_on = False
        run = ending.result()
    assert proxy.hits["refuse"] >= 1, "it was over before anything was refused"
    assert run.returncode in (0, 4), run.stderr
    assert "Traceback" not in run.stderr
    finish(s3, proxy, f"{music}/refused", config, undisturbed, env)


def test_a_few_denied_objects_do_not_stop_a_run(
    music: str, config: Path, proxy: FaultProxy, env: dict[str, str], tmp_path: Path
) -> None:
    """More in a row than make the store suspect; others can be read, so they are failed rows and no more."""
    good = sorted(ref.uri for ref in list_tracks([f"s3://{music}/music"]))[:6]
    uris = [f"s3://{music}/closed/{number}.mp3" for number in range(40)] + good
    listed = tmp_path / "listed.csv"
    listed.write_text("\n".join(["uri", *uris]) + "\n")
    proxy.faults = [Fault("deny", match=r"^GET \S+/closed/")]
    out = f"s3://{music}/closed-out"
    options = ["--demo-models", "--config", config, "--max-error-rate", "1"]
    run = tonearm("tag", listed, "--out", out, *options, **env)
    assert run.returncode == 0, run.stderr
    assert "40 access_denied" in run.stdout
    # Once they may be read (here: are not there), the next run asks for them again.
    proxy.faults = []
    again = tonearm("tag", listed, "--out", out, *options, **env)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("0 tracks tagged, 40 failed") and "40 not_found" in again.stdout


@pytest.mark.parametrize("place", ["source", "destination"])
def test_a_bucket_that_is_denied_from_the_start_fails_at_once(
    music: str, config: Path, proxy: FaultProxy, env: dict[str, str], place: str
) -> None:
    """A source or a destination that may not be used is refused with one line."""
    proxy.faults = [Fault("deny", match="list-type" if place == "source" else r"^PUT ")]
    run = tonearm(*command(music, f"never-{place}", config), **env)
    assert run.returncode == 2, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("tonearm: ")]
    assert "AccessDenied" in line
    assert "Traceback" not in run.stderr


def test_an_object_that_changes_between_listing_and_reading(
    s3: S3Server, config: Path, proxy: FaultProxy, env: dict[str, str], tmp_path: Path
) -> None:
    """Its row says so; the next run lists the new version and reads that."""
    write_library(tmp_path, num_tracks=6, seed=12, min_s=8, max_s=9)
    bucket, paths = s3.bucket(), sorted(tmp_path.glob("*/*.*"))
    for path in paths:
        s3.fs.put_file(str(path), f"{bucket}/music/{path.name}")
    fault = Fault("stall", match=r"^GET \S+/music/", most=4)  # holds the first reads until the object has changed
    proxy.faults = [fault]
    with started(*command(bucket, "out", config), env=env) as ending:
        wait_for(lambda: proxy.hits["stall"] >= 1 or ending.done(), what="the first read")
        for path in paths:
            s3.put(bucket, {f"music/{path.name}": paths[0].read_bytes()})
        fault.is_on = False
        run = ending.result()
    assert run.returncode in (0, 3), run.stderr
    assert "changed" in rows(s3, f"{bucket}/out")["error_code"].to_pylist()
    again = tonearm(*command(bucket, "out", config), **env)
    assert again.returncode == 0, again.stderr
    columns = ["track_key", "uri", "status", "error_code", "error_message"]
    found = [row for batch in track_rows.scan(f"s3://{bucket}/out", columns) for row in batch.to_pylist()]
    assert "changed" not in [row["error_code"] for row in found], "a version that no one has read is out of sight"
    listed = {ref.track_key: ref for ref in list_tracks([f"s3://{bucket}/music"])}
    shown = track_rows.listed_rows(f"s3://{bucket}/out").keys.tolist()
    assert sorted(listed) == shown, "each object's row is that of the version that there is"
    assert sorted(row["track_key"] for row in found) == shown
    for row in found:
        assert row["status"] == "ok" or row["uri"].endswith(".txt"), row["error_message"]


# The last: a run that stops takes its Ray along.
def test_a_source_that_is_denied_for_good_stops_the_run_with_one_line(
    music: str, config: Path, proxy: FaultProxy, env: dict[str, str], tmp_path: Path
) -> None:
    """A thousand listed tracks, none of which may be read: no thousand failed rows."""
    listed = tmp_path / "listed.parquet"
    uris = [f"s3://{music}/music/{number}.mp3" for number in range(1000)]
    pq.write_table(pa.table({"uri": uris, "size_bytes": [1000] * 1000}), listed)
    proxy.faults = [Fault("deny", match=r"^GET \S+/music/")]
    out = f"s3://{music}/denied"
    run = tonearm("tag", listed, "--out", out, "--demo-models", "--config", config, **env)
    assert run.returncode == 4, run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("tonearm: nothing can be read any more: ") and "AccessDenied" in last
    assert "Traceback" not in run.stderr
    assert proxy.hits["deny"] < 500, "it went on reading"
    status = tonearm("status", out, **env)
    assert "stopped at" in status.stdout and "nothing can be read" in status.stdout
