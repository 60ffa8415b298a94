"""The end of a sync: everybody is told, the state goes, and the ids are not used again by mistake."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from airflow_kinesis_audience.core.exceptions import (
    AudienceDeleted,
    DeliveryIncomplete,
    HistoryGone,
    LedgerConflict,
    WarehouseRefused,
)
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.state.entries import encode_detail
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.sync_details import Event, SyncClosed
from tests.warehouses import (
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_entries,
    small_delivery,
)


def changes_alone() -> Any:
    """Make a format that has no words for a whole audience."""
    return lambda changes, envelope: iter(())


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse, many=True)
    people.put("a1", "a2", audience="a", title="A")
    people.put("b1", audience="b", title="B")
    people.run(0)
    return people


def publish(people: People, stream: Stream, number: int, name: str = "a") -> None:
    open_outbox(people.ledger(), stream, small_delivery(name)).drain(day(number))


def end(
    people: People, stream: Stream, number: int, *, name: str = "a", exits: bool = True, warehouse=None
) -> None:
    ledger = people.ledger(warehouse)
    close(ledger, day(number), exits=exits)
    announce_deletion(open_outbox(ledger, stream, small_delivery(name)))


def last(stream: Stream) -> list[tuple[str, str, bool]]:
    """List what the last messages, one per audience, tell of whole audiences."""
    found = [m for m in map(json.loads, stream.messages) if "lifecycle" in m]
    return [(m["cohort_id"], m["lifecycle"]["event"], m["in_cohort"]) for m in found]


def test_everybody_exits_then_the_end_is_told_and_the_state_goes(people):
    stream = Stream()
    publish(people, stream, 0)
    people.put("a3", audience="a", title="A")
    people.run(1)
    end(people, stream, 2)
    exits = [m for m in map(json.loads, stream.messages) if m["users"] and not m["in_cohort"]]
    assert sorted(u["user_id"] for m in exits for u in m["users"]) == ["a1", "a2", "a3", "b1"]
    assert last(stream) == [("a", "deleted", False), ("b", "deleted", False)]
    assert {m["computed_time"] for m in exits} == {str(int(day(2).timestamp()))}
    assert members_of(stream.consume()) == {}
    assert people.tables() == set()


def test_without_exits_the_last_message_alone_tells_the_end(people):
    stream = Stream()
    publish(people, stream, 0)
    end(people, stream, 1, exits=False)
    assert all(m["in_cohort"] for m in map(json.loads, stream.messages) if m["users"])
    assert last(stream) == [("a", "deleted", False), ("b", "deleted", False)]
    assert members_of(stream.consume()) == {}
    assert people.tables() == set()


def test_each_destination_is_told_before_the_state_goes(people):
    one, other = Stream(), Stream()
    publish(people, one, 0)
    publish(people, other, 0, "b")
    end(people, one, 1)
    assert members_of(other.consume()) == {"a": {"a1", "a2"}, "b": {"b1"}}
    assert people.tables()
    end(people, other, 9, name="b")
    assert members_of(other.consume()) == {}
    assert last(other) == last(one)
    assert people.tables() == set()


def test_nothing_is_computed_or_attached_after_the_end(people):
    one, other = Stream(), Stream()
    publish(people, one, 0)
    publish(people, other, 0, "b")
    end(people, one, 1)
    for number in (0, 1, 2):
        with pytest.raises(AudienceDeleted, match="was deleted as of 2026-01-02"):
            people.run(number)
    put = len(one.puts)
    with pytest.raises(AudienceDeleted, match="no longer attached"):
        publish(people, one, 0)
    with pytest.raises(AudienceDeleted):
        publish(people, Stream(), 0, "c")
    assert len(one.puts) == put


def test_a_sync_begins_anew_only_if_its_author_says_so_and_all_were_told(people):
    one, other = Stream(), Stream()
    publish(people, one, 0)
    publish(people, other, 0, "b")
    end(people, one, 1)
    with pytest.raises(AudienceDeleted, match=r"kinesis://eu-west-1/b did not receive the deletion"):
        people.run(2, how={"reuse_deleted": True})
    end(people, other, 1, name="b")
    with pytest.raises(AudienceDeleted, match="not later"):
        people.run(1, how={"reuse_deleted": True})
    people.take("a1", audience="a")
    assert people.run(2, how={"reuse_deleted": True})["entered"] == 2
    people.put("a7", audience="a", title="A")
    people.run(3)
    publish(people, one, 3)
    assert members_of(one.consume()) == people.members()


def test_an_audience_of_a_deleted_id_is_refused_in_any_sync(people):
    publish(people, stream := Stream(), 0)
    end(people, stream, 1)
    ledger = Ledger(people.warehouse, people.schema, "another.sync")
    people.clear()
    people.put("c1", audience="c", title="C")
    assert people.run(2, ledger=ledger)["members"] == 1
    people.put("a1", audience="a", title="A")
    before = people.tables()
    with pytest.raises(AudienceDeleted, match=r"audience 'a' was deleted.*reuse_deleted"):
        people.run(3, ledger=ledger)
    assert people.tables() == before
    with pytest.raises(AudienceDeleted, match="not later"):
        people.run(0, ledger=Ledger(people.warehouse, people.schema, "a.third"), how={"reuse_deleted": True})
    assert people.run(3, ledger=ledger, how={"reuse_deleted": True})["entered"] == 1
    people.put("a2", audience="a", title="A")
    assert people.run(4, ledger=ledger)["entered"] == 1


def test_an_end_comes_after_what_was_published(people):
    publish(people, stream := Stream(), 0)
    with pytest.raises(ValueError, match="set a later as_of"):
        end(people, stream, 0)
    with pytest.raises(HistoryGone, match="no membership"):
        close(Ledger(people.warehouse, people.schema, "nothing"), day(3), exits=True)
    assert people.run(1)["members"] == 3


def test_a_destination_that_heard_nothing_is_told_nothing(people):
    stream = Stream()
    with pytest.raises(HistoryGone, match="never received"):
        end(people, stream, 1)
    assert not stream.puts


def test_an_end_that_cannot_be_announced_leaves_the_sync_open(people):
    publish(people, Stream(), 0)
    own = small_delivery("a", message_format=f"{__name__}.changes_alone", options={})
    for delivery, match in ((small_delivery("b"), "never received"), (own, "no message about a whole audience")):
        with pytest.raises((HistoryGone, ValueError), match=match):
            close(people.ledger(), day(1), exits=True, delivery=delivery)
        assert Event.CLOSED not in {e.event for e in read_entries(people.ledger())}


def test_a_goodbye_that_fails_is_finished_by_the_next_attempt(people):
    stream = Stream()
    publish(people, stream, 0)
    stream.script = lambda number, batch: [Fate.REJECTED] * len(batch)
    with pytest.raises(DeliveryIncomplete):
        end(people, stream, 1)
    stream.script = None
    end(people, stream, 2)
    end(people, stream, 3)
    assert members_of(stream.consume()) == {}
    assert people.tables() == set()


def test_killed_after_any_statement_the_next_attempt_ends_it(warehouse):
    for at in range(60):
        people = People(warehouse, many=True)
        people.put("a1", "a2", audience="a", title="A")
        people.run(0)
        publish(people, stream := Stream(), 0)
        dying, seen = Watched(people.warehouse), []

        def die(sql: str, dying=dying, seen=seen, at=at) -> None:
            seen.append(sql)
            if len(seen) > at:
                dying.kill()

        dying.after = die
        try:
            end(people, stream, 1, warehouse=dying)
        except Killed:
            end(people, stream, 1)
        assert members_of(stream.consume()) == {}
        assert last(stream)
        assert people.tables() == set()
        if not dying.dead:
            break
    assert at > 8


def test_a_run_that_is_computing_at_the_end_does_not_count(people, reopen):
    publish(people, stream := Stream(), 0)
    people.put("a9", audience="a", title="A")
    watched, ended = Watched(people.warehouse), []

    def finish(sql: str) -> None:
        if sql.startswith("CREATE TABLE") and not ended:
            ended.append(close(people.ledger(reopen()), day(2), exits=False))

    watched.after = finish
    with pytest.raises(LedgerConflict):
        people.sync(watched).run(day(1))
    with pytest.raises(AudienceDeleted):
        people.run(1)
    announce_deletion(open_outbox(people.ledger(), stream))
    assert people.tables() == set()


def test_the_ledger_tells_of_the_end_and_of_no_member(people):
    publish(people, stream := Stream(), 0)
    end(people, stream, 1)
    rows = read_entries(people.ledger())
    [closed] = [e for e in rows if e.event is Event.CLOSED]
    assert replace(closed.detail, before="") == SyncClosed(exits=True, audiences={"a": "A", "b": "B"})
    assert not any(user in encode_detail(e.detail) for e in rows for user in ('"a1"', '"b1"'))


def test_an_audience_that_ended_long_ago_is_told_of_by_the_name_that_is_known(people):
    publish(people, stream := Stream(), 0)
    people.take("b1", audience="b")
    for number in range(1, 4):
        people.run(number, compaction_share=0.0, keep_history=timedelta(0))
        publish(people, stream, number)
    end(people, stream, 9)
    assert {a for a, *_ in last(stream)} == {"a", "b"}


@pytest.mark.parametrize("gone", ["base", "changes", "both"])
def test_a_sync_whose_tables_are_gone_is_deleted_without_exits_and_begins_anew(people, gone):
    stream = Stream()
    publish(people, stream, 0)
    people.put("a3", audience="a", title="A")
    people.take("b1", audience="b")
    people.put("b2", audience="b", title="B")
    people.run(1)
    for name in people.tables():
        if gone == "both" or name.startswith(gone):
            people.warehouse.execute(f'DROP TABLE {people.schema}."{name}"')
    with pytest.raises(WarehouseRefused):
        end(people, stream, 2)
    end(people, stream, 2, exits=False)
    assert members_of(stream.consume()) == {}
    people.run(3, how={"reuse_deleted": True})
    publish(people, stream, 3)
    assert members_of(stream.consume()) == people.members()
