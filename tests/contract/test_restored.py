"""A ledger that goes back in time, or loses rows: it is noticed, and a resync leaves consumers with what is true.

The backup is restored as people do it: what was written after it is gone, rows and tables alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import LedgerBehind, LedgerUnreadable
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.outbox.remembered import Remembered, find_news
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.state import delivery_details
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.ledger_tables import PrimaryKeyLedgerTable
from tests.warehouses import Killed, People, Stream, Watched, day, members_of, open_outbox, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.ledger_rows import Row
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse


@dataclass
class Airflow:
    """People, a destination, and what Airflow remembers of it."""

    people: People
    stream: Stream = field(default_factory=Stream)
    remembered: Remembered | None = None

    def publish(self, number: int, warehouse: SqlWarehouse | None = None) -> None:
        outbox = open_outbox(self.people.ledger(warehouse), self.stream)
        try:
            outbox.drain(day(number), remembered=self.remembered)
        finally:
            self.remembered = find_news(outbox.log, self.remembered) or self.remembered

    def run(self, number: int) -> None:
        self.people.run(number)
        self.publish(number)

    def resync(self, name: str = "first", warehouse: SqlWarehouse | None = None) -> None:
        delivery = small_delivery()
        outbox = open_outbox(self.people.ledger(warehouse), self.stream, replace(delivery, resync=name))
        resync(outbox, delivery, remembered=self.remembered)
        outbox.ledger.read()
        self.remembered = find_news(DeliveryLog(outbox.ledger, delivery), self.remembered) or self.remembered

    def check(self) -> None:
        """Check that the consumer knows who is a member, in whichever order it reads, and of each id one text."""
        texts: dict[str, bytes] = {}
        backwards = Stream()
        backwards.taken = self.stream.taken[::-1]
        for stream in (self.stream, backwards):
            assert members_of(stream.consume()) == self.people.members()
        for message in self.stream.messages:
            assert texts.setdefault(json.loads(message)["message_id"], message) == message


@pytest.fixture
def airflow(warehouse: SqlWarehouse) -> Airflow:
    return Airflow(People(warehouse))


class Backup:
    """What a state was; to restore it undoes what came after."""

    def __init__(self, people: People) -> None:
        self._people, self._tables = people, people.tables()
        self._rows = self._read_numbers()

    def _read_numbers(self) -> set[tuple[str, int]]:
        query = f"SELECT log, sequence FROM {self._people.schema}.ledger"
        return {(log, int(number)) for log, number in self._people.warehouse.read_rows(query)}

    def restore(self) -> None:
        warehouse, schema = self._people.warehouse, self._people.schema
        for log, number in self._read_numbers() - self._rows:
            warehouse.execute(f"DELETE FROM {schema}.ledger WHERE log = '{log}' AND sequence = {number}")
        for name in self._people.tables() - self._tables:
            warehouse.execute(f'DROP TABLE {schema}."{name}"')


def lose_a_day(airflow: Airflow) -> Backup:
    """Let somebody enter on a day that a backup of the day before takes back, and leave before the next run."""
    airflow.people.put("stays", "leaves")
    airflow.run(0)
    backup = Backup(airflow.people)
    airflow.people.put("in the gap")
    airflow.run(1)
    backup.restore()
    airflow.people.take("in the gap")
    return backup


def test_who_entered_and_left_in_the_gap_is_no_member_after_a_resync(airflow: Airflow) -> None:
    lose_a_day(airflow)
    airflow.people.run(2)
    before = len(airflow.stream.taken)
    with pytest.raises(LedgerBehind, match=r"up to 2026-01-02T00:00:00Z, and the ledger ends at 2026-01-01"):
        airflow.publish(2)
    assert len(airflow.stream.taken) == before
    airflow.resync()
    airflow.check()
    airflow.people.take("leaves")
    airflow.people.put("later")
    airflow.run(3)
    airflow.check()


def test_a_run_of_the_gap_that_is_cleared_gives_no_id_to_other_users(airflow: Airflow) -> None:
    lose_a_day(airflow)
    airflow.people.put("instead")
    airflow.people.run(1)
    with pytest.raises(LedgerBehind):
        airflow.publish(1)
    airflow.people.run(2)
    airflow.resync()
    airflow.publish(2)
    airflow.check()


def test_a_resync_that_would_not_be_newer_than_what_was_sent_says_what_to_do(airflow: Airflow) -> None:
    lose_a_day(airflow)
    for number in (None, 1):
        if number is not None:
            airflow.people.run(number)
        with pytest.raises(LedgerBehind, match="Run the diff task for a later instant"):
            airflow.resync()
    airflow.people.run(2)
    airflow.resync()
    airflow.check()


def test_a_ledger_that_never_had_the_destination_is_behind_too(airflow: Airflow) -> None:
    airflow.people.put("stays", "leaves")
    airflow.people.run(0)
    backup = Backup(airflow.people)
    airflow.publish(0)
    airflow.people.take("leaves")
    backup.restore()
    airflow.people.run(1)
    with pytest.raises(LedgerBehind, match="ends at nothing"):
        airflow.publish(1)
    airflow.resync()
    airflow.check()


def test_a_resync_that_is_killed_after_any_statement_is_gone_on_with(airflow: Airflow) -> None:
    lose_a_day(airflow)
    airflow.people.run(2)
    for at in range(40):
        dying, seen = Watched(airflow.people.warehouse), []

        def die(sql: str, dying: Watched = dying, seen: list[str] = seen, at: int = at) -> None:
            seen.append(sql)
            if len(seen) > at:
                dying.kill()

        dying.after = die
        try:
            airflow.resync(warehouse=dying)
        except Killed:
            continue
        break
    assert at > 3
    airflow.check()
    airflow.run(3)
    airflow.check()


def test_a_task_that_was_at_work_when_the_backup_was_made_does_not_stop_the_resync(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_details, "SENDING_SECONDS", 0.3)
    people = airflow.people
    people.put("stays")
    airflow.run(0)
    people.put("in the gap")
    people.run(1)

    def publish(warehouse: Any) -> None:
        outbox = open_outbox(people.ledger(warehouse), airflow.stream, small_delivery(owner="publish"))
        outbox.drain(day(1), remembered=airflow.remembered)
        airflow.remembered = find_news(outbox.log, airflow.remembered)

    dying = Watched(people.warehouse)

    def die_at_work(sql: str) -> None:
        if people.ledger().read().delivery(small_delivery().log).owner:
            dying.kill()

    dying.after = die_at_work
    with pytest.raises(Killed):
        publish(dying)
    backup = Backup(people)
    publish(people.warehouse)
    backup.restore()
    people.take("in the gap")
    people.run(2)
    with pytest.raises(LedgerBehind):
        airflow.publish(2)
    airflow.resync()
    airflow.check()
    airflow.run(3)
    airflow.check()


def test_a_first_run_that_is_computed_again_after_its_members_were_sent_is_noticed(airflow: Airflow) -> None:
    people = airflow.people
    people.put("in the gap")
    people.run(0)
    backup = Backup(people)
    airflow.publish(0)
    backup.restore()
    people.take("in the gap")
    people.put("instead")
    people.run(0)
    with pytest.raises(LedgerBehind):
        airflow.publish(0)
    people.run(1)
    airflow.resync()
    airflow.check()


def test_a_backup_of_before_the_first_run_was_computed_again_is_noticed(airflow: Airflow) -> None:
    people = airflow.people
    people.put("stays", "in the gap")
    people.run(0)
    backup = Backup(people)
    people.put("late")
    people.run(0)
    airflow.publish(0)
    backup.restore()
    people.take("in the gap")
    people.run(0)
    with pytest.raises(LedgerBehind):
        airflow.publish(0)
    people.run(1)
    airflow.resync()
    airflow.check()


def test_a_backup_that_is_restored_once_more_after_a_resync_is_noticed(airflow: Airflow) -> None:
    backup = lose_a_day(airflow)
    for number in (2, 3):
        airflow.people.run(number)
        with pytest.raises(LedgerBehind):
            airflow.publish(number)
        airflow.resync(f"after {number}")
        airflow.check()
        if number == 2:
            backup.restore()
            airflow.people.put("after the resync")
    airflow.people.take("leaves")
    airflow.run(4)
    airflow.check()


def test_a_backup_of_when_the_destination_was_attached_and_nothing_delivered_is_noticed(airflow: Airflow) -> None:
    people = airflow.people
    people.put("stays", "in the gap")
    people.run(0)
    late, backups = Watched(people.warehouse), []
    late.before = lambda sql: backups.append(Backup(people)) if "snapshot_" in sql and not backups else None
    airflow.publish(0, late)
    backups[0].restore()
    people.take("in the gap")
    people.run(1)
    with pytest.raises(LedgerBehind, match="ends at nothing"):
        airflow.publish(1)
    airflow.resync()
    airflow.check()


def test_a_destination_that_was_detached_is_not_behind(airflow: Airflow) -> None:
    airflow.people.put("u")
    airflow.run(0)
    detach(airflow.people.ledger(), [small_delivery().log])
    airflow.publish(0)
    detach(airflow.people.ledger(), [small_delivery().log])
    airflow.people.put("v")
    airflow.run(1)
    airflow.check()


def test_two_states_of_one_name_share_no_message_id(warehouse: SqlWarehouse) -> None:
    ids = []
    for _ in range(2):
        airflow = Airflow(People(warehouse))
        airflow.people.put("u")
        airflow.run(0)
        ids.append({json.loads(m)["message_id"] for m in airflow.stream.messages})
    assert not ids[0] & ids[1]


def test_what_another_state_has_delivered_is_no_concern(warehouse: SqlWarehouse) -> None:
    airflow = Airflow(People(warehouse))
    airflow.remembered = Remembered(epoch="of another state", as_of=day(9))
    airflow.people.put("u")
    airflow.run(0)
    airflow.check()


class OneRowGone(PrimaryKeyLedgerTable):
    """Rows of a ledger but one."""

    gone: tuple[str, int] = ("", 0)

    def read(self, known: dict[str, int]) -> list[Row]:  # type: ignore[override]
        return [row for row in super().read(known) if (row.log, row.sequence) != self.gone]


def rows_before_others(rows: list[Row]) -> Iterator[Row]:
    last = {row.log: row.sequence for row in rows}
    return (row for row in rows if row.sequence < last[row.log] and row.event != "checkpoint")


def test_a_row_that_is_deleted_anywhere_in_a_log_is_noticed(airflow: Airflow) -> None:
    for number in range(3):
        airflow.people.put(f"u{number}")
        airflow.run(number)
    people = airflow.people
    table = OneRowGone(people.warehouse, people.schema, "dag.diff")
    gone = list(rows_before_others(table.read({})))
    assert len({row.log for row in gone}) == 2
    assert Ledger(people.warehouse, people.schema, "dag.diff", table).read().timeline.newest is not None
    for row in gone:
        table.gone = row.log, row.sequence
        with pytest.raises(LedgerUnreadable):
            Ledger(people.warehouse, people.schema, "dag.diff", table).read()


def test_rows_of_a_time_without_digests_are_followed_by_rows_that_have_them(airflow: Airflow) -> None:
    airflow.people.put("u")
    airflow.run(0)
    people = airflow.people
    rows = PrimaryKeyLedgerTable(people.warehouse, people.schema, "dag.diff").read({})
    for row in rows:
        detail = {n: v for n, v in json.loads(row.detail).items() if n != "before"}
        mark = people.warehouse.placeholder
        people.warehouse.execute(
            f"UPDATE {people.schema}.ledger SET detail = {mark} WHERE log = {mark} AND sequence = {mark}",
            [json.dumps(detail, sort_keys=True), row.log, row.sequence],
        )
    people.put("v")
    airflow.run(1)
    airflow.check()
