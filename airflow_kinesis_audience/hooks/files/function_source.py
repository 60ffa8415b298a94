"""An audience whose rows a function gives, such as a model's scores. They are kept in this task's own DuckDB, and
read from there as those of a warehouse are.

The function is called once per attempt. Its own errors are described by kind and place, since their text may quote
a value.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_kinesis_audience.core.exceptions import SourceFailed, WarehouseRefused, describe_foreign_error
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.files.temporary_home import TemporaryHome
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

ROWS = "source_rows"
"""The table of the function's rows."""


class FunctionWarehouse(DuckDbWarehouse):
    """The rows of a function, as a table of a DuckDB that is gone when this is closed.

    :param path: dotted, such as ``my_company.audiences.churn_risk``, or the function itself.
    :param as_of: what the function gets: the instant of the run.
    :param settings: of DuckDB.
    :raises ValueError: if there is no such function; a retry does not help.
    """

    def __init__(self, path: str | Callable[..., Any], as_of: datetime, settings: Mapping[str, Any]) -> None:
        super().__init__(self._connect_here, DIALECTS["duckdb"])
        self._function = path if callable(path) else load_source(path)
        self._named = path if isinstance(path, str) else getattr(path, "__name__", "the function")
        self._as_of = as_of
        self._settings = settings
        self._home: TemporaryHome | None = None

    def close(self) -> None:
        """Close the connection, and remove the rows."""
        super().close()
        if self._home is not None:
            self._home.remove()
            self._home = None

    def _connect_here(self) -> Any:
        import duckdb

        self._home = TemporaryHome()
        connection = duckdb.connect(str(self._home.path / "source.duckdb"), config=dict(self._settings))
        try:
            self._fill(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _fill(self, connection: Any) -> None:
        """Keep what the function gives.

        :raises SourceFailed: if the function fails; a retry may help.
        :raises WarehouseRefused: if it gives something else than rows; a retry does not help.
        """
        schema: pa.Schema | None = None
        empty: pa.Table | None = None
        for chunk in self._chunks():
            given = _table(chunk, self._named)
            if not given.num_rows:
                # Without a value a frame's column has no type.
                empty = given
            elif schema is None:
                schema = _keep(connection, given)
            else:
                connection.register("given", _like(given, schema, self._named))
                connection.execute(f"INSERT INTO {ROWS} SELECT * FROM given")  # noqa: S608
                connection.unregister("given")
        if schema is None and empty is not None:
            schema = _keep(connection, empty)
        if schema is None:
            raise WarehouseRefused(
                f"source {self._named} gives no chunk; expected a frame, or several, with the mapped columns: one "
                "without rows if nobody is a member"
            )

    def _chunks(self) -> Iterator[Any]:
        failure = ""
        try:
            made = self._function(self._as_of)
            yield from [made] if isinstance(made, pa.Table | pa.RecordBatch) or hasattr(made, "columns") else made
        except Exception as error:
            failure = describe_foreign_error(error)
        if failure:
            raise SourceFailed(f"source {self._named} {failure}. Nothing was computed or sent")


def load_source(path: str) -> Callable[..., Any]:
    """Find the author's function.

    :param path: dotted, such as ``my_company.audiences.churn_risk``.
    :raises ValueError: if there is none; a retry does not help.
    """
    module, _, name = path.rpartition(".")
    failure = ""
    try:
        found = getattr(importlib.import_module(module), name) if module else None
    except Exception as error:
        found, failure = None, f" ({type(error).__name__})"
    if not callable(found):
        raise ValueError(
            f"source is {path!r}, which is not a function that can be imported here{failure}; expected a dotted "
            "path such as my_company.audiences.churn_risk"
        )
    return found  # type: ignore[no-any-return]


def _keep(connection: Any, first: pa.Table) -> pa.Schema:
    """Make the table of the first chunk; a column without a value is taken for text."""
    fields = [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in first.schema]
    connection.register("given", first.cast(pa.schema(fields)))
    connection.execute(f"CREATE TABLE {ROWS} AS SELECT * FROM given")  # noqa: S608
    connection.unregister("given")
    return pa.schema(fields)


def _table(chunk: Any, named: str) -> pa.Table:
    """Make Arrow columns of a chunk.

    :raises WarehouseRefused: if it is no chunk of rows; a retry does not help.
    """
    import pandas as pd

    found: Any = None
    with contextlib.suppress(pa.ArrowException, TypeError, ValueError):
        if isinstance(chunk, pd.DataFrame):
            found = pa.Table.from_pandas(chunk, preserve_index=False)
        elif isinstance(chunk, pa.RecordBatch):
            found = pa.Table.from_batches([chunk])
        elif isinstance(chunk, pa.Table):
            found = chunk
    if found is None:
        raise WarehouseRefused(
            f"source {named} gives a {type(chunk).__name__} that cannot be read; expected pandas frames, Arrow "
            "tables or batches, with one type per column"
        )
    return found


def _like(given: pa.Table, schema: pa.Schema, named: str) -> pa.Table:
    """Give a later chunk in the types of the first one.

    :raises WarehouseRefused: if it has other columns or types; a retry does not help.
    """
    with contextlib.suppress(pa.ArrowException, KeyError):
        if set(given.column_names) == set(schema.names):
            return given.select(schema.names).cast(schema)
    raise WarehouseRefused(
        f"source {named} gives chunks of different columns or types; expected those of the first chunk: "
        f"{', '.join(f'{field.name} ({field.type})' for field in schema)}"
    )
