"""Users who are forgotten exit everywhere, are in no table any more, and do not come back.

The proof is a search: of every value of every table of the state, after each kill that can happen on the way.
"""

from __future__ import annotations

import contextlib
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlglot import exp

from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import (
    DeliveryChanged,
    DeliveryIncomplete,
    ForgettingUnfinished,
    GuardTripped,
    LedgerConflict,
    ReleaseRefused,
)
from airflow_kinesis_audience.core.outbox.burying import recall
from airflow_kinesis_audience.core.outbox.deletion import close
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.outbox.erasure import list_tables
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.replay import Span, replay
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.sql.statements import render, table
from airflow_kinesis_audience.history import find_user, read_members
from tests.contract.test_state_model import Crowd, place, user
from tests.warehouses import (
    QUICK,
    DiesAt,
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_membership,
    read_standing,
    read_timeline,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery

GONE = "leaver"
ADDRESSES = ("leaver@old.example.org", "leaver@new.example.org")
"""What the user who leaves was sent with."""


@pytest.fixture
def people(warehouse) -> People:
    return People(warehouse, many=True)


def find_values(people: People, *values: str) -> dict[str, int]:
    """Count in which rows of which tables of the state, the ledger among them, a value is part of any column."""
    found = {}
    for name in (*people.tables(), "ledger"):
        rows = people.warehouse.read_rows(f'SELECT * FROM {people.schema}."{name}"')
        holding = sum(any(value in str(cell) for value in values for cell in row) for row in rows)
        if holding:
            found[name] = holding
    return found


def live(people: People, stream: Stream, delivery: Delivery | None = None, **settings: Any) -> None:
    """Let days go by in which the user enters, changes, and is among others."""
    people.put(GONE, "stays", email=ADDRESSES[0], city="Bern")
    people.change("stays", email="stays@example.org")
    people.put("other", GONE, audience="news", title="News", email=ADDRESSES[0])
    people.change("other", email="other@example.org")
    people.run(0, **settings)
    open_outbox(people.ledger(), stream, delivery).drain(day(0))
    people.change(GONE, email=ADDRESSES[1])
    people.put("third", email="third@example.org")
    people.run(1, **settings)
    open_outbox(people.ledger(), stream, delivery).drain(day(1))


def drain(people: People, stream: Stream, delivery: Delivery | None = None) -> None:
    """Deliver all that there is, as the next run does."""
    newest = read_timeline(people.ledger()).newest
    assert newest is not None
    open_outbox(people.ledger(), stream, delivery).drain(newest.as_of)


def without_user(people: People) -> dict[str, frozenset[str]]:
    return {a: users - {GONE} for a, users in people.members().items() if users - {GONE}}


def test_a_user_exits_with_what_was_sent_last_and_is_in_no_table_any_more(people):
    stream, emails = Stream(), small_delivery(message_format="mparticle_audience", options={})
    live(people, stream, emails)
    assert find_values(people, GONE, *ADDRESSES)
    before = len(stream.taken)
    found = forget(people.ledger(), [GONE])
    assert found.users == 1
    assert len(found.waits_for) == 1
    assert "has not received the exits" in found.waits_for[0]
    assert find_values(people, GONE, *ADDRESSES), "nothing goes before it is delivered"
    shown = "\n".join(describe(read_status(people.ledger(), 1)))
    assert "users who are forgotten: 1; their rows are not erased yet" in shown
    assert "has not received the exits as of 2026-01-02T00:00:01Z, so the rows stay" in shown
    drain(people, stream, emails)
    exits = b"".join(stream.messages[before:])
    assert ADDRESSES[1].encode() in exits, "the identity that was sent last"
    assert ADDRESSES[0].encode() not in exits
    found = forget(people.ledger(), [GONE])
    assert not found.waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}
    assert "users who are forgotten: 1; no table has rows of them" in "\n".join(
        describe(read_status(people.ledger(), 1))
    )


