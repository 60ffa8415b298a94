"""Dead letters by age: since when each is open, and which are given up.

Age counts from when a letter was recorded, by the clock of the worker that recorded it. Who is given up keeps no
value that is not true any more: a member stays in the table with the present values, to be sent as an entry once
they fit, and the letter of a user who has exited goes. Each is reported by one run.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace
from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import MessageTooLarge
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.core.model.messages import digest_of
from airflow_kinesis_audience.core.outbox.too_large import name_some
from airflow_kinesis_audience.core.sql.statements import column, render, table, text
from airflow_kinesis_audience.core.state.letters_given_up import LettersGivenUp
from airflow_kinesis_audience.core.state.rows import AUDIENCE, LOST, RECORDED_AT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from airflow_kinesis_audience.core.state.delivery_details import DeadLettersTable
    from airflow_kinesis_audience.core.state.ledger import Ledger


def read_clock() -> datetime:
    """Return the present instant in whole seconds, as tables of dead letters have them."""
    return datetime.now(UTC).replace(microsecond=0)


def find_end(known: DeadLettersTable, keep: timedelta | None) -> datetime | None:
    """Find the instant up to which dead letters were recorded that are given up now; none if there are none.

    :param keep: how long each is kept; none for as long as it takes.
    """
    now = read_clock()
    if keep is None or known.since is None or now - known.since < keep:
        return None
    return now - keep


def find_given_up(
    ledger: Ledger, known: DeadLettersTable, rows: exp.Expr, until: datetime, *, largest: int
) -> LettersGivenUp | None:
    """Find which of the rows that are too large still are given up, and name some of their users by digests.

    :param rows: the condition on the rows of the table.
    :param until: whichever were recorded up to then are.
    :param largest: bytes of the largest message.
    """
    is_old = exp.LTE(this=column(RECORDED_AT), expression=text(instant_text(until)))
    query = exp.select(*map(column, ("action", "user_id", LOST))).from_(table(ledger.schema, known.table))
    query = query.where(column("action").neq(AUDIENCE), rows, is_old)
    actions: Counter[str] = Counter()
    users = set()
    for action, user_id, lost in ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect)):
        has_values = lost and action == Action.ENTERED
        actions[Action.UPDATED if has_values else str(action)] += 1
        users.add(digest_of(str(user_id)))
    if not actions:
        return None
    return LettersGivenUp(
        entered=actions[Action.ENTERED],
        updated=actions[Action.UPDATED],
        exited=actions[Action.EXITED],
        users=name_some(users),
        largest=largest,
    )


def join_reports(
    before: LettersGivenUp | None, found: LettersGivenUp | None, run: datetime | None
) -> LettersGivenUp | None:
    """Join what has to be reported already with what this run gives up.

    :param run: the instant of this run; what another one has reported is done with.
    """
    if before is None or found is None or before.reported_in not in (None, run):
        return found or before
    return LettersGivenUp(
        entered=before.entered + found.entered,
        updated=before.updated + found.updated,
        exited=before.exited + found.exited,
        users=name_some({*before.users, *found.users}),
        largest=max(before.largest, found.largest),
    )


def after_report(report: LettersGivenUp, run: datetime, part: int) -> tuple[bool, LettersGivenUp | None]:
    """Decide whether a task reports what was given up; gives that, and what its row says of it then.

    A task can be killed after this row and before it fails, so the next attempt of the same run reports it once
    more, also after later runs, which do not.

    :param part: the number of the task, where several share the delivery.
    """
    if report.reported_in is None:
        return True, replace(report, reported_in=run, part=part)
    if report.reported_in == run:
        return (True, None) if report.part == part else (False, report)
    return False, report


def given_up_error(report: LettersGivenUp, limit_bytes: int, left: int) -> MessageTooLarge:
    """Make the error of a delivery that is complete but for what is given up.

    :param left: dead letters that are not given up.
    """
    more = f" and {report.rows - len(report.users):,} more" if report.rows > len(report.users) else ""
    named = f" The SHA-256 of the user ids begins with {'…, '.join(report.users)}….{more}" if report.users else ""
    others = f" {left:,} more dead letters are left, and every run retries them." if left else ""
    return MessageTooLarge(
        f"{report.rows:,} dead letters were given up: they are older than keep_dead_letters, and their messages "
        f"are still too large for a record (the limit is {limit_bytes:,} bytes, the largest has "
        f"{report.largest:,}). The destination lacks {report.entered:,} members, keeps former values of "
        f"{report.updated:,} members, and keeps {report.exited:,} users who have exited.{named} Everything else "
        f"was delivered, and later runs do not report these again.{others} A member enters as soon as the message "
        "fits: shorten the values in the source, or send fewer properties or identities. Then run an "
        "AudienceResyncOperator, so that consumers can drop users that it does not name. To keep dead letters "
        "for ever, set keep_dead_letters=None"
    )


def count_letters(ledger: Ledger, name: str) -> tuple[int, int, datetime | None]:
    """Count the rows of a table of dead letters, and of those the given up; gives since when one is open."""
    recorded_at = column(RECORDED_AT)
    query = exp.select(
        exp.Count(this=exp.Star()), exp.Count(this=recorded_at), exp.Min(this=recorded_at.copy())
    ).from_(table(ledger.schema, name))
    query = query.where(column("action").neq(AUDIENCE))
    [(rows, still_open, since)] = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect))
    return int(rows), int(rows) - int(still_open), None if since is None else instant(str(since))


def name_open(ledger: Ledger, name: str) -> tuple[str, ...]:
    """Name some of the users whose dead letters are not given up, by digests."""
    query = exp.select(column("user_id")).distinct().from_(table(ledger.schema, name))
    query = query.where(column("action").neq(AUDIENCE), exp.not_(column(RECORDED_AT).is_(exp.null())))
    found: Iterable[tuple[str]] = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect))
    return name_some(digest_of(str(user_id)) for (user_id,) in found)
