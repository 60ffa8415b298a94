"""HiveServer2's protocol, spoken over the connection that Airflow's hook opens.

PyHive opens it and its own cursor is not used: that one writes every statement into the log, with what is in it,
and makes an object of each value. Rows come as the columns that the server sends. Nothing here knows of SQL.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa


_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 1.0


class StatementFailed(Exception):
    """A statement failed on the server; the text may hold a row's values.

    :param state: the SQLSTATE, empty where the server names none.
    """

    def __init__(self, state: str | None, message: str | None) -> None:
        super().__init__(message or "")
        self.state = state or ""


class ThriftConnection:
    """A session of the server.

    :param opened: PyHive's connection.
    """

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def cursor(self) -> ThriftCursor:
        """Return a cursor; each runs one statement at a time."""
        return ThriftCursor(self._opened.client, self._opened.sessionHandle)

    def cancel(self, cursor: ThriftCursor) -> None:
        """Cancel a statement that another connection waits for: one connection carries one request at a time."""
        from TCLIService import ttypes

        if cursor.operation is not None:
            self._opened.client.CancelOperation(ttypes.TCancelOperationReq(cursor.operation))

    def close(self) -> None:
        """End the session."""
        self._opened.close()


class ThriftCursor:
    """One statement and its result.

    :param client: the protocol's client.
    :param session: the session's handle.
    """

    def __init__(self, client: Any, session: Any) -> None:
        self._client = client
        self._session = session
        self.operation: Any = None

    def execute(self, statement: str) -> None:
        """Run a statement to its end.

        The server is asked how far it is; a response that takes an hour would be cut off on the way.

        :raises StatementFailed: if it fails.
        """
        from TCLIService import ttypes

        self.close()
        request = ttypes.TExecuteStatementReq(self._session, statement, runAsync=True)
        started = self._client.ExecuteStatement(request)
        _check(started.status)
        self.operation = started.operationHandle
        pause = _FIRST_PAUSE_SECONDS
        while True:
            found = self._client.GetOperationStatus(ttypes.TGetOperationStatusReq(self.operation))
            _check(found.status)
            if found.operationState == ttypes.TOperationState.FINISHED_STATE:
                return
            if found.operationState not in (
                ttypes.TOperationState.INITIALIZED_STATE,
                ttypes.TOperationState.PENDING_STATE,
                ttypes.TOperationState.RUNNING_STATE,
            ):
                raise StatementFailed(found.sqlState, found.errorMessage)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Fetch all rows; texts stand for what the protocol has no type for, such as dates and decimals."""
        return [row for columns in self.fetch_columns(10_000) for row in zip(*map(_values, columns), strict=True)]

    def fetch_columns(self, rows: int) -> Iterator[list[pa.Array]]:
        """Fetch the rows as columns, at most so many rows at a time."""
        from TCLIService import ttypes

        if not self.operation.hasResultSet:
            return
        request = ttypes.TFetchResultsReq(self.operation, ttypes.TFetchOrientation.FETCH_NEXT, rows)
        while True:
            fetched = self._client.FetchResults(request)
            _check(fetched.status)
            columns = [_column(c) for c in fetched.results.columns]
            if not columns or not len(columns[0]):
                return
            yield columns

    def close(self) -> None:
        """Let the server forget the statement."""
        from TCLIService import ttypes

        if self.operation is not None:
            operation, self.operation = self.operation, None
            self._client.CloseOperation(ttypes.TCloseOperationReq(operation))


def _check(status: Any) -> None:
    from TCLIService import ttypes

    if status.statusCode not in (ttypes.TStatusCode.SUCCESS_STATUS, ttypes.TStatusCode.SUCCESS_WITH_INFO_STATUS):
        raise StatementFailed(status.sqlState, status.errorMessage)


def _column(sent: Any) -> pa.Array:
    """Make an array of a column as it is sent: values, and a bit for each that is NULL."""
    import pyarrow as pa

    [found] = [c for c in vars(sent).values() if c is not None]
    length = len(found.values)
    # Trailing bytes of the mask are left out where none of their values is NULL.
    mask = found.nulls.ljust(-(-length // 8), b"\0")
    nulls = pa.Array.from_buffers(pa.bool_(), length, [None, pa.py_buffer(mask)])
    return pa.array(found.values, mask=nulls.to_numpy(zero_copy_only=False)) if length else pa.array([])


def _values(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values
