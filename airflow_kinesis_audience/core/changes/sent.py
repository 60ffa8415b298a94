"""What was sent about users: when which destination was attached and got what, and the rows of what it got.

Whoever looks back in Python takes the same rows from here as the view does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.changes.replay import select_entries, select_full_snapshot
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.sql.statements import column, null_like, render, table, text, union_all
from airflow_kinesis_audience.core.state.cursors import REPLAY, RESYNC
from airflow_kinesis_audience.core.state.delivery_details import ChangeSetDelivered
from airflow_kinesis_audience.core.state.membership import select_known, select_membership
from airflow_kinesis_audience.core.state.rows import AUDIENCE, LEFT, kept_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.cursors import Attachment
    from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail
    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.membership import Tables
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_state import SyncState

MEMBERS, KNOWN = "members", "known"
FIRST = {"enter_all": MEMBERS, REPLAY: MEMBERS, RESYNC: KNOWN, "baseline": ""}
"""What a destination gets first, by how it was attached; a delivery of events is not among them."""

_TABLES_AT_ONCE = 100

NO_END = 10**15
"""In the place of the number of the row that ends an attachment, where it goes on."""


def list_attachments(state: SyncState) -> list[tuple[Attachment, int]]:
    """List every time that a destination of change sets was attached, and the row of the log that ended it.

    :returns: by the delivery's log, ascending; the number of the last one's end is beyond all rows.
    """
    found: list[tuple[Attachment, int]] = []
    for _, delivery in sorted(state.deliveries.items()):
        ends = [*(a.sequence for a in delivery.attachments[1:]), NO_END]
        found += zip(delivery.attachments, ends, strict=True) if delivery.attachments else ()
    return [(a, end) for a, end in found if a.detail.on_first_run in FIRST]


def find_delivered(
    state: SyncState, attachment: Attachment, until: int, entries: Iterable[Entry]
) -> dict[datetime, str]:
    """Find when each change set was delivered to a destination while it was attached so.

    :returns: by the change set's instant, when the ledger recorded it.
    :param until: the row of the log that ended it.
    """
    found: dict[datetime, str] = {}
    for entry in entries:
        detail = entry.detail
        own = entry.log == attachment.log and attachment.sequence < entry.sequence < until
        if own and isinstance(detail, ChangeSetDelivered) and not detail.resend:
            found[entry.as_of] = entry.recorded_at
    # Tasks that share a delivery may conclude several change sets by one row, that of the last.
    for recorded in state.timeline.change_sets:
        if recorded.as_of > attachment.as_of and not recorded.inserted and recorded.as_of not in found:
            later = min((at for at in found if at > recorded.as_of), default=None)
            if later is not None:
                found[recorded.as_of] = found[later]
    return found


def find_too_large(entries: Iterable[Entry]) -> dict[tuple[str, datetime], set[int]]:
    """Find the rows that were too large: positions by the delivery's log and the instant.

    Of profiles, which have other rows than their change set, the positions say nothing here.
    """
    found: dict[tuple[str, datetime], set[int]] = {}
    for entry in entries:
        detail = entry.detail
        if isinstance(detail, ChangeSetDelivered) and detail.too_large_members and not is_of_profiles(detail):
            log = detail.part.delivery if detail.part else entry.log
            positions = AcknowledgedOrdinals.of(detail.too_large_members.positions)
            found.setdefault((log, entry.as_of), set()).update(positions)
    return found


def is_of_profiles(detail: AttemptDetail) -> bool:
    """Return whether an attempt was about the profiles of a change set."""
    return detail.table.startswith("profiles_")


def group_by_layout(recorded_sets: Iterable[RecordedChangeSet]) -> Iterable[Sequence[RecordedChangeSet]]:
    """Group change sets by what :func:`select_changes` reads of them: first bases apart, and each layout."""
    found: dict[Any, list[RecordedChangeSet]] = {}
    for recorded in recorded_sets:
        found.setdefault((recorded.previous_as_of is None, recorded.layout.columns), []).append(recorded)
    return found.values()


def select_changes(schema: str, of_layout: Sequence[RecordedChangeSet], *, labelled: bool = True) -> exp.Select:
    """Build the rows of change sets of one layout, or of a first base.

    What is to be computed stands once, around them all: an engine plans each table of a view, and there are many.

    :param labelled: name what changed by its labels; otherwise by their numbers, because a label may hold what a
        driver takes for a parameter.

    Columns: as_of, audience_id, user_id, action, reason, position, member_since.
    """
    layout, is_base = of_layout[0].layout, of_layout[0].previous_as_of is None
    rows = union_all(_select_rows(schema, e) for e in of_layout)
    position = exp.cast(exp.null(), "BIGINT") if is_base else column("position")
    reason = null_like(column("action")) if is_base else _reason(layout, labelled=labelled)
    return (
        exp.select(
            *(column(n) for n in ("as_of", "audience_id", "user_id", "action")),
            reason.as_("reason"),
            position.as_("position"),
            column("member_since"),
        )
        .from_(rows.subquery("rows", copy=False))
        .where(column("action").neq(AUDIENCE))
    )


def _select_rows(schema: str, recorded: RecordedChangeSet) -> exp.Select:
    own = ["audience_id", "user_id", "action", "member_since"]
    if recorded.previous_as_of is not None:
        own += ["position", *(n for c in recorded.layout.columns for n in (c.new, c.old))]
    as_of = text(instant_text(recorded.as_of)).as_("as_of")
    return exp.select(as_of, *(column(n) for n in own)).from_(table(schema, recorded.table))


def read_changes(
    ledger: Ledger, recorded_sets: Sequence[RecordedChangeSet], user_id: str
) -> Iterator[tuple[RecordedChangeSet, str, str, str | None, int | None, str]]:
    """Read a user's rows out of change sets: change set, audience, action, reason, position, since when."""
    for of_layout in group_by_layout(recorded_sets):
        labels = _labels(of_layout[0].layout)
        for start in range(0, len(of_layout), _TABLES_AT_ONCE):
            some = {instant_text(e.as_of): e for e in of_layout[start : start + _TABLES_AT_ONCE]}
            sql = _render_changes(ledger, list(some.values()))
            for as_of, audience_id, action, reason, position, since in ledger.warehouse.read_rows(sql, [user_id]):
                named = reason and ", ".join(labels[int(number)] for number in reason.split(", "))
                yield some[as_of], audience_id, action, named, position, since


