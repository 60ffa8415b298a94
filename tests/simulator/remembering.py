"""DuckDB that computes everything once: a table is what it holds, and a statement is known by what it reads.

The same few tables come again and again in thousands of histories. A name stands for a content, which is a real
table of DuckDB; a statement over known contents has been answered before. A statement that is new is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
MOST_ANSWERS = 50_000
"""So many answers are kept; then all is forgotten, and begins anew."""

SOURCE, OTHER_SOURCE = "people", "guests"
_NAMED = re.compile(rf'"?\bstate"?\."?(\w+)"?|\b({SOURCE}|{OTHER_SOURCE})\b')
_CREATED = re.compile(r'CREATE TABLE "?state"?\."?(\w+)"? AS (.*)', re.DOTALL)
_DROPPED = re.compile(r'DROP TABLE IF EXISTS "?state"?\."?(\w+)"?')


class RememberingDuckDb(DuckDbWarehouse):
    """One schema, ``state``, and the sources, as all connections see them."""

    def __init__(self) -> None:
        self._database = duckdb.connect(":memory:", config={"threads": 1})
        super().__init__(self._database.cursor, DIALECTS["duckdb"])
        self._real = DuckDbWarehouse(self._database.cursor, DIALECTS["duckdb"])
        self._answers: dict[Any, Any] = {}
        self._contents: dict[Any, str] = {}
        self.names: dict[str, str] = {}
        self.asked = self.run = 0

    def begin(self) -> None:
        """Forget all names: an empty schema and no source."""
        self.names = {}
        if len(self._answers) > MOST_ANSWERS:
            for content in self._contents.values():
                self._real.execute(f"DROP TABLE {content}")
            self._answers, self._contents = {}, {}

    def fill_source(self, source: str, rows: Sequence[tuple[str | None, ...]]) -> None:
        """Let a source hold rows of audience, title, user and answer."""

        def make(content: str) -> None:
            self._real.execute(f"CREATE TABLE {content} (audience TEXT, title TEXT, uid TEXT, agrees TEXT)")
            for row in rows:
                self._real.execute(f"INSERT INTO {content} VALUES (?, ?, ?, ?)", row)

        self.names[source] = self._make(("people", tuple(rows)), make)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        if (created := _CREATED.fullmatch(sql)) is not None:
            name, query = created.groups()
            if name in self.names:
                raise WarehouseRefused(f"table {name} is there already")
            self.names[name] = self._remember("table", query, lambda text: self._write(text))
        elif (dropped := _DROPPED.fullmatch(sql)) is not None:
            self.names.pop(dropped[1], None)
        elif not sql.startswith("DROP VIEW"):
            raise NotImplementedError(sql)
        return None

    def _write(self, query: str) -> str:
        """Make a table of a query's rows, or find the one that holds the same."""
        self._real.execute(f"CREATE OR REPLACE TABLE written AS {query}")
        types = tuple(self._real.read_types("SELECT * FROM written").items())
        rows = tuple(self._real.read_rows("SELECT * FROM written"))
        return self._make((types, rows), lambda name: self._real.execute(f"CREATE TABLE {name} AS FROM written"))

    def _make(self, key: Any, make: Callable[[str], object]) -> str:
        if key not in self._contents:
            name = f"content_{len(self._contents)}"
            make(name)
            self._contents[key] = name
        return self._contents[key]

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._remember("rows", sql, self._real.read_rows))

    def is_cheap_to_reread(self, query: str) -> bool:
        return bool(self._remember("plan", query, self._real.is_cheap_to_reread))

    def read_types(self, query: str) -> dict[str, str]:
        return dict(self._remember("types", query, self._real.read_types))

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        read = self._real.read_batches
        yield from self._remember(("batches", rows), sql, lambda text: list(read(text, schema, rows=rows)))

    def _remember(self, what: Any, sql: str, answer: Callable[[str], T]) -> T:
        def content(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            if name not in self.names:
                raise WarehouseRefused(f"table {name} does not exist")
            return self.names[name]

        text = _NAMED.sub(content, sql)
        self.asked += 1
        if (what, text) not in self._answers:
            self.run += 1
            self._answers[what, text] = answer(text)
        found: T = self._answers[what, text]
        return found
