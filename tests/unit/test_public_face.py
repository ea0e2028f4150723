"""``import tonearm``: its names, how little it loads, and that a typed program may use it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.resources import files
from pathlib import Path

import pytest

import tonearm
from tonearm import errors

NAMES = {
    "tag", "tag_file", "open", "Library", "Tagger", "train", "evaluate", "distill", "plan", "Client", "AsyncClient",
    "__version__",
    "TonearmError", "UsageError", "SettingsError", "SourceError", "CheckpointError", "DestinationError", "ClusterError",
    "TrainingError", "TrackError", "FetchError", "DecodeError", "ScoreError", "RequestError", "ApiError",
    "TooManyFailures", "Incomplete", "Stopped", "PluginError",
}  # fmt: skip
HEAVY = ("torch", "numpy", "ray", "pyarrow", "transformers", "duckdb", "httpx", "pydantic", "rich")
PROGRAM = """
    import numpy as np
    import tonearm

    with tonearm.Tagger(demo_models=True, max_windows=3) as tagger:
        result = tagger(np.zeros(16000, np.float32), sample_rate=16000)
        genre: str | None = result.genre
        scores: list[float] = [tag.score for tag in result.tags or []]
    library: tonearm.Library = tonearm.tag(["music"], out="labels", demo_models=True, workers=1)
    for batch in tonearm.open("labels").tracks(columns=["uri"], where="genre = 'jazz'").batches():
        rows: int = batch.num_rows
    try:
        tonearm.tag_file("song.mp3", tag_model="none")
    except tonearm.TrackError as error:
        code: str = error.code
"""


def test_the_names_are_these_and_each_is_there() -> None:
    """A name more or less is a change of what programs of others rely on."""
    assert set(tonearm.__all__) == NAMES
    assert tonearm.__all__ == sorted(tonearm.__all__)
    for name in NAMES:
        assert getattr(tonearm, name) is not None
    assert set(dir(tonearm)) >= NAMES
    with pytest.raises(AttributeError, match="no attribute 'tags'"):
        _ = tonearm.tags  # type: ignore[attr-defined]


def test_every_error_is_a_name() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds <= NAMES
    assert all(getattr(tonearm, name) is getattr(errors, name) for name in kinds)


@pytest.mark.processes
def test_importing_loads_nothing_heavy_and_takes_no_time() -> None:
    """In processor time, which a busy machine does not lengthen as it does the clock's."""
    code = f"""
        import sys, time
        started, before = time.process_time(), set(sys.modules)
        import tonearm
        print(time.process_time() - started)
        print(sorted(set(sys.modules) - before))
        assert not set({HEAVY!r}) & set(sys.modules)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    seconds, modules = run.stdout.splitlines()
    assert float(seconds) < 0.05
    assert modules == "['__future__', 'tonearm']"


def test_the_package_is_marked_as_typed() -> None:
    assert files("tonearm").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_a_typed_program_is_accepted_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    """mypy reads the types of the whole package, which takes a minute."""

    def check(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "program.py").write_text(textwrap.dedent(text))
        # The packages below tonearm are not what is asked about, and would take minutes.
        skipped = ("torch", "transformers", "ray", "scipy", "sklearn", "matplotlib", "openvino", "librosa", "pandas")
        ini = "[mypy]\nstrict = true\nignore_missing_imports = true\nfollow_imports = silent\n"
        ini += "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in skipped)
        (tmp_path / "mypy.ini").write_text(ini)
        words = ["--config-file", "mypy.ini"]
        command = [sys.executable, "-m", "mypy", *words, "--cache-dir", str(tmp_path / "cache"), "program.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    run = check(PROGRAM)
    assert run.returncode == 0, run.stdout
    wrong = check(PROGRAM + '\n    tonearm.tag("music", out="labels", worker=1)\n    tonearm.tag_file(3)\n')
    assert 'Unexpected keyword argument "worker"' in wrong.stdout
    assert 'Argument 1 to "tag_file" has incompatible type "int"' in wrong.stdout