def _render_changes(ledger: Ledger, of_layout: Sequence[RecordedChangeSet]) -> str:
    """Render the reading of a user's rows in change sets of one layout.

    Their tables are read alike, so that only one reading is rendered.
    """
    dialect, first = ledger.warehouse.dialect, of_layout[0]
    query = select_changes(ledger.schema, [first], labelled=False)
    query = query.where(column("user_id").eq(exp.Var(this=ledger.warehouse.placeholder)), copy=False)
    query.set("expressions", [e for e in query.expressions if e.alias_or_name != "user_id"])
    one = render(_select_rows(ledger.schema, first), dialect)
    before, found, after = render(query, dialect).partition(one)
    assert found, "the rows of a change set are read as they are rendered alone"  # noqa: S101
    own = instant_text(first.as_of)
    rows = (one.replace(first.table, e.table).replace(own, instant_text(e.as_of)) for e in of_layout)
    return f"{before}{' UNION ALL '.join(rows)}{after}"


def select_first(tables: Tables, *, full: bool, numbered: bool) -> exp.Select:
    """Build what a destination gets first, in the columns of :func:`select_changes`.

    :param full: with the exits of all who are known to have left.
    :param numbered: with the rows' positions, for which all rows are sorted; NULL otherwise.
    """
    needed: list[tuple[str, exp.Query]] = []
    position: exp.Expr = column("position")
    has_left = column("action").eq(Action.EXITED.value)
    if numbered:
        rows = select_full_snapshot(tables) if full else select_entries(tables)
    else:
        needed, rows = select_known(tables) if full else select_membership(tables)
        position, has_left = exp.cast(exp.null(), "BIGINT"), column("action").eq(LEFT)
    action = null_like(column("audience_id"))
    if full:
        action = action.when(has_left, exp.Literal.string(Action.EXITED.value))
    action = action.else_(exp.Literal.string(Action.ENTERED.value))
    found = exp.select(
        column("audience_id"),
        column("user_id"),
        action.as_("action"),
        null_like(column("audience_id")).as_("reason"),
        position.as_("position"),
        column("member_since"),
    ).from_(table(None, "first"))
    for name, body in needed:
        found = found.with_(name, as_=body, copy=False)
    found = found.with_("first", as_=rows, materialized=False, copy=False)
    return found.where(column("action").neq(AUDIENCE)) if numbered else found


def _labels(layout: TableLayout) -> list[str]:
    return sorted({c.label for c in layout.columns})


def _reason(layout: TableLayout, *, labelled: bool) -> exp.Expr:
    """Build which values of a member changed, by the labels as which they are sent; NULL of entries and exits."""
    values = kept_columns(layout, [n for c in layout.columns for n in (c.new, c.old)])
    named = []
    for number, label in enumerate(_labels(layout)):
        own = [c for c in layout.columns if c.label == label]
        differs = [exp.NullSafeNEQ(this=values[c.new].copy(), expression=values[c.old].copy()) for c in own]
        name = exp.Literal.string(f", {label if labelled else number}")
        named.append(exp.case().when(exp.or_(*differs), name).else_(exp.Literal.string("")))
    if not named:
        return null_like(column("action"))
    whole = named[0] if len(named) == 1 else exp.Concat(expressions=named, safe=False, coalesce=False)
    listed = exp.Substring(this=whole, start=exp.Literal.number(3))
    return exp.case().when(column("action").eq(Action.UPDATED.value), listed)