def test_the_user_does_not_come_back_while_the_source_still_has_them(people):
    stream = Stream()
    live(people, stream)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    people.change(GONE, city="Basel")
    people.put("fourth", audience="news", title="News")
    summary = people.run(2)
    assert (summary["entered"], summary["exited"], summary["updated"]) == (1, 0, 0)
    drain(people, stream)
    assert members_of(stream.consume()) == without_user(people)
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_a_run_that_comes_first_lets_them_exit_too(people):
    """Killed between the tombstones and the change set of exits, the next run has the exits."""
    stream = Stream()
    live(people, stream)
    for at in itertools.count():
        dying = DiesAt(people.warehouse, at, "after")
        with contextlib.suppress(Killed):
            forget(people.ledger(dying), [GONE])
        if read_timeline(people.ledger()).tombstones is not None:
            break
    assert read_timeline(people.ledger()).tombstones.exits_at is None
    summary = people.run(2)
    assert summary["exited"] == 2
    drain(people, stream)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}
    assert members_of(stream.consume()) == without_user(people)


class DiesWriting(DiesAt):
    """Dies at a statement that changes something: what is killed between two of them leaves the same state."""

    def _count(self, statement: str) -> None:
        if not statement.lstrip("( ").startswith(("SELECT", "WITH", "read the ledger")):
            super()._count(statement)


def test_wherever_it_is_killed_the_next_attempt_completes_it(people):
    first = people.schema
    for at in itertools.count():
        people.clear()
        people.schema = f"{first}_at_{at}"
        stream, killed = Stream(), 0
        live(people, stream)
        for _ in range(2):
            dying = DiesWriting(people.warehouse, at, "after")
            try:
                forget(people.ledger(dying), [GONE])
            except Killed:
                killed += 1
                forget(people.ledger(), [GONE])
            drain(people, stream)
        assert not forget(people.ledger(), [GONE]).waits_for
        assert find_values(people, GONE, *ADDRESSES) == {}
        people.run(2)
        drain(people, stream)
        assert members_of(stream.consume()) == without_user(people)
        assert people.tables() == set(read_timeline(people.ledger()).standing) | {
            read_timeline(people.ledger()).tombstones.table
        }, "nothing is left behind"
        if not killed:
            return


def test_a_list_that_holds_too_many_forgets_nobody_unless_it_is_let_through(people):
    users = [f"u{n:02}" for n in range(60)]
    people.put(*users, audience="news", title="News")
    people.run(0, guards=Guards())
    tables = people.tables()
    for few in (users[:20], ["nobody"]):
        assert forget(people.ledger(), few)
    with pytest.raises(GuardTripped, match="40 of 40 members of audience 'news' would exit"):
        forget(people.ledger(), users)
    assert {name for name in people.tables() - tables if name.startswith("erasures")} == {
        read_timeline(people.ledger()).tombstones.table
    }
    assert len(people.run(1, guards=Guards())["audiences"]) >= 1
    assert len(read_membership(people.ledger(), day(1))) >= 40
    forget(people.ledger(), users, let_through=True)
    assert not {
        user for _, user in read_membership(people.ledger(), read_timeline(people.ledger()).newest.as_of)
    } & {*users}


@pytest.mark.parametrize("others", [3, 30])
def test_a_list_that_holds_one_audience_of_few_or_of_many_is_stopped(people, others):
    """Of more than 20 audiences the ledger has but what they are together."""
    users = [f"u{n:02}" for n in range(30)]
    people.put(*users, audience="news", title="News")
    for number in range(others):
        people.put(*(f"o{n:02}" for n in range(30)), audience=f"a{number:02}", title="Other")
    people.run(0, guards=Guards())
    with pytest.raises(GuardTripped, match="30 of 30 members of audience 'news' would exit") as stopped:
        forget(people.ledger(), users)
    assert "'a00'" not in str(stopped.value)


