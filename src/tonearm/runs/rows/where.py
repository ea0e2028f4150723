"""``where``: one DuckDB expression over the columns of a row, which says which tracks are shown.

Whoever wrote the expression may be a stranger, so nothing of it is run before it is understood: DuckDB parses it, its
tree may hold only columns, constants, operators and functions of their arguments alone, and what is run is the text
that DuckDB makes of that tree. The connection that runs it reaches no file, and none of its settings can be changed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tonearm.errors import UsageError, first_line
from tonearm.runs.places import KEY
from tonearm.runs.rows import schema, track_rows
from tonearm.runs.rows.track_rows import ListedRows

Node: TypeAlias = dict[str, Any]
TABLE = "tracks"
# DuckDB's parser takes a minute for some thousand open brackets.
MAX_CHARACTERS, MAX_DEPTH = 4_000, 50
# What needs no parentheses behind it, and would be taken for a column.
MOMENTS = ("current_date", "current_timestamp")
# Functions of the moment, which DuckDB calls consistent within a query.
OF_THE_MOMENT = frozenset({"now", "today", "get_current_timestamp"})
# Macros over lists, such as list_sum, and over values; other macros look into catalogues.
MACROS = re.compile(r"list_\w+|array_\w+|nullif|ifnull|date_add|round_even")
# Consistent functions that are no functions of a row: they read, run or tell of something else.
REFUSED = re.compile(
    r"__.*|json_(de)?serialize.*|json_execute.*|.*duckdb.*|version|alias|getenv|current_setting|invoke"
)
CLASSES = frozenset(
    {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "FUNCTION", "OPERATOR", "CAST", "BETWEEN", "CASE"}
    | {"LAMBDA", "COLLATE", "TYPE"}
)
IN_WORDS = {"SUBQUERY": "a query in it", "WINDOW": "a window function", "STAR": "*", "PARAMETER": "a parameter"}


class Where:
    """A checked expression; ``columns`` are those that it needs.

    Args:
        fields: the columns that there are.

    Raises:
        UsageError: not one expression over the columns, or one that is not true or false.
    """

    def __init__(self, text: str, fields: pa.Schema = schema.TRACKS) -> None:
        if not isinstance(text, str):
            raise UsageError(f"got where={text!r:.80}, expected a text such as \"genre = 'rock' AND duration_s > 60\"")
        self.text, self.fields = text, fields
        if not text.strip():
            raise self._refused("is empty")
        self._database = _sealed()
        tree = self._parsed(text)
        names: set[str] = set()
        self._check(tree["statements"][0]["node"]["where_clause"], names, frozenset())
        # A row always has its key, by which the rows are found that pass.
        self.columns = [name for name in fields.names if name in names or name == KEY]
        # What is run is what was checked, without the comments and whatever else the text has.
        (self._query,) = self._one("SELECT json_deserialize_sql(?)", [json.dumps(tree)])
        self._query = self._query.replace("SELECT * FROM", f"SELECT {KEY} FROM", 1)
        self._check_kind()

    def keys(self, rows: pa.Table | pa.RecordBatch) -> NDArray[np.int64]:
        """Return the keys of the rows for which the expression is true, int64 [passing], in their order.

        Args:
            rows: with ``columns`` at least.

        Raises:
            UsageError: the expression cannot be worked out for a row, such as a cast of a text that is no number.
        """
        self._database.register(TABLE, pa.table(rows.select(self.columns)))
        try:
            found = self._database.execute(self._query).fetchnumpy()[KEY]
            return np.asarray(found, np.int64)
        except duckdb.Error as error:
            raise self._refused(f"cannot be worked out for every track ({_reason(error)})") from None
        finally:
            self._database.unregister(TABLE)

    def _parsed(self, text: str) -> Node:
        if len(text) > MAX_CHARACTERS:
            raise self._refused(f"has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
        if _depth(text) > MAX_DEPTH:
            raise self._refused(f"has more than {MAX_DEPTH} brackets within each other")
        # On lines of their own: a comment at the end of the text would swallow the bracket.
        tree, plain = self._tree(f"(\n{text}\n)"), self._tree("(true)")
        statements = tree.get("statements", [])
        if len(statements) != 1:
            why = (
                "is more than one statement" if statements else f"DuckDB cannot read: {_reason(tree['error_message'])}"
            )
            raise self._refused(why)
        node = statements[0]["node"]
        if _apart_from_where(node) != _apart_from_where(plain["statements"][0]["node"]):
            raise self._refused("is more than one expression")
        return tree

    def _tree(self, condition: str) -> Node:
        query = f"SELECT * FROM {TABLE} WHERE {condition}"
        try:
            (text,) = self._one("SELECT json_serialize_sql(?)", [query])
            tree: Node = json.loads(text)
        except (duckdb.Error, RecursionError, UnicodeEncodeError) as error:
            raise self._refused(f"DuckDB cannot read: {_reason(error)}") from None
        return tree

    def _one(self, query: str, values: list[str]) -> tuple[Any, ...]:
        return self._database.execute(query, values).fetchall()[0]

    def _check(self, node: object, names: set[str], parameters: frozenset[str]) -> None:
        """Refuse what may not be in an expression; add the columns that it needs to ``names``."""
        if isinstance(node, list):
            for part in node:
                self._check(part, names, parameters)
        if not isinstance(node, dict):
            return
        kind = node.get("class")
        if (kind is not None and kind not in CLASSES) or "cte_map" in node:
            raise self._refused(f"has {IN_WORDS.get(str(kind), str(kind).lower().replace('_', ' '))}")
        if kind == "COLUMN_REF":
            self._check_column(node["column_names"], names, parameters)
        elif kind == "FUNCTION":
            self._check_function(node)
        elif kind == "LAMBDA":
            parameters |= frozenset(_parameters(node["lhs"]))
        for part in node.values():
            self._check(part, names, parameters)

    def _check_column(self, path: list[str], names: set[str], parameters: frozenset[str]) -> None:
        if path[0] in parameters or (len(path) == 1 and path[0].lower() in MOMENTS):
            return
        name = path[1] if path[0].lower() == TABLE and len(path) > 1 else path[0]
        known = {column.lower(): column for column in self.fields.names}
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), self.fields.names, n=1)
            text = f" (a text is written in single quotes: '{name}')" if f'"{name}"' in self.text else ""
            raise self._refused(f"has no column {name}{f', did you mean {near[0]}' if near else ''}{text}")
        names.add(known[name.lower()])

    def _check_function(self, node: Node) -> None:
        name, place = str(node["function_name"]).lower(), node.get("qualified_name", {}).get("path", [])
        if len(place) > 1 or any(node.get(part) for part in ("schema", "catalog")) or not self._is_of_a_row(name):
            raise self._refused(f"calls {name}(), which is no function of a row")

    def _is_of_a_row(self, name: str) -> bool:
        if REFUSED.fullmatch(name):
            return False
        query = "SELECT function_type, stability FROM duckdb_functions() WHERE lower(function_name) = ?"
        kinds = self._database.execute(query, [name]).fetchall()
        return bool(kinds) and all(
            (kind == "scalar" and (stability == "CONSISTENT" or name in OF_THE_MOMENT))
            or (kind == "macro" and bool(MACROS.fullmatch(name)))
            # range() and its like are of a row, and tables besides.
            or (kind == "table" and name in ("range", "generate_series"))
            for kind, stability in kinds
        )

    def _check_kind(self) -> None:
        """Refuse what is not true or false, by a table without rows."""
        self._database.register(TABLE, self.fields.empty_table().select(self.columns))
        try:
            condition = self._query.partition(" WHERE ")[2].rstrip("; ")
            self._database.execute(self._query)
            ((_, kind, *_),) = self._database.execute(f"DESCRIBE SELECT {condition} AS passes FROM {TABLE}").fetchall()
        except duckdb.Error as error:
            raise self._refused(f"does not fit the columns: {_reason(error)}") from None
        finally:
            self._database.unregister(TABLE)
        if kind != "BOOLEAN":
            raise self._refused(f"is {str(kind).lower()}, and not true or false")

    def _refused(self, why: str) -> UsageError:
        shown = " ".join(self.text.split())
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        return UsageError(
            f"got where {shown!r}, which {why}; expected one DuckDB expression that is true or false, such as "
            f"genre = 'rock' AND duration_s > 60, over the columns {', '.join(self.fields.names)}"
        )


def _sealed() -> duckdb.DuckDBPyConnection:
    """Return a database in memory that reaches nothing else, and whose settings stay as they are."""
    database = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": "1GB",
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        },
    )
    for statement in ("SET enable_external_access = false", "SET TimeZone = 'UTC'", "SET lock_configuration = true"):
        database.execute(statement)
    return database


def _apart_from_where(node: Node) -> object:
    """Return a statement without its condition, and without the places in its text."""

    def plain(part: object) -> object:
        if isinstance(part, dict):
            return {name: plain(value) for name, value in part.items() if not name.startswith("query_location")}
        return [plain(value) for value in part] if isinstance(part, list) else part

    return plain({name: value for name, value in node.items() if name != "where_clause"})


def _parameters(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node.get("column_names", [])
        for part in node.values():
            yield from _parameters(part)
    elif isinstance(node, list):
        for part in node:
            yield from _parameters(part)


def _depth(text: str) -> int:
    """Return how many brackets are open at once, those in texts included."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _reason(error: str | BaseException) -> str:
    line = first_line(error if isinstance(error, BaseException) else ValueError(error))
    return re.sub(r"^\w+( \w+)? Error: ", "", line)


def narrowed(destination: str, rows: ListedRows, where: str) -> ListedRows:
    """Return those of ``rows`` for which ``where`` is true; only the columns that it needs are read.

    Raises:
        UsageError: as ``Where``.
        DestinationError: as ``track_rows.scan``.
    """
    condition = Where(where, schema.tracks_of(rows.heads))
    passing = [condition.keys(batch) for batch in track_rows.scan(destination, condition.columns, rows=rows)]
    return dataclasses.replace(rows, keys=np.sort(np.concatenate([np.empty(0, np.int64), *passing])))
