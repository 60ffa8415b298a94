"""Dead letters by age: each is tried once more, given up, and reported by one run; whoever stays enters later.

On the real warehouses, in every format. Only the clock of the worker is moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.core.exceptions import LedgerConflict, MessageTooLarge
from airflow_kinesis_audience.core.outbox import giving_up
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.core.outbox.replay import Span, replay
from airflow_kinesis_audience.core.readers.partitions import Part
from tests.state_stories import load, open_stage
from tests.warehouses import (
    DiesAt,
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
    from pathlib import Path

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.report import Report
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

BIG, BIGGER = "x" * 10_000, "y" * 11_000
FORMER = "former@example.org"
KEEP = timedelta(days=400)
DIGEST = hashlib.sha256(b"poison").hexdigest()[:12]
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "amplitude": {"options": {"max_users": 2, "user_properties": True}},
    "mparticle": {"message_format": "mparticle_audience", "options": {"message_ids": True}},
    "events": {
        "message_format": "mparticle_events",
        "options": {"attribute_changes": True, "identity_changes": True},
    },
    "adobe": {"message_format": "adobe_profile", "options": {"message_ids": True}},
}
MPARTICLE = FORMATS["mparticle"]


class Clock(datetime):
    """The worker's clock: days since it was set."""

    days = 0.0

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2026, 1, 1, 12, 0, 0, 250, tz or UTC) + timedelta(days=cls.days)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "days", 0.0)
    monkeypatch.setattr(giving_up, "datetime", Clock)
    return Clock


@pytest.fixture
def people(warehouse: SqlWarehouse) -> People:
    return make_people(warehouse)


def make_people(warehouse: SqlWarehouse) -> People:
    people = People(warehouse)
    people.put("u0", "u1", email="a@example.com", city="Rome")
    people.put("poison", email=FORMER, city="Rome")
    return people


def deliver_as(kind: str = "amplitude", **changed: Any) -> Delivery:
    return small_delivery("b", **{**FORMATS[kind], **changed})


def publish(
    people: People, stream: Stream, number: int, delivery: Delivery, *, warehouse: Any = None, **how: Any
) -> Report:
    outbox = open_outbox(people.ledger(warehouse), stream, delivery)
    outbox.drain(day(number), **{"keep_dead_letters": KEEP, "on_rejected": "fail", **how})
    return outbox.report


def refused(people: People, stream: Stream, number: int, delivery: Delivery, **how: Any) -> str:
    """Publish, and see that it fails for members that are too large; gives what it says."""
    with pytest.raises(MessageTooLarge) as error:
        publish(people, stream, number, delivery, **how)
    assert not error.value.retry_helps
    assert "poison" not in str(error.value)
    assert FORMER not in str(error.value)
    return str(error.value)


def letters(people: People) -> list[tuple[Any, ...]]:
    """Read the kept members: action, user, whether open, whether the destination has lost values of them."""
    found = sorted(name for name in people.tables() if name.startswith("rejects"))
    assert len(found) <= 1, "one table at a time"
    query = (
        "SELECT action, user_id, recorded_at IS NOT NULL, lost IS NOT NULL FROM {}.{} WHERE action <> 'audience' "
        "ORDER BY user_id"
    )
    return [tuple(row) for n in found for row in people.warehouse.read_rows(query.format(people.schema, n))]


def values(people: People) -> str:
    """Read all that is in tables of dead letters."""
    found = (name for name in people.tables() if name.startswith("rejects"))
    return str([people.warehouse.read_rows(f"SELECT * FROM {people.schema}.{name}") for name in found])


def known(stream: Stream) -> frozenset[str]:
    return members_of(stream.consume()).get("vips", frozenset())