def test_a_sync_that_is_not_there_is_an_error(people):
    people.run(0)
    with pytest.raises(ValueError, match="has no sync 'typo'; correct sync_ids"):
        forget(people.ledger().of_sync("typo"), [GONE])


@pytest.mark.parametrize("begins", ["for the first time", "once more after a deletion"])
def test_a_first_run_that_is_held_lets_nobody_enter_who_is_forgotten(people, begins):
    how = {"hold": True}
    if begins != "for the first time":
        people.put("stays", audience="news", title="News")
        people.run(0)
        close(people.ledger(), day(0) + timedelta(hours=1), exits=False)
        how["reuse_deleted"] = True
    people.put(GONE, audience="news", title="News", email=ADDRESSES[0])
    people.put("stays", audience="more", title="More")
    held = people.run(1, guards=Guards(min_members=99), how=how)
    assert find_values(people, GONE)
    found = forget(people.ledger(), [GONE])
    assert (found.users, found.waits_for, found.unknown) == (1, (), frozenset())
    assert find_values(people, GONE, *ADDRESSES) == {}
    with pytest.raises(ReleaseRefused, match="no longer held"):
        approve(people.ledger(), day(1), held["held_table"])
    how.pop("hold")
    people.run(1, guards=Guards(min_members=1), how=how)
    assert GONE not in {user for _, user in read_membership(people.ledger(), day(1))}


def test_what_is_held_is_not_approved_when_the_one_who_forgets_was_killed(people):
    people.put(GONE, "stays", audience="news", title="News", email=ADDRESSES[0])
    held = people.run(0, guards=Guards(min_members=99), how={"hold": True})
    for at in range(60):
        with contextlib.suppress(Killed):
            forget(people.ledger(DiesWriting(people.warehouse, at, "after")), [GONE])
        if read_timeline(people.ledger()).tombstones is not None:
            break
    assert not read_timeline(people.ledger()).tombstones.erased
    with pytest.raises(ReleaseRefused, match="no longer held"):
        approve(people.ledger(), day(0), held["held_table"])
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_exits_of_forgotten_users_begin_no_new_day_for_the_guards(people):
    users = [f"u{n:03}" for n in range(200)]
    people.put(*users, audience="news", title="News")
    guards = Guards(max_exit_ratio=None, max_exit_ratio_per_day=0.5)
    hour = timedelta(hours=1)
    sync = people.sync(guards=guards)
    sync.run(day(0))
    people.take(*users[:80], audience="news")
    people.sync(guards=guards).run(day(0) + hour)
    forget(people.ledger(), [users[199]])
    people.take(*users[80:120], audience="news")
    with pytest.raises(GuardTripped, match="max_exit_ratio_per_day"):
        people.sync(guards=guards).run(day(0) + 2 * hour)


@pytest.mark.parametrize("sealed", [False, True], ids=["first of all", "after another one"])
def test_a_destination_that_begins_while_users_are_forgotten_never_has_them(people, sealed):
    other, stream = small_delivery("other"), Stream()
    people.put(GONE, "stays", audience="news", title="News")
    people.run(0)
    if sealed:
        open_outbox(people.ledger(), Stream(), other).drain(day(0))

    class Between(Watched):
        """Forgets just before the destination is attached, when its task has read the ledger."""

        done = False

        def execute(self, sql: str, parameters: Any = ()) -> Any:
            if not self.done and "attached" in parameters:
                self.done = True
                forget(people.ledger(), [GONE])
                if sealed:
                    open_outbox(people.ledger(), Stream(), other).drain(
                        read_timeline(people.ledger()).newest.as_of
                    )
                    forget(people.ledger(), [GONE])
            return super().execute(sql, parameters)

    between = Between(people.warehouse)
    with contextlib.suppress(ForgettingUnfinished, LedgerConflict):
        open_outbox(people.ledger(between), stream).drain(day(0))
    assert between.done
    forget(people.ledger(), [GONE])
    people.run(1)
    drain(people, stream)
    assert members_of(stream.consume()) == without_user(people)


