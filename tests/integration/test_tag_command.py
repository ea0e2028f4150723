"""``tonearm tag`` as a person runs it: rows, statuses, what is said, and what is done the second time."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from tests import commands, rays
from tests.checkpoints import AST, save_small
from tests.commands import read_tracks
from tests.one_process import tonearm
from tonearm.runs.rows import schema, track_rows


@pytest.fixture(scope="module")
def library(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The songs, a broken download, an empty file, a clip under one frame, and what is no audio."""
    folder = tmp_path_factory.mktemp("tagged") / "library"
    shutil.copytree(songs, folder)
    (folder / "empty.mp3").touch()
    soundfile.write(folder / "blip.wav", np.ones(5), 16000)
    return folder


@pytest.fixture(scope="module")
def tagged(library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What most people run: a Ray of its own, on this machine."""
    out = tmp_path_factory.mktemp("tagged-out")
    return out, commands.tonearm("tag", library, "--out", out, "--demo-models", "--max-error-rate", "0.3")


def test_every_track_has_one_row(tagged: tuple[Path, subprocess.CompletedProcess[str]], library: Path) -> None:
    out, run = tagged
    assert run.returncode == 0, run.stderr
    table = read_tracks(out, drop=())
    assert (
        table.schema.remove_metadata().equals(schema.TRACKS.remove_metadata())
        or table.schema.names == schema.TRACKS.names
    )
    rows = table.to_pylist()
    listed = {str(path) for path in library.rglob("*") if path.suffix not in (".txt", "") and path.is_file()}
    assert {row["uri"] for row in rows} == listed
    assert len(rows) == len(listed) == len({row["track_key"] for row in rows})
    codes = {Path(row["uri"]).name: row["error_code"] for row in rows if row["status"] == "error"}
    assert codes == {"empty.mp3": "empty_file", "blip.wav": "too_short", "broken download.mp3": "not_audio"}
    assert all(row["error_message"] for row in rows if row["status"] == "error")


def test_a_run_on_one_machine_starts_no_process_that_only_clusters_need(songs: Path, tmp_path: Path) -> None:
    """Each would cost a core-second or two before the first row; see ``distributed.cluster.fewer_processes``."""
    run = commands.start_tonearm("tag", songs / "Underpass", "--out", tmp_path, "--demo-models")
    titles: set[str] = set()

    def has_ended() -> bool:
        if run.poll() is None:
            with contextlib.suppress(psutil.Error):
                processes = psutil.Process(run.pid).children(recursive=True)
                titles.update(" ".join(rays.cmdline(process)) for process in processes)
        return run.poll() is not None

    commands.wait_for(has_ended, what="the end of the run")
    assert run.returncode == 0, commands.said_by(run)
    seen = "\n".join(titles)
    assert "ScoreTracks" in seen, "the run's own actors are among the processes"
    needed_by_clusters = ("StatsActor", "AutoscalingCoordinator", "ActorLocationTracker", "dashboard.py", "monitor")
    assert [name for name in needed_by_clusters if name in seen] == []


def test_rows_hold_what_both_heads_say(tagged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    rows = [row for row in read_tracks(tagged[0], drop=()).to_pylist() if row["status"] == "ok"]
    for row in rows:
        assert row["title"] and row["artist"] and row["codec"]
        assert 11 < row["duration_s"] < 17
        assert row["coverage"] == pytest.approx(1.0, abs=1e-6)
        scores = [entry["score"] for entry in row["genre_scores"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0, abs=1e-5)
        assert (row["genre"], row["genre_score"]) == (row["genre_scores"][0]["label"], pytest.approx(scores[0]))
        assert len(row["genre_embedding"]) == len(row["tag_embedding"]) == 128
        assert row["windows"][0]["start_s"] == 0
        assert row["windows"][-1]["end_s"] == pytest.approx(row["duration_s"], abs=0.01)
        for tag in row["tags"]:
            assert 0 <= tag["score"] <= tag["max_score"] <= 1
            assert tag["max_start_s"] in [window["start_s"] for window in row["windows"]]
        assert row["run_id"] and row["tonearm_version"] and "@sha256:" in row["genre_model"]


def test_the_terminal_gets_only_what_a_person_needs(tagged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, run = tagged
    assert "know only synthesized music" in run.stderr
    for line in run.stderr.splitlines():
        assert re.match(r"demo models:|tagging 12 tracks|listing:|\d+/12 tracks · ", line), line
    lines = r"9 tracks tagged, 3 failed|failed: 1 |skipped, not audio: |audit: 12 rows for 12|genre and tags ran on "
    lines += (
        r"|report: |genres: \d|tags, those that say most first: \d|next: tonearm export |      tonearm (status|report) "
    )
    for line in run.stdout.splitlines():
        assert re.match(lines, line), line
    assert "genre and tags ran on openvino fp32 on cpu; bottleneck: " in run.stdout
    (summary,) = (out / "runs").glob("*.json")
    facts = json.loads(summary.read_text())
    assert facts["results"]["num_ok"] == 9
    speed = facts["speed"]
    stages = {"fetch", "decode", "features", "forward", "pool", "write"}
    assert set(speed["busy_s"]) == stages
    assert all(speed["busy_s"][stage] > 0 for stage in stages)
    assert all(0 < speed["busy_share"][stage] <= 1.5 for stage in stages)
    assert speed["bottleneck"]
    assert facts["results"]["errors_by_code"] == {"empty_file": 1, "too_short": 1, "not_audio": 1}
    assert "empty_file" in (out / "report.html").read_text()


def test_a_second_run_has_nothing_to_do_and_the_status_still_tells(
    tagged: tuple[Path, subprocess.CompletedProcess[str]], library: Path
) -> None:
    out, _ = tagged
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet") if "manifest" not in str(path)}
    run = tonearm("tag", library, "--out", out, "--demo-models", "--max-error-rate", "0.3")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("nothing to do: all 12 tracks")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet") if "manifest" not in str(path)} == before
    strict = tonearm("tag", library, "--out", out, "--demo-models", "--json")
    assert strict.returncode == 3
    assert "3 of 12 tracks failed" in strict.stderr and "nothing to do" in strict.stderr
    document = json.loads(strict.stdout)  # of a run that ends with status 3 too
    assert (document["num_listed"], document["num_ok"], document["num_failed"]) == (12, 9, 3)
    assert document["summary"]["results"]["num_ok"] == 9 and document["report"] == f"{out}/report.html"


def test_other_settings_are_refused_before_anything_is_written(
    tagged: tuple[Path, subprocess.CompletedProcess[str]], library: Path
) -> None:
    out, _ = tagged
    before = read_tracks(out)
    run = tonearm("tag", library, "--out", out, "--demo-models", "--max-windows", "1")
    assert run.returncode == 2
    assert "holds tracks tagged with other settings: max_windows: 480 there, 1 now (genre); " in run.stderr
    assert "or another destination" in run.stderr
    assert read_tracks(out) == before


@pytest.mark.slow
def test_columns_are_made_anew_where_a_person_says_so(
    tagged: tuple[Path, subprocess.CompletedProcess[str]], library: Path, tmp_path: Path
) -> None:
    """--rescore replaces the columns of other settings, one row a track, and is done when it is done."""
    out = Path(shutil.copytree(tagged[0], tmp_path / "out"))
    before = {row["track_key"]: row for row in read_tracks(out, drop=()).to_pylist()}
    options = [
        "--demo-models",
        "--max-windows",
        "1",
        "--max-error-rate",
        "0.3",
        "--rescore",
        "genre",
        "--rescore",
        "tags",
    ]
    run = tonearm("tag", library, "--out", out, *options)
    assert run.returncode == 0, run.stderr
    after = {row["track_key"]: row for row in read_tracks(out, drop=()).to_pylist()}
    assert after.keys() == before.keys()
    assert len(list(after)) == read_tracks(out, drop=()).num_rows, "one row a track"
    for key, row in after.items():
        if row["status"] == "ok":
            assert len(row["windows"]) == 1
            assert row["term"] > before[key]["term"]
            assert row["genre_settings"] != before[key]["genre_settings"]
            assert row["title"] == before[key]["title"]
    again = tonearm("tag", library, "--out", out, *options)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


def test_new_changed_and_retried_tracks_only(
    tagged: tuple[Path, subprocess.CompletedProcess[str]], library: Path, songs: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tagged[0], tmp_path / "out"))
    before = {row["track_key"]: row for row in read_tracks(out, drop=()).to_pylist()}
    good, other = sorted(songs.glob("*/*.flac"))[0], sorted(songs.glob("*/*.mp3"))[0]
    # The empty file is filled (changed), a song is added (new), and two failed ones are asked for again.
    shutil.copy(good, library / "empty.mp3")
    shutil.copy(other, library / "added.mp3")
    try:
        command = ["tag", library, "--out", out, "--demo-models", "--max-error-rate", "0.3", "--retry-errors"]
        run = tonearm(*command)
    finally:
        (library / "empty.mp3").write_bytes(b"")
        (library / "added.mp3").unlink()
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("2 tracks tagged, 2 failed")
    after = {row["track_key"]: row for row in read_tracks(out, drop=()).to_pylist()}
    kept = {key: row for key, row in before.items() if row["status"] == "ok"}
    assert {key: after[key] for key in kept} == kept
    made = [row for key, row in after.items() if after[key] != before.get(key)]
    names = Counter((Path(row["uri"]).name, row["status"]) for row in made)
    assert names == Counter(
        {("empty.mp3", "ok"): 1, ("added.mp3", "ok"): 1, ("blip.wav", "error"): 1, ("broken download.mp3", "error"): 1}
    )
    # The row of the empty file stays, out of sight: the manifest lists a later version of it.
    shown = [row for batch in track_rows.scan(str(out), ["uri", "status"]) for row in batch.to_pylist()]
    assert [row["status"] for row in shown if row["uri"].endswith("empty.mp3")] == ["ok"]
    assert len(shown) == 13


@pytest.mark.slow
def test_one_head_and_limits(library: Path, tmp_path: Path) -> None:
    """One head alone, --limit and --max-windows do what they say."""
    models = save_small(tmp_path / "hubert", "hubert"), save_small(tmp_path / "ast", AST)
    out = tmp_path / "out"
    options = ["--tag-model", models[1], "--genre-model", "none", "--max-windows", "1", "--limit", "4"]
    run = tonearm("tag", library / "*" / "*", "--out", out, *options)
    assert run.returncode == 0, run.stderr
    rows = read_tracks(out).to_pylist()
    assert len(rows) == 4
    for row in rows:
        assert row["genre"] is row["genre_embedding"] is row["genre_model"] is None
        assert len(row["windows"]) == 1
        assert row["coverage"] == pytest.approx(10.24 / row["duration_s"], abs=1e-3)
        assert row["windows"][0]["start_s"] == pytest.approx((row["duration_s"] - 10.24) / 2, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing-folder", "--demo-models"], "no file or folder .*missing-folder; expected"),
        (["empty", "--demo-models"], "no audio in .*empty: it is empty"),
        (["ftp://host/music", "--demo-models"], "unknown scheme ftp://; expected one of"),
        (["audio", "--genre-model", "no/such/folder"], "no model folder no/such/folder; give"),
        (["audio", "--genre-model", "encoder"], "expected an audio classifier"),
        (["audio", "--genre-model", "none", "--tag-model", "none"], "both heads are off"),
        (["audio", "--demo-models", "--genre-model", "x"], "--demo-models together with"),
        (["audio", "--demo-models", "--config", "typo.toml"], "unknown setting 'timeout'; did you mean 'timeout_s'"),
        (["audio", "--demo-models", "--config", "none.toml"], "no settings file none.toml"),
        (["audio", "--demo-models", "--precision", "fp23"], "got 'fp23'.*'fp32'"),
        (["audio", "--demo-models", "--runtime", "torch", "--precision", "int8"], "got precision int8 with torch"),
        (["audio", "--demo-models", "--max-windws", "3"], "No such option: --max-windws.*tonearm tag --help"),
        (
            ["audio", "--demo-models", "--max-windows", "0"],
            "max_windows: got 0; input should be greater than or equal to 1",
        ),
        (["audio", "--demo-models", "--max-windows", "many"], "--max-windows.*integer"),
        (
            ["audio", "--demo-models", "--out", "taken"],
            "taken.* cannot be (used|written): a file is where a folder should be",
        ),
        (["audio", "--demo-models", "--out", "s3://"], "expected a bucket: s3://BUCKET/PREFIX"),
        (
            ["audio", "--demo-models", "--out", "https://host/x"],
            "got https://host/x as destination, expected a folder, s3://",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], says: str, songs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").touch()
    (tmp_path / "audio").symlink_to(songs)
    (tmp_path / "typo.toml").write_text("[fetch]\ntimeout = 3\n")
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    if "--out" not in arguments:
        arguments = [*arguments, "--out", "out"]
    run = tonearm("tag", *arguments, cwd=tmp_path)
    assert_one_line(run, says)
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["s3://no-such-bucket/music", "--demo-models"], "no credentials for s3://no-such-bucket"),
        (["audio"], "model .* is not in the local cache and the hub cannot be reached; .*--demo-models"),
        (["audio", "--demo-models", "--workers", "64"], "64 workers on .* cores"),
    ],
)
def test_what_a_machine_lacks_is_one_line(arguments: list[str], says: str, songs: Path, tmp_path: Path) -> None:
    (tmp_path / "audio").symlink_to(songs)
    # A cache of its own: a machine that has the default models must fail here like any other.
    extra = {"HF_HOME": str(tmp_path / "hub"), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    run = commands.tonearm("tag", *arguments, "--out", "out", cwd=tmp_path, **extra)
    assert_one_line(run, says)
    assert not list((tmp_path / "out").rglob("*.parquet")) or "--workers" in arguments


def assert_one_line(run: subprocess.CompletedProcess[str], says: str) -> None:
    assert run.returncode == 2, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith(("demo models:", "tagging"))]
    assert re.search(says, line), line


@pytest.mark.slow
def test_weights_that_only_the_worker_reads_are_refused_in_one_line(songs: Path, tmp_path: Path) -> None:
    """Weights that only a worker notices to be wrong end the run with one line."""
    model = save_small(tmp_path / "hubert", "hubert")
    weights = load_file(model / "model.safetensors")
    weights["classifier.weight"][0, 0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    run = tonearm("tag", songs, "--out", tmp_path / "out", "--genre-model", model, "--tag-model", "none")
    assert run.returncode == 2, run.stderr
    assert "classifier.weight holds values that are not numbers" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert not run.stdout
