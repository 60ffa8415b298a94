"""SQL of what was delivered about each user: the rows that were sent, joined with the deliveries in the ledger.

It builds statements and runs none. Which tables there are is decided when the statement is built; what of them is
delivered, when and on which attempt is read from the ledger's own table. A change set with members that are too
large counts once the statement knows which they are, so that none of them is listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.sent import (
    FIRST,
    KNOWN,
    find_delivered,
    find_too_large,
    group_by_layout,
    is_of_profiles,
    list_attachments,
    select_changes,
    select_first,
)
from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import column, table, text, union_all
from airflow_kinesis_audience.core.state.delivery_details import ChangeSetDelivered
from airflow_kinesis_audience.core.state.ledger_tables import LEDGER_TABLE
from airflow_kinesis_audience.core.state.sync_details import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.state.cursors import Attachment
    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.sync_state import SyncState

    TooLarge = Mapping[tuple[str, datetime], set[int]]

_CHANGES = "changes"
_SENT = ("audience_id", "user_id", "action", "reason", "position")
_ATTACHED = ("log", "attached_at", "first", "destination", "message_format")
_OWNER = '"owner": "'
_ONCE = ("noted", "begun", "acknowledged", "unknown")


def select_delivered(ledger: Ledger, entries: Iterable[Entry], dropped: Collection[str] = ()) -> exp.Query | None:
    """Build what was delivered about each user; none if nothing can have been.

    Columns: user_id, audience_id, action, reason, run, as_of, destination, message_format, delivered_at, attempt.

    :param entries: the ledger's rows since the oldest base that is kept.
    :param dropped: tables that are about to be dropped.
    """
    state, entries = ledger.state, list(entries)
    attached = list_attachments(state)
    too_large = find_too_large(entries)
    sent = list(_select_sent(ledger, attached, set(dropped), too_large))
    if not attached or not sent:
        return None
    logs = {(a.log, a.log) for a, _ in attached}
    logs |= {(s.log, s.part.delivery) for s in state.deliveries.values() if s.part is not None}
    named: dict[str, exp.Query] = {
        "attached": union_all(_row(_texts_of(a), since=a.sequence, until=end) for a, end in attached),
        "logs": union_all(_row({"log": log, "delivery": of}) for log, of in sorted(logs)),
        "noted": _select_noted(ledger),
        "begun": _select_begun(),
        "acknowledged": union_all([_select_acknowledged(), *_select_concluded(state, attached, entries)]),
        "unknown": _select_unknown(state, entries, sorted(log for log, _ in logs)),
        "sent": union_all(sent),
    }
    if too_large:
        named["too_large"] = union_all(_select_ranges(too_large))
    query = _join(has_too_large=bool(too_large))
    for name, body in named.items():
        # Once, however few rows PostgreSQL expects: in nested loops it took 30 s of 200 runs.
        query = query.with_(name, as_=body, materialized=name in _ONCE or None, copy=False)
    return query


def _texts_of(attachment: Attachment) -> dict[str, str]:
    detail = attachment.detail
    return {
        "log": attachment.log,
        "attached_at": instant_text(attachment.as_of),
        "first": FIRST[detail.on_first_run],
        "destination": detail.destination,
        "message_format": detail.message_format,
    }


def _select_sent(
    ledger: Ledger, attached: Sequence[tuple[Attachment, int]], dropped: set[str], too_large: TooLarge
) -> Iterator[exp.Select]:
    """Build the rows of each change set that is kept, and of each membership that a destination got first."""

    def of(kind: str, as_of: exp.Expr, rows: exp.Select) -> exp.Select:
        names = (column(n) for n in _SENT)
        return exp.select(text(kind).as_("kind"), as_of.as_("as_of"), *names).from_(
            rows.subquery("sent_rows", copy=False)
        )

    timeline, oldest = ledger.state.timeline, min((a.as_of for a, _ in attached), default=None)
    kept = (
        recorded
        for recorded in timeline.change_sets
        if not recorded.dropped and recorded.table not in dropped
        if recorded.previous_as_of is not None and oldest is not None and recorded.as_of > oldest
    )
    for of_layout in group_by_layout(kept):
        yield of(_CHANGES, column("as_of"), select_changes(ledger.schema, of_layout))
    firsts: dict[tuple[str, datetime], bool] = {}
    for a, _ in attached:
        if kind := FIRST[a.detail.on_first_run]:
            firsts[kind, a.as_of] = firsts.get((kind, a.as_of), False) or (a.log, a.as_of) in too_large
    for (kind, as_of), numbered in firsts.items():
        try:
            tables = timeline.tables(ledger.schema, as_of)
        except HistoryGone:
            continue
        if not {tables.base, *(name for name, _ in tables.changes)} & dropped:
            yield of(kind, text(instant_text(as_of)), select_first(tables, full=kind == KNOWN, numbered=numbered))


def _select_noted(ledger: Ledger) -> exp.Select:
    """Build the rows of the ledger about attempts and deliveries; a row that an engine has twice comes once."""
    rest = exp.Substring(
        this=column("detail"), start=exp.Add(this=_position(_OWNER), expression=exp.Literal.number(len(_OWNER)))
    )
    return (
        exp.select(
            # As texts like those of this statement: MySQL has bytes, and collations of its own, in the ledger.
            *(exp.cast(column(n), "TEXT").as_(n) for n in ("log", "event", "as_of", "recorded_at")),
            column("sequence"),
            exp.case().when(_position(_OWNER).neq(0), rest).as_("owner"),
            _position('"oversized": ').as_("has_too_large"),
        )
        .distinct()
        .from_(table(ledger.schema, LEDGER_TABLE))
        .where(
            column("sync_id").eq(ledger.sync_id),
            column("event").isin(Event.SENDING.value, Event.DELIVERED.value),
            _position('"resend": true').eq(0),
        )
    )


def _position(part: str, of: exp.Expr | None = None) -> exp.Expr:
    return exp.StrPosition(this=of or column("detail"), substr=exp.Literal.string(part))


def _select_begun() -> exp.Select:
    """Build of each change set to each delivery on which attempt it is, and in which run; of parts the most."""

    def over(call: exp.Expr, order: exp.Order | None = None) -> exp.Window:
        return exp.Window(this=call, partition_by=[column("log"), column("as_of")], order=order)

    last = exp.Order(expressions=[exp.Ordered(this=column("sequence"), desc=True)])
    attempts = (
        exp.select(
            *(column(n) for n in ("log", "as_of", "owner")),
            over(exp.RowNumber(), last).as_("recency"),
            over(exp.Count(this=exp.Star())).as_("attempt"),
        )
        .from_(table(None, "noted"))
        .where(column("event").eq(Event.SENDING.value))
    )
    length = exp.Sub(this=_position('"', column("owner", "attempts")), expression=exp.Literal.number(1))
    run = exp.Substring(this=column("owner", "attempts"), start=exp.Literal.number(1), length=length)
    return (
        exp.select(
            column("delivery", "logs"),
            column("as_of", "attempts"),
            exp.Max(this=column("attempt", "attempts")).as_("attempt"),
            exp.Max(this=run).as_("run"),
        )
        .from_(attempts.subquery("attempts", copy=False))
        .join(table(None, "logs"), on=column("log", "logs").eq(column("log", "attempts")))
        .where(column("recency", "attempts").eq(1))
        .group_by(column("delivery", "logs"), column("as_of", "attempts"))
    )


def _select_acknowledged() -> exp.Select:
    """Build what each destination has acknowledged, while it was attached so."""
    names, as_of = [column(n, "attached") for n in _ATTACHED], column("as_of", "noted")
    sequence = column("sequence", "noted")
    return (
        exp.select(*names, as_of, exp.Max(this=column("recorded_at", "noted")).as_("delivered_at"))
        .from_(table(None, "attached"))
        .join(table(None, "noted"), on=column("log", "noted").eq(column("log", "attached")))
        .where(
            column("event", "noted").eq(Event.DELIVERED.value),
            exp.GT(this=sequence, expression=column("since", "attached")),
            exp.LT(this=sequence.copy(), expression=column("until", "attached")),
        )
        .group_by(*(n.copy() for n in names), as_of.copy())
    )


def _select_concluded(
    state: SyncState, attached: Sequence[tuple[Attachment, int]], entries: Sequence[Entry]
) -> Iterator[exp.Select]:
    """Build what a later row has concluded, where several tasks share a delivery."""
    for a, end in attached:
        own = {e.as_of for e in entries if e.log == a.log and isinstance(e.detail, ChangeSetDelivered)}
        for as_of, delivered_at in find_delivered(state, a, end, entries).items():
            if as_of not in own:
                yield _row({**_texts_of(a), "as_of": instant_text(as_of), "delivered_at": delivered_at})


def _select_unknown(state: SyncState, entries: Iterable[Entry], logs: Iterable[str]) -> exp.Select:
    """Build the change sets with members who are too large, as far as this statement does not know which."""
    profiles = {e.log for e in entries if isinstance(e.detail, ChangeSetDelivered) and is_of_profiles(e.detail)}
    known = [
        exp.and_(
            column("log", "noted").eq(text(log)),
            exp.LTE(this=column("sequence", "noted"), expression=exp.Literal.number(state.last_row(log))),
        )
        for log in logs
        if log not in profiles
    ]
    return (
        exp.select(column("delivery", "logs"), column("as_of", "noted"))
        .from_(table(None, "noted"))
        .join(table(None, "logs"), on=column("log", "logs").eq(column("log", "noted")))
        .where(
            column("event", "noted").eq(Event.DELIVERED.value),
            column("has_too_large", "noted").neq(0),
            *([exp.not_(exp.or_(*known))] if known else []),
        )
    )


def _join(*, has_too_large: bool) -> exp.Select:
    """Join what was sent with what was acknowledged."""
    sent_at, got_at = column("as_of", "sent"), column("as_of", "acknowledged")
    begins, log = column("attached_at", "acknowledged"), column("log", "acknowledged")
    is_later = exp.and_(column("kind", "sent").eq(_CHANGES), exp.GT(this=sent_at, expression=begins))
    is_first = exp.and_(
        column("kind", "sent").eq(column("first", "acknowledged")), sent_at.copy().eq(begins.copy())
    )
    same = exp.and_(column("delivery", "begun").eq(log), column("as_of", "begun").eq(got_at))
    query = (
        exp.select(
            *(column(n, "sent") for n in ("user_id", "audience_id", "action", "reason")),
            column("run", "begun"),
            sent_at.copy(),
            *(column(n, "acknowledged") for n in ("destination", "message_format", "delivered_at")),
            column("attempt", "begun"),
        )
        .from_(table(None, "sent"))
        .join(
            table(None, "acknowledged"),
            on=exp.and_(got_at.copy().eq(sent_at.copy()), exp.or_(is_later, is_first)),
            join_type="left",
        )
        .join(table(None, "begun"), on=same, join_type="left")
        .where(
            # No inner join: PostgreSQL expects one delivery, and would read all change sets for each of them.
            exp.func("COALESCE", column("attempt", "begun"), exp.Literal.number(0)).neq(0),
            _nothing_in("unknown", column("delivery", "unknown").eq(log.copy()), sent_at),
        )
    )
    if has_too_large:
        at = column("position", "sent")
        inside = exp.and_(
            column("log", "too_large").eq(log.copy()),
            exp.GTE(this=at, expression=column("low", "too_large")),
            exp.LT(this=at.copy(), expression=column("high", "too_large")),
        )
        query = query.where(_nothing_in("too_large", inside, sent_at))
    return query


def _nothing_in(name: str, condition: exp.Expr, sent_at: exp.Expr) -> exp.Expr:
    found = exp.select(exp.Literal.number(1)).from_(table(None, name))
    return exp.not_(exp.Exists(this=found.where(condition, column("as_of", name).eq(sent_at.copy()))))


def _select_ranges(too_large: TooLarge) -> Iterator[exp.Select]:
    for (log, as_of), positions in sorted(too_large.items()):
        for low in sorted(p for p in positions if p - 1 not in positions):
            high = low + 1
            while high in positions:
                high += 1
            yield _row({"log": log, "as_of": instant_text(as_of)}, low=low, high=high)


def _row(texts: Mapping[str, str], **numbers: int) -> exp.Select:
    named = (exp.Literal.number(number).as_(n) for n, number in numbers.items())
    return exp.select(*(text(v).as_(n) for n, v in texts.items()), *named)
