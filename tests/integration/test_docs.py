"""The commands and programs of README and docs/, run as they stand; ``docs_fences`` says which test runs which."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import commands, one_process
from tests.checkpoints import save_small
from tests.docs_fences import ROOT, Fence, fences
from tests.labelled import write_folders
from tests.serving import Server
from tests.toys import install_toy
from tonearm import demo

# What stands in a page for an address that only this run knows.
LISTENS = "http://127.0.0.1:8000"


@dataclasses.dataclass(frozen=True)
class Desk:
    """A person's current folder, and their home with Music and labelled in it.

    ``models`` are folders that are given by their whole paths: the Ray that all commands share was started elsewhere.
    """

    folder: Path
    home: Path
    models: tuple[str, ...] = ()
    done: list[list[str]] = dataclasses.field(default_factory=list)

    def words(self, words: Sequence[str]) -> list[str]:
        """Return a command's words as a shell would pass them."""
        return [self._word(word) for word in words]

    def _word(self, word: str) -> str:
        name, equals, model = word.rpartition("=")  # of --head and --fallback
        if word.startswith("~/"):
            return str(self.home / word.removeprefix("~/"))
        return f"{name}{equals}{self.folder / model}" if model in self.models else word

    def run(self, fence: Fence, *, once: bool = False, env: dict[str, str] | None = None) -> str:
        """Run a block's ``tonearm`` commands and return what they print.

        Args:
            once: leave out what was run before.
            env: changes of the environment; without them one process runs all commands.
        """
        said = []
        for words in fence.commands():
            if once and words in self.done:
                continue
            self.done.append(words)
            assert words[0] == "tonearm", f"{fence.where}: {words[0]} is not run by this test"
            run = one_process.tonearm if env is None else commands.tonearm
            done = run(*self.words(words[1:]), cwd=self.folder, **(env or {}))
            assert done.returncode == 0, f"{fence.where}: {words}: {done.stdout}{done.stderr}"
            said.append(done.stdout)
        return "".join(said)


