"""What the retention says is gone is gone: from every table, found by looking at all of their values."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import HistoryGone
from tests.warehouses import People, Stream, day, open_outbox, read_membership, read_timeline

ONE_DAY = timedelta(days=1)
SECRET, FORMER = "gone@x.y", "former@x.y"


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse)
    people.put(*(f"u{n}" for n in range(20)), email="other@x.y")
    people.put("leaves", email=SECRET)
    people.put("changes", email=FORMER)
    return people


def live(people: People, number: int, stream: Stream | None = None, **settings: Any) -> set[str]:
    """Run and publish a day on which nearly nothing happens; gives which of the two addresses is kept."""
    if number == 3:
        people.take("leaves")
        people.change("changes", email="new@x.y")
    people.change("u1", city=f"city {number}")
    people.run(number, compaction_share=99.0, **settings)
    if stream is not None:
        open_outbox(people.ledger(), stream).drain(day(number))
    found = ""
    for name in people.tables():
        found += str(people.warehouse.read_rows(f'SELECT * FROM "{people.schema}"."{name}"'))
    return {value for value in (SECRET, FORMER) if value in found}


def test_what_a_quiet_audience_no_longer_has_is_gone_one_run_after_the_bound(people):
    stream = Stream()
    kept = [live(people, n, stream, keep_history=ONE_DAY, keep_exits=ONE_DAY) for n in range(9)]
    assert kept == [{SECRET, FORMER}] * 5 + [set()] * 4
    assert {"leaves", "changes"} - {u for _, u in read_membership(people.ledger(), day(8))} == {"leaves"}
    tables = len(people.tables())
    for number in range(9, 15):
        live(people, number, stream, keep_history=ONE_DAY, keep_exits=ONE_DAY)
        assert len(people.tables()) <= tables + 1


def test_who_has_left_is_known_for_as_long_as_is_said_and_no_longer(people):
    stream = Stream()
    kept = [live(people, n, stream, keep_history=ONE_DAY, keep_exits=5 * ONE_DAY) for n in range(10)]
    assert kept == [{SECRET, FORMER}] * 5 + [{SECRET}] * 3 + [set()] * 2


def test_a_longer_history_can_be_asked_for_all_the_time(people):
    kept = []
    for number in range(9):
        kept.append(live(people, number, keep_history=4 * ONE_DAY, keep_exits=ONE_DAY))
        for back in range(min(number, 4) + 1):
            members = {u for _, u in read_membership(people.ledger(), day(number - back))}
            assert ("leaves" in members) == (number - back < 3)
    assert kept == [{SECRET, FORMER}] * 8 + [set()]
    with pytest.raises(HistoryGone):
        read_membership(people.ledger(), day(2))


def test_what_a_destination_has_not_got_is_kept(people):
    stream = Stream()
    for number in range(3):
        live(people, number, stream, keep_history=ONE_DAY, keep_exits=ONE_DAY)
    for number in range(3, 7):
        assert live(people, number, keep_history=ONE_DAY, keep_exits=ONE_DAY) == {SECRET, FORMER}
    live(people, 7, stream, keep_history=ONE_DAY, keep_exits=ONE_DAY)
    assert SECRET.encode() not in b"".join(stream.messages[-1:])
    assert live(people, 8, stream, keep_history=ONE_DAY, keep_exits=ONE_DAY) == set()
    assert read_timeline(people.ledger()).newest.counts.members == 21


def test_for_ever_is_for_ever(people):
    kept = [live(people, n, keep_history=ONE_DAY, keep_exits=None) for n in range(8)]
    assert kept == [{SECRET, FORMER}] * 5 + [{SECRET}] * 3
