"""A stream that was created anew under its name has nobody: nothing is put until the author has chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationReplaced
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state.sync_details import Event
from airflow_kinesis_audience.demo.local_kinesis import connection_to, emulator, make_client
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.contract.test_events import Line, rows
from tests.warehouses import (
    Fate,
    People,
    Stream,
    day,
    members_of,
    open_outbox,
    read_entries,
    read_standing,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery

OLD, NEW = (f"arn:aws:kinesis:eu-west-1:1:stream/a created 2026-01-0{n}T00:00:00.000+00:00" for n in (1, 2))
REPLACED = rf"is not the stream of the earlier deliveries: that was {OLD}.*this is {NEW}.*has no member".replace(
    "+", r"\+"
)
USERS = tuple(f"u{n}" for n in range(20))


def to(stream: str, on_new_stream: Any = "fail", **changed: Any) -> Delivery:
    return small_delivery(stream=stream, on_new_stream=on_new_stream, **changed)


@pytest.fixture
def people(warehouse: Any) -> People:
    """Give a sync whose first membership is on a stream, and whose source has changed since."""
    people = People(warehouse)
    people.put(*USERS, city="Bern")
    people.run(1)
    open_outbox(people.ledger(), Stream(), to(OLD)).drain(day(1))
    people.take("u0")
    people.put("new")
    people.run(2)
    return people


def now(people: People) -> dict[str, frozenset[str]]:
    return {"vips": people.members()["vips"]}


def publish(people: People, stream: Stream, number: int, delivery: Delivery) -> None:
    open_outbox(people.ledger(), stream, delivery).drain(day(number))


def test_another_stream_stops_before_anything_is_put(people):
    new = Stream()
    for _ in range(2):
        with pytest.raises(DestinationReplaced, match=REPLACED):
            publish(people, new, 2, to(NEW))
    assert new.puts == []
    publish(people, old := Stream(), 2, to(OLD))
    assert {u for m in old.consume().audiences() for u in old.consume().members(m)} == {"new"}


def test_all_members_enter_a_new_stream_where_its_author_says_so_and_the_changes_follow(people):
    new = Stream()
    publish(people, new, 2, to(NEW, "enter_all"))
    assert members_of(new.consume()) == now(people)
    told = len(new.taken)
    publish(people, new, 2, to(NEW, "enter_all"))
    assert len(new.taken) == told, "it is not filled twice"
    people.take("u1")
    people.run(3)
    publish(people, new, 3, to(NEW))
    assert members_of(new.consume()) == now(people)
    assert b"u1" in b"".join(new.messages[told:])


def test_a_new_stream_gets_but_the_changes_where_its_author_says_so(people):
    new = Stream()
    publish(people, new, 2, to(NEW, "continue"))
    assert members_of(new.consume()) == {"vips": {"new"}}
    people.take("u1")
    people.run(3)
    publish(people, new, 3, to(NEW))
    assert [e.event for e in read_entries(people.ledger())].count(Event.RENEWED) == 1


def test_what_nobody_has_seen_is_taken_as_it_is_seen_first(warehouse):
    people = People(warehouse)
    people.put("a", "b")
    for number, stream in enumerate(("", OLD, "", OLD)):
        people.put(f"c{number}")
        people.run(number)
        publish(people, Stream(), number, to(stream))
    with pytest.raises(DestinationReplaced):
        publish(people, Stream(), 3, to(NEW))
    assert Event.RENEWED not in {e.event for e in read_entries(people.ledger())}


@pytest.mark.parametrize("choice", ["enter_all", "continue"])
def test_what_was_half_sent_to_the_stream_before_is_sent_whole_to_the_new_one(people, choice):
    people.put(*(f"v{n}" for n in range(20)))
    people.run(2)
    half = Stream(lambda number, batch: [Fate.TAKEN if number < 3 else Fate.REJECTED] * len(batch))
    with pytest.raises(DeliveryIncomplete):
        publish(people, half, 2, to(OLD))
    assert half.taken
    new = Stream()
    with pytest.raises(DestinationReplaced):
        publish(people, new, 2, to(NEW))
    publish(people, new, 2, to(NEW, choice))
    entered = {"new", *(f"v{n}" for n in range(20))}
    assert members_of(new.consume()) == (now(people) if choice == "enter_all" else {"vips": entered})


@pytest.mark.parametrize("choice", ["enter_all", "continue"])
@pytest.mark.parametrize("number", [1, 2], ids=["the same run", "the next run"])
def test_parts_fill_a_new_stream_together(warehouse, choice, number):
    people = People(warehouse)
    people.put(*USERS)
    people.run(1)
    parts = [Part(n, 2) for n in range(2)]
    for part in parts:
        publish(people, Stream(), 1, to(OLD, part=part))
    if number == 2:
        people.take("u0")
        people.put("new", "newer", "newest")
        people.run(2)
    new = Stream()
    with pytest.raises(DestinationReplaced):
        publish(people, new, number, to(NEW, part=parts[1]))
    for part in parts:
        publish(people, new, number, to(NEW, choice, part=part))
    entered = {"vips": {"new", "newer", "newest"}} if number == 2 else {}
    assert members_of(new.consume()) == (now(people) if choice == "enter_all" else entered)
    assert read_standing(people.ledger()).cursor == day(number)


def test_a_resync_fills_a_new_stream_and_the_changes_follow(people):
    new, delivery = Stream(), to(NEW)
    again = replace(delivery, resync="once")
    resync(open_outbox(people.ledger(), new, again), delivery)
    assert members_of(new.consume()) == {"vips": {*USERS}}
    publish(people, new, 2, delivery)
    assert members_of(new.consume()) == now(people)


def test_a_resync_that_another_stream_comes_in_between_stops(people):
    half = Stream(lambda number, batch: [Fate.TAKEN if number < 3 else Fate.REJECTED] * len(batch))
    with pytest.raises(DeliveryIncomplete):
        resync(open_outbox(people.ledger(), half, replace(to(OLD), resync="once")), to(OLD))
    new = Stream()
    with pytest.raises(DestinationReplaced, match="created again during the resync"):
        resync(open_outbox(people.ledger(), new, replace(to(NEW), resync="once")), to(NEW))
    assert new.puts == []


def test_a_deletion_is_not_announced_to_a_new_stream_unless_its_author_says_so(people):
    close(people.ledger(), day(5), exits=True)
    new = Stream()
    with pytest.raises(DestinationReplaced):
        announce_deletion(open_outbox(people.ledger(), new, to(NEW)))
    assert new.puts == []
    announce_deletion(open_outbox(people.ledger(), new, to(NEW, "continue")))
    assert new.taken


def test_a_deletion_that_a_new_stream_may_not_get_leaves_the_sync_open(people):
    before = [e.event for e in read_entries(people.ledger())]
    with pytest.raises(DestinationReplaced):
        close(people.ledger(), day(5), exits=True, delivery=to(NEW))
    assert [e.event for e in read_entries(people.ledger())] == before
    assert people.run(3)["members"] == len(USERS)
    close(people.ledger(), day(5), exits=True, delivery=to(NEW, "continue"))
    announce_deletion(open_outbox(people.ledger(), new := Stream(), to(NEW, "continue")))
    assert new.taken


def test_events_stop_at_a_new_stream_until_their_author_has_chosen(warehouse):
    line = Line(warehouse)
    line.put(rows(1, 2, 3, 4))

    def run(end: int, stream: Stream, seen: str, choice: Any = "fail") -> Any:
        delivery = replace(line.delivery(), stream=seen, on_new_stream=choice)
        return forward(open_outbox(line.ledger(), stream, delivery), line.source(), day(0), day(end))

    run(2, Stream(), OLD)
    new = Stream()
    of_events = REPLACED.replace(
        "has no member", 'has no event .* Set on_new_stream="continue" to forward only the events'
    )
    with pytest.raises(DestinationReplaced, match=of_events) as refused:
        run(5, new, NEW)
    assert "enter_all" not in str(refused.value)
    assert new.puts == []
    run(5, new, NEW, "continue")
    assert sorted(line.ids(new.messages)) == ["e2", "e3", "e4"]
    assert run(6, new, NEW)["events"] == 0


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with emulator() as endpoint_url:
        monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(connection_to(endpoint_url)))
        yield endpoint_url


def test_a_data_stream_of_the_same_name_is_another_one(aws):
    client = make_client("kinesis", aws)
    found = []
    for _ in range(2):
        client.create_stream(StreamName="changes", ShardCount=1)
        for _ in range(2):
            hook = KinesisStreamHook("changes", aws_conn_id="aws")
            hook.check()
            found.append(hook.identity)
        client.delete_stream(StreamName="changes")
    assert found[0].startswith("arn:aws:kinesis:")
    assert (found[0] == found[1], found[2] == found[3], found[0] == found[2]) == (True, True, False)


def test_a_delivery_stream_of_the_same_name_is_another_one(aws):
    client = make_client("firehose", aws)
    target = {"RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::b"}
    found = []
    for _ in range(2):
        client.create_delivery_stream(DeliveryStreamName="changes", S3DestinationConfiguration=target)
        for _ in range(2):
            hook = FirehoseStreamHook("changes", aws_conn_id="aws")
            hook.check()
            found.append(hook.identity)
        client.delete_delivery_stream(DeliveryStreamName="changes")
    assert found[0].startswith("arn:aws:firehose:")
    assert (found[0] == found[1], found[2] == found[3], found[0] == found[2]) == (True, True, False)
