"""A delivery that several tasks share: each sends a part, and together they send what one task would."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.core.exceptions import DeliveryChanged, DeliveryIncomplete, LedgerConflict
from airflow_kinesis_audience.core.outbox import turns
from airflow_kinesis_audience.core.outbox.tables import drop_snapshot
from airflow_kinesis_audience.core.readers import chunks
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state import delivery_details
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from tests.warehouses import (
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
    from airflow_kinesis_audience.core.outbox.report import Report
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

DAYS = 3
FORMATS = {
    "amplitude": {},
    "mparticle": {
        "message_format": "mparticle_audience",
        "options": {"message_ids": True},
    },
    "aggregated": {"aggregate": True},
    "of one partition": {"partitions": 1},
    "of many partitions": {"partitions": 64},
}


@pytest.fixture
def people(warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch) -> People:
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    return make_people(warehouse)


def make_people(warehouse: SqlWarehouse) -> People:
    """Write days on which users of two audiences enter, leave and change."""
    people = People(warehouse, many=True)
    for audience in ("vips", "lapsed"):
        people.put(*(f"u{n}" for n in range(30)), audience=audience, email="a@example.com")
    people.run(0)
    for number in range(1, DAYS):
        people.put(*(f"n{number}-{n}" for n in range(12)), city="Bern")
        people.take(*(f"u{n}" for n in range(number * 5, number * 5 + 4)), audience="lapsed")
        people.change(f"u{number}", city="Rome", email="b@example.com")
        people.run(number)
    return people


def publish(
    people: People, stream: Stream, number: int, delivery: Delivery, warehouse: SqlWarehouse | None = None
) -> Report:
    outbox = open_outbox(people.ledger(warehouse), stream, delivery)
    outbox.drain(day(number))
    return outbox.report


def part(delivery: Delivery, number: int, of: int) -> Delivery:
    return replace(delivery, part=Part(number, of))


def sent(stream: Stream) -> Counter[tuple[bytes, str, int]]:
    return Counter((r.data, r.partition_key, r.hash_key) for r in stream.taken)


def sent_by_one(people: People, delivery: Delivery) -> Counter[tuple[bytes, str, int]]:
    """Give what one task sends to a destination of the same name, and forget that it did."""
    stream, ledger = Stream(), people.ledger()
    for number in range(DAYS):
        publish(people, stream, number, delivery)
    ledger.read()
    ledger.append(delivery.log, DestinationDetached(), as_of=day(0))
    return sent(stream)


@pytest.mark.parametrize("of", [1, 2, 4])
@pytest.mark.parametrize("kind", FORMATS)
def test_parts_send_the_bytes_keys_and_ids_of_one_task(people: People, kind: str, of: int) -> None:
    delivery = small_delivery("shared", **FORMATS[kind])
    if of > delivery.partitions:
        with pytest.raises(ValueError, match="expected a power of two from 1 to 1"):
            part(delivery, 0, of)
        return
    alone = sent_by_one(people, delivery)
    stream = Stream()
    for number in range(DAYS):
        for each in range(of):
            publish(people, stream, number, part(delivery, each, of))
    assert sent(stream) == alone
    assert set(alone.values()) == {1}
    if kind != "aggregated":
        assert members_of(stream.consume()) == people.members()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cell_that_is_rendered_in_pieces_gives_the_same_bytes(
    people: People, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    delivery = small_delivery("shared", **FORMATS[kind])
    whole = sent_by_one(people, delivery)
    monkeypatch.setattr(chunks, "_ROWS_AT_ONCE", 1)
    assert sent_by_one(people, delivery) == whole
    # It would show if a format said so of itself that makes a message of several rows.
    declared = replace(delivery.renderer.traits, one_message_per_row=True)
    monkeypatch.setattr(type(delivery.renderer), "traits", declared)
    is_same = sent_by_one(people, delivery) == whole
    assert is_same == (kind == "mparticle")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_parts_may_run_in_any_order_and_fall_behind_each_other(people: People, seed: int) -> None:
    chance, delivery, stream = random.Random(seed), small_delivery("shared"), Stream()
    alone = sent_by_one(people, delivery)
    publish(people, stream, 0, part(delivery, 0, 4))
    runs = [(each, number) for each in range(4) for number in range(DAYS) if (each, number) != (0, 0)]
    chance.shuffle(runs)
    done = {0: 0}
    for each, number in runs:
        publish(people, stream, number, part(delivery, each, 4))
        done[each] = max(number, done.get(each, 0))
        behind = min(done.get(n, -1) for n in range(4))
        assert read_standing(people.ledger(), delivery).cursor == (day(behind) if behind >= 0 else None)
    assert sent(stream) == alone
    assert members_of(stream.consume()) == people.members()


def test_the_last_part_alone_says_that_the_change_set_is_delivered(people: People) -> None:
    delivery, stream = small_delivery("shared"), Stream()
    reports = [publish(people, stream, 0, part(delivery, each, 4)) for each in range(4)]
    assert [r.concluded for r in reports] == [0, 0, 0, 60]
    assert sum(r.delivered for r in reports) == 60
    assert all(r.delivered for r in reports), "each has a share"
    assert publish(people, stream, 0, part(delivery, 3, 4)).concluded == 0
    assert sum(sent(stream).values()) == len(sent(stream)), "nothing is sent again"


@pytest.mark.slow
def test_a_part_that_is_killed_is_finished_by_its_next_attempt_and_the_others_do_not_notice(
    people: People,
) -> None:
    delivery = small_delivery("shared")
    alone = sent_by_one(people, delivery)
    killed, stream = 0, Stream()

    def kill(request: int, batch: object) -> list[Fate]:
        raise Killed(taken=bool(request % 2))

    for number, each in itertools.product(range(DAYS), range(4)):
        dying = Stream(lambda request, batch: kill(request, batch) if request > 1 else [Fate.TAKEN] * len(batch))
        dying.taken = stream.taken
        try:
            publish(people, dying, number, part(delivery, each, 4))
        except Killed:
            killed += 1
            publish(people, stream, number, part(delivery, each, 4))
    assert killed >= 4, "each part, in the first at least"
    assert set(sent(stream)) == set(alone)
    assert members_of(stream.consume()) == people.members()
    assert read_standing(people.ledger(), delivery).cursor == day(DAYS - 1)


@pytest.mark.parametrize(("began", "goes_on"), [(2, 4), (4, 1), (1, 4)])
def test_what_is_half_sent_in_parts_is_finished_in_as_many(people: People, began: int, goes_on: int) -> None:
    delivery, stream = small_delivery("shared"), Stream()
    full = Stream(lambda request, batch: [Fate.REJECTED if request else Fate.TAKEN] * len(batch))
    with pytest.raises(DeliveryIncomplete):
        publish(people, full, 0, part(delivery, 0, began))
    before = len(stream.taken)
    with pytest.raises(DeliveryChanged, match=rf"in {began} parts.*restore parts"):
        publish(people, stream, 0, part(delivery, 0, goes_on))
    assert len(stream.taken) == before
    for each in range(began):
        publish(people, stream, 0, part(delivery, each, began))
    for each in range(goes_on):
        publish(people, stream, 2, part(delivery, each, goes_on))
    stream.taken += full.taken
    assert members_of(stream.consume()) == people.members()


@pytest.mark.parametrize("order", [(3, 1, 0, 2), (2, 3, 1, 0)])
def test_whichever_part_comes_first_attaches_the_destination_for_all(
    people: People, order: tuple[int, ...]
) -> None:
    delivery, stream = small_delivery("shared"), Stream()
    alone = sent_by_one(people, delivery)
    for number in range(DAYS):
        for each in order:
            publish(people, stream, number, part(delivery, each, 4))
    assert sent(stream) == alone
    assert members_of(stream.consume()) == people.members()


@pytest.mark.parametrize("goes_on", [1, 2], ids=["itself", "another"])
def test_a_part_that_is_killed_while_it_writes_for_all_is_waited_for_and_then_replaced(
    people: People, monkeypatch: pytest.MonkeyPatch, goes_on: int
) -> None:
    monkeypatch.setattr(delivery_details, "WRITING_SECONDS", 0.5)
    monkeypatch.setattr(turns, "_LAST_LOOK_SECONDS", 0.1)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(seconds)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr(turns, "time", clock)
    delivery, stream = small_delivery("shared"), Stream()
    alone = sent_by_one(people, delivery)
    dying = Watched(people.warehouse)
    dying.after = lambda sql: dying.kill() if "snapshot_" in sql and sql.startswith("CREATE TABLE") else None
    with pytest.raises(Killed):
        publish(people, stream, 0, part(delivery, 1, 4), dying)
    assert not stream.taken
    began = time.monotonic()
    publish(people, stream, 0, part(delivery, goes_on, 4))
    if goes_on == 1:
        assert not waited, "its own retry need not wait"
    else:
        assert waited
        assert time.monotonic() - began >= 0.5
    for number, each in itertools.product(range(DAYS), range(4)):
        publish(people, stream, number, part(delivery, each, 4))
    assert sent(stream) == alone
    assert len([name for name in people.tables() if name.startswith("snapshot")]) == 0


@pytest.mark.slow
def test_parts_at_once_from_connections_of_their_own_lose_nothing(
    people: People, reopen: Callable[[], SqlWarehouse]
) -> None:
    delivery = small_delivery("shared")
    alone = sent_by_one(people, delivery)
    streams = [Stream() for _ in range(4)]
    errors: list[Exception] = []

    def run(each: int) -> None:
        warehouse = reopen()
        for number in range(DAYS):
            for _ in range(20):  # as Airflow would: a retry where another part was faster
                try:
                    publish(people, streams[each], number, part(delivery, each, 4), warehouse)
                    break
                except LedgerConflict:
                    continue
                except Exception as error:
                    errors.append(error)
                    raise

    threads = [threading.Thread(target=run, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sum((sent(stream) for stream in streams), Counter()) == alone
    assert read_standing(people.ledger(), delivery).cursor == day(DAYS - 1)
    drop_snapshot(open_outbox(people.ledger(), Stream(), delivery).log)
    assert not [name for name in people.tables() if name.startswith("snapshot")]


def test_parts_that_were_left_hold_back_no_history(people: People) -> None:
    delivery, stream = small_delivery("shared"), Stream()
    for each in range(2):
        publish(people, stream, 0, part(delivery, each, 2))
    for number in range(1, DAYS):
        publish(people, stream, number, delivery)
    people.put("late")
    people.run(100)
    publish(people, stream, 100, delivery)
    people.put("later")
    people.run(200)
    assert len(people.tables()) <= 4, "what was before the retention is gone"
    for each in range(2):
        publish(people, stream, 200, part(delivery, each, 2))
    assert members_of(stream.consume()) == people.members()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"part": Part(0, 3)}, "parts is 3; expected a power of two from 1 to 4"),
        ({"part": Part(0, 8)}, "parts is 8; expected a power of two from 1 to 4"),
        ({"part": Part(4, 4)}, "part is 4; expected a number from 0 to 3"),
        ({"part": Part(-1, 2)}, "part is -1; expected a number from 0 to 1"),
        (
            {"part": Part(0, 2), "message_format": "adobe_profile", "options": {"namespaces": {"Email": "email"}}},
            "adobe_profile sends profiles, which one task delivers; remove parts",
        ),
    ],
)
def test_a_part_that_cannot_be_is_refused(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        small_delivery("shared", **changed)
