"""Whether the fast tests notice: seeded mutants of the modules that the promises rest on, and how many are caught.

python -m bench.mutants                     300 mutants (half an hour at most); exits 1 when too few are caught
python -m bench.mutants --only lock         one module; --by tests/unit/runs/lock: by these tests alone
python -m bench.mutants --tests TREE        with the tests of another checkout, to compare

Cosmic Ray makes the mutants. Each is tried in a copy of the checkout, never in the checkout itself, by the fast tests
that run the mutated line (coverage.py says which); what only an import runs, by all tests of the module.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import ctypes
import dataclasses
import enum
import itertools
import multiprocessing
import os
import queue
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.figures import Figure, Section

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/tonearm"
MODULES = {
    name: f"{PACKAGE}/{folder}/{name}.py"
    for folder, names in {
        "runs/lock": ("run_lock", "hold", "lock_file"),
        "runs": ("destination", "resume", "groups", "compaction"),
        "runs/rows": ("ranking", "track_files"),
        "runs/manifest": ("manifest", "manifest_merge", "manifest_parts"),
        "storage": ("allowed_uris",),
        "audio": ("windows", "streams"),
        "models": ("pooling",),
        "training/data": ("splits",),
        "training/judge": ("metrics",),
        "web/requests": ("admission", "request_body"),
    }.items()
    for name in names
}
COUNT, SEED, GOAL = 300, 20261126, 0.85
BY = ("tests/unit",)
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
# Imported once, before the forks: what a test process spends its first seconds on.
PRELOADED = [
    "pytest",
    "hypothesis",
    "numpy",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "sklearn.metrics",
    "torchmetrics",
    "av",
]
PYTEST = [
    "-q",
    "-x",
    *(part for name in ("cacheprovider", "schemathesis", "xdist", "timeout") for part in ("-p", f"no:{name}")),
]
# What was imported before the fork cannot be rewritten any more, and need not be.
PYTEST += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
SLACK_S, TIMES_OVER = 15.0, 4.0
# Tests that are run without a mutant first, and what a mutant may take of memory.
CONTROLS, MEMORY_BYTES = 6, 16 * 2**30
BUSY = 8.0
PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one line.

    Attributes:
        module: a key of ``MODULES``.
        operator: Cosmic Ray's name of the change.
        lines: the numbers of the lines that it touches.
        before, after: those lines, stripped.
        source: the whole module with the change.
    """

    module: str
    operator: str
    lines: range
    before: str
    after: str
    source: str


def candidates(code: str) -> dict[tuple[int, int, str], list[tuple[str, int]]]:
    """Return every mutation of ``code`` as (operator, occurrence), by its place and its kind."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(code)))
    found: dict[tuple[int, int, str], list[tuple[str, int]]] = defaultdict(list)
    for name in sorted(cosmic_ray.plugins.operator_names()):
        kind = cosmic_ray.plugins.get_operator(name)
        if kind.arguments() or name.endswith("NoOp"):
            continue
        operator = kind()
        places = (start for node in nodes for start, _ in operator.mutation_positions(node))
        # The eleven things that may replace a plus are one place where it may be wrong, not eleven.
        family = name.split("/")[-1].split("_")[0]
        for occurrence, (line, column) in enumerate(places):
            found[line, column, family].append((name, occurrence))
    return found


def sample(sources: Mapping[str, str], count: int, seed: int) -> list[Mutant]:
    """Return ``count`` mutants, each at a place of its own; modules get them in proportion to their places."""
    every = {module: candidates(code) for module, code in sources.items()}
    places = [(module, place) for module in sources for place in sorted(every[module])]
    draw = random.Random(seed)
    draw.shuffle(places)
    mutants: list[Mutant] = []
    for module, place in places:
        if len(mutants) == count:
            break
        name, occurrence = draw.choice(every[module][place])
        mutant = _mutant(module, sources[module], name, occurrence)
        if mutant is not None:
            mutants.append(mutant)
    return mutants


def _mutant(module: str, code: str, name: str, occurrence: int) -> Mutant | None:
    """Return the mutant, or None where it says what the code says, as in an annotation, which nothing evaluates."""
    import cosmic_ray.plugins
    from cosmic_ray.mutating import mutate_code

    try:
        changed = mutate_code(code, cosmic_ray.plugins.get_operator(name)(), occurrence)
    except AttributeError:
        return None  # its replacer of exceptions knows no dotted names
    if changed is None or (meaning := _meaning(changed)) is None or meaning == _meaning(code):
        return None
    old, new = code.splitlines(), changed.splitlines()
    first = next(number for number, (left, right) in enumerate(zip(old, new, strict=False)) if left != right)
    # From the end as well: what lies between is what was changed.
    last = next((number for number in range(min(len(old), len(new))) if old[-1 - number] != new[-1 - number]), 0)
    stop = max(first + 1, len(old) - last)
    text = " ".join(line.strip() for line in old[first:stop])
    mutated = " ".join(line.strip() for line in new[first : max(first + 1, len(new) - last)])
    return Mutant(module, name.split("/")[-1], range(first + 1, stop + 1), text, mutated, changed)


def _meaning(code: str) -> str | None:
    """Return the syntax tree without annotations; None where it is not Python."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
    return ast.dump(tree)


