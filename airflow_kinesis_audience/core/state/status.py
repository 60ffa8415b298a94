"""Status for people who look on: which syncs a state schema has, and how far each destination is.

It only reads, and creates nothing. A ledger that is not there yet is an empty state; one that cannot be read is an
error. No run relies on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import AudienceError, LedgerUnreadable
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import column, render, table
from airflow_kinesis_audience.core.state.cursors import REPLAY, RESYNC
from airflow_kinesis_audience.core.state.ledger_tables import LEDGER_TABLE
from airflow_kinesis_audience.core.state.sync_state import SyncState

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.delivery_details import DestinationAttached
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.timeline import Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryLag:
    """How far one destination is behind its sync.

    :param cursor: up to where everything is delivered; none while nothing is.
    :param change_sets: that it has not got yet, and ``changes`` what is in them.
    :param under_way: the instant of the one of which a part may have been sent.
    :param knows_nobody: nothing was delivered yet, so that every member enters first.
    """

    destination: str
    message_format: str
    cursor: datetime | None
    change_sets: int
    changes: int
    under_way: datetime | None
    knows_nobody: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """What one delivery keeps from being dropped, whatever ``keep_history`` says.

    :param log: of the delivery.
    :param since: the instant after which it keeps all history.
    :param change_sets: that it has not got yet.
    :param tables: of the sync that are kept and end after that instant, and its own.
    """

    log: str
    destination: str
    message_format: str
    is_resync: bool
    is_replay: bool
    since: datetime
    change_sets: int
    tables: int

    @property
    def sentence(self) -> str:
        """What is kept, for which delivery, and since when."""
        what = f"{self.change_sets:,} change sets that it has not received"
        if self.is_resync or self.is_replay:
            what = f"a {'resync' if self.is_resync else 'replay'} that is not finished"
        return (
            f"{self.destination} ({self.message_format}) keeps {self.tables:,} tables, all history since "
            f"{instant_text(self.since)}: {what}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FormerValues:
    """Values that are kept and are not true any more: of users who have exited, and former ones of members.

    :param since: the instant as of which the oldest of them were published.
    :param table: where they are, and ``reason`` what keeps them there.
    """

    since: datetime
    table: str
    reason: str

    @property
    def sentence(self) -> str:
        """What is the oldest, where it is, and why."""
        return f"the oldest former value is as of {instant_text(self.since)}, in {self.table}: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterAge:
    """The oldest dead letter of a sync that is not given up.

    :param since: when it was recorded; none where an older version of this package has recorded it.
    :param table: where it is.
    """

    since: datetime | None
    table: str
    destination: str

    @property
    def sentence(self) -> str:
        """Since when it is kept, where, and why."""
        since = f"is kept since {instant_text(self.since)}" if self.since else "was recorded by an older version"
        return (
            f"the oldest dead letter {since}, in {self.table}: its message is too large for {self.destination}, "
            "and it is kept until it fits, or as long as keep_dead_letters of the publish task says"
        )


def is_there(warehouse: Warehouse, schema: str) -> bool:
    """Tell whether a schema has a ledger.

    :raises LedgerUnreadable: if that cannot be found out.
    """
    _, _, name = schema.rpartition(".")
    query = (
        exp.select(exp.Count(this=exp.Star()))
        .from_(exp.table_("tables", db="information_schema"))
        .where(
            exp.Lower(this=exp.column("table_schema")).eq(name.lower()),
            exp.Lower(this=exp.column("table_name")).eq(LEDGER_TABLE),
        )
    )
    try:
        [(found,)] = warehouse.read_rows(query.sql(dialect=warehouse.dialect.name))
    except AudienceError as error:
        raise LedgerUnreadable(f"the tables of schema {schema!r} cannot be listed: {error}") from None
    return bool(found)


def read_state(ledger: Ledger) -> SyncState:
    """Read a sync's state; an empty one where no run has made a ledger yet.

    :raises LedgerUnreadable: if there is one and it cannot be read.
    """
    try:
        return ledger.read()
    except LedgerUnreadable:
        if is_there(ledger.warehouse, ledger.schema):
            raise
        return SyncState()


def read_syncs(warehouse: Warehouse, schema: str) -> list[str]:
    """Read the names of all syncs of a schema."""
    if not is_there(warehouse, schema):
        return []

    query = exp.select(column("sync_id")).distinct().from_(table(schema, LEDGER_TABLE))
    return sorted(str(sync_id) for (sync_id,) in warehouse.read_rows(render(query, warehouse.dialect)))


def find_lags(state: SyncState) -> list[DeliveryLag]:
    """Find out how far each destination that gets the sync's changes is behind."""
    return [
        _lag(state.timeline, delivery, delivery.destination)
        for _, delivery in sorted(state.deliveries.items())
        if delivery.destination is not None and not delivery.part and delivery.goes_on
    ]


