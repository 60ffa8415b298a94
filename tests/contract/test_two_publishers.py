"""Several publishers of one delivery, or one that finds its tables gone: nothing gets stuck, nothing is put twice.

On the engines that a test of every run can have: keys and claims, a server's tables and files. Who puts what is
seen on the stream that all of them share.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    DeliveryIncomplete,
    GuardTripped,
    LedgerConflict,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.outbox import attempt, turns
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.sql.statements import drop_table, table
from airflow_kinesis_audience.core.state import delivery_details
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from tests.contract.test_events import Line, clock, rows
from tests.contract.test_state_model import Crowd, user
from tests.engines import ENGINES, Place
from tests.warehouses import (
    QUICK,
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
    from collections.abc import Callable

    from airflow_kinesis_audience.core.outbox.delivery import Delivery

FORMATS: dict[str, dict[str, Any]] = {
    "amplitude": {"options": {"max_users": 2, "user_properties": True}},
    "adobe": {"message_format": "adobe_profile", "options": {"message_ids": True}},
}
BIG = "x" * 10_000


@pytest.fixture(params=["duckdb", "duckdb without keys", "parquet", "postgres", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 3)
    with ENGINES[request.param].open_place(request, tmp_path) as place:
        yield place


@dataclass
class Publishers:
    """Several tasks that publish one sync to one stream, each with a connection of its own."""

    place: Place
    delivery: Delivery
    stream: Stream = field(default_factory=Stream)

    def __post_init__(self) -> None:
        self.crowd = Crowd(self.place)

    def run(self, number: int, *more: Any) -> None:
        """Run a day: two who stay, ten others, one of them another each day, and some more."""
        names = sorted(self.members(number)["vips"])
        who = [user(name, city=f"c{number}", email=f"{name}@example.com") for name in names]
        self.crowd.write(*who, *more)
        self.crowd.run(number)

    def members(self, number: int) -> dict[str, set[str]]:
        """Name the members of a day."""
        return {"vips": {f"u{n}" for n in (*range(2), *range(number + 2, number + 12))}}

    def publish(
        self, number: int, *, stream: Stream | None = None, dies_at_put: int | None = None, **watched: Any
    ) -> Any:
        """Publish as one task does."""
        inner, stream = self.place.open_ledger(self.crowd.schema, self.crowd.sync_id), stream or self.stream
        process = Watched(inner.warehouse, **watched)

        def put(batch: Any) -> Any:
            if len(stream.puts) == dies_at_put:
                process.kill()
            return stream.put(batch)

        outbox = Outbox(self.place.ledger_on(process, inner), self.delivery, put, policy=QUICK)
        outbox.drain(day(number), on_rejected="skip")
        return outbox.report

    def drop(self, *kinds: str) -> int:
        """Drop the tables that the delivery's log says are there; gives how many."""
        known = read_standing(self.crowd.ledger, self.delivery)
        found = [t for t in (getattr(known, kind) for kind in kinds) if t is not None]
        for one in found:
            drop_table(self.crowd.ledger.warehouse, table(self.crowd.schema, one.table))
        return len(found)


def as_sent(stream: Stream) -> Counter[tuple[bytes, str, int]]:
    return Counter((r.data, r.partition_key, r.hash_key) for r in stream.taken)


def killed_at(number: int) -> Callable[[int, Any], list[Fate]]:
    """Make a script that ends the process at a put."""

    def script(at: int, batch: Any) -> list[Fate]:
        if at == number:
            raise Killed
        return [Fate.TAKEN] * len(batch)

    return script


@pytest.mark.parametrize(("kind", "number"), [("amplitude", 0), ("adobe", 0), ("adobe", 1)])
def test_a_table_of_a_delivery_that_is_gone_is_written_again_with_the_same_bytes(
    place: Place, kind: str, number: int
) -> None:
    whole = Publishers(place, small_delivery(**FORMATS[kind]))
    broken = named(whole, "")
    for each in range(number + 1):
        whole.run(each)
        whole.publish(each)
    ledger = whole.crowd.ledger
    ledger.read()
    ledger.append(whole.delivery.log, DestinationDetached(), as_of=day(0))
    for each in range(number):
        broken.publish(each)
    broken.stream.script = killed_at(len(broken.stream.puts) + 1)
    with pytest.raises(Killed):
        broken.publish(number)
    broken.stream.script = None
    dropped = broken.drop("snapshot", "profiles")
    assert dropped == (number == 0) + (kind == "adobe")
    broken.publish(number)
    assert set(as_sent(broken.stream)) == set(as_sent(whole.stream))
    broken.run(number + 1)
    broken.publish(number + 1)
    assert broken.drop("snapshot", "profiles") == 0