def grow(people: People, stream: Stream, delivery: Delivery, *columns: str) -> None:
    """Let the destination have a member, who is then too large."""
    people.run(0)
    publish(people, stream, 0, delivery)
    people.change("poison", **dict.fromkeys(columns or ("email", "city"), BIG))
    people.run(1)
    assert "1 changes were not delivered" in refused(people, stream, 1, delivery)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_member_who_never_fitted_is_given_up_once_and_enters_later(people: People, kind: str) -> None:
    people.change("poison", email=BIG, city=BIG)
    stream, delivery = Stream(), deliver_as(kind)
    people.run(0)
    assert "every run retries them" in refused(people, stream, 0, delivery)
    Clock.days = 399.9
    people.run(1)
    assert "every run retries them" in refused(people, stream, 1, delivery)
    Clock.days = 400
    people.run(2)
    text = refused(people, stream, 2, delivery)
    assert "1 dead letters were given up" in text
    assert "lacks 1 members, keeps former values of 0 members, and keeps 0 users" in text
    assert DIGEST in text
    assert letters(people) == [("entered", "poison", False, False)]
    people.put("u2", email="b@example.com")
    people.run(3)
    report = publish(people, stream, 3, delivery)
    assert (report.given_up, report.still_rejected, report.rejected_users) == (0, 0, [])
    assert known(stream) == {"u0", "u1", "u2"}
    people.change("poison", email="p@example.com", city="Bern")
    people.run(4)
    assert publish(people, stream, 4, delivery).redelivered == 1
    assert known(stream) == people.members()["vips"]
    assert letters(people) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_of_a_member_who_grew_the_former_values_go_and_what_fits_later_is_an_entry(
    people: People, kind: str
) -> None:
    stream, delivery = Stream(), deliver_as(kind)
    grow(people, stream, delivery)
    assert FORMER in values(people)
    Clock.days = 400
    text = refused(people, stream, 1, delivery)
    assert "lacks 0 members, keeps former values of 1 members, and keeps 0 users" in text
    assert letters(people) == [("entered", "poison", False, True)]
    assert FORMER not in values(people)
    assert known(stream) == people.members()["vips"], "it keeps believing what it had"
    before = len(stream.messages)
    people.change("poison", email="p@example.com", city="Bern")
    people.run(2)
    publish(people, stream, 2, delivery)
    assert (letters(people), known(stream)) == ([], people.members()["vips"])
    news = [json.loads(m) for m in stream.messages[before:] if b"poison" in m]
    assert any("p@example.com" in json.dumps(m) or "Bern" in json.dumps(m) for m in news)
    if kind == "mparticle":
        assert [m["IsMember"] for m in news] == [True]
    if kind == "events":
        names = [e["data"].get("event_name") for m in news for e in m["events"]]
        assert "Audience Entered" in names


def test_an_exit_that_does_not_fit_is_given_up_and_said_to_be_lost(people: People) -> None:
    people.change("poison", email=BIG)
    stream = Stream()
    large = deliver_as("mparticle")
    large = replace(large, limits=replace(large.limits, record_bytes=20_000))
    people.run(0)
    publish(people, stream, 0, large)
    assert "poison" in known(stream)
    people.take("poison")
    people.run(1)
    delivery = deliver_as("mparticle")
    refused(people, stream, 1, delivery)
    assert letters(people) == [("exited", "poison", True, False)]
    Clock.days = 401
    assert "and keeps 1 users who have exited" in refused(people, stream, 1, delivery)
    assert letters(people) == []
    people.run(2)
    report = publish(people, stream, 2, delivery)
    assert (report.given_up, report.still_rejected) == (0, 0)
    assert "poison" in known(stream), "it keeps believing it"
    people.put("poison", email="p@example.com")
    people.run(3)
    assert publish(people, stream, 3, delivery).still_rejected == 0
    assert letters(people) == []