class Workspace:
    """A copy of the checkout with its tests, in which one mutant at a time is tried."""

    def __init__(self, folder: Path, tests: Path) -> None:
        self.root = folder / "checkout"
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("tests/"):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self.root / name)
        shutil.copytree(tests / "tests", self.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        if (ROOT.parent / "shared").is_dir():
            (folder / "shared").symlink_to(ROOT.parent / "shared")

    @contextlib.contextmanager
    def holding(self, mutant: Mutant) -> Iterator[None]:
        """Have the mutant in the place of its module while the block runs."""
        path = self.root / MODULES[mutant.module]
        before = path.read_text()
        path.write_text(mutant.source)
        try:
            yield
        finally:
            path.write_text(before)


def _run(root: str, arguments: Sequence[str], cpu_s: int) -> None:
    """Run pytest in ``root`` and leave its exit status beside it; the body of a process of its own."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # linux/prctl.h
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    beside = Path(root).parent
    os.chdir(root)
    # Bytecode goes by seconds: two mutants of one second would be taken for one.
    sys.dont_write_bytecode = True
    os.environ |= {"CI": "true", "HYPOTHESIS_STORAGE_DIRECTORY": str(beside / "hypothesis")}
    sys.path[:0] = [root, os.path.join(root, "src")]
    number = os.open(beside / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1), os.dup2(number, 2)
    import pytest

    status = int(pytest.main([*arguments, f"--basetemp={beside / 'temp'}"]))
    sys.stdout.flush()
    # In one step: who waits for the file ends this process as soon as it is there.
    (beside / "status.new").write_text(str(status))
    (beside / "status.new").replace(beside / "status")
    os._exit(0)


class Ended(enum.Enum):
    """How a run of tests ended."""

    PASSED = enum.auto()
    FAILED = enum.auto()
    DIED = enum.auto()  # by a signal, or for want of time or memory


def run_tests(root: Path, arguments: Sequence[str], *, timeout_s: float) -> Ended:
    """Run pytest in the checkout ``root``.

    Raises:
        RuntimeError: no test was run.
    """
    status_file = root.parent / "status"
    status_file.unlink(missing_ok=True)
    listed = root.parent / "arguments"
    listed.write_text("\n".join(arguments) + "\n")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(str(root), [f"@{listed}"], int(timeout_s) + 1))
    with _starting:  # multiprocessing's own list of children is not made for threads
        process.start()
    # In processor time above; by the clock it may be a busy machine that is slow.
    waits_until = time.monotonic() + BUSY * timeout_s
    while not status_file.exists() and time.monotonic() < waits_until and psutil.pid_exists(process.pid or 0):
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    with _starting:
        process.join(10)
    text = status_file.read_text() if status_file.exists() else ""
    if text == "5":
        raise RuntimeError(f"no test was run in {root}: {(root.parent / 'log').read_text(errors='replace')[-2000:]}")
    return Ended.DIED if not text else Ended.PASSED if text == "0" else Ended.FAILED


_starting = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Covering:
    """Which tests run which line, and how long each takes.

    ``by_line`` has the tests of a module's line; ``seconds`` has every test.
    """

    by_line: Mapping[tuple[str, int], frozenset[str]]
    seconds: Mapping[str, float]

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that may notice, the module's own first; all of the module for what an import runs."""
        module = MODULES[mutant.module]
        found = frozenset().union(*(self.by_line.get((module, line), frozenset()) for line in mutant.lines))
        if "" in found or not found:
            found = frozenset().union(*(names for (path, _), names in self.by_line.items() if path == module))
        file = f"/test_{mutant.module}.py::"  # in whichever folder below tests/unit
        return sorted(found - {""}, key=lambda name: (file not in name, self.seconds.get(name, 0.0)))


def measure_coverage(workspace: Workspace, by: Sequence[str]) -> Covering:
    """Run the fast tests of the paths ``by`` once with coverage; they must pass."""
    import coverage

    report = workspace.root.parent / "times.xml"
    data = workspace.root.parent / "coverage"
    covered = ",".join(MODULES.values())
    settings = workspace.root.parent / "coveragerc"
    settings.write_text(f"[run]\ndata_file={data}\nrelative_files=true\ninclude={covered}\n")
    command = [*PYTEST, "-m", "fast", *by, f"--junitxml={report}", "-o", "junit_family=xunit1"]
    command += ["--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report="]
    if run_tests(workspace.root, command, timeout_s=1800) is not Ended.PASSED:
        raise SystemExit(f"the fast tests fail without any mutant:\n{_log(workspace)[-3000:]}")
    measured = coverage.CoverageData(str(data))
    measured.read()
    by_line = {
        (path, line): frozenset(context.rpartition("|")[0] for context in contexts)
        for path in MODULES.values()
        for line, contexts in measured.contexts_by_lineno(path).items()
    }
    return Covering(_by_statement(workspace, by_line), _seconds(report))


def _by_statement(
    workspace: Workspace, by_line: Mapping[tuple[str, int], frozenset[str]]
) -> dict[tuple[str, int], frozenset[str]]:
    """Give every line of a statement the tests that run any line of it, as mutants may lie on any of them."""
    spread = dict(by_line)
    for path in MODULES.values():
        for node in ast.walk(ast.parse((workspace.root / path).read_text())):
            if not isinstance(node, ast.stmt):
                continue
            body = getattr(node, "body", None)
            stop = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            lines = range(node.lineno, max(stop, node.lineno + 1))
            tests = frozenset().union(*(by_line.get((path, line), frozenset()) for line in lines))
            for line in lines:
                spread[path, line] = spread.get((path, line), frozenset()) | tests
    return spread


def _seconds(report: Path) -> dict[str, float]:
    from xml.etree import ElementTree

    seconds = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('file')}::{case.get('name')}"
        seconds[name] = float(case.get("time") or 0)
    return seconds