def test_a_part_that_is_about_to_put_is_waited_for_whatever_another_part_sees(warehouse):
    """One has looked before somebody is forgotten, the other one after, and ends nothing of the first one's."""
    put = [forget_between_parts(People(warehouse), number) for number in range(2)]
    assert any(put), "or this shows nothing"


def forget_between_parts(people: People, number: int) -> bool:
    """Forget somebody while one part of two is about to put; gives whether they were put."""
    people.put(GONE, *(f"u{number}" for number in range(9)))
    people.run(0)
    first, second = (small_delivery(part=Part(n, 2)) for n in (number, 1 - number))
    stream = Stream()

    class Late(Watched):
        """Forgets just before the first part says that it begins to put, when it has looked."""

        done = False

        def execute(self, sql: str, parameters: Any = ()) -> Any:
            if not self.done and "sending" in parameters:
                self.done = True
                dies = Watched(people.warehouse)
                dies.before = lambda s: dies.kill() if "changes_" in s and s.startswith("CREATE TABLE") else None
                with contextlib.suppress(Killed):
                    forget(people.ledger(dies), [GONE])
                with contextlib.suppress(ForgettingUnfinished, LedgerConflict):
                    open_outbox(people.ledger(), stream, second).drain(day(0))
            return super().execute(sql, parameters)

    late = Late(people.warehouse)
    with contextlib.suppress(ForgettingUnfinished, LedgerConflict):
        open_outbox(people.ledger(late), stream, first).drain(day(0))
    put = any(GONE.encode() in message for message in stream.messages)
    forget(people.ledger(), [GONE])
    people.run(1)
    for delivery in (first, second):
        open_outbox(people.ledger(), stream, delivery).drain(day(1))
    assert members_of(stream.consume()) == without_user(people)
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE) == {}
    return put


def test_what_parts_have_put_is_waited_for_when_the_author_removes_them(people):
    people.put(GONE, *(f"u{number}" for number in range(9)))
    people.run(0)
    stream = Stream()
    for number in range(2):
        if not any(GONE.encode() in message for message in stream.messages):
            open_outbox(people.ledger(), stream, small_delivery(part=Part(number, 2))).drain(day(0))
    assert forget(people.ledger(), [GONE]).waits_for
    people.run(1)
    if read_standing(people.ledger()).cursor is None:
        with pytest.raises(DeliveryChanged, match="restore parts"):
            open_outbox(people.ledger(), stream).drain(day(1))
        assert forget(people.ledger(), [GONE]).waits_for
    for number in range(2):
        open_outbox(people.ledger(), stream, small_delivery(part=Part(number, 2))).drain(day(1))
    assert members_of(stream.consume()) == without_user(people)
    assert not forget(people.ledger(), [GONE]).waits_for


def test_what_was_put_before_a_replay_was_given_up_is_waited_for(people):
    people.put(GONE, *(f"u{number}" for number in range(9)))
    people.run(0, keep_history=timedelta(days=9))
    stream, late = Stream(), Watched(people.warehouse)

    def take_and_die(_: int, batch: Any) -> Any:
        if any(GONE.encode() in record.data for record in batch):
            late.dead = True
            raise Killed(taken=True)
        return [Fate.TAKEN] * len(batch)

    stream.script = take_and_die
    with contextlib.suppress(Killed):
        open_outbox(people.ledger(late), stream).drain(day(0))
    stream.script = None
    assert GONE in stream.consume().members("vips")

    class DiesTakingOver(Watched):
        def execute(self, sql: str, parameters: Any = ()) -> Any:
            found = super().execute(sql, parameters)
            if "renewed" in parameters:
                self.kill()
            return found

    replayed = small_delivery(replay="one")
    with contextlib.suppress(Killed):
        dies = open_outbox(people.ledger(DiesTakingOver(people.warehouse)), stream, replayed)
        replay(dies, small_delivery(), Span(since=day(0)))
    detach(people.ledger(), [replayed.log])
    assert forget(people.ledger(), [GONE]).waits_for
    open_outbox(people.ledger(), stream).drain(day(0))
    assert forget(people.ledger(), [GONE]).waits_for
    people.run(1)
    open_outbox(people.ledger(), stream).drain(day(1))
    assert members_of(stream.consume()) == without_user(people)
    assert not forget(people.ledger(), [GONE]).waits_for