def test_a_resync_whose_table_is_gone_writes_it_again(place: Place) -> None:
    publishers = Publishers(place, small_delivery())
    publishers.run(0)
    publishers.publish(0)
    again = Publishers(place, small_delivery(resync="r1"), Stream(killed_at(2)))
    again.crowd = publishers.crowd
    outbox = Outbox(publishers.crowd.ledger, again.delivery, again.stream.put, policy=QUICK)
    with pytest.raises(Killed):
        resync(outbox, publishers.delivery)
    again.stream.script = None
    assert again.drop("snapshot") == 1
    resync(outbox, publishers.delivery)
    assert members_of(again.stream.consume()) == members_of(publishers.stream.consume())


@pytest.mark.parametrize("puts", [0, 1], ids=["before a record", "half-way"])
def test_an_interval_whose_table_is_gone_is_forwarded_from_its_beginning(warehouse: Any, puts: int) -> None:
    line = Line(warehouse, {"batch": False})
    line.put(rows(0.1, 0.2, 0.3, 0.4, 0.5))
    line.stream.script = killed_at(puts)
    with pytest.raises(Killed):
        line.run(0, 1)
    line.stream.script = None
    known = read_standing(line.ledger(), line.delivery()).snapshot
    assert known is not None
    drop_table(warehouse, table(line.schema, known.table))
    assert line.told(1, 2) == ["e0.1", "e0.2", "e0.3", "e0.4", "e0.5"]
    assert line.told(0, 2) == []


