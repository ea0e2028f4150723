"""``where``: a DuckDB expression over the columns of a row that selects the tracks to show.

The expression may come from a stranger, over HTTP, so it is checked before it runs: DuckDB parses it; its tree may hold
only columns, constants, operators and functions that depend on their arguments alone; and what runs is the text that
DuckDB makes of the checked tree. The connection that runs it has no access to files, and its settings are locked.
"""

from __future__ import annotations

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
from tonearm.runs.rows import schema

Node: TypeAlias = dict[str, Any]
TABLE = "tracks"
# DuckDB's parser takes a minute for some thousand nested brackets.
MAX_CHARACTERS, MAX_DEPTH = 4_000, 50
# Functions without parentheses, which DuckDB parses as columns.
MOMENTS = ("current_date", "current_timestamp")
# Functions of the current time. DuckDB marks them as consistent only within a query, but they are harmless.
OF_THE_MOMENT = frozenset({"now", "today", "get_current_timestamp"})
# Macros over lists, such as list_sum, and over values. Other macros read DuckDB's catalogues.
MACROS = re.compile(r"list_\w+|array_\w+|nullif|ifnull|date_add|round_even")
# Functions that DuckDB marks as consistent although they run other queries or tell about the process.
REFUSED = re.compile(
    r"__.*|json_(de)?serialize.*|json_execute.*|.*duckdb.*|version|alias|getenv|current_setting|invoke"
)
CLASSES = frozenset(
    {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "FUNCTION", "OPERATOR", "CAST", "BETWEEN", "CASE"}
    | {"LAMBDA", "COLLATE", "TYPE"}
)
IN_WORDS = {"SUBQUERY": "a query in it", "WINDOW": "a window function", "STAR": "*", "PARAMETER": "a parameter"}


