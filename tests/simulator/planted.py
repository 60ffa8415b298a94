"""Mistakes that are built into the engine on purpose, one at a time: the simulator has to find each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.outbox import tables as tables_module
from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedRanges
from airflow_kinesis_audience.core.sql.statements import drop_table, table
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptCheckpoint,
    AttemptStarted,
    ChangeSetDelivered,
)

_write, _pending = DeliveryAttempt.write, Outbox._pending
_announce_snapshot = tables_module._announce_snapshot


def _cursor_first(self: Any, kind: Any) -> None:
    _write(self, kind)
    if kind is AttemptStarted:
        _write(self, ChangeSetDelivered)


def _too_far(self: Any, kind: Any) -> None:
    def append(detail: Any) -> object:
        if kind is AttemptCheckpoint:
            ranges = AcknowledgedRanges(below=detail.acknowledged.below + 2, above=())
            detail = replace_detail(detail, acknowledged=ranges)
        return was(detail)

    was, self._append = self._append, append
    try:
        _write(self, kind)
    finally:
        self._append = was


def _newest_alone(self: Any, *given: Any) -> Any:
    yield from list(_pending(self, *given))[-1:]


def _drop_first(log: Any, as_of: Any) -> str:
    if (known := log.whole.snapshot) is not None:
        drop_table(log.ledger.warehouse, table(log.ledger.schema, known.table))
    return _announce_snapshot(log, as_of)


MISTAKES: dict[str, tuple[Any, str, Any]] = {
    "the cursor moves before the records are put": (DeliveryAttempt, "write", _cursor_first),
    "a checkpoint counts two records too many": (DeliveryAttempt, "write", _too_far),
    "only the newest change set is sent": (Outbox, "_pending", _newest_alone),
    "a snapshot is dropped before the next one is claimed": (tables_module, "_announce_snapshot", _drop_first),
}


@contextlib.contextmanager
def planted(mistake: str) -> Iterator[None]:
    """Build one of :data:`MISTAKES` in."""
    with mock.patch.object(*MISTAKES[mistake]):
        yield
