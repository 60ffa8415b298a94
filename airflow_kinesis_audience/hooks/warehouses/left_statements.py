"""A statement that is left to the server: no task waits for it, and one that comes later continues after it.

Only an engine whose statements outlive their session can do so, and only where its class says how. All others run
the statement to its end. Whoever comes back has the id of the statement, and of its text a digest: if the text is
another one by then, the statement is cancelled.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import WarehouseUnavailable

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.sql.dialects import Dialect

PATIENCE_SECONDS = 60.0
"""A statement that ends sooner is waited for: to come back costs about as much."""

LOOK_SECONDS = 2.0
"""How often a statement is looked at while it is waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftStatement:
    """A statement that is under way.

    :param statement_id: by which the server knows it.
    :param digest: of its text.
    :param table: the name, without its schema, of the table that it creates.
    """

    statement_id: str
    digest: str
    table: str


class StatementLeft(BaseException):
    """A statement is under way, and its task has nothing else to do; no failure, so nothing is cleared away.

    :param statement: which one.
    """

    def __init__(self, statement: LeftStatement) -> None:
        super().__init__(f"the statement {statement.statement_id} is under way")
        self.statement = statement


class LeavesStatements:
    """The part of a warehouse that leaves statements to the server.

    :ivar may_leave: whether this task may end before its statement.
    :ivar left: the statement after which this task continues.
    """

    dialect: Dialect
    may_leave: bool = False
    left: LeftStatement | None = None

    def write_table_apart(
        self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False
    ) -> None:
        """Create a table of a query's rows, possibly by a statement that is left to the server.

        :raises StatementLeft: if it is.
        """
        from airflow_kinesis_audience.hooks.warehouses.dbapi import table_statements

        warehouse: Any = self
        how: dict[str, Any] = {"sliced_by": sliced_by, "has_audience_rows": has_audience_rows}
        if not self.may_leave or not self.can_leave:
            warehouse.write_table(name, query, **how)
            return
        create, *others = table_statements(self.dialect.ddl, name, query, **how)
        digest = hashlib.blake2b(create.encode(), digest_size=16).hexdigest()
        if self.left is not None and self.left.digest != digest:
            self.cancel_statement(self.left.statement_id)
            raise WarehouseUnavailable(
                "the query was changed, or another run of the sync started, while the statement of this run was "
                "under way. It was cancelled; the next attempt starts it again"
            )
        statement_id = self.left.statement_id if self.left else self.submit(create)
        if not self.await_statement(statement_id, PATIENCE_SECONDS):
            table = name.rpartition(".")[2].strip('"`')
            raise StatementLeft(LeftStatement(statement_id=statement_id, digest=digest, table=table))
        for statement in others:
            warehouse.execute(statement)

    @property
    def can_leave(self) -> bool:
        """Whether the engine's class says how."""
        return type(self).submit is not LeavesStatements.submit

    def submit(self, sql: str) -> str:
        """Start a statement, and give the id by which the server knows it."""
        raise NotImplementedError

    def await_statement(self, statement_id: str, seconds: float) -> bool:
        """Wait for a statement; false if it is still under way after so many seconds. Who breaks off cancels it.

        :raises WarehouseRefused: as ``execute``, if it failed.
        """
        deadline = time.monotonic() + seconds
        try:
            while not self.has_ended(statement_id):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(LOOK_SECONDS)
        except BaseException as error:
            if not isinstance(error, Exception):
                self.cancel_statement(statement_id)
            raise
        return True

    def has_ended(self, statement_id: str) -> bool:
        """Look at a statement once.

        :raises WarehouseRefused: as ``execute``, if it failed.
        """
        raise NotImplementedError

    def cancel_statement(self, statement_id: str) -> None:
        """Cancel a statement; one that has ended stays as it is."""
        raise NotImplementedError