@dataclass
class Twin:
    """Another task, in a thread of its own, that stops at a moment and goes on when it is let."""

    work: Callable[[Callable[[str], None]], object]
    at: Callable[[str], bool]
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Let it run until that moment, or to its end."""
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.reached.wait(30)

    def finish(self) -> None:
        self.go_on.set()
        self.thread.join(30)

    def _run(self) -> None:
        with suppress(AudienceError):
            self.work(self._look)
        self.reached.set()

    def _look(self, sql: str) -> None:
        if not self.reached.is_set() and self.at(sql):
            self.reached.set()
            self.go_on.wait(30)


def test_what_is_too_large_is_kept_though_another_publisher_clears_up(place: Place) -> None:
    """The other one has nothing to send, and drops before its row is refused."""
    publishers = Publishers(place, small_delivery(**FORMATS["amplitude"]))
    publishers.run(0)
    publishers.publish(0)
    publishers.run(1, user("poison", city=BIG, email="p@example.com"))
    other = Twin(
        lambda look: publishers.publish(0, after=look),
        lambda sql: "rejects_" in sql and "SELECT" not in sql,
    )

    def meet(sql: str) -> None:
        if "rejects_" in sql and "COUNT(" in sql and not other.reached.is_set():
            other.start()

    with suppress(LedgerConflict):
        publishers.publish(1, before=meet)
    assert other.reached.is_set()
    other.finish()
    publishers.run(2, user("poison", city="Bern", email="p@example.com"))
    publishers.publish(2)
    assert "poison" in members_of(publishers.stream.consume())["vips"]


def test_a_table_of_a_delivery_that_the_server_finishes_late_goes_with_a_later_run(reopen: Any) -> None:
    people = People(reopen())
    people.put("u1", "u2", "u3")
    people.run(0)
    watched, under_way = Watched(reopen()), []

    def leave_it_to_the_server(sql: str) -> None:
        if sql.startswith("CREATE TABLE") and "snapshot_" in sql:
            under_way.append(sql)
            watched.kill()

    watched.before = leave_it_to_the_server
    with pytest.raises(Killed):
        open_outbox(people.ledger(watched), Stream()).drain(day(0))
    open_outbox(people.ledger(), Stream()).drain(day(0))
    people.warehouse.execute(under_way[0])
    assert [name for name in people.tables() if "snapshot" in name]
    people.run(1)
    assert not [name for name in people.tables() if "snapshot" in name]


def test_an_interval_is_forwarded_though_another_task_leaves_a_later_one(reopen: Any) -> None:
    line = Line(reopen(), {"batch": False})
    line.put(rows(0.1, 0.2))

    def leave(look: Callable[[str], None]) -> None:
        line.run(1, 2, Watched(reopen(), after=look))

    other = Twin(leave, lambda sql: sql.startswith("DROP TABLE"))

    def meet(sql: str) -> None:
        if sql.startswith("CREATE TABLE") and "events_" in sql and not other.reached.is_set():
            other.start()

    with clock(1), suppress(LedgerConflict):
        line.run(0, 1, Watched(reopen(), after=meet))
    assert other.reached.is_set()
    other.finish()
    line.run(0, 2)
    assert line.ids(line.stream.messages) == ["e0.1", "e0.2"]


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a task that waits look often."""
    monkeypatch.setattr(turns, "_FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(turns, "_LAST_LOOK_SECONDS", 0.05)


@pytest.fixture
def quick_turns(monkeypatch: pytest.MonkeyPatch, quick_looks: None) -> float:
    """Let a task that is silent be given up soon; gives after how many seconds."""
    seconds = 1.0
    monkeypatch.setattr(delivery_details, "SENDING_SECONDS", seconds)
    monkeypatch.setattr(delivery_details, "WRITING_SECONDS", seconds)
    monkeypatch.setattr(attempt, "RENEW_SECONDS", seconds / 3)
    return seconds


def named(publishers: Publishers, name: str, **changed: Any) -> Publishers:
    """Make one more task of a sync, to another stream of the same name."""
    other = Publishers(publishers.place, replace(publishers.delivery, owner=name, **changed))
    other.crowd = publishers.crowd
    return other


def slowly(seconds: float) -> Callable[[int, Any], list[Fate]]:
    def script(_: int, batch: Any) -> list[Fate]:
        time.sleep(seconds)
        return [Fate.TAKEN] * len(batch)

    return script


def at_put(number: int, does: Callable[[], object]) -> Callable[[int, Any], list[Fate]]:
    """Make a script that does something while a put is under way."""

    def script(at: int, batch: Any) -> list[Fate]:
        if at == number:
            does()
        return [Fate.TAKEN] * len(batch)

    return script


@pytest.mark.parametrize("number", [0, 1], ids=["first", "later"])
def test_of_two_tasks_at_once_the_second_one_waits_before_it_puts(
    place: Place, number: int, quick_looks: None
) -> None:
    first = Publishers(place, small_delivery(owner="first"))
    second = named(first, "second")
    for each in range(number + 1):
        first.run(each)
        if each < number:
            first.publish(each)
    first.stream.script, before = slowly(0.2), len(first.stream.puts)
    thread = threading.Thread(target=first.publish, args=(number,))
    thread.start()
    while len(first.stream.puts) == before and thread.is_alive():
        time.sleep(0.02)
    assert thread.is_alive()
    second.publish(number)
    thread.join()
    assert second.stream.taken == []
    assert max(as_sent(first.stream).values()) == 1
    assert read_standing(first.crowd.ledger, first.delivery).cursor == day(number)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a task waits for another one."""
    sleep = lambda _: pytest.fail("nobody is to be waited for")  # noqa: E731
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))


def killed_half_way(place: Place) -> Publishers:
    publishers = Publishers(place, small_delivery(owner="first"))
    publishers.run(0)
    with pytest.raises(Killed):
        publishers.publish(0, dies_at_put=1)
    return publishers


@pytest.mark.usefixtures("no_waiting")
def test_the_next_try_of_a_task_that_was_killed_goes_on_at_once(place: Place) -> None:
    publishers = killed_half_way(place)
    publishers.publish(0)
    assert members_of(publishers.stream.consume()) == publishers.members(0)


def test_another_task_goes_on_once_the_one_that_was_killed_is_silent_for_long_enough(
    place: Place, quick_turns: float
) -> None:
    publishers = killed_half_way(place)
    began = time.monotonic()
    named(publishers, "second").publish(0, stream=publishers.stream)
    assert time.monotonic() - began >= quick_turns
    assert members_of(publishers.stream.consume()) == publishers.members(0)


@pytest.mark.usefixtures("no_waiting")
def test_a_task_that_failed_is_not_waited_for(place: Place) -> None:
    first = Publishers(place, small_delivery(owner="first"))
    first.run(0)
    first.stream.script = lambda at, batch: [Fate.REJECTED if at else Fate.TAKEN] * len(batch)
    for _ in range(2):
        with pytest.raises(DeliveryIncomplete):
            first.publish(0)
    second = named(first, "second")
    second.publish(0)
    assert max((as_sent(first.stream) + as_sent(second.stream)).values()) == 1


def test_a_task_that_was_away_for_too_long_puts_only_what_is_under_way(place: Place, quick_turns: float) -> None:
    first = Publishers(place, small_delivery(owner="first"))
    second = named(first, "second")
    first.run(0, *(user(f"v{n}") for n in range(40)))
    first.stream.script = at_put(1, lambda: second.publish(0))
    with pytest.raises(LedgerConflict):
        first.publish(0)
    assert len(first.stream.puts) <= 2 + 2
    assert read_standing(first.crowd.ledger, first.delivery).cursor == day(0)


def test_who_waits_too_long_asks_for_a_retry_and_has_put_nothing(
    place: Place, quick_looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.2)
    first = Publishers(place, small_delivery(owner="first"))
    second, errors = named(first, "second"), []

    def come_second() -> None:
        with pytest.raises(LedgerConflict, match=r"another task is delivering to .* Retry") as raised:
            second.publish(0)
        errors.append(raised.value)

    first.run(0)
    first.stream.script = at_put(1, come_second)
    first.publish(0)
    assert len(errors) == 1
    assert second.stream.taken == []
    assert max(as_sent(first.stream).values()) == 1


@pytest.mark.usefixtures("no_waiting")
def test_who_has_nothing_left_to_do_waits_for_nobody_and_disturbs_nobody(place: Place) -> None:
    first = Publishers(place, small_delivery(owner="first"))
    second = named(first, "second")
    for number in range(2):
        first.run(number)
    first.publish(0)
    first.stream.script = at_put(len(first.stream.puts) + 1, lambda: second.publish(0))
    first.publish(1)
    assert second.stream.puts == []
    assert max(as_sent(first.stream).values()) == 1


@pytest.mark.usefixtures("no_waiting")
def test_parts_are_sent_side_by_side(place: Place) -> None:
    first = Publishers(place, small_delivery(owner="a task", part=Part(0, 2)))
    second = named(first, "a task", part=Part(1, 2))
    first.run(0)
    first.stream.script = at_put(0, lambda: second.publish(0))
    first.publish(0)
    assert first.stream.taken
    assert second.stream.taken
    assert read_standing(first.crowd.ledger, first.delivery).cursor == day(0)


def test_ten_tasks_at_once_put_each_record_once_in_the_order_of_the_runs(place: Place, quick_looks: None) -> None:
    if not place.warehouse.dialect.enforces_keys:
        pytest.skip("DuckDB refuses views that ten make at once; its keys are left out for this test alone")
    stream, errors = Stream(slowly(0.01)), []
    publishers = Publishers(place, small_delivery(), stream)
    for number in range(10):
        publishers.run(number)

    def publish(number: int, tries: int = 2) -> None:
        try:
            named(publishers, f"run {number}").publish(number, stream=stream)
        except AudienceError as error:
            if tries > 1 and isinstance(error, WarehouseUnavailable):  # Airflow tries again
                publish(number, tries - 1)
            else:
                errors.append(repr(error))

    threads = [threading.Thread(target=publish, args=(number,)) for number in random.sample(range(10), 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert max(as_sent(stream).values()) == 1
    times = [int(json.loads(message)["computed_time"]) for message in stream.messages]
    assert times == sorted(times)
    begun = read_standing(publishers.crowd.ledger, publishers.delivery).attached
    assert len(set(times)) == sum(day(number) >= begun for number in range(10))
    assert members_of(stream.consume()) == publishers.members(9)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(("kind", "table_of"), [("amplitude", "snapshot"), ("adobe", "profiles")])
def test_a_task_that_failed_while_it_wrote_a_table_is_not_waited_for(
    place: Place, kind: str, table_of: str
) -> None:
    if isinstance(place.warehouse, DuckDbParquetWarehouse):
        pytest.skip("a file is written by no statement that a test sees")
    first = Publishers(place, small_delivery(**FORMATS[kind], owner="first"))
    first.run(0)

    def refuse(sql: str) -> None:
        if f"{table_of}_" in sql and sql.startswith("CREATE"):
            raise WarehouseRefused("refused by a test")

    with pytest.raises(WarehouseRefused):
        first.publish(0, before=refuse)
    second = named(first, "second")
    second.publish(0)
    assert second.stream.taken


@pytest.mark.usefixtures("no_waiting")
def test_events_that_stopped_a_task_let_another_one_go_on(reopen: Any) -> None:
    line = Line(reopen(), {"batch": False})
    line.put([(None, "u", None, None, day(0) + timedelta(days=0.5))])

    def forward_as(name: str) -> None:
        outbox = open_outbox(line.ledger(reopen()), line.stream, replace(line.delivery(), owner=name))
        forward(outbox, line.source(), day(0), day(1))

    with pytest.raises(GuardTripped):
        forward_as("first")
    line.warehouse.execute(f"DELETE FROM {line.table}")
    line.put(rows(0.5))
    forward_as("second")
    assert line.ids(line.stream.messages) == ["e0.5"]


def test_of_two_tasks_that_forward_events_at_once_each_event_is_put_once(reopen: Any, quick_looks: None) -> None:
    line = Line(reopen(), {"batch": False})
    line.put(rows(*(n / 10 for n in range(9))))
    line.ledger(reopen()).prepare()  # of those that create it at once, one may have to be retried
    line.stream.script = slowly(0.1)

    def forward_as(name: str) -> None:
        outbox = open_outbox(line.ledger(reopen()), line.stream, replace(line.delivery(), owner=name))
        forward(outbox, line.source(), day(0), day(1))

    threads = [threading.Thread(target=forward_as, args=(f"task {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert line.ids(line.stream.messages) == [f"e{n / 10}" for n in range(9)]