class Where:
    """A checked expression; ``columns`` are the columns that it needs.

    Args:
        fields: the columns that rows have.

    Raises:
        UsageError: the text is not one expression over the columns, or its value is not true or false.
    """

    def __init__(self, text: str, fields: pa.Schema = schema.TRACKS) -> None:
        if not isinstance(text, str):
            raise UsageError(f"got where={text!r:.80}, expected a text such as \"genre = 'rock' AND duration_s > 60\"")
        self.text, self.fields = text, fields
        if not text.strip():
            raise self._refusal("is empty")
        self._database = _open_sealed_database()
        tree = self._parse(text)
        names: set[str] = set()
        self._check_node(tree["statements"][0]["node"]["where_clause"], names, frozenset())
        # The key is always included: the result is a list of keys.
        self.columns = [name for name in fields.names if name in names or name == KEY]
        # Run the text of the checked tree and not the given text, which may have comments or more that the tree lacks.
        (self._query,) = self._fetch_one("SELECT json_deserialize_sql(?)", [json.dumps(tree)])
        self._query = self._query.replace("SELECT * FROM", f"SELECT {KEY} FROM", 1)
        self._check_kind()

    def keys(self, rows: pa.Table | pa.RecordBatch) -> NDArray[np.int64]:
        """Return the keys of the rows for which the expression is true, int64 [passing], in their order.

        Args:
            rows: with ``columns`` at least.

        Raises:
            UsageError: the expression fails for a row, for example in a cast of a text that is not a number.
        """
        self._database.register(TABLE, pa.table(rows.select(self.columns)))
        try:
            passing_keys = self._database.execute(self._query).fetchnumpy()[KEY]
            return np.asarray(passing_keys, np.int64)
        except duckdb.Error as error:
            raise self._refusal(f"cannot be worked out for every track ({_first_line(error)})") from None
        finally:
            self._database.unregister(TABLE)

    def _parse(self, text: str) -> Node:
        if len(text) > MAX_CHARACTERS:
            raise self._refusal(f"has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
        if _bracket_depth(text) > MAX_DEPTH:
            raise self._refusal(f"has more than {MAX_DEPTH} brackets within each other")
        # The brackets are on lines of their own, since a comment at the end of the text would hide the closing one.
        tree, reference = self._parse_condition(f"(\n{text}\n)"), self._parse_condition("(true)")
        statements = tree.get("statements", [])
        if len(statements) != 1:
            why = (
                "is more than one statement"
                if statements
                else f"DuckDB cannot read: {_first_line(tree['error_message'])}"
            )
            raise self._refusal(why)
        node = statements[0]["node"]
        if _without_condition(node) != _without_condition(reference["statements"][0]["node"]):
            raise self._refusal("is more than one expression")
        return tree

    def _parse_condition(self, condition: str) -> Node:
        query = f"SELECT * FROM {TABLE} WHERE {condition}"
        try:
            (text,) = self._fetch_one("SELECT json_serialize_sql(?)", [query])
            tree: Node = json.loads(text)
        except (duckdb.Error, RecursionError, UnicodeEncodeError) as error:
            raise self._refusal(f"DuckDB cannot read: {_first_line(error)}") from None
        return tree

    def _fetch_one(self, query: str, values: list[str]) -> tuple[Any, ...]:
        return self._database.execute(query, values).fetchall()[0]

    def _check_node(self, node: object, names: set[str], parameters: frozenset[str]) -> None:
        """Refuse what may not be in an expression; add the columns that it needs to ``names``.

        Args:
            parameters: names of the parameters of lambdas around the node, which look like columns.
        """
        if isinstance(node, list):
            for part in node:
                self._check_node(part, names, parameters)
        if not isinstance(node, dict):
            return
        kind = node.get("class")
        if (kind is not None and kind not in CLASSES) or "cte_map" in node:
            raise self._refusal(f"has {IN_WORDS.get(str(kind), str(kind).lower().replace('_', ' '))}")
        if kind == "COLUMN_REF":
            self._check_column(node["column_names"], names, parameters)
        elif kind == "FUNCTION":
            self._check_function(node)
        elif kind == "LAMBDA":
            parameters |= frozenset(_lambda_parameters(node["lhs"]))
        for part in node.values():
            self._check_node(part, names, parameters)

    def _check_column(self, path: list[str], names: set[str], parameters: frozenset[str]) -> None:
        if path[0] in parameters or (len(path) == 1 and path[0].lower() in MOMENTS):
            return
        name = path[1] if path[0].lower() == TABLE and len(path) > 1 else path[0]
        known = {column.lower(): column for column in self.fields.names}
        if name.lower() not in known:
            similar = difflib.get_close_matches(name.lower(), self.fields.names, n=1)
            text = f" (a text is written in single quotes: '{name}')" if f'"{name}"' in self.text else ""
            raise self._refusal(f"has no column {name}{f', did you mean {similar[0]}' if similar else ''}{text}")
        names.add(known[name.lower()])

    def _check_function(self, node: Node) -> None:
        name, place = str(node["function_name"]).lower(), node.get("qualified_name", {}).get("path", [])
        if len(place) > 1 or any(node.get(part) for part in ("schema", "catalog")) or not self._is_row_function(name):
            raise self._refusal(f"calls {name}(), which is no function of a row")

    def _is_row_function(self, name: str) -> bool:
        if REFUSED.fullmatch(name):
            return False
        query = "SELECT function_type, stability FROM duckdb_functions() WHERE lower(function_name) = ?"
        overloads = self._database.execute(query, [name]).fetchall()
        return bool(overloads) and all(
            (kind == "scalar" and (stability == "CONSISTENT" or name in OF_THE_MOMENT))
            or (kind == "macro" and bool(MACROS.fullmatch(name)))
            # range() exists as a function of a row and as a table function.
            or (kind == "table" and name in ("range", "generate_series"))
            for kind, stability in overloads
        )

    def _check_kind(self) -> None:
        """Refuse an expression that is not true or false. DuckDB gives its type on a table without rows."""
        self._database.register(TABLE, self.fields.empty_table().select(self.columns))
        try:
            condition = self._query.partition(" WHERE ")[2].rstrip("; ")
            self._database.execute(self._query)
            ((_, kind, *_),) = self._database.execute(f"DESCRIBE SELECT {condition} AS passes FROM {TABLE}").fetchall()
        except duckdb.Error as error:
            raise self._refusal(f"does not fit the columns: {_first_line(error)}") from None
        finally:
            self._database.unregister(TABLE)
        if kind != "BOOLEAN":
            raise self._refusal(f"is {str(kind).lower()}, and not true or false")

    def _refusal(self, why: str) -> UsageError:
        shown = " ".join(self.text.split())
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        return UsageError(
            f"got where {shown!r}, which {why}; expected one DuckDB expression that is true or false, such as "
            f"genre = 'rock' AND duration_s > 60, over the columns {', '.join(self.fields.names)}"
        )


def _open_sealed_database() -> duckdb.DuckDBPyConnection:
    """Return a database in memory without access to files and the network, and with locked settings."""
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
    # Locked last: after it, nothing can be set.
    for statement in ("SET enable_external_access = false", "SET TimeZone = 'UTC'", "SET lock_configuration = true"):
        database.execute(statement)
    return database


def _without_condition(node: Node) -> object:
    """Return a statement's tree without its condition and its positions in the text, to compare it with another."""

    def plain(part: object) -> object:
        if isinstance(part, dict):
            return {name: plain(value) for name, value in part.items() if not name.startswith("query_location")}
        return [plain(value) for value in part] if isinstance(part, list) else part

    return plain({name: value for name, value in node.items() if name != "where_clause"})


def _lambda_parameters(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node.get("column_names", [])
        for part in node.values():
            yield from _lambda_parameters(part)
    elif isinstance(node, list):
        for part in node:
            yield from _lambda_parameters(part)


def _bracket_depth(text: str) -> int:
    """Return the depth of nested brackets; those in quoted texts count too, which at worst refuses too much."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _first_line(error: str | BaseException) -> str:
    line = first_line(error if isinstance(error, BaseException) else ValueError(error))
    return re.sub(r"^\w+( \w+)? Error: ", "", line)
