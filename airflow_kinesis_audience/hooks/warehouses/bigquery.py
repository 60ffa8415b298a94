"""BigQuery, through Google's own client.

Each statement is a job; a dry run gives a query's types and costs nothing. BigQuery itself was never run: see
docs/warehouse-cloud.md.
"""

from __future__ import annotations

import contextlib
import re
import uuid
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

_OF_THE_MOMENT = frozenset(
    (
        *("backendError", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded"),
        *("quotaExceeded", "rateLimitExceeded", "resourceInUse", "stopped", "tableUnavailable"),
    )
)
"""Reasons of failures after which a retry may help, whatever the status that comes with them.

Source: https://docs.cloud.google.com/bigquery/docs/error-messages
"""


_RECENT_JOBS = 1000
"""Of an account, among which is one that was begun a moment ago."""


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
            self._result(job)
            written: int | None = job.num_dml_affected_rows
            return written

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""
        with self._translated(), self._job(sql, parameters) as job:
            return [tuple(row.values()) for row in self._result(job)]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names by a dry run."""
        with self._translated(planned=True):
            return {field.name: _type_name(field) for field in self._query(query, (), dry_run=True).schema}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result page by page."""
        with self._translated(), self._job(sql, ()) as job:
            for page in self._result(job, page_size=rows).pages:
                if fetched := [row.values() for row in page]:
                    yield arrow_batch(fetched, schema)

    def submit(self, sql: str) -> str:
        """Start a statement as a job, which outlives its client; see :class:`LeavesStatements`.

        If the answer to the request is lost, the client asks again, and the id exists. It is also looked for in
        the list: the client itself would look in one location alone, and then begin a second job.

        :returns: project, location and id of the job, as BigQuery's console writes them.
        """
        from google.api_core.exceptions import Conflict

        labels = self._labels()
        job_id = "-".join((PROGRAM, labels.get("job", ""), labels.get("try", ""), uuid.uuid4().hex))
        with self._translated(), self._counted():
            try:
                job = self._query(sql, (), job_id=job_id, job_retry=None)
            except Conflict:
                job = self._find_job(job_id)
        if job is None:
            raise WarehouseUnavailable(
                f"BigQuery began job {job_id} and does not list it; retry, which cancels it"
            )
        return f"{job.project}:{job.location}.{job.job_id}"

    def _find_job(self, job_id: str) -> Any:
        from google.api_core.exceptions import Forbidden, NotFound

        with contextlib.suppress(NotFound):
            return self._client().get_job(job_id)
        with contextlib.suppress(Forbidden):  # roles/bigquery.jobUser may not list
            recent = self._client().list_jobs(max_results=_RECENT_JOBS)
            return next((job for job in recent if job.job_id == job_id), None)
        return None

    def has_ended(self, statement_id: str) -> bool:
        """Look at a statement once; see :class:`LeavesStatements`."""
        from google.api_core.exceptions import NotFound

        with self._translated():
            try:
                job = self._client().get_job(**_reference(statement_id))
            except NotFound:
                raise WarehouseUnavailable(
                    f"BigQuery has no job {statement_id}; the next attempt starts the statement again"
                ) from None
            if job.state != "DONE":
                return False
            if job.error_result is not None:
                raise job.exception()
            self._count_bytes(job.total_bytes_processed)
            return True

    def cancel_statement(self, statement_id: str) -> None:
        """Cancel a statement; one that has ended stays as it is."""
        with contextlib.suppress(Exception), contextlib.closing(self._connect()) as other:
            other.cancel_job(**_reference(statement_id))

    def end_earlier_attempts(self) -> int:
        """Cancel what earlier attempts of the task left at work, in whichever location."""
        own, found = self._labels(), []
        with self._translated():
            for state in ("pending", "running"):
                found += [
                    job
                    for job in self._client().list_jobs(state_filter=state)
                    if job.labels.get("job") == own["job"] and job.labels.get("try") != own["try"]
                ]
            for job in found:
                job.cancel()
        return len(found)

    def _result(self, job: Any, **how: Any) -> Any:
        """Wait for a job's end, and count it."""
        with self._counted():
            rows = job.result(**how)
        self._count_bytes(job.total_bytes_processed)
        return rows

    @contextlib.contextmanager
    def _job(self, sql: str, parameters: Sequence[Any]) -> Iterator[Any]:
        job = self._query(sql, parameters)
        with self._working(self._opened, job):
            yield job

    def _cancel(self, connection: Any, cursor: Any) -> None:
        cursor.cancel()

    def _client(self) -> Any:
        if self._opened is None:
            self._opened = self._take_lent() or self._connect()
        return self._opened

    def _labels(self) -> dict[str, str]:
        return self.tag.labels() if self.tag is not None else {"program": PROGRAM}

    def _query(self, sql: str, parameters: Sequence[Any], *, dry_run: bool = False, **request: Any) -> Any:
        from google.cloud.bigquery import ConnectionProperty, QueryJobConfig, ScalarQueryParameter

        given = [ScalarQueryParameter(None, "INT64" if isinstance(v, int) else "STRING", v) for v in parameters]
        config = QueryJobConfig(query_parameters=given, dry_run=dry_run, use_query_cache=False)
        config.labels = self._labels()
        # Or a project's or dataset's own would decide what day an instant is on.
        config.connection_properties = [ConnectionProperty("time_zone", "UTC")]
        self._log_sql(sql)
        return self._client().query(sql, job_config=config, **request)

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        code, reason = getattr(error, "code", None), _reason(error)
        if reason in _OF_THE_MOMENT:
            return WarehouseUnavailable(
                f"BigQuery ended the statement ({reason}); see its job there, and the quotas of the project"
            )
        if code == 403:
            return WarehouseRefused(
                "BigQuery denies access. The account needs roles/bigquery.user on the project, dataViewer on "
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


def _reference(statement_id: str) -> dict[str, str]:
    """Split what ``submit`` returned; only a project may have dots and colons."""
    where, _, job_id = statement_id.rpartition(".")
    project, _, location = where.rpartition(":")
    return {"job_id": job_id, "project": project, "location": location}


def _reason(error: Exception) -> str:
    first, *_ = getattr(error, "errors", None) or ({},)
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def _location(hook: Any) -> str | None:
    # Where the connection names none it is an object that stands for a default.
    return hook.location if isinstance(hook.location, str) else None


def _type_name(field: Any) -> str:
    return f"ARRAY<{field.field_type}>" if field.mode == "REPEATED" else str(field.field_type)