def _log(workspace: Workspace) -> str:
    return (workspace.root.parent / "log").read_text(errors="replace")


def is_caught(workspace: Workspace, mutant: Mutant, covering: Covering) -> bool:
    """Return whether a test fails, or nothing can be imported any more, with the mutant in place."""
    tests = covering.tests(mutant)
    if not tests:
        return False
    expected_s = sum(covering.seconds.get(name, 0.1) for name in tests)
    with workspace.holding(mutant):
        ended = run_tests(workspace.root, [*PYTEST, *tests], timeout_s=SLACK_S + TIMES_OVER * expected_s)
    return ended is not Ended.PASSED


def check_controls(workspace: Workspace, mutants: Sequence[Mutant], covering: Covering) -> None:
    """Run the tests of some mutants without any change: they must pass, or a catch would prove nothing."""
    for mutant in mutants[:CONTROLS]:
        unchanged = dataclasses.replace(mutant, source=(ROOT / MODULES[mutant.module]).read_text())
        if is_caught(workspace, unchanged, covering):
            raise SystemExit(f"tests of {mutant.module} fail without any mutant:\n{_log(workspace)[-3000:]}")


def equivalent(mutant: Mutant, reasons: Sequence[Mapping[str, str]]) -> str | None:
    """Return the noted reason why no test can tell this mutant from the code."""
    for entry in reasons:
        if (entry["module"], entry["before"], entry["after"]) == (mutant.module, mutant.before, mutant.after):
            return entry["reason"]
    return None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    mutant: Mutant
    is_caught: bool
    reason: str | None


