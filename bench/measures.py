"""What can be counted in Python source without running it: lengths, parameters, nesting, docstrings, types.

One definition per measure, the same for every project, so that a tree can be compared with itself before a change and
with other projects. ``bench.structure`` prints them; ``tests/architecture/test_measures.py`` holds limits by them.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import math
import statistics
import tokenize
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
BLOCKS = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While),
    *(ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match),
)
LONG_FUNCTION, MANY_PARAMETERS, DEEP_NESTING, LONG_SUBJECT = 60, 6, 3, 72
LAYOUT_TOKENS = (tokenize.ENCODING, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One place in a signature that has a type: ``name`` is the parameter's, or ``return``."""

    place: str
    line: int
    name: str


@dataclasses.dataclass(frozen=True)
class Function:
    """One function or method; what is defined inside it is counted by itself, not in ``nesting``.

    ``num_lines`` goes from ``def`` to the last line, decorators left out. ``num_parameters`` is without ``self`` or
    ``cls`` and with ``*args`` and ``**kwargs``. ``bare_any`` are the parameters and the return typed ``Any`` or
    ``Any | None``, without ``*args: Any`` and ``**kwargs: Any``, which mostly pass arguments on.
    """

    qualified_name: str
    num_lines: int
    num_parameters: int
    nesting: int
    is_method: bool
    is_private: bool
    has_annotated_return: bool
    returns_bare_tuple: bool
    bare_any: tuple[Annotation, ...]


@dataclasses.dataclass(frozen=True)
class Module:
    """What one file holds.

    ``public`` has one entry per public function, True where it has a docstring: functions at module level and methods,
    without a leading underscore in their own name or their class's; what is defined inside a function is not public.
    ``function_imports`` are the lines of import statements inside functions; those under ``if TYPE_CHECKING`` at module
    level are not. ``blanket_excepts`` are those of ``Exception``, ``BaseException`` or nothing in particular. A
    docstring's blank lines count as its lines; a line of code is one that holds any token but a comment and belongs to
    no docstring.
    """

    path: PurePosixPath
    num_lines: int
    functions: tuple[Function, ...]
    num_classes: int
    public: tuple[bool, ...]
    function_imports: tuple[int, ...]
    blanket_excepts: tuple[int, ...]
    num_code_lines: int
    num_comments: int
    num_docstring_lines: int


@dataclasses.dataclass(frozen=True)
class Measures:
    """The measures of a tree; shares are 0 to 1, lengths are lines, ``None`` is what the tree does not have."""

    num_files: int
    num_lines: int
    median_file: float
    p90_file: int
    longest_file: int
    longest_file_path: str
    num_functions: int
    median_function: float
    p95_function: int
    share_long_functions: float
    mean_parameters: float
    share_many_parameters: float
    most_parameters: int
    most_parameters_name: str
    mean_nesting: float
    share_deep_nesting: float
    num_folders: int
    median_folder: float
    largest_folder: int
    largest_folder_path: str
    share_docstrings: float
    share_annotated_returns: float
    num_blanket_excepts: int
    comments_per_100_code: float
    docstring_lines_per_100_code: float
    num_classes: int
    num_free_functions: int
    num_methods: int
    num_private_functions: int
    num_function_imports: int
    num_bare_any: int
    num_tuple_returns: int
    share_tested_modules: float | None
    readme_words: int | None
    readme_lines: int | None
    num_subjects: int | None
    num_long_subjects: int | None


def parse_module(path: PurePosixPath, source: str) -> Module:
    """Return what a file holds.

    Raises:
        SyntaxError: the source is no Python that this Python can read.
    """
    tree = ast.parse(source, filename=str(path))
    nodes = list(_walk(tree))
    public = [
        ast.get_docstring(node) is not None
        for node, stack in nodes
        if isinstance(node, FunctionNode) and _is_public(node, stack)
    ]
    docstring_lines = _docstring_lines(tree, [node for node, _ in nodes])
    code_lines, num_comments = _code_lines(source)
    return Module(
        path,
        source.count("\n") + (not source.endswith("\n")),
        tuple(_function(node, stack) for node, stack in nodes if isinstance(node, FunctionNode)),
        sum(isinstance(node, ast.ClassDef) for node, _ in nodes),
        tuple(public),
        tuple(
            node.lineno
            for node, stack in nodes
            if isinstance(node, ast.Import | ast.ImportFrom) and any(isinstance(outer, FunctionNode) for outer in stack)
        ),
        tuple(node.lineno for node, _ in nodes if isinstance(node, ast.ExceptHandler) and _is_blanket(node)),
        len(code_lines - docstring_lines),
        num_comments,
        len(docstring_lines),
    )