def test_a_table_that_goes_while_it_is_searched_is_left_out(people):
    stream = Stream()
    live(people, stream)
    for at, destination in (("before", "one"), ("after", "two")):
        dies = Watched(people.warehouse)
        kill = lambda sql, dies=dies: dies.kill() if "snapshot_" in sql and sql.startswith("CREATE") else None  # noqa: E731
        setattr(dies, at, kill)
        with contextlib.suppress(Killed):
            open_outbox(people.ledger(dies), stream, small_delivery(destination)).drain(day(1))
    [name] = [n for n in people.tables() if n.startswith("snapshot_")]
    late = Watched(people.warehouse)

    def drop_elsewhere(sql: str) -> None:
        if name in sql and "user_id" not in sql:
            people.warehouse.execute(f'DROP TABLE IF EXISTS {people.schema}."{name}"')

    late.after = drop_elsewhere
    assert forget(people.ledger(late), [GONE]).waits_for


def test_who_is_nowhere_is_kept_out_and_nobody_exits(people):
    stream = Stream()
    live(people, stream)
    found = forget(people.ledger(), ["nobody"])
    assert (found.users, found.exits_at, found.waits_for) == (1, None, ())
    newest = read_timeline(people.ledger()).newest
    assert newest is not None
    assert newest.as_of == day(1)
    people.put("nobody")
    assert people.run(2)["entered"] == 0


def test_who_left_before_is_erased_as_well(people):
    stream = Stream()
    live(people, stream)
    people.take(GONE)
    people.take(GONE, audience="news")
    people.run(2, compaction_share=0.0)
    people.run(3, compaction_share=0.0)
    drain(people, stream)
    assert find_values(people, GONE, *ADDRESSES)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_history_keeps_everybody_else(people):
    stream = Stream()
    live(people, stream)
    before = {k: v for k, v in read_membership(people.ledger(), day(0)).items() if k[1] != GONE}
    forget(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    assert read_membership(people.ledger(), day(0)) == before
    assert {m.user_id for m in read_members(people.ledger(), day(1))} == {"stays", "third", "other"}
    found = find_user(people.ledger(), GONE)
    assert (found.memberships, found.changes) == ([], [])


def test_a_resync_a_resend_and_a_new_destination_do_not_bring_them_back(people):
    stream, second = Stream(), Stream()
    live(people, stream)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    before = len(stream.taken)
    newest = read_timeline(people.ledger()).newest
    assert newest is not None
    for as_of in (day(0), day(1), newest.as_of):
        open_outbox(people.ledger(), stream).drain(as_of, resend=True)
    resync(Outbox(people.ledger(), small_delivery(resync="one"), stream.put), small_delivery())
    open_outbox(people.ledger(), second, small_delivery("b")).drain(newest.as_of)
    sent = b"".join([*stream.messages[before:], *second.messages])
    assert not any(value.encode() in sent for value in (GONE, *ADDRESSES))
    assert members_of(stream.consume()) == members_of(second.consume()) == without_user(people)
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_what_is_sent_once_more_has_other_ids_so_that_no_consumer_drops_it(people):
    stream = Stream()
    live(people, stream)
    before = len(stream.taken)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    first = {m.split(b'"message_id":"')[1].split(b'"')[0] for m in stream.messages[:before]}
    after = len(stream.taken)
    for as_of in (day(0), day(1)):
        open_outbox(people.ledger(), stream).drain(as_of, resend=True)
    again = {m.split(b'"message_id":"')[1].split(b'"')[0] for m in stream.messages[after:]}
    assert again
    assert not first & again


def test_dead_letters_lose_them_and_keep_the_others(people):
    long = {"city": "x" * 20_000}
    delivery = small_delivery(options={"user_properties": True})
    stream = Stream()
    people.put(GONE, "big", email=ADDRESSES[0], **long)
    people.change("big", email="big@example.org")
    people.put("small", email="small@example.org")
    people.run(0)
    open_outbox(people.ledger(), stream, delivery).drain(day(0), on_rejected="skip")
    assert any(name.startswith("rejects_") for name in find_values(people, GONE))
    found = forget(people.ledger(), [GONE])
    open_outbox(people.ledger(), stream, delivery).drain(found.exits_at, on_rejected="skip")
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}
    people.change("big", city="short")
    people.run(1)
    open_outbox(people.ledger(), stream, delivery).drain(day(1))
    assert members_of(stream.consume()) == without_user(people)


