"""Each measure of the source, on a module small enough to count by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from bench import structure
from bench.measures import Function, Module, folder_sizes, measure, parse_module, share_tested


def parsed(source: str, path: str = "room/module.py") -> Module:
    return parse_module(PurePosixPath(path), source)


def only_function(source: str) -> Function:
    """Return the outermost function of a source."""
    return parsed(source).functions[0]


def test_lines_of_files() -> None:
    sizes = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    measures = measure([parsed("x = 1\n" * size, f"room/f{size}.py") for size in sizes])
    assert (measures.num_files, measures.num_lines) == (10, 550)
    assert (measures.median_file, measures.p90_file) == (55, 90)
    assert (measures.longest_file, measures.longest_file_path) == (100, "room/f100.py")


@pytest.mark.parametrize(("source", "num_lines"), [("x = 1\n", 1), ("x = 1", 1), ("x = 1\n\n", 2)])
def test_a_last_line_without_an_end_counts(source: str, num_lines: int) -> None:
    assert parsed(source).num_lines == num_lines


def test_lines_of_functions_count_nested_ones_and_no_decorators() -> None:
    long = "def long():\n" + "    x = 1\n" * 60
    border = "def border():\n" + "    x = 1\n" * 59
    outer = "@decorated\ndef outer():\n    def inner():\n        return 1\n    return inner\n"
    module = parsed(long + border + outer)
    assert [(function.qualified_name, function.num_lines) for function in module.functions] == [
        ("long", 61),
        ("border", 60),
        ("outer", 4),
        ("outer.inner", 2),
    ]
    measures = measure([module])
    assert (measures.num_functions, measures.median_function, measures.p95_function) == (4, 32, 61)
    assert measures.share_long_functions == 1 / 4


@pytest.mark.parametrize(
    ("signature", "num_parameters"),
    [
        ("def f(): ...", 0),
        ("def f(a, /, b, *, c): ...", 3),
        ("def f(a, *args, **kwargs): ...", 3),
        ("class C:\n    def f(self, a): ...", 1),
        ("class C:\n    @classmethod\n    def f(cls, a, b): ...", 2),
        ("class C:\n    @staticmethod\n    def f(a, b): ...", 2),
    ],
)
def test_parameters_without_self_and_cls(signature: str, num_parameters: int) -> None:
    assert only_function(signature).num_parameters == num_parameters


def test_mean_and_most_parameters() -> None:
    measures = measure(
        [parsed("def few(a): ...\ndef six(a, b, c, d, e, f): ...\ndef many(a, b, c, d, e, f, g, h): ...\n")]
    )
    assert measures.mean_parameters == 5
    assert measures.share_many_parameters == 1 / 3
    assert (measures.most_parameters, measures.most_parameters_name) == (8, "room/module.py:many")


@pytest.mark.parametrize(
    ("body", "nesting"),
    [
        ("return 1", 0),
        ("if a:\n  return 1", 1),
        ("if a:\n  pass\n elif b:\n  pass\n elif c:\n  pass", 1),
        ("if a:\n  pass\n else:\n  if b:\n   pass", 2),
        ("for a in b:\n  while c:\n   with d:\n    try:\n     pass\n    finally:\n     pass", 4),
        ("match a:\n  case 1:\n   if b:\n    pass", 2),
        ("try:\n  pass\n except E:\n  if a:\n   pass", 2),
        ("def inner():\n  if a:\n   for b in c:\n    pass", 0),
    ],
)
def test_nesting_of_blocks(body: str, nesting: int) -> None:
    assert only_function(f"def f():\n {body}\n").nesting == nesting


def test_asynchronous_blocks_nest_as_others() -> None:
    assert only_function("async def f():\n async for a in b:\n  async with c:\n   pass\n").nesting == 2


def test_mean_and_deep_nesting() -> None:
    four = "def four():\n if a:\n  if b:\n   if c:\n    if d:\n     pass\n"
    three = "def three():\n if a:\n  if b:\n   if c:\n    pass\n"
    measures = measure([parsed(four + three)])
    assert (measures.mean_nesting, measures.share_deep_nesting) == (3.5, 0.5)


def test_modules_per_folder() -> None:
    paths = [
        PurePosixPath(path) for path in ("a.py", "one/a.py", "two/__init__.py", "two/a.py", "two/deep/a.py", "two/b.py")
    ]
    assert {str(folder): size for folder, size in folder_sizes(paths).items()} == {
        ".": 1,
        "one": 1,
        "two": 3,
        "two/deep": 1,
    }
    measures = measure([parsed("x = 1\n", str(path)) for path in paths])
    assert (measures.num_folders, measures.median_folder) == (4, 1)
    assert (measures.largest_folder, measures.largest_folder_path) == (3, "two")


PUBLIC = '''
def documented():
    """Say what."""
    def inner(): ...
def bare(): ...
def _private(): ...
class Documented:
    """Say what."""
    def __init__(self): ...
    def method(self): ...
class _Private:
    def method(self): ...
'''


def test_docstrings_of_public_functions() -> None:
    module = parsed(PUBLIC)
    assert module.public == (True, False, False)
    assert measure([module]).share_docstrings == 1 / 3


def test_kinds_of_definitions() -> None:
    measures = measure([parsed(PUBLIC)])
    assert measures.num_classes == 2
    assert (measures.num_free_functions, measures.num_methods) == (4, 3)
    assert measures.num_private_functions == 1, "a dunder is no private function"


def test_annotated_returns() -> None:
    assert measure([parsed("def a() -> None: ...\ndef b(): ...\n")]).share_annotated_returns == 0.5


@pytest.mark.parametrize(
    ("handler", "number"),
    [
        ("except Exception:", 1),
        ("except Exception as error:", 1),
        ("except (ValueError, Exception):", 1),
        ("except builtins.Exception:", 1),
        ("except ValueError:", 0),
        ("except BaseException:", 1),
        ("except:", 1),
    ],
)
def test_blanket_excepts(handler: str, number: int) -> None:
    assert len(parsed(f"try:\n    pass\n{handler}\n    pass\n").blanket_excepts) == number


def test_comments_and_docstrings_against_code() -> None:
    module = parsed(
        '''"""A module.

