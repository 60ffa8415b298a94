"""A transform that leaves members out: the stream holds exactly who is let through, whatever breaks on the way.

The oracle reads the JSON of the messages with plain Python: per user the newest time wins.
"""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import DeliveryChanged, DeliveryIncomplete, GuardTripped
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.transform import load_transform
from airflow_kinesis_audience.formats.transformed import TransformedRenderer
from airflow_kinesis_audience.history.user import find_user
from tests.warehouses import QUICK, Fate, Killed, People, Stream, Watched, day, open_outbox, small_delivery

if TYPE_CHECKING:
    import pandas as pd

CITIES = ("Bern", "Rome", None)


def not_rome(members: pd.DataFrame) -> pd.DataFrame:
    """Be an author's function: it lets through who is not in Rome, by city."""
    return members[members["city"].fillna("") != "Rome"].sort_values("city")


def not_bern(members: pd.DataFrame) -> pd.DataFrame:
    """Be another one."""
    return members[members["city"].fillna("") != "Bern"]


def delivery(transform: str = "not_rome", message_format: str = "amplitude_cohort", **how: Any) -> Any:
    options = {"amplitude_cohort": {"max_users": 2}, "mparticle_audience": {"message_ids": True}}[message_format]
    author = load_transform(f"{__name__}.{transform}", filters=True)
    renderer = TransformedRenderer(load_renderer(message_format, options), author)
    return small_delivery(message_format=message_format, options=options, renderer=renderer, **how)


def read(document: Any) -> list[tuple[str, bool]]:
    if "cohort_id" in document:
        return [(user["user_id"], document["in_cohort"]) for user in document["users"]]
    return [(document["UserIdentities"]["CustomerId"], document["IsMember"])]


def members_by(messages: list[bytes]) -> set[str]:
    """Give who is a member by messages in their order."""
    last = dict(found for message in messages for found in read(json.loads(message)))
    return {user for user, is_member in last.items() if is_member}


class World:
    """People who come, go and move at random."""

    def __init__(self, people: People, chance: random.Random) -> None:
        self.people, self.chance = people, chance
        self.city: dict[str, str | None] = {}

    def live(self) -> None:
        for user in (f"u{n}" for n in range(30)):
            way = self.chance.random()
            if user not in self.city and way < 0.5:
                self.city[user] = self.chance.choice(CITIES)
                self.people.put(user, email=f"{user}@example.com", city=self.city[user])
            elif user in self.city and way < 0.15:
                self.people.take(user)
                del self.city[user]
            elif user in self.city and way < 0.5:
                self.city[user] = self.chance.choice(CITIES)
                self.people.change(user, city=self.city[user])

    def fates(self, attempt: int, task: Watched, batch: Any) -> list[Fate]:
        if attempt < 3 and self.chance.random() < 0.2:
            task.dead = True
            raise Killed(taken=self.chance.random() < 0.5)
        kinds = [Fate.TAKEN, Fate.TAKEN, Fate.THROTTLED] if attempt < 6 else [Fate.TAKEN]
        return self.chance.choices(kinds, k=len(batch))


def publish_whatever_breaks(world: World, stream: Stream, number: int, message_format: str) -> None:
    for attempt in range(10):
        task, sent_by = Watched(world.people.warehouse), delivery(message_format=message_format)
        stream.script = lambda _, batch, task=task, attempt=attempt: world.fates(attempt, task, batch)
        with contextlib.suppress(Killed, DeliveryIncomplete):
            return Outbox(world.people.ledger(task), sent_by, stream.put, policy=QUICK).drain(day(number))
    raise AssertionError("the last attempts meet no fault")


@pytest.mark.parametrize("message_format", ["amplitude_cohort", "mparticle_audience"])
def test_after_kills_and_failures_the_stream_has_whom_it_lets_through(warehouse, monkeypatch, message_format):
    seed = random.randrange(10**6)
    print("seed", seed)
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    people, stream = People(warehouse), Stream()
    world = World(people, random.Random(seed))
    for number in range(6):
        world.live()
        people.run(number)
        publish_whatever_breaks(world, stream, number, message_format)
        assert members_by(stream.messages) == {u for u, city in world.city.items() if city != "Rome"}
    by_id: dict[str, set[bytes]] = {}
    for message in stream.messages:
        document = json.loads(message)
        by_id.setdefault(document.get("message_id") or document["MessageId"], set()).add(message)
    assert {len(found) for found in by_id.values()} == {1}, "a resume sends the same bytes"


