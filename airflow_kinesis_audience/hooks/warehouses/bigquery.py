"""BigQuery, through Google's own client.

Each statement is a job; a dry run gives a query's types and costs nothing. BigQuery itself was never run: see
docs/warehouse-cloud.md.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.statement_tags import PROGRAM
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse, arrow_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa


_ABOUT_THE_STATEMENT = re.compile(
    r"(Syntax error|Unrecognized name|Not found|No matching signature|Already Exists)\b.*"
)
"""Errors that a statement has without a row."""


class BigQueryWarehouse(SqlWarehouse):
    """BigQuery through google-cloud-bigquery: its client, since its DB-API changes the text of a statement."""

    loggers = ("google", "urllib3")
    placeholder = "?"

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens a client; the hook's own DB-API connection binds no values to a statement."""
        return lambda: hook.get_client(project_id=hook.project_id, location=_location(hook))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        """Run a statement that gives no rows, to its end."""
        with self._translated(), self._job(sql, parameters) as job:
            with self._counted():
                job.result()
            written: int | None = job.num_dml_affected_rows
            return written

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""
        with self._translated(), self._job(sql, parameters) as job:
            with self._counted():
                rows = job.result()
            return [tuple(row.values()) for row in rows]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names by a dry run."""
        with self._translated(planned=True):
            return {field.name: _type_name(field) for field in self._query(query, (), dry_run=True).schema}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result page by page."""
        with self._translated(), self._job(sql, ()) as job:
            with self._counted():
                result = job.result(page_size=rows)
            for page in result.pages:
                if fetched := [row.values() for row in page]:
                    yield arrow_batch(fetched, schema)

    @contextlib.contextmanager
    def _job(self, sql: str, parameters: Sequence[Any]) -> Iterator[Any]:
        job = self._query(sql, parameters)
        with self._working(self._opened, job):
            yield job

    def _cancel(self, connection: Any, cursor: Any) -> None:
        cursor.cancel()

    def _query(self, sql: str, parameters: Sequence[Any], *, dry_run: bool = False) -> Any:
        from google.cloud.bigquery import ConnectionProperty, QueryJobConfig, ScalarQueryParameter

        if self._opened is None:
            self._opened = self._connect()
        given = [ScalarQueryParameter(None, "INT64" if isinstance(v, int) else "STRING", v) for v in parameters]
        config = QueryJobConfig(query_parameters=given, dry_run=dry_run, use_query_cache=False)
        config.labels = self.tag.labels() if self.tag is not None else {"program": PROGRAM}
        # Or a project's or dataset's own would decide what day an instant is on.
        config.connection_properties = [ConnectionProperty("time_zone", "UTC")]
        return self._opened.query(sql, job_config=config)

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        code = getattr(error, "code", None)
        if code == 403:
            return WarehouseRefused(
                "BigQuery denies access. The account needs roles/bigquery.jobUser on the project, dataViewer on "
                "the source's dataset, and dataEditor on the state's (and bigquery.datasets.create for the first "
                "run to make that one)"
            )
        if code in (400, 404, 409):
            found = _ABOUT_THE_STATEMENT.search(getattr(error, "message", ""))
            if planned and found:
                return WarehouseRefused(f"BigQuery cannot run the statement ({code}): {found[0]}")
            return WarehouseRefused(f"BigQuery rejected the statement ({code}), {NOT_SHOWN}")
        if isinstance(error, ValueError | OverflowError):
            return WarehouseRefused("a value from BigQuery is outside the range of its type; it is not shown here")
        return WarehouseUnavailable(
            f"BigQuery is not available ({type(error).__name__}); check project, location, account and quotas"
        )


def _location(hook: Any) -> str | None:
    # Where the connection names none it is an object that stands for a default.
    return hook.location if isinstance(hook.location, str) else None


def _type_name(field: Any) -> str:
    return f"ARRAY<{field.field_type}>" if field.mode == "REPEATED" else str(field.field_type)
