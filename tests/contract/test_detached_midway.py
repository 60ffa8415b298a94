"""A destination is detached at each statement of a task that works on it: the task goes on, or asks for a retry.

Nobody sees another error, and whoever is at work next finds all in order.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.core.exceptions import AudienceDeleted, HistoryGone, LedgerConflict
from airflow_kinesis_audience.core.outbox import turns
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.outbox.replay import Span, replay
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from tests.warehouses import People, Stream, Watched, day, open_duckdb, open_outbox, small_delivery

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.state.ledger import Ledger

MOST = 60
"""More statements than a task has here."""

OLD, NEW = small_delivery("old"), small_delivery("new")
PROFILES = small_delivery("old", message_format="adobe_profile", options={})
Task = Callable[["Ledger", Stream], object]

PARTS = {name: [small_delivery(name, part=Part(number, 2)) for number in range(2)] for name in ("old", "new")}


def publish(delivery: Delivery, *, resend: bool = False) -> Task:
    return lambda ledger, stream: open_outbox(ledger, stream, delivery).drain(day(2), resend=resend)


def publish_part(part: Delivery) -> Task:
    return lambda ledger, stream: open_outbox(ledger, stream, part).drain(day(2))


def resync_all(ledger: Ledger, stream: Stream) -> None:
    resync(open_outbox(ledger, stream, small_delivery("old", resync="one")), OLD)


def replay_all(ledger: Ledger, stream: Stream) -> None:
    replay(open_outbox(ledger, stream, small_delivery("new", replay="one")), NEW, Span(since=day(0)))


def delete(ledger: Ledger, stream: Stream) -> None:
    close(ledger, day(3), exits=True)
    announce_deletion(open_outbox(ledger, stream, OLD))


TASKS: dict[str, tuple[Delivery, Task]] = {
    "first publish": (NEW, publish(NEW)),
    "first profiles": (PROFILES, publish(PROFILES)),
    "publish": (OLD, publish(OLD)),
    "a part": (OLD, publish_part(PARTS["old"][0])),
    "a part at first": (NEW, publish_part(PARTS["new"][0])),
    "sent again": (OLD, publish(OLD, resend=True)),
    "resync": (OLD, resync_all),
    "replay": (NEW, replay_all),
    "deletion": (OLD, delete),
}
"""By name, where it delivers to and what it does."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[People, Path]:
    """Three days, two of which the old destination has got, in a file that each step begins with."""
    path = tmp_path_factory.mktemp("made") / "made.duckdb"
    people = People(open_duckdb(path))
    for number in range(3):
        people.put(f"u{number}", f"v{number}")
        people.take(f"v{number - 1}")
        people.run(number, keep_history=timedelta(days=9))
        if number < 2:
            open_outbox(people.ledger(), Stream(), OLD).drain(day(number))
    people.warehouse.close()
    return people, path


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("name", TASKS)
def test_whenever_a_destination_is_detached_its_task_goes_on_or_asks_for_a_retry(
    made: tuple[People, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, side: str
) -> None:
    monkeypatch.setattr(turns, "REPLAY_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_FIRST_LOOK_SECONDS", 0.0)
    delivery, task = TASKS[name]
    for at in range(MOST):
        people, stream, left = copy.copy(made[0]), Stream(), [at]
        people.warehouse = open_duckdb(shutil.copy(made[1], tmp_path / f"{at}.duckdb"))
        watched = Watched(people.warehouse)

        def detach_elsewhere(_: str, people: People = people, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                ledger = people.ledger()
                detach(ledger, [d.log for d in (delivery, small_delivery("new", replay="one"))])

        setattr(watched, side, detach_elsewhere)
        with contextlib.suppress(LedgerConflict, HistoryGone, AudienceDeleted):
            task(people.ledger(watched), stream)
        if left[0] < 0 and name != "deletion":
            after = Stream()
            for own in PARTS[delivery.destination[-3:]] if "part" in name else [delivery]:
                open_outbox(people.ledger(), after, own).drain(day(2))
            if name in ("first publish", "publish", "a part", "a part at first"):
                both = Stream()
                both.taken = [*stream.taken, *after.taken]
                assert both.consume().members("vips") == {"u0", "u1", "u2", "v2"}, at
        people.warehouse.close()
        if left[0] >= 0:
            break
    else:
        pytest.fail("the task has more statements than this looks at")


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("since", [1, 2])
def test_a_part_that_another_run_attached_anew_puts_all_or_asks_for_a_retry(
    made: tuple[People, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: int, side: str
) -> None:
    """It puts nothing again and again, and no member is missing where all parts have succeeded."""
    monkeypatch.setattr(turns, "_FIRST_LOOK_SECONDS", 0.0)
    parts = PARTS["old"]
    for at in range(MOST):
        people, stream, left = copy.copy(made[0]), Stream(), [at]
        people.warehouse = open_duckdb(shutil.copy(made[1], tmp_path / f"{at}.duckdb"))
        watched = Watched(people.warehouse)

        def attach_elsewhere(
            _: str, people: People = people, left: list[int] = left, stream: Stream = stream
        ) -> None:
            left[0] -= 1
            if left[0] == -1:
                detach(people.ledger(), [OLD.log])
                with contextlib.suppress(LedgerConflict):
                    open_outbox(people.ledger(), stream, parts[1]).drain(day(since))

        setattr(watched, side, attach_elsewhere)
        with contextlib.suppress(LedgerConflict):
            open_outbox(people.ledger(watched), stream, parts[0]).drain(day(2))
        assert len(stream.taken) < 30, "it puts the same again and again"
        if left[0] >= 0:
            return
        for part in parts:
            open_outbox(people.ledger(), stream, part).drain(day(2))
        assert stream.consume().members("vips") == {"u0", "u1", "u2", "v2"}, at
        people.warehouse.close()
    pytest.fail("the task has more statements than this looks at")