def find_pins(state: SyncState) -> list[Pin]:
    """Find what each delivery keeps, that of a resync or a replay that is not finished, too."""
    return [
        _pin(state.timeline, delivery, delivery.destination, delivery.needs_after)
        for _, delivery in sorted(state.deliveries.items())
        if delivery.destination is not None and delivery.needs_after is not None
    ]


def find_lasting_pins(state: SyncState) -> list[Pin]:
    """Find those that may stay: a resync or a replay that is not finished, and what is behind by several runs."""
    return [pin for pin in find_pins(state) if pin.is_resync or pin.is_replay or pin.change_sets > 1]


def find_former_values(state: SyncState) -> FormerValues | None:
    """Find the oldest values that are kept and are not true any more, and what keeps them; none if there are none.

    Who left before a base was written with ``keep_exits=None`` is not among them: the ledger has no instant of it.
    """
    timeline, found = state.timeline, []
    for base in timeline.bases:
        if base.left_since is not None:
            reason = "it is remembered who has exited, as keep_exits of the diff task says"
            found.append(FormerValues(since=base.left_since, table=base.table, reason=reason))
    kept = [(b.as_of, b.table) for b in timeline.bases]
    kept += [(c.previous_as_of, c.table) for c in timeline.change_sets if c.previous_as_of and not c.dropped]
    for since, name in sorted(kept)[:1]:
        later = [c.counts for c in timeline.change_sets if c.as_of > since]
        if any(counts.exited or counts.updated for counts in later):
            reason = _find_keeper(state, since) or "history is kept as long as keep_history of the diff task says"
            found.append(FormerValues(since=since, table=name, reason=reason))
    return min(found, key=lambda value: value.since, default=None)


def count_dead_letters(state: SyncState) -> int:
    """Count the dead letters of all destinations that are not given up."""
    return sum(delivery.dead_letters.open for delivery in state.deliveries.values())


def find_oldest_dead_letter(state: SyncState) -> DeadLetterAge | None:
    """Find the dead letter that has been kept for longest; none if there are none."""
    found = [
        DeadLetterAge(since=letters.since, table=letters.table, destination=delivery.destination.destination)
        for delivery in state.deliveries.values()
        if (letters := delivery.dead_letters).open and delivery.destination is not None
    ]
    # Of what an older version has recorded nobody knows the age.
    return min(found, key=lambda f: instant_text(f.since) if f.since else "", default=None)


def _find_keeper(state: SyncState, since: datetime) -> str:
    """Find the delivery that keeps the oldest membership from being dropped; none if nothing but time does."""
    newer = min((b.as_of for b in state.timeline.bases if b.as_of > since), default=None)
    pins = sorted(find_lasting_pins(state), key=lambda pin: pin.since)
    return next((p.sentence for p in pins if newer is None or p.since < newer), "")


def _pin(timeline: Timeline, delivery: DeliveryState, destination: DestinationAttached, since: datetime) -> Pin:
    inserted = delivery.find_inserted(timeline)
    change_sets = [*inserted, *(c for c in timeline.change_sets if c.as_of > since)]
    since = min([since, *(c.previous_as_of for c in inserted if c.previous_as_of)])
    kept = {c.table for c in timeline.change_sets if c.as_of >= since and not c.dropped}
    kept |= {b.table for b in timeline.bases if b.as_of >= since}
    return Pin(
        log=delivery.log,
        destination=destination.destination,
        message_format=destination.message_format,
        is_resync=delivery.on_first_run == RESYNC,
        is_replay=delivery.on_first_run == REPLAY,
        since=since,
        change_sets=len(change_sets),
        tables=len({*kept, *delivery.tables, *delivery.litter}),
    )


def _lag(timeline: Timeline, delivery: DeliveryState, destination: DestinationAttached) -> DeliveryLag:
    known = delivery.cursor or delivery.attached
    left = [c for c in timeline.change_sets if known is not None and c.as_of > known]
    left += delivery.find_inserted(timeline)
    return DeliveryLag(
        destination=destination.destination,
        message_format=destination.message_format,
        cursor=delivery.cursor,
        change_sets=len(left),
        changes=sum(c.rows for c in left),
        under_way=delivery.sending,
        knows_nobody=delivery.cursor is None,
    )