@pytest.fixture
def crowd(warehouse) -> People:
    """Thirty members, ten of them in Rome, and a destination that has those that the function lets through."""
    people = People(warehouse)
    people.put(*(f"r{n}" for n in range(10)), city="Rome")
    people.put(*(f"b{n}" for n in range(20)), city="Bern")
    people.run(0)
    return people


def publish(people: People, number: int, sent_by: Any = None) -> tuple[Stream, Any]:
    stream = Stream()
    outbox = open_outbox(people.ledger(), stream, sent_by or delivery())
    outbox.drain(day(number))
    return stream, outbox.report


def test_what_it_leaves_out_is_counted_apart(crowd):
    stream, report = publish(crowd, 0)
    assert (report.delivered, report.filtered, report.omitted) == (20, 10, 0)
    assert members_by(stream.messages) == {f"b{n}" for n in range(20)}
    crowd.change("r0", city="Bern")
    crowd.change("b0", city="Rome")
    crowd.change("r1", city=None)
    crowd.take("r2", "b1")
    crowd.change("b2", city="Genf")
    crowd.run(1)
    stream, report = publish(crowd, 1)
    assert (report.delivered, report.filtered, report.omitted) == (4, 1, 1), "r2 was never there, b2 is an update"
    assert sorted(found for m in stream.messages for found in read(json.loads(m))) == [
        ("b0", False),
        ("b1", False),
        ("r0", True),
        ("r1", True),
    ]


def test_the_bounds_hold_for_whom_it_removes(crowd):
    publish(crowd, 0)
    for n in range(20):
        crowd.change(f"b{n}", city="Rome")
    crowd.run(1, guards=Guards(max_exits=3))
    with pytest.raises(GuardTripped, match=r"20 of 30 members would exit .*: 20 of them are still in the source"):
        publish(crowd, 1)


def test_another_function_than_before_is_refused_until_the_destination_is_begun_again(crowd):
    plain = small_delivery()
    publish(crowd, 0, replace(plain, connection="plain"))
    publish(crowd, 0)
    crowd.put("new", city="Rome")
    crowd.run(1)
    with pytest.raises(
        DeliveryChanged, match=r"not_bern may leave members out.*by another text of it: some would"
    ):
        publish(crowd, 1, delivery("not_bern"))
    with pytest.raises(DeliveryChanged, match=r"has received members without it"):
        publish(crowd, 1, delivery(connection="plain"))
    again = delivery("not_bern", resync="again")
    with pytest.raises(DeliveryChanged, match="another text of it"):
        resync(open_outbox(crowd.ledger(), Stream(), again), replace(again, resync=""))
    assert publish(crowd, 1)[1].filtered == 1
    assert members_by(publish(crowd, 1, delivery("not_bern", connection="new"))[0].messages) == {
        *(f"r{n}" for n in range(10)),
        "new",
    }


def test_a_resync_counts_whom_it_lets_through(crowd):
    publish(crowd, 0)
    stream, again = Stream(), delivery(resync="again")
    resync(open_outbox(crowd.ledger(), stream, again), delivery())
    documents = [json.loads(m) for m in stream.messages]
    notices = [d["lifecycle"] for d in documents if "lifecycle" in d]
    assert [(n["members"], n["exits"]) for n in notices] == [(20, 0)] * 2
    assert sum(len(d["users"]) for d in documents) == 20


def test_the_history_of_a_user_has_the_message_that_was_sent(crowd):
    stream, _ = publish(crowd, 0)
    ids = {user: json.loads(m)["message_id"] for m in stream.messages for user, _ in read(json.loads(m))}
    found = {
        u: [s.message_id for c in find_user(crowd.ledger(), u).changes for s in c.deliveries] for u in ("b3", "r3")
    }
    assert ids["b3"] in found["b3"]
    assert set(found["r3"]) == {None}
