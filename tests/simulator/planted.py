"""Mistakes that are built into the engine on purpose, one at a time: the simulator has to find each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

from msgspec.structs import replace as replace_detail
from sqlglot import exp

from airflow_kinesis_audience.core.changes import insertion, writing
from airflow_kinesis_audience.core.changes import sync as sync_module
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.holding import select_without
from airflow_kinesis_audience.core.exceptions import LedgerConflict, RunSuperseded
from airflow_kinesis_audience.core.outbox import forgetting
from airflow_kinesis_audience.core.outbox import outbox as outbox_module
from airflow_kinesis_audience.core.outbox import tables as tables_module
from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer import producer as producer_module
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals, AcknowledgedRanges
from airflow_kinesis_audience.core.producer.records import Outcome, Status
from airflow_kinesis_audience.core.sql.statements import drop_table, table, write_table
from airflow_kinesis_audience.core.state.commits import TableCommitter
from airflow_kinesis_audience.core.state.cursors import DeliveryState
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptCheckpoint,
    AttemptStarted,
    ChangeSetDelivered,
)
from airflow_kinesis_audience.core.state.rows import numbered
from airflow_kinesis_audience.core.state.timeline import Timeline
from tests.simulator.doubles import MemoryRows

if TYPE_CHECKING:
    from tests.simulator.plan import Plan

_write, _find_next, _commit = DeliveryAttempt.write, Outbox._find_next, TableCommitter.commit
_append, _find_final = DeliveryLog.append, Timeline.find_final
_record_outcomes = producer_module._Scheduler._record_outcomes


def _as_it_is(query: Any, *_: object, **__: object) -> Any:
    return query


def _nothing(_: object) -> list[str]:
    return []


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
    found = _find_next(self, *given)
    newest = found and self.log.timeline.find(*given)
    if newest is None or newest == getattr(self, "newest_sent", None):
        return None
    self.newest_sent = newest
    return newest


def _never(*_: Any, **__: Any) -> list[Any]:
    return []


def _always(*_: Any, **__: Any) -> bool:
    return True


def _goes_on(self: Any, *given: Any, **named: Any) -> None:
    try:
        _append(self, *given, **named)
    except LedgerConflict:
        self.ledger.read()


def _without_holes(cls: Any, ranges: Any) -> AcknowledgedOrdinals:
    return AcknowledgedOrdinals(max((end for _, end in ranges.above), default=ranges.below))


def _watermark_alone(cls: Any, ranges: Any) -> AcknowledgedOrdinals:
    return AcknowledgedOrdinals(ranges.below)


def _in_any_order(self: Any, *given: Any) -> Any:
    try:
        return _find_final(self, *given)
    except RunSuperseded:
        return None


def _without_fence(self: Any, name: str, detail: Any, as_of: Any) -> Any:
    while True:
        try:
            return self.append(detail, as_of)
        except LedgerConflict:
            self.ledger.read()


def _of_all_syncs(self: Any, known: Any) -> list[Any]:
    rows = sorted(row for row in self._kept.rows.values() if row.sequence > known.get(row.log, 0))
    return list({(row.log, row.sequence): row for row in rows}.values())


def _remember_how(warehouse: Any, *given: Any, **how: Any) -> None:
    write_table(warehouse, *given, **how)
    warehouse.write_again = partial(write_table, warehouse, *given, **how)


def _count_first(self: Any, name: str, *given: Any) -> Any:
    warehouse = self.ledger.warehouse
    if not hasattr(warehouse, "write_again"):
        return _commit(self, name, *given)
    drop_table(warehouse, table(self.ledger.schema, name))
    found = _commit(self, name, *given)
    warehouse.write_again()
    return found


def _believe(self: Any, future: Future[list[Outcome]]) -> None:
    if not future.exception():
        heard: Future[list[Outcome]] = Future()
        delivered, unknown = Outcome(Status.DELIVERED), Status.UNKNOWN
        heard.set_result([delivered if o.status is unknown else o for o in future.result()])
        self._in_flight[heard] = self._in_flight.pop(future)
        future = heard
    _record_outcomes(self, future)


Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mistake:
    """What is built in.

    :param patches: where, what, and what stands there instead.
    :param matters: tells the plans by which it can do harm, so that a test need not live the others.
    """

    patches: Sequence[Patch]
    matters: Callable[[Plan], bool] = lambda _: True


_LATE = [(writing, "write_table", _remember_how), (TableCommitter, "commit", _count_first)]


def _of_nobody(names: Any, origin: Any) -> Any:
    return numbered(names, origin).where(exp.false())


def _without_nobody(schema: str, name: str, layout: Any, held: Any, **how: Any) -> Any:
    return select_without(schema, name, layout, ("nobody's",), **how)


def _holds_alone(plan: Plan) -> bool:
    return plan.hold and plan.alone and plan.audiences > 1 and plan.max_exits is not None and plan.days > 1


MISTAKES: dict[str, Mistake] = {
    "the cursor moves before the records are put": Mistake([(DeliveryAttempt, "write", _cursor_first)]),
    "a checkpoint counts two records too many": Mistake([(DeliveryAttempt, "write", _too_far)]),
    "a resume takes what is between for acknowledged": Mistake(
        [(AcknowledgedOrdinals, "of", classmethod(_without_holes))]
    ),
    "a resume forgets what is acknowledged above the first gap": Mistake(
        [(AcknowledgedOrdinals, "of", classmethod(_watermark_alone))]
    ),
    "an answer that never came is taken for good": Mistake(
        [(producer_module._Scheduler, "_record_outcomes", _believe)]
    ),
    "only the newest change set is sent": Mistake([(Outbox, "_find_next", _newest_alone)]),
    "no guard stops an update": Mistake(
        [(Guards, "find_breaches", _never)], lambda p: p.max_exits is not None and p.days > 1
    ),
    "an audience that is held alone counts all the same": Mistake(
        [(writing, "select_without", _without_nobody)], _holds_alone
    ),
    "no guard looks at removals by updates": Mistake(
        [(outbox_module, "check_removals", _never)], lambda p: p.consent and p.days > 1
    ),
    "an inserted change set has no compensation": Mistake(
        [(insertion, "numbered", _of_nobody)], lambda p: "insert" in p.acts and p.days > 1
    ),
    "rows of another sync are read as its own": Mistake(
        [(MemoryRows, "_read", _of_all_syncs)], lambda p: p.beside is not None
    ),
    "a table that is gone is taken for there": Mistake(
        [(tables_module, "_is_there", _always)], lambda p: "lost table" in p.acts
    ),
    "a publisher that lost its claim goes on": Mistake(
        [(DeliveryLog, "append", _goes_on)], lambda p: "twice" in p.acts and not p.named
    ),
    "a run that is fenced commits all the same": Mistake(
        [(TableCommitter, "commit", _without_fence)], lambda p: p.days > 1 and not p.apart_seconds
    ),
    "a change set counts before its table is written": Mistake(_LATE),
    "an older run is taken for a newer one": Mistake(
        [(Timeline, "find_final", _in_any_order)], lambda p: p.days > 1 and not p.apart_seconds
    ),
    "a change set that is being sent may be computed again": Mistake(
        [(DeliveryLog, "seal", _never)], lambda p: "clear" in p.acts
    ),
    "what a cursor needs is dropped": Mistake(
        [(DeliveryState, "needs_after", None)], lambda p: p.days > 1 and p.keep_days == 1
    ),
    "a backup that was restored is not noticed": Mistake(
        [(outbox_module, "check_nothing_lost", _never)], lambda p: "restore" in p.acts
    ),
    "users are erased before their exits are delivered": Mistake(
        [(forgetting, "find_waits", _nothing)], lambda p: "forget" in p.acts
    ),
    "a run lets users enter who are forgotten": Mistake(
        [(sync_module, "without_forgotten", _as_it_is)], lambda p: "forget" in p.acts and p.days > 1
    ),
}


@contextlib.contextmanager
def planted(mistake: str) -> Iterator[None]:
    """Build one of :data:`MISTAKES` in."""
    with contextlib.ExitStack() as patched:
        for patch in MISTAKES[mistake].patches:
            patched.enter_context(mock.patch.object(*patch))
        yield
