"""The members of whom a destination could not be told, because no record can hold them: kept, and tried again.

They stand in a table with the rows of a change set: what the destination must be told of each, by what is true at
an instant. When the delivery has come to a later one, or has other options, a new table is made of the old one and
the membership, and sent after everything else. So a rejected change never overtakes a newer one of its user, and
what is told is never older than what was. A table counts once the ledger says that it is written, one at a time.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.exceptions import LedgerConflict, MessageTooLarge
from airflow_kinesis_audience.layout import Layout
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.oversize import Rejected
from airflow_kinesis_audience.profiling import ProfileSet
from airflow_kinesis_audience.retelling import Untold, select_untold
from airflow_kinesis_audience.slices import ChangeSet, change_set_of
from airflow_kinesis_audience.snapshot import count_actions
from airflow_kinesis_audience.sql import column, drop_table, table, table_name, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.delivery_log import DeliveryLog
    from airflow_kinesis_audience.event_rows import EventSet
    from airflow_kinesis_audience.ledger import Entry
    from airflow_kinesis_audience.sending import Sending
    from airflow_kinesis_audience.standing import Standing

_IN_BETWEEN = ("writing", "replaced")
"""Names of tables that are written at this moment, or have just been replaced: none counts."""


class Rejects:
    """The rejected members of one delivery; of all its parts, whichever a task sends.

    :param log: of the delivery.
    """

    def __init__(self, log: DeliveryLog) -> None:
        self.log = log
        self._schema = log.ledger.schema
        self._warehouse = log.ledger.warehouse

    def add(self, standing: Standing, sending: Sending) -> Standing:
        """Keep who was rejected, before the ledger says that the change set is delivered.

        To do it once more, after a kill, changes nothing.

        :returns: the standing after the rows that were written.
        """
        untold = [_rejected_of(self._schema, sending.told, sending.oversized)]
        return self._write(standing, sending.told.as_of, untold, sending.oversized)

    def add_parts(self, standing: Standing, entries: Sequence[Entry]) -> Standing:
        """Keep whom several tasks have rejected, each of its own users, before the delivery's cursor moves.

        :param entries: rows of what they have delivered.
        """
        found = [(e.as_of, e.detail["table"], e.detail["oversized"]) for e in entries if "oversized" in e.detail]
        for as_of in sorted({at for at, *_ in found}):
            layout = self.log.look()[0].tables(self._schema, as_of).layout
            these = [(name, Rejected.from_json(told)) for at, name, told in found if at == as_of]
            untold = [Untold(table=name, layout=layout, rows=_at(r.positions)) for name, r in these]
            standing = self._write(standing, as_of, untold, Rejected.together(r.name for _, r in these))
        return standing

    def try_again(self, send: Callable[[ChangeSet], Sending]) -> Mapping[str, Any]:
        """Tell the destination what is true by now of who was rejected, if that can make a difference.

        :param send: sends a change set whole.
        :returns: what is known of those who still are: ``rows``, and more if there are any.
        """
        standing = self._tidy(self.log.look()[1])
        cursor = standing.cursor
        if not standing.rejects.get("rows") or cursor is None:
            return {"rows": 0}
        if instant(standing.rejects["as_of"]) != cursor:
            standing = self._write(standing, cursor, [], Rejected())
        if standing.rejects["rows"] and standing.rejects["tried"] != self.log.delivery.rendering:
            standing = self._append(standing, cursor, {**standing.rejects, "begun": True})
            sending = send(self._change_set(standing.rejects))
            standing = self._settle(self._look_again(standing), sending)
        return standing.rejects

    def forget(self) -> None:
        """Drop the table at the end of a delivery."""
        _, standing = self.log.look()
        if standing.rejects:
            self._clear(standing)

    def _settle(self, standing: Standing, sending: Sending) -> Standing:
        """Keep who is rejected again, and nobody else."""
        known, found = standing.rejects, sending.oversized
        if not found:
            return self._clear(standing)
        tried = {"tried": self.log.delivery.rendering, "begun": False}
        if sending.left_out["rejected"] == known["rows"]:
            return self._append(standing, sending.told.as_of, {**known, **found.name, **tried})
        still = _rejected_of(self._schema, sending.told, found)
        return self._write(standing, sending.told.as_of, [still], found, instead=True, **tried)

    def _write(
        self,
        standing: Standing,
        as_of: datetime,
        untold: Sequence[Untold],
        found: Rejected,
        *,
        instead: bool = False,
        **more: Any,
    ) -> Standing:
        """Write the table of who was rejected until an instant, and let it count.

        :param instead: leave out who was rejected before.
        """
        standing = self._tidy(standing)
        known = standing.rejects
        tables = self.log.look()[0].tables(self._schema, as_of)
        if known.get("rows") and not instead:
            untold = [_still_rejected(known), *untold]
            found = Rejected.together((found.name, known))
        name = table_name("rejects", self.log.ledger.sync_id, as_of, uuid.uuid4().hex[:6])
        standing = self._append(standing, as_of, {**known, "writing": name})
        query = select_untold(tables, untold)
        target = table(self._schema, name)
        write_table(self._warehouse, target, query, sliced_by="position", tells_audiences=True)
        rows = sum(count for _, _, count, _ in count_actions(self.log.ledger, name))
        detail = {
            "table": name,
            "rows": rows,
            "as_of": instant_text(as_of),
            "layout": tables.layout.as_json(),
            # Their messages must not share an id with those of another telling.
            "number": standing.sequence,
            "tried": "",
            "begun": False,
            "replaced": known.get("table"),
            **found.name,
            **more,
        }
        try:
            if not rows:
                return self._clear(standing)
            standing = self._append(standing, as_of, detail)
        except LedgerConflict:
            drop_table(self._warehouse, table(self._schema, name))
            raise
        return self._tidy(standing)

    def _clear(self, standing: Standing) -> Standing:
        """Let nobody be rejected any more."""
        known = standing.rejects
        names = [name for name in (known.get("table"), known.get("writing")) if name]
        return self._tidy(self._append(standing, _instant_of(standing), {"rows": 0, "replaced": names}))

    def _tidy(self, standing: Standing) -> Standing:
        """Drop tables that do not count, and say that they are gone."""
        known = standing.rejects
        if not any(known.get(n) for n in _IN_BETWEEN):
            return standing
        for n in _IN_BETWEEN:
            names = known.get(n) or []
            for name in [names] if isinstance(names, str) else names:
                drop_table(self._warehouse, table(self._schema, name))
        return self._append(
            standing, _instant_of(standing), {n: v for n, v in known.items() if n not in _IN_BETWEEN}
        )

    def _append(self, standing: Standing, as_of: datetime, detail: Mapping[str, Any]) -> Standing:
        return replace(self.log.append(standing, Event.REJECTED, as_of, detail), rejects=detail)

    def _look_again(self, seen: Standing) -> Standing:
        """Read how far the delivery is after something was sent, which may have written rows of its own."""
        _, standing = self.log.look()
        if (standing.rejects.get("table"), standing.cursor) != (seen.rejects["table"], seen.cursor):
            raise LedgerConflict(
                f"another publisher has gone on with the delivery to {self.log.delivery.destination} in the "
                "meantime; try again: the next attempt goes on from what it wrote"
            )
        return standing

    def _change_set(self, known: Mapping[str, Any]) -> ChangeSet:
        timeline, _ = self.log.look()
        edge = timeline.find(instant(known["as_of"]))
        assert edge is not None  # noqa: S101
        return replace(
            change_set_of(self.log.ledger, timeline, edge),
            previous_as_of=None,
            table=known["table"],
            rows=known["rows"],
            layout=Layout.from_json(known["layout"]),
            retold=f"rejected {known['number']}",
        )


def too_large(known: Mapping[str, Any], schema: str, limit_bytes: int) -> MessageTooLarge:
    """Make the error of a delivery that is complete but for who was rejected.

    :param known: ``rows``, ``users`` and ``largest``, and ``table`` if they are kept.
    """
    rows, users = known["rows"], known["users"]
    more = f" and {rows - len(users):,} more" if rows > len(users) else ""
    kept = ""
    if "table" in known:
        kept = f" They stand in the table {known['table']} of schema {schema}, and every run tries them again."
    return MessageTooLarge(
        f"All was delivered but {rows:,} changes, of users whose ids have the SHA-256 {'…, '.join(users)}…{more}: "
        f"their messages are too large for a record, the limit is {limit_bytes:,} bytes and the largest has "
        f"{known['largest']:,}.{kept} Shorten what the source says of them, send fewer "
        'properties or identities, or say on_rejected="skip" to let the task pass'
    )


def read_rejected(log: str, entries: Iterable[Entry]) -> set[tuple[datetime, int]]:
    """Read which rows of change sets a delivery has rejected: instant and position."""
    found = set()
    for entry in entries:
        delivery = (entry.detail.get("part") or {}).get("delivery", entry.log)
        if delivery == log and entry.event is Event.DELIVERED and "oversized" in entry.detail:
            found |= {(entry.as_of, at) for at in Rejected.from_json(entry.detail["oversized"]).positions}
    return found


def _still_rejected(known: Mapping[str, Any]) -> Untold:
    from sqlglot import exp

    layout = Layout.from_json(known["layout"])
    return Untold(table=known["table"], layout=layout, rows=exp.true(), maybe_told=known["begun"])


def _rejected_of(schema: str, told: ChangeSet | EventSet | ProfileSet, found: Rejected) -> Untold:
    """Find the rows of the change set that were rejected, by themselves or with their profile."""
    from sqlglot import exp

    if isinstance(told, ChangeSet):
        return Untold(table=told.table, layout=told.layout, rows=_at(found.positions))
    assert isinstance(told, ProfileSet), "events are not tried again"  # noqa: S101
    change_set = told.change_set
    users = exp.select(column("user_id")).from_(table(schema, told.table)).where(_at(found.positions))
    return Untold(
        table=change_set.table,
        layout=change_set.layout,
        rows=exp.In(this=column("user_id"), query=users.subquery()),
    )


def _at(positions: Iterable[int]) -> exp.Expr:
    return column("position").isin(*positions)


def _instant_of(standing: Standing) -> datetime:
    found = standing.cursor or standing.attached
    assert found is not None  # noqa: S101
    return found
