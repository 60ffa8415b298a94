"""Members that no record can hold: the rest is delivered, they are kept, and told of as soon as they can be.

On the real warehouses, in every format, for one task and for several. A destination that was told of all but one
member has nothing invented, and whatever happens to that member later ends in the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, LedgerConflict, MessageTooLarge
from airflow_kinesis_audience.core.model.instants import epoch_seconds
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.history import find_user
from tests.warehouses import (
    DiesAt,
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_standing,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.report import Report
    from airflow_kinesis_audience.core.producer.records import Record
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

BIG = "x" * 10_000
DIGEST = hashlib.sha256(b"poison").hexdigest()[:12]
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "amplitude": {"options": {"max_users": 2, "user_properties": True}},
    "mparticle": {"message_format": "mparticle_audience", "options": {"message_ids": True}},
    "events": {
        "message_format": "mparticle_events",
        "options": {"attribute_changes": True, "identity_changes": True},
    },
    "adobe": {"message_format": "adobe_profile", "options": {"message_ids": True}},
    "aggregated": {"aggregate": True, "options": {"max_users": 2, "user_properties": True}},
}
MORE = {k: v for k, v in FORMATS.items() if k not in ("aggregated",)}


@pytest.fixture
def people(warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch) -> People:
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    people = People(warehouse)
    people.put(*(f"u{n}" for n in range(20)), email="a@example.com", city="Rome")
    people.put("poison", email=BIG, city=BIG)
    return people


def publish(
    people: People,
    stream: Stream,
    number: int,
    delivery: Delivery | None = None,
    *,
    warehouse: Any = None,
    on_rejected: Any = "skip",
    **how: Any,
) -> Report:
    outbox = open_outbox(people.ledger(warehouse), stream, delivery)
    outbox.drain(day(number), on_rejected=on_rejected, **how)
    return outbox.report


def deliver_as(kind: str = "amplitude", **changed: Any) -> Delivery:
    return small_delivery("b", **{**FORMATS[kind], **changed})


def rejects(people: People) -> list[tuple[Any, ...]]:
    """Read the kept members: action and user."""
    found = sorted(name for name in people.tables() if name.startswith("rejects"))
    assert len(found) <= 1, "one table at a time"
    query = "SELECT action, user_id FROM {}.{} WHERE action <> 'audience' ORDER BY user_id"
    return [tuple(row) for n in found for row in people.warehouse.read_rows(query.format(people.schema, n))]


def known(stream: Stream) -> frozenset[str]:
    return members_of(stream.consume()).get("vips", frozenset())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("seen", [True, False], ids=["a run between", "at once"])
def test_who_grows_too_large_and_leaves_is_removed(people: People, kind: str, seen: bool) -> None:
    people.change("poison", email="p@example.com", city="Rome")
    people.run(0)
    stream = Stream()
    publish(people, stream, 0, deliver_as(kind))
    people.change("poison", city=BIG)
    people.run(1)
    if seen:
        publish(people, stream, 1, deliver_as(kind))
    people.take("poison")
    people.run(2)
    report = publish(people, stream, 2, deliver_as(kind))
    assert (report.still_rejected, rejects(people)) == (0, [])
    if kind in MORE:
        assert known(stream) == {f"u{n}" for n in range(20)}


@pytest.mark.parametrize("kind", FORMATS)
def test_all_but_the_member_is_delivered_and_the_sums_match(people: People, kind: str) -> None:
    people.run(0)
    stream = Stream()
    report = publish(people, stream, 0, deliver_as(kind))
    assert (report.delivered, report.rejected, report.omitted) == (20, 1, 0)
    assert (report.still_rejected, report.rejected_users, report.redelivered) == (1, [DIGEST], 0)
    assert BIG not in b"".join(stream.messages).decode(errors="replace")
    assert rejects(people) == [("entered", "poison")]
    if kind in MORE:
        assert known(stream) == {f"u{n}" for n in range(20)}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_task_fails_once_all_else_is_delivered_and_again_until_the_member_is_cured(
    people: People, kind: str
) -> None:
    people.run(0)
    stream, delivery = Stream(), deliver_as(kind)
    for _ in range(2):
        with pytest.raises(MessageTooLarge, match=f"1 changes were not delivered, .*{DIGEST}.*rejects_") as told:
            publish(people, stream, 0, delivery, on_rejected="fail")
        assert "poison" not in str(told.value)
        assert not told.value.retry_helps
    assert len(set(stream.messages)) == len(stream.messages)
    people.put("late", email="a@example.com")
    people.run(1)
    with pytest.raises(MessageTooLarge):
        publish(people, stream, 1, delivery, on_rejected="fail")
    people.change("poison", email="p@example.com", city="Bern")
    people.run(2)
    report = publish(people, stream, 2, delivery, on_rejected="fail")
    # To mParticle's formats the update would take back what was never told; what is true is told instead.
    assert (report.still_rejected, report.redelivered, rejects(people)) == (0, 1, [])
    if kind in MORE:
        assert known(stream) == people.members()["vips"]


@pytest.mark.parametrize("kind", MORE)
def test_whatever_becomes_of_the_member_ends_in_the_truth(people: People, kind: str) -> None:
    stream, delivery = Stream(), deliver_as(kind)
    people.change("poison", email="p@example.com", city="Bern")
    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: people.change("poison", email=BIG, city=BIG),  # an update that does not fit
        lambda: people.put("other", email="o@example.com"),
        lambda: people.change("poison", city="Oslo"),
        lambda: people.change("poison", email="q@example.com"),
        lambda: people.change("poison", email=BIG, city=BIG),
        lambda: people.take("poison"),
        lambda: people.put("poison", email=BIG, city=BIG),
        lambda: people.take("poison"),
        lambda: people.put("poison", email="r@example.com", city="Bern"),
    ]
    for number, step in enumerate(steps):
        step()
        people.run(number)
        report = publish(people, stream, number, delivery)
        assert report.still_rejected == len(rejects(people))
        if not report.still_rejected:
            assert known(stream) == people.members()["vips"]
        else:
            assert known(stream) - {"poison"} == people.members()["vips"] - {"poison"}
    assert rejects(people) == []
    assert known(stream) == people.members()["vips"]


def test_what_an_earlier_identity_left_behind_is_taken_back(people: People) -> None:
    stream, delivery = (
        Stream(),
        deliver_as("mparticle", options={"forward_customer_ids": False, "message_ids": True}),
    )
    people.change("poison", email="first@example.com")
    people.run(0)
    publish(people, stream, 0, delivery)
    people.change("poison", email=BIG)
    people.run(1)
    assert publish(people, stream, 1, delivery).still_rejected == 1
    people.change("poison", email="last@example.com")
    people.run(2)
    assert publish(people, stream, 2, delivery).still_rejected == 0
    newest: dict[str, tuple[int, bool]] = {}
    for told in map(json.loads, stream.messages):
        email = told["UserIdentities"]["Email"]
        fact = int(told["MembershipChangedTimestamp"]), told["IsMember"]
        newest[email] = max(newest.get(email, fact), fact)
    assert newest["first@example.com"] == (int(epoch_seconds(day(2))), False)
    assert newest["last@example.com"] == (int(epoch_seconds(day(2))), True)


def test_a_member_who_was_never_told_of_and_has_left_is_no_concern(people: People) -> None:
    stream = Stream()
    people.run(0)
    publish(people, stream, 0, deliver_as("mparticle"))
    people.take("poison")
    people.run(1)
    report = publish(people, stream, 1, deliver_as("mparticle"), on_rejected="skip")
    # The exit itself is too large, and has nothing to undo.
    assert (report.rejected, report.still_rejected, rejects(people)) == (1, 0, [])
    assert "poison" not in known(stream)


def test_other_options_let_the_member_be_told_at_once(people: People) -> None:
    people.run(0)
    stream = Stream()
    assert publish(people, stream, 0, deliver_as()).still_rejected == 1
    report = publish(people, stream, 0, deliver_as(options={"max_users": 2}))
    assert (report.delivered, report.redelivered, report.still_rejected) == (0, 1, 0)
    assert known(stream) == people.members()["vips"]
    assert rejects(people) == []


def test_no_older_word_follows_a_newer_one_of_the_same_member(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    people.run(0)
    publish(people, stream, 0, delivery)
    for number in range(1, 4):
        people.change("u1", city=f"city {number}")
        people.change("poison", city=BIG if number < 3 else "Bern")
        people.run(number)
    publish(people, stream, 3, delivery)
    times: dict[str, list[int]] = {}
    for told in map(json.loads, stream.messages):
        for user in told["users"]:
            times.setdefault(user["user_id"], []).append(int(told["computed_time"]))
    assert all(found == sorted(found) for found in times.values())
    assert set(times["poison"]) == {int(epoch_seconds(day(3)))}


def test_the_bytes_are_the_same_on_every_attempt(people: People) -> None:
    people.run(0)
    one, other, delivery = Stream(), Stream(), deliver_as()
    publish(people, one, 0, delivery)
    ledger = people.ledger()
    ledger.read()
    ledger.append(delivery.log, DestinationDetached(), as_of=day(0))

    def die(number: int, batch: Sequence[Record]) -> list[Fate]:
        if number == 3:
            raise Killed
        return [Fate.TAKEN] * len(batch)

    other.script = die
    with pytest.raises(Killed):
        publish(people, other, 0, delivery)
    other.script = None
    publish(people, other, 0, delivery)
    assert set(one.messages) == set(other.messages)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["amplitude", "adobe"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_whichever_statement_it_dies_at_nothing_is_lost_or_told_twice_over(
    people: People, kind: str, side: str
) -> None:
    stream, delivery = Stream(), deliver_as(kind)
    people.run(0)
    publish(people, stream, 0, delivery)
    people.change("poison", email="p@example.com", city="Bern")
    people.put("second", email=BIG, city=BIG)
    people.put("late", email="l@example.com")
    people.run(1)
    died = 0
    for at in range(200):
        try:
            publish(people, stream, 1, delivery, warehouse=DiesAt(people.warehouse, at, side))
            break
        except Killed:
            died += 1
    assert died > 5
    report = publish(people, stream, 1, delivery)
    assert (report.still_rejected, rejects(people)) == (1, [("entered", "second")])
    assert known(stream) == people.members()["vips"] - {"second"}
    contents: dict[str, bytes] = {}
    for document in stream.messages:
        told = json.loads(document)
        message_id = told.get("message_id") or told["messageId"]
        assert contents.setdefault(message_id, document) == document


def test_a_try_that_breaks_off_half_way_is_gone_on_with(people: People) -> None:
    stream, delivery = Stream(), deliver_as("mparticle")
    people.put("second", email=BIG)
    people.run(0)
    publish(people, stream, 0, delivery)
    people.change("poison", email="p@example.com")
    people.change("second", email="s@example.com")
    people.run(1)
    fits = b'"CustomerId":"second"'
    stream.script = lambda _, batch: [Fate.REJECTED if fits in r.data else Fate.TAKEN for r in batch]
    with pytest.raises(DeliveryIncomplete):
        publish(people, stream, 1, delivery)
    stream.script = None
    people.take("poison", "second")
    people.run(2)
    report = publish(people, stream, 2, delivery)
    assert (report.still_rejected, rejects(people)) == (0, [])
    assert known(stream) == people.members()["vips"]


@pytest.mark.parametrize("of", [2, 4])
def test_parts_keep_their_rejects_together_and_whoever_ends_last_tries_them(people: People, of: int) -> None:
    people.put("second", email=BIG, city=BIG)
    people.run(0)
    stream, delivery = Stream(), deliver_as("mparticle")
    reports = [publish(people, stream, 0, replace(delivery, part=Part(number, of))) for number in range(of)]
    assert sum(r.delivered for r in reports) == 20
    assert sum(r.rejected for r in reports) == 2
    assert [user for _, user in rejects(people)] == ["poison", "second"]
    people.change("poison", email="p@example.com")
    people.run(1)
    reports = [
        publish(people, stream, 1, replace(delivery, part=Part(number, of))) for number in reversed(range(of))
    ]
    assert reports[-1].still_rejected == 1
    assert [user for _, user in rejects(people)] == ["second"]
    assert known(stream) == people.members()["vips"] - {"second"}
    # Another number of parts finds them, too.
    people.change("second", email="s@example.com")
    people.run(2)
    assert publish(people, stream, 2, delivery).still_rejected == 0
    assert known(stream) == people.members()["vips"]


def test_two_destinations_keep_rejects_of_their_own(people: People) -> None:
    people.run(0)
    small, large = Stream(), Stream()
    assert publish(people, small, 0, deliver_as()).still_rejected == 1
    assert publish(people, large, 0, small_delivery("large", options={"max_users": 9})).still_rejected == 0
    assert known(large) == people.members()["vips"]


def test_a_changed_mapping_is_no_reason_to_forget_a_member(people: People) -> None:
    stream, delivery = Stream(), deliver_as("mparticle")
    people.run(0)
    publish(people, stream, 0, delivery)
    other = replace(people.source, properties={"city": "town"})
    people.run(1, source=other, guards=replace_guards())
    assert publish(people, stream, 1, delivery).still_rejected == 1
    people.change("poison", email="p@example.com")
    people.run(2, source=other, guards=replace_guards())
    assert publish(people, stream, 2, delivery).still_rejected == 0
    assert known(stream) == people.members()["vips"]


def replace_guards() -> Any:
    from tests.warehouses import LET_ALL_THROUGH

    return replace(LET_ALL_THROUGH, on_schema_change="update")


def test_a_resync_tells_all_others_and_says_who_is_missing(people: People) -> None:
    people.run(0)
    stream, delivery = Stream(), deliver_as()
    publish(people, stream, 0, delivery)
    again = replace(delivery, resync="one")
    with pytest.raises(MessageTooLarge, match=DIGEST):
        resync(open_outbox(people.ledger(), stream, again), delivery)
    assert read_standing(people.ledger(), again).attached is None
    [told] = stream.consume().resyncs()
    assert (told.members, told.arrived_members, told.complete) == (21, 20, False)


def test_a_deletion_leaves_no_table_behind(people: People) -> None:
    people.run(0)
    stream, delivery = Stream(), deliver_as()
    publish(people, stream, 0, delivery)
    close(people.ledger(), day(1), exits=True)
    announce_deletion(open_outbox(people.ledger(), stream, delivery))
    assert people.tables() == set()
    assert known(stream) == frozenset()


def test_a_second_publisher_stops_the_first(people: People) -> None:
    people.run(0)
    stream, delivery = Stream(), deliver_as()
    watched = Watched(people.warehouse)

    def meanwhile(sql: str) -> None:
        if "rejects_" in sql and "CREATE TABLE" in sql:
            watched.before = lambda _: None
            publish(people, Stream(), 0, delivery)

    watched.before = meanwhile
    with pytest.raises(LedgerConflict):
        publish(people, stream, 0, delivery, warehouse=watched)
    assert publish(people, stream, 0, delivery).still_rejected == 1
    assert rejects(people) == [("entered", "poison")]


def test_a_delivery_that_is_sent_again_says_who_is_missing_again(people: People) -> None:
    people.run(0)
    people.put("late", email=BIG, city=BIG)
    people.run(1)
    stream, delivery = Stream(), deliver_as()
    publish(people, stream, 1, delivery)
    with pytest.raises(MessageTooLarge):
        publish(people, stream, 1, delivery, resend=True, on_rejected="fail")
    assert publish(people, stream, 1, delivery, resend=True).still_rejected == 2
    assert [user for _, user in rejects(people)] == ["late", "poison"]


def test_the_history_says_that_the_member_was_rejected(people: People) -> None:
    people.run(0)
    publish(people, Stream(), 0, deliver_as())
    states = [t.state for happened in find_user(people.ledger(), "poison").changes for t in happened.deliveries]
    assert states == ["rejected", "before attachment"]
    other = [t.state for happened in find_user(people.ledger(), "u1").changes for t in happened.deliveries]
    assert other == ["delivered", "before attachment"]


def test_the_ledger_names_nobody(people: People) -> None:
    people.run(0)
    publish(people, Stream(), 0, deliver_as())
    rows = people.warehouse.read_rows(f"SELECT detail FROM {people.schema}.ledger")
    assert DIGEST in str(rows)
    assert "poison" not in str(rows)
    assert BIG[:50] not in str(rows)
