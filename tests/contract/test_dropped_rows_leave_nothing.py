"""With ``on_invalid_rows="drop"`` a row that is dropped leaves no trace, whatever is done with the sync later.

Everything is done twice: with a source that has such rows, and with one that has none. What comes out is the same:
every byte on the stream, what a plan shows, what the ledger says of audiences, and what history finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.cli.plan import as_json
from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.history import find_user, read_members
from tests.warehouses import LET_ALL_THROUGH, People, Stream, day, insert_rows, open_outbox, small_delivery

if TYPE_CHECKING:
    from tests.warehouses import SqlWarehouse

DIGEST = "ab" * 32
DROP = replace(LET_ALL_THROUGH, on_invalid_rows="drop")
STOPS = Guards(max_exits=0, max_exit_ratio=None, on_invalid_rows="drop")
USERS = [("a", f"a{n}") for n in range(4)] + [("b", "b1"), ("b", "a1")]
Row = tuple[str | None, str | None, str | None]
"""Audience, user and e-mail."""

INVALID: Mapping[str, list[Row]] = {
    "no audience": [(None, "a1", DIGEST), (None, "n1", DIGEST), (None, "n1", None)],
    "no user": [("a", None, DIGEST), ("b", None, None)],
    "neither": [(None, None, DIGEST), (None, None, None)],
    "a user again": [("a", "a3", DIGEST), ("a", "a3", DIGEST)],
    "no digest": [("a", "n1", "nobody@x.example"), ("a", "n2", "x"), ("a", "a1", "nobody@x.example")],
    "no digest and no audience": [(None, "n1", "nobody@x.example")],
}
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "amplitude_cohort": {"max_users": 2, "user_properties": True},
    "mparticle_audience": {"message_ids": True},
    "adobe_profile": {},
}


@pytest.fixture
def done(message_format: str, warehouse: SqlWarehouse) -> Any:
    """Do all to a sync over rows of two days, beside invalid ones; gives what came out."""

    def do(invalid: list[Row]) -> dict[str, Any]:
        return dict(_do_all(People(warehouse, many=True), message_format, invalid))

    return do


def _do_all(people: People, message_format: str, invalid: list[Row]) -> Iterator[tuple[str, Any]]:
    source = replace(people.source, identity_rules={"email": IdentityRule(hashed="sha256")})
    stream, late = Stream(), Stream()
    own, other = (
        small_delivery(name, message_format=message_format, options=FORMATS[message_format])
        for name in ("own", "late")
    )

    def write(users: list[tuple[str, str]], *more: Row) -> None:
        people.clear()
        rows = [*((a, u, DIGEST) for a, u in users), *more]
        insert_rows(people.warehouse, people.table, [(a, a and a.upper(), u, e, None) for a, u, e in rows])

    def run(number: int, guards: Guards = DROP, **how: Any) -> dict[str, Any]:
        found = people.run(number, source=source, guards=guards, how=how, compaction_share=0.0)
        return {n: v for n, v in found.items() if n not in ("dropped_rows", "held_table")}

    def drain(number: int, **how: Any) -> None:
        open_outbox(people.ledger(), stream, own).drain(day(number), **how)

    write(USERS, *invalid)
    yield "plan", as_json(make_plan(people.ledger(), source, day(0), guards=DROP), [], show=True)
    yield "first run", run(0)
    drain(0)
    write([*USERS[1:], ("a", "a9")], *invalid)
    later = as_json(make_plan(people.ledger(), source, day(1), guards=DROP), [], show=True)
    # A row without an id may be the one who would exit, so that a person has to approve it.
    yield "later plan", {n: v for n, v in later.items() if n != "stopped"}
    held = people.run(1, source=source, guards=STOPS, how={"hold": True}, compaction_share=0.0)
    yield "approved", approve(people.ledger(), day(1), held["held_table"])["exited"]
    drain(1)
    drain(1, resend=True)
    if message_format == "amplitude_cohort":
        resync(open_outbox(people.ledger(), stream, replace(own, resync="first")), own)
    write(USERS[2:])
    yield "let through", run(2, STOPS, permission=Permission(everything=True))
    drain(2)
    if message_format == "amplitude_cohort":
        resync(open_outbox(people.ledger(), stream, replace(own, resync="second")), own)
    open_outbox(people.ledger(), late, other).drain(day(2))
    for number in (0, 1, 2):
        members = read_members(people.ledger(), day(number))
        yield f"members {number}", sorted((m.audience_id, m.user_id, m.member_since) for m in members)
    for user in ("a1", "n1", "b1"):
        found = find_user(people.ledger(), user)
        yield user, [(c.as_of, c.audience_id, c.action) for c in found.changes]
    people.run(3, source=source, guards=DROP, compaction_share=0.0, keep_history=timedelta(0))
    yield "audiences", [sorted(e.detail.audiences or ()) for e in people.ledger().read().timeline.change_sets]
    if message_format == "amplitude_cohort":
        close(people.ledger(), day(4), exits=True)
        for put, delivery in ((stream, own), (late, other)):
            announce_deletion(open_outbox(people.ledger(), put, delivery))
    # Messages of other partition keys overtake each other as they like.
    yield "stream", sorted(stream.messages)
    yield "late", sorted(late.messages)


@pytest.mark.usefixtures("no_epoch")
@pytest.mark.parametrize(
    ("message_format", "kind"),
    [*(("amplitude_cohort", kind) for kind in INVALID), *((name, "all at once") for name in FORMATS)],
)
def test_a_dropped_row_leaves_no_trace(done: Any, kind: str) -> None:
    invalid = INVALID.get(kind) or [row for rows in INVALID.values() for row in rows]
    expected, found = done([]), done(invalid)
    assert found.keys() == expected.keys()
    for what, value in expected.items():
        assert found[what] == value, what
    assert found["stream"], "nothing was put"
    assert found["late"], "nothing was put"