Of three lines.
"""

# A comment alone.
x = 1  # and one behind code
y = """text
that is no docstring, with a # in it
"""


def f():
    """Return z."""
    return [
        1,

    ]
'''
    )
    assert module.num_comments == 2
    assert module.num_docstring_lines == 5
    assert module.num_code_lines == 1 + 3 + 1 + 3
    measures = measure([module])
    assert measures.comments_per_100_code == 25
    assert measures.docstring_lines_per_100_code == 62.5


def test_imports_inside_functions() -> None:
    module = parsed(
        """import os
if TYPE_CHECKING:
    import torch
class C:
    import re
    def f(self):
        import ray
        def g():
            from a import b, c
"""
    )
    assert module.function_imports == (7, 9)


@pytest.mark.parametrize(
    ("signature", "places"),
    [
        ("def f(a: Any) -> Any: ...", ["a", "return"]),
        ("def f(a: Any | None, *, b: typing.Any) -> 'Any | None': ...", ["a", "b", "return"]),
        ("def f(a: Optional[Any]) -> None: ...", ["a"]),
        ("def f(a: dict[str, Any], b: Callable[..., Any]) -> list[Any]: ...", []),
        ("def f(*args: Any, **kwargs: Any) -> int: ...", []),
        ("def f(a: 'no type', b: object): ...", []),
    ],
)
def test_parameters_and_returns_typed_bare_any(signature: str, places: list[str]) -> None:
    assert [annotation.place for annotation in only_function(signature).bare_any] == ["f"] * len(places)
    assert [annotation.name for annotation in only_function(signature).bare_any] == places


@pytest.mark.parametrize(
    ("annotation", "is_bare"),
    [
        ("tuple[int, str]", True),
        ("tuple[int, ...] | None", True),
        ("Tuple[int, str]", True),
        ("list[tuple[int, str]]", False),
        ("Pair", False),
    ],
)
def test_functions_that_return_a_bare_tuple(annotation: str, is_bare: bool) -> None:
    assert only_function(f"def f() -> {annotation}: ...").returns_bare_tuple is is_bare


def test_modules_with_a_test_of_their_name() -> None:
    modules = [PurePosixPath(name) for name in ("a/__init__.py", "a/__main__.py", "a/x.py", "a/y.py")]
    assert share_tested(modules, [PurePosixPath("tests/unit/test_x.py"), PurePosixPath("tests/y.py")]) == 0.5
    assert share_tested(modules, []) is None


def test_readme_and_commit_subjects() -> None:
    measures = measure([parsed("x = 1\n")], readme="Two words\n\nmore\n", subjects=["x" * 72, "x" * 73])
    assert (measures.readme_words, measures.readme_lines) == (3, 3)
    assert (measures.num_subjects, measures.num_long_subjects) == (2, 1)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_checkout_is_measured_at_its_src(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pyproject.toml": "",
            "README.md": "Three short words",
            "src/pkg/__init__.py": "\n",
            "src/pkg/one.py": "x = 1\n",
            "src/pkg/.hidden/two.py": "x = 1\n",
            "tests/test_one.py": "x = 1\n",
        },
    )
    for path in (tmp_path, tmp_path / "src" / "pkg"):
        measures = structure.Tree.at(path).measure(structure.subjects(tmp_path))
        assert (measures.num_files, measures.share_tested_modules, measures.readme_words) == (1, 1.0, 3)
        assert measures.num_subjects is None, "there is no git repository"
    assert list(map(str, structure.module_paths(tmp_path / "src"))) == ["pkg/__init__.py", "pkg/one.py"]


def test_a_package_of_a_virtual_environment_is_no_part_of_the_checkout(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "", "README": "One", ".venv/lib/pkg/one.py": "x = 1\n"})
    tree = structure.Tree.at(tmp_path / ".venv" / "lib" / "pkg")
    assert tree.root == tree.source
    assert tree.measure(None).readme_words is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/b.txt": ""}, "holds no Python modules"),
        ({"a/b.py": "x = 1\nprint 'x'\n"}, r"b\.py:2 cannot be read as Python"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, files)
    with pytest.raises(ValueError, match=message):
        structure.Tree.at(tmp_path / "a").modules()
    with pytest.raises(ValueError, match="not a folder"):
        structure.Tree.at(tmp_path / "missing")


def test_a_table_is_aligned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"setup.py": "", "pkg/one.py": "def f(a: Any) -> tuple[int, int]: ...\n"})
    monkeypatch.setattr(sys, "argv", ["structure", str(tmp_path / "pkg")])
    assert structure.main() == 0
    lines = capsys.readouterr().out.splitlines()
    column = lines[0].index("now")
    assert len(lines) == 1 + len(structure.ROWS)
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines[1:])
    assert ["parameters, returns typed Any", "1"] in [re.split(" {2,}", line) for line in lines]

    monkeypatch.setattr(sys, "argv", ["structure", str(tmp_path / "pkg"), "--json"])
    assert structure.main() == 0
    assert json.loads(capsys.readouterr().out)["now"]["num_tuple_returns"] == 1


@pytest.mark.processes
def test_a_revision_stands_beside_the_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    write(tmp_path, {"README": "One", "src/pkg/one.py": "x = 1\n"})
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "x" * 80)
    git("tag", "before")
    write(tmp_path, {"README": "One two", "src/pkg/two.py": "x = 1\n"})
    git("add", ".")
    git("commit", "--quiet", "-m", "short")

    monkeypatch.setattr(sys, "argv", ["structure", str(tmp_path), "--against", "before", "--json"])
    assert structure.main() == 0
    columns = json.loads(capsys.readouterr().out)
    assert list(columns) == ["before", "now"]
    for name, number in (("num_files", 1), ("readme_words", 1), ("num_subjects", 1), ("num_long_subjects", 1)):
        assert columns["before"][name] == number
    for name, number in (("num_files", 2), ("readme_words", 2), ("num_subjects", 2), ("num_long_subjects", 1)):
        assert columns["now"][name] == number

    monkeypatch.setattr(sys, "argv", ["structure", str(tmp_path), "--against", "missing"])
    assert structure.main() == 2
    assert "missing" in capsys.readouterr().err
