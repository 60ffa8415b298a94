"""The door to BigQuery, through Google's own client.

Each statement is a job; a dry run tells a query's types and costs nothing. BigQuery itself was never run: see
docs/warehouse-cloud.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WITHOUT_VALUES = re.compile(
    r"(Syntax error|Unrecognized name|Not found|No matching signature|Already Exists)\b.*"
)
"""What BigQuery says of a statement; all else that it says of a wrong request can quote a row."""


class BigQueryWarehouse(SqlWarehouse):
    """BigQuery through google-cloud-bigquery; what is opened is its client."""

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens a client; the hook's own DB-API connection binds no values to a statement."""
        return lambda: hook.get_client(project_id=hook.project_id, location=_location(hook))

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names by a dry run."""
        from google.cloud.bigquery import QueryJobConfig

        with self._cursor(), self._translated():
            job = self._client.query(query, job_config=QueryJobConfig(dry_run=True, use_query_cache=False))
            return {field.name: _type_name(field) for field in job.schema}

    def close(self) -> None:
        """Close the connection and its client."""
        if self._opened is not None:
            super().close()
            self._client.close()

    def _open(self) -> Any:
        from google.cloud.bigquery import dbapi

        with self._translated():
            self._client = self._connect()
            return dbapi.connect(self._client)

    @staticmethod
    def _run(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        # Without parameters the driver makes one % of two.
        cursor.execute(sql if parameters else sql.replace("%%", "%%%%"), list(parameters))

    def _translate(self, error: Exception) -> AudienceError:
        # The DB-API's error holds that of the request.
        cause: Any = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
        code = getattr(cause, "code", None)
        if code == 403:
            return WarehouseRefused(
                "BigQuery denies it. The account needs roles/bigquery.jobUser on the project, dataViewer on the "
                "source's dataset, and dataEditor on the state's (and bigquery.datasets.create for the first run "
                "to make that one)"
            )
        if code in (400, 404, 409):
            found = _WITHOUT_VALUES.search(getattr(cause, "message", ""))
            if found:
                return WarehouseRefused(f"BigQuery cannot run the statement ({code}): {found[0]}")
            return WarehouseRefused(
                f"BigQuery refused the statement ({code}), maybe on a value, so what it said is not shown here; "
                "run the query by itself"
            )
        if isinstance(error, ValueError | OverflowError):
            return WarehouseRefused(
                "a value that BigQuery gave is beyond what its type can be read as; it is not shown here"
            )
        return WarehouseUnavailable(
            f"BigQuery is not available ({type(cause).__name__}); check project, location, account and quotas"
        )


def _location(hook: Any) -> str | None:
    # Where the connection names none it is an object that stands for "not said".
    return hook.location if isinstance(hook.location, str) else None


def _type_name(field: Any) -> str:
    return f"ARRAY<{field.field_type}>" if field.mode == "REPEATED" else str(field.field_type)
