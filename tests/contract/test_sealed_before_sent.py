"""What a destination has got is immutable, wherever an attempt to deliver it has ended.

A first publish is killed around each of its statements and tried again. Then the run is cleared, and finds other
members: whoever was entered and is no member any more exits.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.readers.partitions import Part
from tests.warehouses import DiesAt, Killed, People, Stream, Watched, day, open_outbox, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery

MOST = 40
"""More statements than a first publish has."""

DELIVERIES: dict[str, list[Delivery]] = {
    "cohorts": [small_delivery()],
    "profiles": [small_delivery(message_format="adobe_profile", options={})],
    "parts": [small_delivery(part=Part(number, 2)) for number in range(2)],
}


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("on_first_run", ["enter_all", "baseline"])
@pytest.mark.parametrize("name", DELIVERIES)
def test_a_run_that_is_cleared_changes_nothing_that_a_destination_has_got(
    warehouse: Any, name: str, on_first_run: Any, side: str
) -> None:
    for at in range(MOST):
        people, stream = People(warehouse), Stream()
        people.put("stays", "leaves")
        people.run(0)
        dying = DiesAt(warehouse, at, side)
        with contextlib.suppress(Killed):
            for delivery in DELIVERIES[name]:
                open_outbox(people.ledger(dying), stream, delivery).drain(day(0), on_first_run=on_first_run)
        for delivery in DELIVERIES[name]:
            open_outbox(people.ledger(), stream, delivery).drain(day(0), on_first_run=on_first_run)
        people.take("leaves")
        people.put("enters")
        people.run(0)  # of a change set that is immutable it finds what it found before
        people.run(1)
        for delivery in DELIVERIES[name]:
            open_outbox(people.ledger(), stream, delivery).drain(day(1))
        texts = [message.decode() for message in stream.messages]
        gone = [text for text in texts if "leaves" in text and ('"exited"' in text or ":false" in text)]
        assert gone, f"killed {side} statement {at}"
        if not dying.dead:
            return
    pytest.fail("a first publish has more statements than this looks at")


def test_a_part_relies_on_what_another_run_has_attached_the_destination_to(warehouse: Any) -> None:
    people, stream, parts = People(warehouse), Stream(), DELIVERIES["parts"]
    people.put("stays")
    people.run(0)
    people.put("leaves")
    people.run(1)
    others: list[Watched] = []

    class Late(Watched):
        """Lets a part of a later run attach the destination just before this one, and die."""

        def execute(self, sql: str, parameters: Any = ()) -> Any:
            if "attached" in parameters and not others:
                others.append(DiesAttached(warehouse))
                with contextlib.suppress(Killed):
                    open_outbox(people.ledger(others[0]), stream, parts[1]).drain(day(1))
            return super().execute(sql, parameters)

    open_outbox(people.ledger(Late(warehouse)), stream, parts[0]).drain(day(0))
    assert others
    people.take("leaves")
    for number in (1, 2):
        people.run(number)
        for part in parts:
            open_outbox(people.ledger(), stream, part).drain(day(number))
    assert stream.consume().members("vips") == {"stays"}


class DiesAttached(Watched):
    """Dies once it has attached a destination."""

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        found = super().execute(sql, parameters)
        if "attached" in parameters:
            self.kill()
        return found
