"""A cluster of hosts of their own, with tokens, as in docs/cluster.md: jobs submitted, stopped, a host cut off."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.test_kill import assert_same
from tests.chaos.test_store_faults import rows
from tests.checkpoints import save_small
from tests.commands import SIDE_BY_SIDE, wait_for
from tests.labelled import write_folders
from tests.one_process import tonearm
from tests.servers.fault_proxy import faulty
from tests.servers.hosts import Hosts, hosts
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "docs" / "cluster.md"
BIN = Path(sys.executable).parent
# A host that is cut off counts as lost after 16 s, not after Ray's half a minute; sooner, one of a busy machine does.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "8",
}


class Cluster:
    """Three hosts with a Ray node each, and a person on a fourth who submits jobs."""

    def __init__(self, hosts: Hosts, s3: S3Server, endpoint: str, folder: str) -> None:
        self.hosts, self.s3, self.folder = hosts, s3, folder
        self.token = secrets.token_hex(32)
        self.bearer = {"Authorization": f"Bearer {self.token}"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        # What the nodes have: rights to the bucket (on a cloud by their role), and where it is.
        store = {**s3.env, "AWS_ENDPOINT_URL": endpoint}
        self.node_env = {
            **kept,
            "PATH": path,
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            **HEALTH,
            **store,
            **SIDE_BY_SIDE,
        }
        self.node_env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        # What the person has: the address and the token, and no key to the bucket.
        self.person_env = {**kept, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        self.person_env |= {"RAY_ADDRESS": f"http://{hosts.addresses['head']}:8265", "COLUMNS": "200"}

    def start(self) -> None:
        """Start Ray as docs/cluster.md says, on each host."""
        ((_, head), (_, worker)) = runbook("head", "worker")
        self.start_node("head", head)
        wait_for(lambda: self.asked("jobs/") is not None, what="the job API")
        # One after the other: the hosts share a disk, and Ray names its sockets by what it finds there.
        for count, name in enumerate(("node1", "node2"), 2):
            self.start_node(name, worker.replace("HEAD", self.hosts.addresses["head"]) + " --num-cpus=2")
            try:
                wait_for(lambda: self.num_alive() == count, what=f"{count} nodes")  # noqa: B023
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.said()}") from None

    def said(self) -> str:
        """Return the end of what each host's Ray said."""
        logs = [
            path for name in ("ray.log", "session_2*/logs/raylet.*") for path in Path(self.folder).glob(f"*/{name}")
        ]
        return "\n".join(f"{path}: {path.read_text(errors='replace')[-1500:]}" for path in sorted(logs))

    def start_node(self, name: str, line: str) -> None:
        """Start one host's Ray with a command of the runbook."""
        folder = Path(self.folder) / name
        folder.mkdir(exist_ok=True)
        address = self.hosts.addresses[name]
        command = [str(BIN / "ray"), *shlex.split(line)[1:], f"--node-ip-address={address}", "--block"]
        command += [f"--object-store-memory={150 * 2**20}", "--disable-usage-stats", "--include-log-monitor=false"]
        env = {**self.node_env, "RAY_TMPDIR": str(folder), "HOME": str(folder)}
        self.hosts.start(name, command, env, str(folder / "ray.log"))

    def ray(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run ``ray WORDS`` as the person, on their own host, in the project's folder."""
        command = ["ip", "netns", "exec", self.hosts.space("person"), str(BIN / "ray"), *words]
        return subprocess.run(
            command, env=self.person_env | changes, cwd=ROOT, capture_output=True, text=True, timeout=300
        )

    def shell(self, line: str, home: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a line as the person would, with the rights of ``env`` besides."""
        own = self.person_env | env | {"HOME": str(home), "HF_HUB_OFFLINE": "1"}
        if env:
            own.pop("RAY_ADDRESS")
        line = line.replace("> token", f"> {home / 'token'}")
        command = ["ip", "netns", "exec", self.hosts.space("person"), "bash", "-c", line]
        if env:  # the store listens on this machine's own loopback
            command = ["bash", "-c", line]
        return subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, timeout=300)

    def asked(self, path: str) -> Any:
        """Return what the head says, without the seconds that starting ``ray`` takes; None where it does not answer."""
        try:
            answer = httpx.get(f"{self.person_env['RAY_ADDRESS']}/api/{path}", headers=self.bearer, timeout=30)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def num_alive(self) -> int:
        """Return how many nodes the head counts."""
        listed = self.asked("v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE")
        return 0 if listed is None else len(listed["data"]["result"]["result"])

    @functools.cached_property
    def client(self) -> Any:
        """What `ray job` is made of, without the seconds that starting that takes each time."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.person_env["RAY_ADDRESS"], headers=self.bearer)

    def submit(self, *words: str) -> str:
        """Submit a job and return its id at once."""
        return str(
            self.client.submit_job(entrypoint=shlex.join(["python", *words]), runtime_env={"working_dir": str(ROOT)})
        )

    def state(self, job: str) -> str:
        """Return PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        said: list[str] = []

        def is_said() -> bool:
            found = self.asked(f"jobs/{job}")
            said.extend([] if found is None else [str(found["status"])])
            return bool(said)

        wait_for(is_said, what=f"the state of {job}", timeout_s=60)
        return said[0]

    def stop(self, job: str) -> None:
        """Stop a job as `ray job stop` does."""
        self.client.stop_job(job)

    def end_of(self, job: str) -> tuple[str, str]:
        """Wait until a job ends; return its state and its log."""
        wait_for(lambda: self.state(job) not in ("PENDING", "RUNNING"), what=f"the end of {job}", timeout_s=600)
        return self.state(job), str(self.client.get_job_logs(job))


@pytest.fixture(scope="module")
def cluster(s3: S3Server) -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="tj-", dir="/tmp")
    with hosts("head", "node1", "node2", "person") as made, faulty(s3.endpoint, host=made.gateway) as way:
        running = Cluster(made, s3, way.url, folder)
        running.start()
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def bucket(s3: S3Server, music: Path) -> str:
    bucket = s3.bucket()
    for path in sorted(music.glob("*/*")):
        s3.fs.put_file(str(path), f"{bucket}/music/songs/{path.name}")
    return bucket


def tag(bucket: str, out: str) -> list[str]:
    return ["jobs/tag_library.py", f"s3://{bucket}/music/songs", "--out", f"s3://{bucket}/{out}", "--demo-models"]


def marks(s3: S3Server, place: str) -> int:
    try:
        paths = s3.fs.glob(f"{place}/_checkpoint/*/*.parquet")
    except FileNotFoundError:  # a prefix whose only object, the probe of a new run, was deleted between two requests
        return 0
    return sum(not path.endswith(".pending.parquet") for path in paths)


def test_without_the_token_no_job_is_taken(cluster: Cluster) -> None:
    """A cluster takes no job from someone without its token."""
    refused = cluster.ray("job", "submit", "--no-wait", "--", "true", RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode != 0
    assert "401" in refused.stderr + refused.stdout or "uthent" in refused.stderr + refused.stdout


def runbook(*kinds: str) -> list[tuple[str, str]]:
    """Return the commands of docs/cluster.md in order, each with the kind of its block."""
    found = re.findall(r"^```console ?(\S*)\n(.*?)^```", RUNBOOK.read_text(), re.M | re.S)
    lines = [(kind, line) for kind, block in found for line in block.splitlines()]
    assert all(line.startswith("$ ") for _, line in lines)
    return [(kind, line.removeprefix("$ ")) for kind, line in lines if kind in kinds]


def test_the_runbook_has_no_other_commands() -> None:
    """Every block of commands is of a kind that is run here, or says that it needs an account."""
    everything = re.findall(r"^```(\S*) ?(\S*)$", RUNBOOK.read_text(), re.M)
    kinds = {f"{name} {kind}".strip() for name, kind in everything}
    run = {"console", "console head", "console worker", "console store"}
    assert kinds <= run | {"console needs-account", "", "json checked", "text"}
    assert len(runbook("", "store")) >= 11 and len(runbook("head")) == len(runbook("worker")) == 1


def test_every_command_of_the_runbook(cluster: Cluster, s3: S3Server, bucket: str, tmp_path: Path) -> None:
    """Every command of docs/cluster.md works on real hosts, with tokens on."""
    sounds = write_folders(tmp_path / "sounds", clips=12)
    s3.put(
        bucket, {f"music/labelled/{path.parent.name}/{path.name}": path.read_bytes() for path in sounds.rglob("*.wav")}
    )
    start = save_small(tmp_path / "base", "hubert")
    s3.put(bucket, {f"base/{path.name}": path.read_bytes() for path in start.iterdir()})
    flags = f"--model s3://{bucket}/base --new-head --window-s 1 --epochs 2 --duplicates ignore"
    jobs: list[str] = []
    for kind, line in runbook("", "store"):
        is_tagging = "tag_library" in line or "tonearm plan" in line
        for name, value in (
            ("s3://records/labelled", f"s3://{bucket}/music/labelled"),
            ("s3://records", f"s3://{bucket}/music/songs"),
            ("s3://labels", f"s3://{bucket}"),
            ("MODEL_FLAGS", flags),
            ("JOB", jobs[-1] if jobs else "JOB"),
        ):
            line = line.replace(name, value)
        line += " --demo-models" if is_tagging else ""
        env = s3.env if kind == "store" else {}
        made = cluster.shell(line, tmp_path, env)
        assert made.returncode == 0, f"{line}: {made.stdout}{made.stderr}"
        jobs += re.findall(r"raysubmit_\w+", made.stdout)
        if "jobs/tag_library.py" in line and "nothing to do" not in made.stdout:
            assert "audit: 28 rows for 28 tracks, none lost, none twice" in made.stdout
            assert "tagging 28 tracks" in made.stdout, "progress goes to the job's log too"
        if "tonearm status" in line:
            assert "complete" in made.stdout
        if "jobs/evaluate.py" in line:
            assert "accuracy" in made.stdout
    assert len((tmp_path / "token").read_text().strip()) >= 32
    assert len(s3.fs.glob(f"{bucket}/records/tracks/*.parquet")) == 1, "compacted"


def test_a_job_that_fails_is_failed_with_the_status_and_the_reason(cluster: Cluster, bucket: str) -> None:
    """A job that cannot run is FAILED, with tonearm's status and line in its log."""
    state, log = cluster.end_of(
        cluster.submit("jobs/tag_library.py", "s3://no-such-bucket-x/m", "--out", f"s3://{bucket}/x", "--demo-models")
    )
    assert state == "FAILED"
    assert "tonearm: no bucket s3://no-such-bucket-x" in log
    made = cluster.ray("job", "submit", "--working-dir", ".", "--", "python", "jobs/tag_library.py", "--no-such-flag")
    assert made.returncode != 0
    assert "exit code 2" in made.stdout + made.stderr


def test_a_stopped_job_goes_on_where_it_was(cluster: Cluster, s3: S3Server, bucket: str) -> None:
    """A job that is stopped resumes when it is submitted again."""
    job = cluster.submit(*tag(bucket, "stopped"))
    place = f"{bucket}/stopped"
    wait_for(lambda: s3.fs.exists(f"{place}/manifest/_manifest.json"), what="the listing")
    status = tonearm("status", f"s3://{place}", **s3.env)
    assert "running: process" in status.stdout and "of 28 tracks tagged" in status.stdout, status.stdout
    wait_for(lambda: marks(s3, place) >= 1 or cluster.state(job) == "SUCCEEDED", what="a finished file")
    cluster.stop(job)
    wait_for(lambda: cluster.state(job) != "RUNNING", what="the job's end")
    assert cluster.state(job) == "STOPPED"
    before = marks(s3, place)
    assert 1 <= before < 12, "it was over before it was stopped"
    after = tonearm("status", f"s3://{place}", **s3.env)
    assert "running: process" not in after.stdout, after.stdout
    state, log = cluster.end_of(cluster.submit(*tag(bucket, "stopped")))
    assert state == "SUCCEEDED", log
    assert "of them done before" in log
    assert_same(rows(s3, place), rows(s3, f"{bucket}/records"))


def test_a_host_that_is_cut_off_in_mid_run(cluster: Cluster, s3: S3Server, bucket: str) -> None:
    """Its tracks are done by the others; what it still does itself, unreachable, spoils nothing."""
    job = cluster.submit(*tag(bucket, "cut"))
    place = f"{bucket}/cut"
    wait_for(lambda: marks(s3, place) >= 1 or cluster.state(job) == "SUCCEEDED", what="a finished file")
    assert cluster.state(job) == "RUNNING"
    cluster.hosts.cut_off("node2")
    wait_for(lambda: cluster.num_alive() == 2, what="the head to miss the host", timeout_s=180)
    state, log = cluster.end_of(job)
    if state != "SUCCEEDED":
        assert state == "FAILED" and "same command" in log, log
        state, log = cluster.end_of(cluster.submit(*tag(bucket, "cut")))
    assert state == "SUCCEEDED", log
    assert_same(rows(s3, place), rows(s3, f"{bucket}/records"))