def folder_sizes(paths: Collection[PurePosixPath]) -> Mapping[PurePosixPath, int]:
    """Return the number of modules directly in each folder that has any."""
    return Counter(path.parent for path in paths)


def share_tested(modules: Collection[PurePosixPath], tests: Collection[PurePosixPath]) -> float | None:
    """Return the share of modules with a ``test_<module>.py`` anywhere; without ``__init__`` and ``__main__``."""
    stems = {path.stem for path in tests}
    tested = [f"test_{path.stem}" in stems for path in modules if not path.stem.startswith("__")]
    return sum(tested) / len(tested) if tested and tests else None


def measure(
    modules: Sequence[Module],
    *,
    tests: Collection[PurePosixPath] = (),
    readme: str | None = None,
    subjects: Sequence[str] | None = None,
) -> Measures:
    """Return the measures of a tree of at least one module; ``subjects`` are those of its latest commits."""
    functions = [(module, function) for module in modules for function in module.functions]
    lengths = [function.num_lines for _, function in functions]
    parameters = [function.num_parameters for _, function in functions]
    nestings = [function.nesting for _, function in functions]
    files = [module.num_lines for module in modules]
    folders = folder_sizes([module.path for module in modules])
    public = [has_docstring for module in modules for has_docstring in module.public]
    num_code_lines = sum(module.num_code_lines for module in modules)
    longest = max(modules, key=lambda module: module.num_lines)
    largest = max(folders, key=lambda folder: folders[folder])
    widest = max(functions, key=lambda pair: pair[1].num_parameters, default=None)
    return Measures(
        num_files=len(files),
        num_lines=sum(files),
        median_file=statistics.median(files),
        p90_file=_percentile(files, 0.90),
        longest_file=longest.num_lines,
        longest_file_path=str(longest.path),
        num_functions=len(functions),
        median_function=statistics.median(lengths or [0]),
        p95_function=_percentile(lengths, 0.95),
        share_long_functions=_mean([length > LONG_FUNCTION for length in lengths]),
        mean_parameters=_mean(parameters),
        share_many_parameters=_mean([number > MANY_PARAMETERS for number in parameters]),
        most_parameters=max(parameters, default=0),
        most_parameters_name=f"{widest[0].path}:{widest[1].qualified_name}" if widest else "",
        mean_nesting=_mean(nestings),
        share_deep_nesting=_mean([depth > DEEP_NESTING for depth in nestings]),
        num_folders=len(folders),
        median_folder=statistics.median(folders.values()),
        largest_folder=folders[largest],
        largest_folder_path=str(largest),
        share_docstrings=_mean(public),
        share_annotated_returns=_mean([function.has_annotated_return for _, function in functions]),
        num_blanket_excepts=sum(len(module.blanket_excepts) for module in modules),
        comments_per_100_code=100 * sum(module.num_comments for module in modules) / max(1, num_code_lines),
        docstring_lines_per_100_code=100
        * sum(module.num_docstring_lines for module in modules)
        / max(1, num_code_lines),
        num_classes=sum(module.num_classes for module in modules),
        num_free_functions=sum(not function.is_method for _, function in functions),
        num_methods=sum(function.is_method for _, function in functions),
        num_private_functions=sum(function.is_private for _, function in functions),
        num_function_imports=sum(len(module.function_imports) for module in modules),
        num_bare_any=sum(len(function.bare_any) for _, function in functions),
        num_tuple_returns=sum(function.returns_bare_tuple for _, function in functions),
        share_tested_modules=share_tested([module.path for module in modules], tests),
        readme_words=None if readme is None else len(readme.split()),
        readme_lines=None if readme is None else len(readme.splitlines()),
        num_subjects=None if subjects is None else len(subjects),
        num_long_subjects=None if subjects is None else sum(len(subject) > LONG_SUBJECT for subject in subjects),
    )


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, tuple[Scope, ...]]]:
    """Yield each node below the module, in the order of the source, with the functions and classes around it."""
    waiting: list[tuple[ast.AST, tuple[Scope, ...]]] = [(node, ()) for node in reversed(tree.body)]
    while waiting:
        node, stack = waiting.pop()
        yield node, stack
        inside = (*stack, node) if isinstance(node, Scope) else stack
        waiting.extend((child, inside) for child in reversed(list(ast.iter_child_nodes(node))))


