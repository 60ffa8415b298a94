"""Writes tombstones, which keep a user out of all later runs, and takes them back.

A table of tombstones is written whole, with those that there were, and counts once the ledger names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.forgotten import BEFORE_ALL, read_others_tombstones
from airflow_kinesis_audience.core.changes.guards import FEW_EXITS
from airflow_kinesis_audience.core.exceptions import ForgettingUnfinished, GuardTripped
from airflow_kinesis_audience.core.sql.statements import column, render, table, write_table
from airflow_kinesis_audience.core.state.commits import TableCommitter
from airflow_kinesis_audience.core.state.membership import select_membership
from airflow_kinesis_audience.core.state.recorded import Tombstones
from airflow_kinesis_audience.core.state.sync_details import UsersForgotten
from airflow_kinesis_audience.core.state.tombstones import (
    DIGESTS_AT_ONCE,
    digest_of,
    draw_salt,
    is_forgotten,
    select_digests,
    select_tombstones,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline

_MOST_EXITS = 0.5
"""The largest share of an audience that exits without a permission, where no run has said another one."""


def find_salt(ledger: Ledger) -> str:
    """Find the salt of the tombstones of a sync, or of others of the state, or draw the first one."""
    tombstones = ledger.state.timeline.tombstones
    if tombstones is not None and tombstones.table:
        return tombstones.salt
    others = read_others_tombstones(ledger)
    return next((d.salt for d in others.values()), draw_salt())


def read_digests(ledger: Ledger) -> set[str]:
    """Read the digests of all users who are forgotten."""
    tombstones = ledger.state.timeline.tombstones
    if tombstones is None or not tombstones.table:
        return set()
    query = select_digests(ledger.schema, tombstones.table)
    return {digest for (digest,) in ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect))}


def bury(committer: TableCommitter, digests: Sequence[str], salt: str, *, users: int, let_through: bool) -> None:
    """Write tombstones that there are not yet, and let them count.

    :param users: how many there are then.
    """
    tombstones = committer.timeline.tombstones
    name = tombstones.table if tombstones is not None else ""
    for some in _chunks(digests):
        name = _write_tombstones(committer, name, some)
    newest = committer.timeline.newest
    if not let_through and newest is not None and committer.timeline.closed is None:
        found = Tombstones(table=name, salt=salt, users=users, since=newest.as_of)
        if breaches := _find_breaches(committer, newest, found):
            committer.drop([name], newest.as_of, ended=True)
            raise GuardTripped(
                f"sync {committer.ledger.sync_id!r}: {'; '.join(breaches)}. Nobody was forgotten here. Check the "
                "list of users; if it is right, set let_through=True (--let-through)",
                breaches,
            )
    _append_tombstones(committer, name, salt, users, erased=False)


def unite_salts(ledger: Ledger, user_ids: Collection[str]) -> None:
    """Digest anew where two tasks each drew the first salt of a state, so that a sync can take all digests over.

    Whoever comes later does it for the other sync, too: that one may have looked before there were two salts.
    Where an id is not among those given, the digests stay until somebody gives them all.

    :raises LedgerConflict: if another task writes to one of the ledgers; a retry goes on from there.
    """
    tombstones = ledger.state.timeline.tombstones
    salts = {s: d.salt for s, d in read_others_tombstones(ledger).items()}
    if tombstones is not None and tombstones.table:
        salts[ledger.sync_id] = tombstones.salt
    smallest = min(salts.values(), default="")
    for sync_id in (s for s, salt in salts.items() if salt != smallest):
        of_sync = ledger if sync_id == ledger.sync_id else ledger.of_sync(sync_id)
        _digest_anew(of_sync, user_ids, smallest)


def _digest_anew(ledger: Ledger, user_ids: Collection[str], salt: str) -> None:
    tombstones = ledger.read().timeline.tombstones
    if tombstones is None or (tombstones.exits_at is not None and not tombstones.erased):
        return  # its exits are known by this table
    committer, known = TableCommitter(ledger), read_digests(ledger)
    given = {digest_of(u, tombstones.salt): u for u in user_ids}
    if tombstones.salt == salt or not known or known - given.keys():
        return
    name = ""
    for some in _chunks(sorted(digest_of(given[digest], salt) for digest in known)):
        name = _write_tombstones(committer, name, some)
    # The table before goes with what the next run drops: somebody may be reading it.
    _append_tombstones(committer, name, salt, len(known), erased=tombstones.erased)


def recall_in(ledger: Ledger, sync_ids: Sequence[str], user_ids: Collection[str]) -> dict[str, int]:
    """Take tombstones back in several syncs; gives how many there were in each.

    :param ledger: of any sync of the state.
    :raises ForgettingUnfinished: if one of them has rows of users who are forgotten; then none was changed.
    """
    ledgers = {sync_id: ledger.of_sync(sync_id) for sync_id in sync_ids}
    for of_sync in ledgers.values():
        _find_erased(of_sync)
    return {sync_id: recall(of_sync, user_ids) for sync_id, of_sync in ledgers.items()}


def recall(ledger: Ledger, user_ids: Collection[str]) -> int:
    """Take tombstones back, of users who may be members again; gives how many there were.

    :raises ForgettingUnfinished: if the rows of those who are forgotten are not gone yet.
    """
    tombstones = _find_erased(ledger)
    if tombstones is None:
        return 0
    committer, known = TableCommitter(ledger), read_digests(ledger)
    recalled = sorted(known & {digest_of(u, tombstones.salt) for u in user_ids})
    if recalled:
        left, name = len(known) - len(recalled), tombstones.table
        for some in _chunks(recalled):
            name = _write_tombstones(committer, name, (), recalled=some) if left else ""
        _append_tombstones(committer, name, tombstones.salt, left, erased=True)
        committer.drop([tombstones.table], tombstones.since, ended=True)
    return len(recalled)


def _find_erased(ledger: Ledger) -> Tombstones | None:
    """Find the tombstones that can be taken back, if there are any."""
    tombstones = ledger.read().timeline.tombstones
    if tombstones is None or not tombstones.table:
        return None
    if not tombstones.erased:
        raise ForgettingUnfinished(
            f"sync {ledger.sync_id!r} is still forgetting users, so no tombstone can be taken back yet. Run the "
            "same AudienceForgetOperator, or `forget`, until it reports that their rows are erased; then repeat "
            "this command. Nothing was changed"
        )
    return tombstones


def _find_breaches(committer: TableCommitter, newest: RecordedChangeSet, tombstones: Tombstones) -> list[str]:
    """Find audiences of which too large a share would exit, by the bound of the newest change set."""
    ledger, bounds = committer.ledger, newest.detail.bounds
    ratio = _MOST_EXITS if bounds is None else bounds.max_exit_ratio
    if ratio is None:
        return []
    dialect = ledger.warehouse.dialect
    needed, members = select_membership(committer.timeline.tables(ledger.schema, newest.as_of))

    def count(*which: exp.Expr) -> dict[str, int]:
        query = exp.select(column("audience_id"), exp.Count(this=exp.Star())).from_(table(None, "members"))
        query = query.where(*which).group_by(column("audience_id"))
        for name, body in (*needed, ("members", members)):
            query = query.with_(name, as_=body)
        return {str(a): int(rows) for a, rows in ledger.warehouse.read_rows(render(query, dialect))}

    exits = count(is_forgotten(ledger.schema, tombstones, dialect, column("user_id", "members")))
    if all(n <= FEW_EXITS for n in exits.values()):
        return []
    # Not by the ledger, which has of many audiences no more than what they are together.
    of = count()
    return [
        f"{n:,} of {of[a]:,} members of audience {a!r} would exit (the limit is {ratio:.0%})"
        for a, n in sorted(exits.items())
        if n > FEW_EXITS and n > of[a] * ratio
    ]


def _chunks(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(digests), DIGESTS_AT_ONCE):
        yield digests[start : start + DIGESTS_AT_ONCE]


def _write_tombstones(
    committer: TableCommitter, known: str, digests: Sequence[str], *, recalled: Collection[str] = ()
) -> str:
    """Write a table of tombstones that does not count yet; gives its name."""
    ledger, as_of = committer.ledger, _reached(committer.timeline)
    name = committer.announce("erasures", as_of)
    query = select_tombstones(ledger.schema, known, digests, recalled=recalled)
    with committer.unless_fenced(name, as_of):
        write_table(ledger.warehouse, table(ledger.schema, name), query)
    return name


def _append_tombstones(committer: TableCommitter, name: str, salt: str, users: int, *, erased: bool) -> None:
    as_of = _reached(committer.timeline)
    detail = UsersForgotten(table=name, salt=salt, users=users, erased=erased)
    if name:
        committer.commit(name, detail, as_of)
    else:
        committer.append(detail, as_of)


def _reached(timeline: Timeline) -> datetime:
    return timeline.newest.as_of if timeline.newest is not None else BEFORE_ALL