def test_the_exit_of_a_given_up_member_is_never_lost_in_silence(people: People) -> None:
    stream, delivery = Stream(), deliver_as("mparticle")
    grow(people, stream, delivery)
    Clock.days = 400
    refused(people, stream, 1, delivery)
    people.take("poison")
    people.run(2)
    assert "every run retries them" in refused(people, stream, 2, delivery)
    assert letters(people) == [("exited", "poison", True, True)]
    people.put("poison", email=BIGGER)
    people.run(3)
    assert "every run retries them" in refused(people, stream, 3, delivery)
    assert letters(people) == [("entered", "poison", True, True)]
    people.take("poison")
    people.run(4)
    refused(people, stream, 4, delivery)
    assert letters(people) == [("exited", "poison", True, True)]
    Clock.days = 799
    people.run(5)
    assert "every run retries them" in refused(people, stream, 5, delivery)
    Clock.days = 800
    assert "and keeps 1 users who have exited" in refused(people, stream, 5, delivery)
    people.run(6)
    assert publish(people, stream, 6, delivery).still_rejected == 0
    people.put("poison", email="p@example.com")
    people.run(7)
    publish(people, stream, 7, delivery)
    assert (letters(people), known(stream)) == ([], people.members()["vips"])


@pytest.mark.parametrize("kind", ["amplitude", "adobe"])
def test_the_exit_of_a_given_up_member_that_fits_ends_it(people: People, kind: str) -> None:
    stream, delivery = Stream(), deliver_as(kind)
    grow(people, stream, delivery, "city")
    Clock.days = 400
    refused(people, stream, 1, delivery)
    people.take("poison")
    people.run(2)
    assert publish(people, stream, 2, delivery).still_rejected == 0
    assert known(stream) == {"u0", "u1"}
    assert letters(people) == []


def test_a_new_change_that_does_not_fit_is_a_new_dead_letter(people: People) -> None:
    stream, delivery = Stream(), deliver_as("mparticle")
    grow(people, stream, delivery, "email")
    Clock.days = 400
    refused(people, stream, 1, delivery)
    people.change("poison", email=BIGGER)
    people.run(2)
    assert "1 changes were not delivered" in refused(people, stream, 2, delivery)
    assert letters(people) == [("entered", "poison", True, True)]
    assert BIG not in values(people)
    Clock.days = 799
    people.run(3)
    assert "1 changes were not delivered" in refused(people, stream, 3, delivery)
    Clock.days = 800
    said = refused(people, stream, 3, delivery)
    assert "1 dead letters were given up" in said
    assert "lacks 0 members, keeps former values of 1 members" in said, "it has them still"