def _function(node: FunctionNode, stack: tuple[Scope, ...]) -> Function:
    is_method = bool(stack) and isinstance(stack[-1], ast.ClassDef)
    is_static = any(_name(decorator) == "staticmethod" for decorator in node.decorator_list)
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    if is_method and not is_static:
        named = named[1:]
    num_variadic = sum(variadic is not None for variadic in (node.args.vararg, node.args.kwarg))
    qualified_name = ".".join(scope.name for scope in (*stack, node))
    bare_any = [
        Annotation(qualified_name, parameter.lineno, parameter.arg)
        for parameter in named
        if _is_any(parameter.annotation)
    ]
    if _is_any(node.returns):
        bare_any.append(Annotation(qualified_name, node.lineno, "return"))
    return Function(
        qualified_name,
        (node.end_lineno or node.lineno) - node.lineno + 1,
        len(named) + num_variadic,
        _nesting(node),
        is_method,
        node.name.startswith("_") and not node.name.startswith("__"),
        node.returns is not None,
        any(_is_tuple(part) for part in _alternatives(node.returns)),
        tuple(bare_any),
    )


def _is_public(node: FunctionNode, stack: tuple[Scope, ...]) -> bool:
    if stack and isinstance(stack[-1], FunctionNode):
        return False
    classes = [scope for scope in stack if isinstance(scope, ast.ClassDef)]
    return not any(scope.name.startswith("_") for scope in (*classes, node))


def _nesting(node: ast.AST, depth: int = 0) -> int:
    """Return how deep blocks stand in each other below ``node``, functions and classes inside it left out."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode | ast.ClassDef | ast.Lambda):
            continue
        is_deeper = isinstance(child, BLOCKS) and not _is_elif(node, child)
        deepest = max(deepest, _nesting(child, depth + is_deeper))
    return deepest


def _is_elif(parent: ast.AST, child: ast.AST) -> bool:
    """An ``elif`` is an ``if`` alone in an ``else`` that stands in the same column as the ``if`` before it."""
    return (
        isinstance(parent, ast.If)
        and isinstance(child, ast.If)
        and parent.orelse == [child]
        and child.col_offset == parent.col_offset
    )


def _alternatives(annotation: ast.expr | None) -> list[ast.expr]:
    """Return the members of a union, or the annotation alone; one that is written as a string is read first."""
    if annotation is None:
        return []
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return _alternatives(ast.parse(annotation.value, mode="eval").body)
        except SyntaxError:
            return []
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_alternatives(annotation.left), *_alternatives(annotation.right)]
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) in ("Optional", "Union"):
        members = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return [part for member in members for part in _alternatives(member)]
    return [annotation]


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_any(annotation: ast.expr | None) -> bool:
    return any(_name(part) == "Any" for part in _alternatives(annotation))


def _is_tuple(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Subscript) and _name(annotation.value) in ("tuple", "Tuple")


def _is_blanket(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_name(kind) in ("Exception", "BaseException") for kind in kinds)


def _docstring_lines(tree: ast.Module, nodes: Sequence[ast.AST]) -> set[int]:
    lines: set[int] = set()
    for node in (tree, *nodes):
        if isinstance(node, Scope | ast.Module) and ast.get_docstring(node) is not None:
            lines.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def _code_lines(source: str) -> tuple[set[int], int]:
    """Return the lines that hold a token other than a comment, docstrings included, and the number of comments."""
    lines: set[int] = set()
    num_comments = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            num_comments += 1
        elif token.type not in LAYOUT_TOKENS:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines, num_comments


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _percentile(values: Sequence[int], share: float) -> int:
    """Return the least value that at least ``share`` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0
