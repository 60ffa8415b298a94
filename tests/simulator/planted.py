"""Mistakes that are built into the engine on purpose, one at a time: the simulator has to find each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedRanges
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptCheckpoint,
    AttemptStarted,
    ChangeSetDelivered,
)

_write, _pending = DeliveryAttempt.write, Outbox._pending


def _cursor_first(self: Any, kind: Any, **given: Any) -> None:
    _write(self, kind, **given)
    if kind is AttemptStarted:
        _write(self, ChangeSetDelivered)


def _too_far(self: Any, kind: Any, **given: Any) -> None:
    def append(detail: Any, *given: Any) -> object:
        if kind is AttemptCheckpoint:
            ranges = AcknowledgedRanges(below=detail.acknowledged.below + 2, above=())
            detail = replace_detail(detail, acknowledged=ranges)
        return was(detail, *given)

    was, self._append = self._append, append
    try:
        _write(self, kind, **given)
    finally:
        self._append = was


def _newest_alone(self: Any, *given: Any) -> Any:
    yield from list(_pending(self, *given))[-1:]


def _never(*_: Any) -> list[Any]:
    return []


MISTAKES: dict[str, tuple[Any, str, Any]] = {
    "the cursor moves before the records are put": (DeliveryAttempt, "write", _cursor_first),
    "a checkpoint counts two records too many": (DeliveryAttempt, "write", _too_far),
    "only the newest change set is sent": (Outbox, "_pending", _newest_alone),
    "no guard stops an update": (Guards, "find_breaches", _never),
}


@contextlib.contextmanager
def planted(mistake: str) -> Iterator[None]:
    """Build one of :data:`MISTAKES` in."""
    with mock.patch.object(*MISTAKES[mistake]):
        yield