def test_a_tombstone_is_taken_back_when_a_user_consents_again(people):
    stream = Stream()
    live(people, stream)
    forget(people.ledger(), [GONE, "nobody"])
    with pytest.raises(ForgettingUnfinished, match="is still forgetting users"):
        recall(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    assert recall(people.ledger(), [GONE]) == 1
    assert recall(people.ledger(), [GONE]) == 0
    people.put("nobody")
    assert people.run(2)["entered"] == 2
    drain(people, stream)
    everybody = {a: users - {"nobody"} for a, users in people.members().items()}
    assert members_of(stream.consume()) == everybody
    assert recall(people.ledger(), ["nobody"]) == 1
    assert people.run(3)["entered"] == 1
    assert not any(name.startswith("erasures_") for name in people.tables())


def test_a_further_user_waits_until_those_before_are_gone(people):
    """Otherwise a request every hour would put off for ever what a daily publish delivers."""
    stream = Stream()
    live(people, stream)
    forget(people.ledger(), [GONE])
    found = forget(people.ledger(), [GONE, "third"])
    assert found.users == 1
    assert found.waits_for[-1] == "1 more users are forgotten after that"
    drain(people, stream)
    found = forget(people.ledger(), [GONE, "third"])
    assert (found.users, len(found.waits_for)) == (2, 1)
    assert find_values(people, GONE, *ADDRESSES) == {}
    drain(people, stream)
    assert not forget(people.ledger(), [GONE, "third"]).waits_for
    assert find_values(people, GONE, "third", *ADDRESSES) == {}
    assert "third" not in members_of(stream.consume())["vips"]


def test_the_views_of_people_are_over_what_is_left(people):
    stream = Stream()
    live(people, stream, history_view=True)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    views = [name for name in people.tables() if name.startswith(("history_", "delivered_"))]
    assert len(views) == 2
    for name in views:
        users = {row[0] for row in people.warehouse.read_rows(f'SELECT user_id FROM {people.schema}."{name}"')}
        assert "third" in users
        assert GONE not in users


def test_an_unfinished_resync_keeps_the_rows(people):
    stream = Stream()
    live(people, stream)
    half = Stream(lambda number, _: [Fate.THROTTLED] * len(_))
    with pytest.raises(DeliveryIncomplete):
        resync(Outbox(people.ledger(), small_delivery(resync="one"), half.put, policy=QUICK), small_delivery())
    forget(people.ledger(), [GONE])
    drain(people, stream)
    assert "has a resync that is not finished" in forget(people.ledger(), [GONE]).waits_for[0]
    resync(Outbox(people.ledger(), small_delivery(resync="one"), stream.put), small_delivery())
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}
    assert members_of(stream.consume()) == without_user(people)


