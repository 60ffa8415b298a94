"""For unit tests of a DAG's mapping: rows before, rows after, and the messages that a publish task would put.

The engine's own statements run on a DuckDB in a temporary file, and the format renders what they find. No
scheduler, connection, warehouse or stream is used, and nothing is kept. It needs the extra ``duckdb``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.producer.records import (
    FIREHOSE_LIMITS,
    KINESIS_LIMITS,
    Outcome,
    Record,
    Status,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
    from airflow_kinesis_audience.operators.diff import AudienceDiffOperator
    from airflow_kinesis_audience.operators.publish import PublishOperator

Rows = Sequence[Mapping[str, Any]]
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_SCHEMA, _SYNC = "state", "test.diff"


def find_messages(
    diff: AudienceDiffOperator,
    publish: PublishOperator,
    *,
    after: Rows,
    before: Rows = (),
    as_of: datetime = AS_OF,
) -> list[dict[str, Any]]:
    """Find the messages that a run would put, from what its query returned in the run before and in this one.

    The two tasks say what the columns are and how changes are rendered. Their query, connections and templates are
    not used: an argument that is a template counts as it is written. All bounds of guards are off; rows with a
    wrong identity, or without a user id, are an error unless ``on_invalid_rows`` is ``drop``.

    :param diff: a DAG's diff task; its mapping is used.
    :param publish: a DAG's publish task; its format, options and transform are used.
    :param after: what the query returns in this run: a mapping of column to value per row. A mapped column that no
        row has is NULL.
    :param before: what it returned in the run before, likewise; without rows this run is the first one.
    :param as_of: the instant of this run; the run before was a day earlier.
    :returns: the JSON documents, in the order in which they are put. Ids of messages are the same in each call.
    :raises ValueError: if an argument of a task, or a column, is invalid.
    """
    from airflow_kinesis_audience.core.changes.sync import Sync
    from airflow_kinesis_audience.core.outbox.outbox import Outbox
    from airflow_kinesis_audience.core.sql.dialects import DIALECTS
    from airflow_kinesis_audience.core.state.ledger import Ledger

    stream = _Stream(publish)
    delivery = publish.build_delivery(stream.described)  # type: ignore[arg-type]
    guards = Guards(max_exit_ratio=None, on_empty="exit_all", on_invalid_rows=diff.build_guards().on_invalid_rows)
    source = diff.build_source(DIALECTS["duckdb"])
    with tempfile.TemporaryDirectory(prefix="audience-test-") as home, _open(Path(home)) as warehouse:
        ledger, schema = Ledger(warehouse, _SCHEMA, _SYNC), _schema_of([*before, *after], source)
        given = {as_of - timedelta(days=1): before, as_of: after}
        for n, (at, rows) in enumerate((at, rows) for at, rows in given.items() if rows or at == as_of):
            query = _write(Path(home), n, rows, schema)
            stream.records.clear()
            Sync(ledger, replace(source, query=query, exclude_query=None), guards=guards).run(at)
            Outbox(ledger, delivery, stream.put).drain(at, on_first_run="enter_all")
        return [json.loads(record.data) for record in sorted(stream.records)]


class _Stream:
    """Takes the place of a stream: it keeps what is put."""

    def __init__(self, publish: PublishOperator) -> None:
        self.records: list[Record] = []
        of_firehose = publish.delivery_stream_name is not None
        kind = "firehose" if of_firehose else "kinesis"
        self.described = SimpleNamespace(
            destination=f"{kind}://test/{publish.delivery_stream_name or publish.stream_name}",
            limits=FIREHOSE_LIMITS if of_firehose else KINESIS_LIMITS,
            record_end=b"\n" if of_firehose else b"",
        )

    def put(self, records: Sequence[Record]) -> list[Outcome]:
        self.records += records
        return [Outcome(Status.DELIVERED)] * len(records)


def _open(folder: Path) -> DuckDbWarehouse:
    import duckdb

    from airflow_kinesis_audience.core.sql.dialects import DIALECTS
    from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse

    return DuckDbWarehouse(lambda: duckdb.connect(str(folder / "test.duckdb")), DIALECTS["duckdb"])


def _schema_of(rows: Rows, source: Source) -> pa.Schema:
    """Find the types of the columns of all rows; a column without a value is text."""
    import pyarrow as pa

    names = dict.fromkeys((*source.columns, *(name for row in rows for name in row)))
    fields = []
    for name in names:
        try:
            kind = pa.array([row.get(name) for row in rows]).type
        except (pa.ArrowException, TypeError):
            kinds = sorted({type(row[name]).__name__ for row in rows if row.get(name) is not None})
            raise ValueError(
                f"column {name!r} has values of the types {', '.join(kinds)}; expected one type"
            ) from None
        unknown = pa.bool_() if name == source.consent_column else pa.string()
        fields.append((name, unknown if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _write(folder: Path, number: int, rows: Rows, schema: pa.Schema) -> str:
    """Write rows to a file; gives the query that reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / f"rows_{number}.parquet"
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), file)
    return f"SELECT * FROM read_parquet('{file}')"  # noqa: S608
