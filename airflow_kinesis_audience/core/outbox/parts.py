"""Parts: several tasks share one delivery, and each sends its own users.

Each part has a log of its own. The delivery's cursor moves over a change set once all parts have delivered it, and
the last of them moves it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import DeliveryChanged, LedgerConflict
from airflow_kinesis_audience.core.state.delivery_details import ChangeSetDelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.delivery_details import PartOf
    from airflow_kinesis_audience.core.state.entries import Entry


def check_parts(log: DeliveryLog) -> None:
    """Check that nothing is half sent in another number of parts.

    :raises DeliveryChanged: if something is.
    """
    whole = log.whole
    states = [s.part_of(whole) for s in log.ledger.state.deliveries.values()]
    standing = {
        c.as_of for c in log.timeline.change_sets if c.inserted and whole.attached and c.as_of > whole.attached
    }
    begun = {s.part.of for s in states if s.part and _is_ahead(s, s.part, whole, standing)}
    begun |= {1} if whole.sending is not None else set()
    if other := sorted(begun - {log.delivery.part.of}):
        raise DeliveryChanged(
            f"a change set is partly delivered to {log.delivery.destination} in {other[0]} parts, and this task "
            f"delivers one of {log.delivery.part.of}; restore parts until it is delivered"
        )


def conclude(log: DeliveryLog, as_of: datetime, before: Callable[[Sequence[Entry]], None]) -> int:
    """Move the delivery's cursor over a change set, if all parts are there and no other task has done so.

    :param before: called first, with the rows of the parts that have delivered what the cursor moves over.
    :returns: the changes that all parts have delivered, if it was this task.
    """
    logs = log.delivery.part_logs
    while True:
        log.turns.wait()
        whole = log.whole
        if whole.attached is None or log.has(whole, as_of):
            return 0
        if not all(log.has(log.state_of_part(name), as_of) for name in logs):
            return 0
        ends = [
            (e, e.detail)
            for e in log.ledger.entries(since=min(whole.cursor or as_of, as_of))
            if e.log in logs and isinstance(e.detail, ChangeSetDelivered) and not e.detail.resend
            if whole.counts(e.detail.part, e.detail.stream)
        ]
        concluded = ChangeSetDelivered(render_config=log.delivery.render_config, parts=log.delivery.part.of)
        with contextlib.suppress(LedgerConflict):
            passed = {c.as_of for c in log.find_inserted()}
            before([e for e, _ in ends if not log.has(whole, e.as_of) and e.as_of not in passed])
            log.append(concluded, as_of)
            return sum(detail.delivered for e, detail in ends if e.as_of == as_of)


def _is_ahead(state: DeliveryState, part: PartOf, whole: DeliveryState, standing: set[datetime]) -> bool:
    """Return whether a part of a delivery has begun what the delivery is not at the end of.

    :param standing: instants of inserted change sets that the delivery is to get.
    """
    reached = state.sending or state.cursor
    if part.delivery != whole.log or reached is None or whole.attached is None:
        return False
    if ({*state.inserted, state.sending} & standing) - set(whole.inserted):
        return True
    return reached > whole.cursor if whole.cursor else reached >= whole.attached