def test_a_run_that_read_the_source_before_does_not_count(people):
    stream = Stream()
    live(people, stream)
    sync = people.sync()
    write = sync.writer.write

    def write_late(*given: Any, **named: Any) -> None:
        write(*given, **named)
        forget(people.ledger(), [GONE])

    sync.writer.write = write_late
    with pytest.raises(LedgerConflict):
        sync.run(day(2))
    drain(people, stream)
    people.run(2)
    drain(people, stream)
    forget(people.ledger(), [GONE])
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_a_past_run_is_inserted_without_them(people):
    stream = Stream()
    live(people, stream)
    people.run(4)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    forget(people.ledger(), [GONE])
    people.put("late")
    people.run(3, how={"insert": True})
    drain(people, stream)
    assert GONE not in {user for _, user in read_membership(people.ledger(), day(3))}
    people.run(5)
    drain(people, stream)
    assert members_of(stream.consume()) == without_user(people)
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_a_run_that_was_inserted_before_loses_them_too(people):
    stream = Stream()
    live(people, stream)
    people.take(GONE)
    people.run(4, compaction_share=0.0)
    people.run(5, compaction_share=0.0)
    people.put(GONE, email=ADDRESSES[0])
    people.put("late", email="late@example.org")
    people.run(3, how={"insert": True})
    drain(people, stream)
    forget(people.ledger(), [GONE])
    drain(people, stream)
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}
    people.run(6, compaction_share=0.0)
    drain(people, stream)
    resync(Outbox(people.ledger(), small_delivery(resync="one"), stream.put), small_delivery())
    assert members_of(stream.consume()) == without_user(people)


def test_a_correction_of_the_newest_run_comes_after_the_exits(people):
    stream = Stream()
    live(people, stream)
    forget(people.ledger(), [GONE])
    people.put("late")
    assert people.run(1, how={"correct": True})["entered"] == 1
    drain(people, stream)
    forget(people.ledger(), [GONE])
    assert members_of(stream.consume()) == without_user(people)
    assert find_values(people, GONE, *ADDRESSES) == {}


ON_MANY = ["duckdb without keys", "parquet", "mysql", "clickhouse"]


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_on_other_engines_and_in_files_nothing_is_left_either(place, tmp_path):
    crowd = Crowd(place)
    others = [user(name, city="Bern", email=f"{name}@example.org") for name in ("stays", "other")]
    for number in range(2):
        crowd.write(*others, user(GONE, city=f"c{number}", email=ADDRESSES[number]))
        crowd.run(number)
        crowd.drain(number)
    before = len(crowd.stream.taken)
    found = forget(place.open_ledger(crowd.schema, crowd.sync_id), [GONE])
    assert found.exits_at is not None
    open_outbox(place.open_ledger(crowd.schema, crowd.sync_id), crowd.stream).drain(found.exits_at)
    assert not forget(place.open_ledger(crowd.schema, crowd.sync_id), [GONE]).waits_for
    crowd.run(2)
    crowd.drain(2)
    assert len(crowd.stream.taken) == before + 1
    assert members_of(crowd.stream.consume()) == {"vips": {"stays", "other"}}
    ledger = place.open_ledger(crowd.schema, crowd.sync_id)
    timeline = read_timeline(ledger)
    assert timeline.tombstones is not None
    tables = {*list_tables(ledger), timeline.tombstones.table}
    for name in tables:
        query = exp.select(exp.Star()).from_(table(crowd.schema, name))
        for row in ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect)):
            assert not any(value in str(cell) for value in (GONE, *ADDRESSES) for cell in row)
    if place.source is not place.warehouse:
        files = [path for path in tmp_path.rglob(f"{crowd.schema}/**/*") if path.is_file()]
        assert {path.stem for path in files if path.suffix == ".parquet"} == tables
        contents = b"".join(path.read_bytes() for path in files)
        assert not any(value.encode() in contents for value in (GONE, *ADDRESSES))


__all__ = ["place"]