def test_age_counts_from_the_recording_of_each_and_survives_what_is_written_anew(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    people.change("poison", city=BIG)
    for number in range(5):
        Clock.days = 100 * number
        if number == 2:
            people.put("second", city=BIG)
        people.change("poison", city=BIG + str(number))
        people.change("u1", city=f"c{number}")
        people.run(number)
        text = refused(people, stream, number, delivery)
        assert ("1 dead letters were given up" in text) == (number == 4)
    assert "1 more dead letters are left, and every run retries them" in text
    assert letters(people) == [("entered", "poison", False, False), ("entered", "second", True, False)]
    people.run(5)
    text = refused(people, stream, 5, delivery)
    assert "1 changes were not delivered" in text
    assert hashlib.sha256(b"second").hexdigest()[:12] in text
    assert DIGEST not in text


def test_each_is_tried_once_more_in_the_very_attempt(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    tries = count_tries(people)
    publish(people, stream, 1, delivery, on_rejected="skip")
    assert count_tries(people) == tries, "at one instant with one config they are tried once"
    Clock.days = 400
    refused(people, stream, 1, delivery)
    assert count_tries(people) > tries
    people.change("poison", email="p@example.com", city="Bern")
    people.run(2)
    assert (publish(people, stream, 2, delivery).given_up, letters(people)) == (0, [])


def test_what_fits_at_the_last_try_is_delivered(people: People) -> None:
    stream, delivery = Stream(), deliver_as("mparticle")
    grow(people, stream, delivery)
    people.change("poison", email="p@example.com")
    people.run(2)
    Clock.days = 4_000
    report = publish(people, stream, 2, delivery)
    assert (report.redelivered, report.given_up, letters(people)) == (1, 0, [])
    assert known(stream) == people.members()["vips"]


def count_tries(people: People) -> int:
    rows = people.warehouse.read_rows(f"SELECT detail FROM {people.schema}.ledger WHERE event = 'rejected'")
    return sum(bool(json.loads(detail).get("begun")) for (detail,) in rows)


def test_who_skips_what_is_too_large_hears_of_it_in_the_summary_of_one_run(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    people.change("poison", city=BIG)
    people.run(0)
    assert publish(people, stream, 0, delivery, on_rejected="skip").still_rejected == 1
    Clock.days = 400
    people.run(1)
    report = publish(people, stream, 1, delivery, on_rejected="skip")
    assert (report.given_up, report.given_up_users, report.still_rejected) == (1, [DIGEST], 0)
    people.run(2)
    report = publish(people, stream, 2, delivery, on_rejected="skip")
    assert (report.given_up, report.given_up_users) == (0, [])


def test_nobody_is_given_up_for_whom_no_time_is_set(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    Clock.days = 10_000
    people.run(2)
    assert "every run retries them" in refused(people, stream, 2, delivery, keep_dead_letters=None)
    assert letters(people) == [("updated", "poison", True, False)]
    assert "1 dead letters were given up" in refused(people, stream, 2, delivery, keep_dead_letters=timedelta())


def test_a_run_that_is_cleared_after_its_report_ends_green(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    Clock.days = 400
    for _ in range(2):  # the first may have been killed before it could fail
        assert "1 dead letters were given up" in refused(people, stream, 1, delivery)
    assert publish(people, stream, 1, delivery).given_up == 0


def test_a_retry_reports_it_also_if_a_later_run_was_faster(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    Clock.days = 400
    refused(people, stream, 1, delivery)  # or killed just before
    for number in (2, 3):
        people.run(number)
        assert publish(people, stream, number, delivery).given_up == 0
    assert "1 dead letters were given up" in refused(people, stream, 1, delivery)
    assert publish(people, stream, 1, delivery).given_up == 0


def test_a_run_that_was_killed_for_good_leaves_the_report_to_the_next(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    Clock.days = 400
    watched = DiesAt(people.warehouse, 10_000, "after")

    def die_once_given_up(_: str) -> None:
        rows = people.warehouse.read_rows(f"SELECT detail FROM {people.schema}.ledger WHERE event = 'rejected'")
        if any('"report"' in detail for (detail,) in rows):
            watched.kill()

    watched.after = die_once_given_up
    with pytest.raises(Killed):
        publish(people, stream, 1, delivery, warehouse=watched)
    people.run(2)
    assert "1 dead letters were given up" in refused(people, stream, 2, delivery)
    people.run(3)
    assert publish(people, stream, 3, delivery).given_up == 0


@pytest.mark.slow
@pytest.mark.parametrize("side", [pytest.param("before", marks=pytest.mark.long_story), "after"])
@pytest.mark.parametrize("kind", ["mparticle", pytest.param("adobe", marks=pytest.mark.long_story)])
def test_whichever_statement_it_dies_at_the_retry_reports_it_and_the_next_run_does_not(
    warehouse: SqlWarehouse, kind: str, side: str
) -> None:
    delivery, died, at = deliver_as(kind), 0, 0
    for _ in range(200):
        people, stream = make_people(warehouse), Stream()
        let_two_grow_old(people, stream, delivery)
        if not at:  # what is before, other tests die at
            at = count_statements_before_letters(people, stream, delivery)
            continue
        try:
            publish(people, stream, 2, delivery, warehouse=DiesAt(people.warehouse, at, side))
        except Killed:
            died, at = died + 1, at + 1
        except MessageTooLarge:
            break
        text = refused(people, stream, 2, delivery)
        assert "2 dead letters were given up" in text
        assert "lacks 1 members, keeps former values of 1 members" in text
        assert letters(people) == [("entered", "never", False, False), ("entered", "poison", False, True)]
        people.change("poison", email="p@example.com", city="Bern")
        people.run(3)
        report = publish(people, stream, 3, delivery)
        assert (report.given_up, report.still_rejected) == (0, 0)
        assert known(stream) == people.members()["vips"] - {"never"}
    assert died > 8


def let_two_grow_old(people: People, stream: Stream, delivery: Delivery) -> None:
    Clock.days = 0
    people.put("never", email=BIG, city=BIG)
    people.run(0)
    publish(people, stream, 0, delivery, on_rejected="skip")
    people.change("poison", email=BIG, city=BIG)
    people.run(1)
    publish(people, stream, 1, delivery, on_rejected="skip")
    Clock.days = 400
    people.run(2)


def count_statements_before_letters(people: People, stream: Stream, delivery: Delivery) -> int:
    found: list[str] = []
    with pytest.raises(MessageTooLarge):
        publish(people, stream, 2, delivery, warehouse=Watched(people.warehouse, before=found.append))
    first = next(n for n, sql in enumerate(found) if "rejects_" in sql)
    return first - 3  # it is announced before


@pytest.mark.parametrize("of", [2, 4])
def test_of_several_tasks_the_one_that_ends_last_gives_up_and_reports(people: People, of: int) -> None:
    stream, delivery = Stream(), deliver_as("mparticle")
    parts = [replace(delivery, part=Part(number, of)) for number in range(of)]
    for number, email in enumerate((FORMER, BIG)):
        people.change("poison", email=email)
        people.run(number)
        reports = [publish(people, stream, number, part, on_rejected="skip") for part in parts]
    assert reports[-1].still_rejected == 1
    people.run(2)
    Clock.days = 400
    failed = []
    for part in reversed(parts):
        try:
            publish(people, stream, 2, part)
        except MessageTooLarge as error:
            failed.append("given up" in str(error))
    assert failed == [*[False] * (of - 1), True]
    for part in parts[1:]:
        assert publish(people, stream, 2, part).given_up == 0
    people.run(3)
    assert [publish(people, stream, 3, part).given_up for part in parts] == [0] * of
    people.change("poison", email="p@example.com")
    people.run(4)
    for part in parts:  # a part's own update takes back what was never sent; the last one sends an entry
        publish(people, stream, 4, part, on_rejected="skip")
    assert (letters(people), known(stream)) == ([], people.members()["vips"])


def test_a_replay_gives_nobody_up_and_keeps_what_is_to_be_reported(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    people.change("poison", city=BIG)
    people.run(0)
    refused(people, stream, 0, delivery)
    Clock.days = 800
    again = replace(delivery, replay="one")
    outbox = open_outbox(people.ledger(), stream, again)
    replay(outbox, delivery, Span(since=day(0)), on_rejected="skip")
    assert outbox.report.given_up == 0
    people.run(1)
    assert "were given up" in refused(people, stream, 1, delivery)
    assert letters(people) == [("entered", "poison", False, True)], "something may have come before the replay"


def test_a_deletion_gives_nobody_up(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    people.change("poison", city=BIG)
    people.run(0)
    refused(people, stream, 0, delivery)
    Clock.days = 800
    close(people.ledger(), day(1), exits=True)
    outbox = open_outbox(people.ledger(), stream, delivery)
    announce_deletion(outbox)
    assert outbox.report.given_up == 0
    assert people.tables() == set()


def test_a_second_publisher_stops_the_first_and_one_of_them_reports(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    Clock.days = 400
    watched = DiesAt(people.warehouse, 10_000, "before")

    def meanwhile(sql: str) -> None:
        if "rejects_" in sql and "CREATE TABLE" in sql:
            watched.before = lambda _: None
            refused(people, stream, 1, delivery)

    watched.before = meanwhile
    with pytest.raises((LedgerConflict, MessageTooLarge)):
        publish(people, stream, 1, delivery, warehouse=watched)
    people.run(2)
    assert publish(people, stream, 2, delivery).given_up == 0


def test_status_says_how_old_the_oldest_is_and_why_it_is_kept(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    people.change("poison", city=BIG)
    people.run(0)
    refused(people, stream, 0, delivery)
    Clock.days = 10
    people.put("second", city=BIG)
    people.run(1)
    refused(people, stream, 1, delivery)
    status = read_status(people.ledger(), 1)
    [name] = [n for n in people.tables() if n.startswith("rejects")]
    assert (status["dead_letters"], status["oldest_dead_letter"]["since"]) == (2, "2026-01-01T12:00:00Z")
    [line] = [line for line in describe(status) if "dead letter" in line]
    assert f"2; the oldest dead letter is kept since 2026-01-01T12:00:00Z, in {name}: its message is too" in line
    assert "as long as keep_dead_letters of the publish task says" in line
    Clock.days = 400
    refused(people, stream, 1, delivery)
    status = read_status(people.ledger(), 1)
    assert (status["dead_letters"], status["oldest_dead_letter"]["since"]) == (1, "2026-01-11T12:00:00Z")
    Clock.days = 410
    refused(people, stream, 1, delivery)
    status = read_status(people.ledger(), 1)
    assert (status["dead_letters"], status["oldest_dead_letter"]) == (0, None)
    assert "dead letter" not in "\n".join(describe(status))


@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_where_an_older_version_kept_no_time_the_age_begins_with_the_next_publish(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str
) -> None:
    dsn = request.getfixturevalue("postgres_database") if engine == "postgres" else ""
    load(engine, "rejects", tmp_path, dsn)
    limits = replace(small_delivery().limits, record_bytes=1_000)
    options = {"max_users": 2, "user_properties": True}
    delivery = small_delivery("rejects", options=options, limits=limits)
    with open_stage(engine, "rejects", tmp_path, dsn) as stage:
        letter = read_status(stage.ledger(), 1)["oldest_dead_letter"]
        assert (letter["since"], "recorded by an older version" in letter["sentence"]) == (None, True)
        stage.fill({("vips", "large"): "x" * 1_400, ("vips", "small"): "Bern"})
        stage.run(2)
        Clock.days = 1_000
        how = {"on_rejected": "skip", "keep_dead_letters": KEEP}
        sums = [stage.publish(2, delivery, **how)["still_rejected"]]
        assert read_standing(stage.ledger(), delivery).dead_letters.since == Clock.now().replace(microsecond=0)
        Clock.days = 1_400
        sums.append(stage.publish(2, delivery, **how)["still_rejected"])
        assert sums == [1, 0]


@pytest.mark.parametrize("kind", ["amplitude", "adobe"])
def test_a_replay_keeps_the_age_of_a_letter_that_it_finds_again(people: People, kind: str) -> None:
    stream, delivery = Stream(), deliver_as(kind)
    grow(people, stream, delivery)
    Clock.days = 300
    people.put("second", email=BIG, city=BIG)
    people.run(2)
    again = open_outbox(people.ledger(), stream, replace(delivery, replay="one"))
    replay(again, delivery, Span(since=day(0)), on_rejected="skip")
    assert again.report.still_rejected == 2
    assert read_standing(people.ledger(), delivery).dead_letters.since == datetime(2026, 1, 1, 12, tzinfo=UTC)
    Clock.days = 399.9
    assert "every run retries them" in refused(people, stream, 2, delivery)
    Clock.days = 400
    text = refused(people, stream, 2, delivery)
    assert "1 dead letters were given up" in text
    assert "1 more dead letters are left" in text


def test_whoever_forgets_a_user_keeps_the_ages_of_the_others(people: People) -> None:
    stream, delivery = Stream(), deliver_as()
    grow(people, stream, delivery)
    Clock.days = 300
    people.put("gone", "open", city=BIG)
    people.run(2)
    refused(people, stream, 2, delivery)
    Clock.days = 400
    refused(people, stream, 2, delivery)
    found = forget(people.ledger(), ["gone"])
    publish(people, stream, 2, delivery, on_rejected="skip")
    assert found.exits_at is not None
    outbox = open_outbox(people.ledger(), stream, delivery)
    outbox.drain(found.exits_at, on_rejected="skip")
    assert not forget(people.ledger(), ["gone"]).waits_for
    assert letters(people) == [("entered", "open", True, False), ("entered", "poison", False, True)]
    standing = read_standing(people.ledger(), delivery).dead_letters
    assert (standing.rows, standing.given_up) == (2, 1)
    assert standing.since == (Clock.now() - timedelta(days=100)).replace(microsecond=0)