def run_python(program: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program in ``folder``."""
    return subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, capture_output=True, text=True)


def write_settings(folder: Path, text: str) -> None:
    """Write the ./tonearm.toml that stands for models which would have to be fetched."""
    (folder / "tonearm.toml").write_text(text)


@pytest.fixture(scope="module")
def desk(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Songs in ~/Music, one of them in the current folder, and the built-in models instead of the default ones."""
    desk = Desk(tmp_path_factory.mktemp("desk"), tmp_path_factory.mktemp("home"))
    (desk.home / "Music").symlink_to(songs)
    shutil.copy(sorted(songs.glob("*/*.flac"))[0], desk.folder / "song.flac")
    lines = "".join(f"{name} = {path!r}\n" for name, path in demo.models().items())
    write_settings(desk.folder, f"[models]\n{lines}[tag]\nmax_error_rate = 0.5\n")  # one song is broken
    return desk


@pytest.fixture(scope="module")
def labels(desk: Desk) -> Path:
    """The library that the pages go on with."""
    run = one_process.tonearm("tag", desk.home / "Music", "--out", "labels", cwd=desk.folder)
    assert run.returncode == 0, run.stderr
    return desk.folder / "labels"


@pytest.mark.slow
def test_commands_about_a_tagged_library(desk: Desk, labels: Path) -> None:
    """Every command of the pages that tag a library, or use a tagged one, does what it is said to do."""
    for fence in fences("console tagged"):
        desk.run(fence, once=True)
    for name in ("tracks.csv", "all.jsonl", "rock.csv", "labels-by-track", "playlists", "vectors.parquet", "quick"):
        assert (desk.folder / name).exists(), name
    assert len(list(desk.folder.glob("*.png"))) == 5, "five pictures"
    assert list((desk.folder / "playlists").glob("*.m3u8"))


@pytest.mark.slow
def test_python_about_a_tagged_library(desk: Desk, labels: Path) -> None:
    """The programs of README and rows.md print genres and tables."""
    parts = [fence.text for fence in fences("python tagged")]
    run = run_python("\n".join(parts), desk.folder, commands.environment())
    assert run.returncode == 0, run.stderr
    genre, *table = run.stdout.splitlines()
    assert genre in {"ambient", "chiptune", "classical", "drum and bass", "folk", "hip hop", "jazz", "rock", "techno"}
    assert table[0].split() == ["uri", "genre"] and len(table) > 5


@pytest.mark.slow
def test_commands_of_training(songs: Path, tmp_path: Path) -> None:
    """A model is trained, evaluated, calibrated, used and shown to the Hub with the documented commands."""
    desk = Desk(tmp_path / "desk", tmp_path, models=("genres",))
    desk.folder.mkdir()
    (tmp_path / "Music").symlink_to(songs)
    write_folders(tmp_path / "labelled", clips=8, fold=False)
    base = save_small(tmp_path / "base", "hubert")
    start = f"[train]\nmodel = {str(base)!r}\nnew_head = true\ncache = {str(tmp_path / 'cache')!r}\n"
    short = 'window_s = 1.0\nepochs = 1\ntrackers = []\n[train.labels]\nduplicates = "ignore"\n'
    write_settings(desk.folder, f"[tag]\nmax_error_rate = 0.5\n[models]\ntag_model = 'none'\n{start}{short}")
    for fence in sorted(fences("console trained"), key=lambda fence: fence.page != "train.md"):
        desk.run(fence)
    assert (desk.folder / "genres" / "model.safetensors").is_file()
    assert (desk.folder / "calibrated-labels" / "report.html").is_file()


@pytest.mark.slow
def test_commands_of_distilling(songs: Path, tmp_path: Path) -> None:
    """A student is made with the documented command, of a model and songs that are small enough."""
    desk = Desk(tmp_path / "desk", tmp_path, models=("models/large", "student"))
    (desk.folder / "models").mkdir(parents=True)
    (tmp_path / "Music").symlink_to(songs)
    save_small(desk.folder / "models" / "large", "hubert", conv_dim=(96, 96, 96))
    student = save_small(tmp_path / "small", "mobilenet_audio")
    start = f"[distill]\nmodel = {str(student)!r}\ncache = {str(tmp_path / 'cache')!r}\nmax_error_rate = 0.5\n"
    short = "window_s = 0.5\nepochs = 1\nmax_windows = 2\nleast_audio_s = 1.0\ntrackers = []\n"
    tag = "[tag]\nmax_error_rate = 0.5\n"
    write_settings(desk.folder, tag + start + short + "[distill.labels]\nvalidation_share = 0.3\n")
    said = "".join(desk.run(fence) for fence in fences("console distilled"))
    assert (desk.folder / "student" / "model.safetensors").is_file()
    assert re.search(r"genre: \S+% of \d+ windows, below \S+, went to large", said), said


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    (fence,) = fences("console served")
    assert fence.commands() == [["tonearm", "serve", "--demo-models"]], "the server that is started here"
    server = Server()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_a_server_and_what_it_is_asked(server: Server, desk: Desk) -> None:
    """The documented requests are answered: by curl, by tonearm's client and by Hugging Face's."""
    curl = shutil.which("curl")
    for fence in fences("console asked"):
        for words in fence.commands():
            assert words[0] == "curl"
            if curl is not None:
                command = [word.replace(LISTENS, server.url) for word in words]
                answer = subprocess.run(
                    [*command, "--silent", "--fail"], cwd=desk.folder, capture_output=True, text=True
                )
                assert answer.returncode == 0 and '"genre"' in answer.stdout, f"{fence.where}: {answer.stdout}"
    for fence in fences("python asked"):
        program = fence.text.replace(LISTENS, server.url)
        env = commands.environment(HF_HUB_OFFLINE="0")
        run = run_python(program, desk.folder, env)
        assert run.returncode == 0, f"{fence.where}: {run.stderr}"


@pytest.mark.slow
def test_the_first_hour(music: Path, tmp_path: Path) -> None:
    """The walk's commands work where the demo has been, with the package that it has one write installed."""
    desk = Desk(tmp_path / "clone", tmp_path)
    desk.folder.mkdir()
    (desk.folder / "demo-library").symlink_to(music)
    toys = install_toy(tmp_path / "target", tmp_path)
    path = os.pathsep.join(filter(None, (str(toys), os.environ.get("PYTHONPATH"))))
    tagged = one_process.tonearm(
        *("tag", "demo-library", "--demo-models", "--out", "demo-out", "--max-error-rate", "0.5"), cwd=desk.folder
    )
    assert tagged.returncode == 0, tagged.stderr
    said = [desk.run(fence, env={"PYTHONPATH": path}) for fence in fences("console hour")]
    assert list((desk.folder / "playlists").glob("*.m3u8"))
    assert "toy" in said[1], "doctor names the family"
    assert (desk.folder / "toy-model" / "model.safetensors").is_file()
    (package,) = fences("toml hour")
    assert 'toy = "toy_tonearm.family:Toy"' in package.text
    for fence in fences("console hour-shell"):
        for line in fence.lines():
            python = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
            run = subprocess.run(
                ["bash", "-c", line],
                cwd=ROOT,
                env={**os.environ, "PATH": python},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert run.returncode == 0, f"{fence.where}: {run.stdout}{run.stderr}"
