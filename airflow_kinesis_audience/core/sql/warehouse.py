"""What a warehouse must be able to do; each engine's hook does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from airflow_kinesis_audience.core.sql.dialects import Dialect


class Warehouse(Protocol):
    """What the core asks of a warehouse. Every statement is a transaction of its own."""

    dialect: Dialect
    placeholder: str
    statements: int
    statement_seconds: float
    bytes_scanned: int | None

    @property
    def origin(self) -> Warehouse:
        """Where an author's query is run: here, unless the state is kept apart from the warehouse."""

    def beside_others(self) -> AbstractContextManager[None]:
        """Let the calling thread read while others use the warehouse, too."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        """Run a statement that gives no rows; gives how many it has written, where the driver says so."""

    def write_table(self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False) -> None:
        """Create a table of a query's rows.

        :param name: quoted, with its schema.
        :param sliced_by: the column by which it will be read slice by slice, if so.
        :param has_audience_rows: whether it has a row per audience, and those will be looked for.
        """

    def write_table_apart(
        self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False
    ) -> None:
        """Create it likewise, possibly by a statement that outlives the task, which then ends here."""

    def drop_table(self, name: str) -> None:
        """Drop a table if it is there."""

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""

    def read_types(self, query: str) -> dict[str, str]:
        """Read a query's column names and the engine's names of their types, running none of it."""

    def keep_rows(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> str:
        """Keep rows of the origin until this is closed; gives the name, without a schema, of their table."""

    def is_cheap_to_reread(self, query: str) -> bool:
        """Whether to read a query twice within one statement costs less than to keep its rows in between.

        Only where both readings are sure to give the same rows.
        """

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in batches of at most ``rows`` rows, columns by position, in the given types."""