def try_all(
    mutants: Sequence[Mutant], tests: Path, folder: Path, *, by: Sequence[str] = BY, print_survivors: bool = False
) -> list[Outcome]:
    """Return what became of each; as many at a time as there are cores."""
    reasons = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    num_workers = os.cpu_count() or 1
    idle: queue.SimpleQueue[Workspace] = queue.SimpleQueue()
    workspaces = [Workspace(folder / f"{number}", tests) for number in range(num_workers)]
    covering = measure_coverage(workspaces[0], by)
    check_controls(workspaces[0], mutants, covering)
    for workspace in workspaces:
        idle.put(workspace)
    printing = threading.Lock()
    started = itertools.count(1)

    def attempt(mutant: Mutant) -> Outcome:
        reason = equivalent(mutant, reasons)
        workspace = idle.get()
        if (number := next(started)) % 50 == 0:
            print(f"mutant {number} of {len(mutants)}", file=sys.stderr, flush=True)
        try:
            caught = is_caught(workspace, mutant, covering)
        finally:
            idle.put(workspace)
        if print_survivors and not caught:
            with printing:
                print(f"survived: {mutant.module}:{mutant.lines[0]} {mutant.operator}")
                print(f"    {mutant.before}\n    {mutant.after}", *([f"    # {reason}"] if reason else ()), flush=True)
        return Outcome(mutant, caught, reason)

    with ThreadPoolExecutor(num_workers, thread_name_prefix="mutant") as pool:
        return list(pool.map(attempt, mutants))


def report(outcomes: Sequence[Outcome]) -> tuple[str, float]:
    """Return the table by module, and the share that was caught of those that can be."""
    lines = [
        "| module | mutants | caught | survived | equivalent | caught of the rest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        kind = "caught" if outcome.is_caught else "equivalent" if outcome.reason else "survived"
        counts[outcome.mutant.module][kind] += 1
        counts["all"][kind] += 1
    share = 1.0
    for module in [*(name for name in MODULES if name in counts), "all"]:
        found = counts[module]
        share = found["caught"] / max(1, found["caught"] + found["survived"])
        cells = (module, found.total(), found["caught"], found["survived"], found["equivalent"], f"{share:.0%}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines), share


def run(
    count: int,
    seed: int,
    tests: Path,
    only: str | None = None,
    *,
    by: Sequence[str] = BY,
    print_survivors: bool = False,
) -> tuple[str, float]:
    """Try ``count`` mutants; return the table and the share caught."""
    modules = [only] if only else list(MODULES)
    sources = {name: (ROOT / MODULES[name]).read_text() for name in modules}
    with tempfile.TemporaryDirectory(prefix="tonearm-mutants-") as folder:
        return report(
            try_all(sample(sources, count, seed), tests, Path(folder), by=by, print_survivors=print_survivors)
        )


def cases(folder: Path, *, quick: bool) -> Iterator[int]:
    """Yield how many mutants are tried; nothing when it must be quick."""
    if not quick:
        yield COUNT


def measure(case: int, folder: Path) -> Section:
    """Try the mutants for the table of ``make bench``."""
    text, share = run(case, SEED, ROOT)
    figure = Figure("mutants that the fast tests catch", (share,), GOAL, "%")
    return Section(f"## Mutants\n\n{case} seeded mutants, tried by the fast tests.\n\n{text}", True, (figure,))


def main() -> int:
    """Print the table and the survivors."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", choices=list(MODULES))
    parser.add_argument("--by", nargs="+", default=BY, metavar="PATH", help="tests to try them by")
    parser.add_argument("--tests", type=Path, default=ROOT, help="the checkout whose tests are run")
    arguments = parser.parse_args()
    started = time.monotonic()
    text, share = run(
        arguments.count, arguments.seed, arguments.tests, arguments.only, by=arguments.by, print_survivors=True
    )
    print(f"\n{text}\n\n{share:.1%} caught in {time.monotonic() - started:.0f} s (goal {GOAL:.0%})")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
