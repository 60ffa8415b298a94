"""Two tasks at once, or one whose answer was lost: nothing that counts is dropped, nothing stale is put.

The second one runs at a chosen statement of the first one, on a connection of its own, and ends before it goes on.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    LedgerConflict,
    ReleaseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.state import ledger_claims
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG
from tests.warehouses import (
    Fate,
    People,
    Stream,
    Watched,
    day,
    open_outbox,
    read_membership,
    read_timeline,
    small_delivery,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=["keys", "claims"])
def another(request, reopen) -> Callable[[], Any]:
    """Open another connection; with ``claims`` as if the engine enforced no keys."""

    def open_another() -> Any:
        opened = reopen()
        if request.param == "claims":
            opened.dialect = replace(opened.dialect, enforces_keys=False)
        return opened

    return open_another


@pytest.fixture
def people(another) -> People:
    return People(another())


def once(does: Callable[[], object], when: Callable[[str], bool]) -> Callable[[str], None]:
    """Do something at the first statement of a kind."""
    seen: list[str] = []

    def look(sql: str) -> None:
        if not seen and when(sql):
            seen.append(sql)
            does()

    return look


def appends(sql: str) -> bool:
    return (sql.startswith("INSERT") and "ledger" in sql) or (sql.startswith("CREATE VIEW") and "claim_" in sql)


def hold(people: People, number: int) -> str:
    """Run a day whose change set a guard holds; gives its table."""
    return str(people.sync(guards=Guards()).run(day(number), hold=True)["held_table"])


def events(people: People, *, sync: bool) -> list[str]:
    ledger = people.ledger()
    ledger.read()
    return [e.event.value for e in ledger.entries() if (e.log == SYNC_LOG) is sync]


def test_of_two_approvals_at_once_both_find_the_change_set_committed(people, another):
    people.put("u1", "u2", "u3")
    people.run(0)
    people.clear()
    held = hold(people, 1)
    second = once(lambda: approve(people.ledger(another()), day(1), held), appends)
    approve(people.ledger(Watched(another(), after=second)), day(1), held)
    assert events(people, sync=True).count("change_set") == 1
    assert held in people.tables()
    assert read_membership(people.ledger(), day(1)) == {}


def test_what_is_held_for_a_day_that_was_delivered_otherwise_cannot_be_approved(people):
    people.put("u1", "u2", "u3")
    people.run(0)
    people.put("u4")
    people.run(1)
    people.clear()
    held = hold(people, 1)
    open_outbox(people.ledger(), Stream()).drain(day(1))
    before = events(people, sync=True)
    with pytest.raises(ReleaseRefused, match="Clear the diff task"):
        approve(people.ledger(), day(1), held)
    assert events(people, sync=True) == before


def test_a_change_set_whose_answer_was_lost_stays_though_another_run_has_begun(people, another):
    people.put("u1", "u2", "u3")
    people.run(0)
    open_outbox(people.ledger(), Stream()).drain(day(0))
    people.put("u4")
    written = []

    def lose(sql: str) -> None:
        if appends(sql):
            written.append(sql)
            if len(written) == 2:  # the first one announces
                # Whoever seals meets a claim, and inserts its row.
                for _ in range(2):
                    try:
                        people.sync(another()).run(day(2))
                        break
                    except LedgerConflict:
                        pass
                raise WarehouseUnavailable("the answer was lost")

    people.sync(Watched(another(), after=lose)).run(day(1))
    found = read_timeline(people.ledger()).find(day(1))
    assert found is not None
    assert found.table in people.tables()
    assert not found.dropped


def test_a_publisher_that_comes_after_a_backlog_puts_nothing(people, another):
    people.put("u")
    people.run(0)
    open_outbox(people.ledger(), Stream()).drain(day(0))
    backlog = ledger_claims._CLAIMS_KEPT + 4
    for number in range(1, backlog + 1):
        (people.take if number % 2 else people.put)("u")
        people.run(number)
    stream, late = Stream(), Stream()
    first = once(lambda: open_outbox(people.ledger(another()), stream).drain(day(backlog)), lambda _: True)

    class Slow(Watched):
        """Another publisher delivers everything while this one reads what it is about to put."""

        def read_batches(self, sql, schema, *, rows):
            first(sql)
            return super().read_batches(sql, schema, rows=rows)

    with pytest.raises(LedgerConflict):
        open_outbox(people.ledger(Slow(another())), late).drain(day(1))
    assert len(stream.taken) == backlog
    assert late.taken == []


@pytest.mark.slow
def test_claims_are_dropped_once_no_publisher_can_be_too_late_for_them(people, another, monkeypatch):
    monkeypatch.setattr(ledger_claims, "_CLAIMS_KEPT_SECONDS", 0.0)
    kept = ledger_claims._CLAIMS_KEPT
    most = 0
    for number in range(3 * kept):
        people.put(f"u{number}")
        people.run(number)
        most = max(most, count_claims(people, sync_rows=len(events(people, sync=True))))
    assert most <= 3 * kept


def count_claims(people: People, *, sync_rows: int) -> int:
    """Count the claims that are there, by name."""
    rows = people.ledger().rows
    if not isinstance(rows, ledger_claims.ClaimedLedgerTable):
        return 0
    found = 0
    for number in range(1, sync_rows + 1):
        name = rows._view(ledger_claims.Row("dag.diff", SYNC_LOG, number, "", "", "", "", "")).name
        try:
            people.warehouse.read_rows(f'SELECT 1 FROM {people.schema}."{name}"')
            found += 1
        except AudienceError:
            pass
    return found


def test_of_two_publishers_at_once_each_puts_the_one_record_once_at_most(people, another):
    people.put("u0")
    people.run(0)
    open_outbox(people.ledger(), Stream()).drain(day(0))
    people.put("u1")
    people.run(1)

    def take_slowly(_: int, batch: list[Any]) -> list[Fate]:
        time.sleep(1.0)
        return [Fate.TAKEN] * len(batch)

    streams, errors = [Stream(take_slowly), Stream(take_slowly)], []

    def drain(stream: Stream) -> None:
        try:
            open_outbox(people.ledger(another()), stream).drain(day(1))
        except LedgerConflict as conflict:
            errors.append(conflict)

    threads = [threading.Thread(target=drain, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
        time.sleep(0.7)
    for thread in threads:
        thread.join()
    assert sum(len(stream.taken) for stream in streams) <= 2
    assert len(errors) <= 1
    assert events(people, sync=False)[-1] == "delivered"


def test_a_snapshot_that_another_publisher_went_on_without_goes(people, another):
    people.put("u1", "u2", "u3")
    people.run(0)
    stream, faster = Stream(), Stream()
    second = once(
        lambda: open_outbox(people.ledger(another()), faster).drain(day(0)),
        lambda sql: sql.startswith("CREATE TABLE") and "snapshot" in sql,
    )
    with pytest.raises(LedgerConflict):
        open_outbox(people.ledger(Watched(another(), before=second)), stream).drain(day(0))
    assert (len(stream.taken), len(faster.taken)) == (0, 3)
    assert not [name for name in people.tables() if "snapshot" in name]


def test_a_backlog_goes_on_while_a_run_drops_what_its_first_change_sets_needed(people, another):
    people.put("u0")
    people.run(0)
    for name in ("a", "b"):
        open_outbox(people.ledger(), Stream(), small_delivery(name)).drain(day(0))
    for number in range(1, 4):
        people.put(f"u{number}")
        people.run(number, compaction_share=0.0)
    open_outbox(people.ledger(), Stream(), small_delivery("b")).drain(day(3))
    stream = Stream()
    outbox = open_outbox(people.ledger(another()), stream, small_delivery("a"))
    send = outbox.send

    def send_then_expire(change_set: Any, **how: Any) -> None:
        send(change_set, **how)
        if change_set.as_of == day(2):
            people.put("u4")
            people.sync(another(), keep_history=timedelta(0), compaction_share=0.0).run(day(4))

    outbox.send = send_then_expire  # type: ignore[method-assign]
    outbox.drain(day(3))
    assert len(stream.taken) == 3


def test_a_row_that_could_not_be_read_is_not_written(people):
    people.put("u1")
    wrong: Any = {"city": 7}
    with pytest.raises(AudienceError, match=r"cannot be written: Expected `str`, got `int`"):
        people.sync(source=replace(people.source, properties=wrong)).run(day(0))
    assert people.run(0)["entered"] == 1


def test_a_destination_may_be_reached_by_no_airflow_connection(people):
    people.put("u1")
    people.run(0)
    stream = Stream()
    for _ in range(2):
        open_outbox(people.ledger(), stream, small_delivery(connection=None)).drain(day(0))
    assert len(stream.taken) == 1
