"""Users who are forgotten, as a run and an approval see them: they come back neither late nor under a new name.

A sync that begins takes over the tombstones of all other syncs of the state. It announces a table first, and looks
then. Who forgets users writes tombstones first, and then looks which syncs there are. So one at least sees the
other. Digests of one state have one salt, so that they can be taken over.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import ForgettingUnfinished
from airflow_kinesis_audience.core.sql.statements import render, table, write_table
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, Event, UsersForgotten
from airflow_kinesis_audience.core.state.tombstones import select_digests

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.commits import TableCommitter
    from airflow_kinesis_audience.core.state.ledger import Ledger

BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)
"""The instant of tombstones that are there before any membership: none has lost rows by them."""


def read_others_tombstones(ledger: Ledger) -> dict[str, UsersForgotten]:
    """Read which tombstones other syncs of the state have, by the sync; those that have none are left out."""
    found = ledger.read_others(SYNC_LOG, (Event.FORGOTTEN,))
    details = {sync_id: e.detail for sync_id, entries in found.items() for e in entries}
    return {s: d for s, d in sorted(details.items()) if isinstance(d, UsersForgotten) and d.table}


def refuse_while_unfinished(ledger: Ledger, what: str, *, until_exits: bool = False) -> None:
    """Check that no older table, or membership, would let users enter again who are being forgotten.

    :param what: is to be done; for the error.
    :param until_exits: it is enough that their exits are committed.
    :raises ForgettingUnfinished: if there are some; a retry helps once they are forgotten.
    """
    tombstones = ledger.state.timeline.tombstones
    if tombstones is None or tombstones.erased or (until_exits and tombstones.exits_at is not None):
        return
    raise ForgettingUnfinished(
        f"users of sync {ledger.sync_id!r} are being forgotten, and {what} could let them enter again. Nothing "
        "was changed. Retry when the task that forgets them has succeeded"
    )


def inherit_tombstones(committer: TableCommitter) -> bool:
    """Take over the tombstones of other syncs, where a sync begins; false if it has them all, and wrote nothing.

    :raises ForgettingUnfinished: if they cannot be taken over together.
    :raises LedgerConflict: if another task forgets users at this moment; a retry goes on from there.
    """
    ledger, own = committer.ledger, committer.timeline.tombstones
    others = read_others_tombstones(ledger)
    if not others:
        return False
    known = {"": own.salt} if own is not None and own.table else {}
    if len({*known.values(), *(d.salt for d in others.values())}) > 1:
        named = ", ".join(map(repr, others))
        raise ForgettingUnfinished(
            f"sync {ledger.sync_id!r} begins, and the users who are forgotten in the syncs {named} have digests "
            "of more than one salt, so it cannot take them over. Run `forget` with the list of all these users, "
            "which gives all syncs one salt; then retry. Nothing was computed or sent"
        )
    names = [d.table for d in others.values()] + ([own.table] if own is not None and own.table else [])
    queries = [select_digests(ledger.schema, name) for name in names]
    query: exp.Query = exp.union(*queries) if len(queries) > 1 else queries[0]
    counted = exp.select(exp.Count(this=exp.Star())).from_(query.subquery("digests"))
    [(users,)] = ledger.warehouse.read_rows(render(counted, ledger.warehouse.dialect))
    if own is not None and own.table and own.users == int(users):
        return False  # an earlier attempt took them over, and its statement may be under way still
    name = committer.announce("erasures", BEFORE_ALL)
    with committer.unless_fenced(name, BEFORE_ALL):
        write_table(ledger.warehouse, table(ledger.schema, name), query)
    [salt] = {d.salt for d in others.values()}
    committer.commit(name, UsersForgotten(table=name, salt=salt, users=int(users), erased=True), BEFORE_ALL)
    return True
