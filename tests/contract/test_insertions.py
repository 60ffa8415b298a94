"""A change set between two that exist: a missed past is filled in, and an old membership corrected.

The oracle keeps the membership of every day in plain Python, and reads messages with a reader of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.cli.plan import describe as describe_plan
from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.exceptions import (
    DeliveryChanged,
    GuardTripped,
    HistoryGone,
    ReleaseRefused,
    RunSuperseded,
    SchemaChanged,
)
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.replay import Span, replay
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.producer.records import Limits
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.sql.names import view_name
from airflow_kinesis_audience.history import find_user
from tests.contract.test_restored import Backup
from tests.warehouses import (
    LET_ALL_THROUGH,
    QUICK,
    DiesAt,
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    insert_rows,
    read_membership,
    read_standing,
    read_timeline,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery

INSERT, CORRECT = {"insert": True}, {"correct": True}
SECOND = timedelta(seconds=1)
COHORTS, AUDIENCES = "amplitude_cohort", "mparticle_audience"
USERS = [f"u{n}" for n in range(7)]
CITIES = ("Bern", "Basel", "Chur")
Membership = Mapping[str, str]
"""User to city: the identity is derived from the user, and the city is a property."""


@dataclass
class World:
    """A sync whose source has another membership each day."""

    people: People
    days: list[Membership] = field(default_factory=list)
    message_format: str = COHORTS
    streams: dict[str, Stream] = field(default_factory=dict)

    def expected(self, number: int) -> set[str]:
        return keys_of(self.days[number], self.message_format)

    def delivery(self, name: str, **changed: Any) -> Delivery:
        options = {"max_users": 2} if self.message_format == COHORTS else {}
        return small_delivery(name, message_format=self.message_format, options=options, **changed)

    def fill(self, number: int) -> None:
        self.people.clear()
        rows = [("vips", "VIPs", user, f"{user}.{city}@x.y", city) for user, city in self.days[number].items()]
        insert_rows(self.people.warehouse, self.people.table, rows)

    def run(self, number: int, how: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
        self.fill(number)
        return self.people.run(number, how=how, **settings)

    def publish(self, name: str, as_of: Any, **how: Any) -> Stream:
        stream = self.streams.setdefault(name, Stream())
        Outbox(self.people.ledger(), self.delivery(name), stream.put, policy=QUICK).drain(as_of, **how)
        return stream

    def users_at(self, as_of: Any) -> Membership:
        return {user: found[-1] for (_, user), found in read_membership(self.people.ledger(), as_of).items()}


@pytest.fixture
def world(warehouse) -> World:
    return World(People(warehouse))


Message = tuple[float, str, bool]
"""Time, key, whether the key is a member: of cohorts the user's id, of mParticle's audiences the address."""


def messages_of(stream: Stream) -> list[Message]:
    """Read messages as a consumer of the format does; one entry per user."""
    found = []
    for data in stream.messages:
        message = json.loads(data)
        if "users" in message:
            is_member = message["message_id"].split("::")[1] == "enter"
            found += [(float(message["computed_time"]), u["user_id"], is_member) for u in message["users"]]
        else:
            time, key = float(message["MembershipChangedTimestamp"]), message["UserIdentities"]["Email"]
            found.append((time, key, message["IsMember"]))
    return found


def believe(messages: Iterable[Message], *, until: Any = None) -> set[str]:
    """Work out the members of a consumer who lets the newest time win per key, whatever the order."""
    newest: dict[str, tuple[float, bool]] = {}
    for time, key, is_member in messages:
        if (until is None or time <= until.timestamp()) and (key not in newest or time >= newest[key][0]):
            newest[key] = time, is_member
    return {key for key, (_, is_member) in newest.items() if is_member}


def keys_of(members: Membership, message_format: str) -> set[str]:
    return set(members) if message_format == COHORTS else {f"{u}.{city}@x.y" for u, city in members.items()}


def check_once(stream: Stream) -> None:
    assert len(stream.messages) == len(set(stream.messages)), "a message was put twice"


def draw_days(rng: random.Random, count: int) -> list[Membership]:
    days: list[dict[str, str]] = [{u: rng.choice(CITIES) for u in rng.sample(USERS, 5)}]
    for _ in range(count - 1):
        now = dict(days[-1])
        for user in rng.sample(USERS, rng.randint(0, 4)):
            if user in now and rng.random() < 0.6:
                del now[user]
            else:
                now[user] = rng.choice(CITIES)
        days.append(now)
    return days


@pytest.mark.parametrize("message_format", [COHORTS, AUDIENCES])
@pytest.mark.parametrize("number", range(2))
def test_a_missed_past_is_filled_in_and_the_newest_message_stays_true(world, message_format, number):
    """New histories in each run; a destination that is up to date believes the truth after every message."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    world.message_format, world.days = message_format, draw_days(rng, 9)
    ran = [0, *sorted(rng.sample(range(1, 8), 3)), 8]
    for number in ran:
        world.run(number)
        world.publish("prompt", day(number))
    world.publish("behind", day(0))
    before = len(messages_of(world.streams["prompt"]))
    fill_in(world, rng, [n for n in range(1, 8) if n not in ran], ran)
    world.days.append({**world.days[-1], "late": "Bern"})
    world.run(9)
    for name in ("prompt", "behind", "new"):
        stream = world.publish(name, day(9))
        check_once(stream)
        messages = messages_of(stream)
        assert believe(messages) == world.expected(9), name
        again = len(stream.messages)
        assert len(world.publish(name, day(9)).messages) == again
        for number in range(9 if name != "new" else 0):
            assert believe(messages, until=day(number)) == world.expected(number), (name, number)
    if message_format == COHORTS:
        messages = messages_of(world.streams["prompt"])
        assert believe(rng.sample(messages, len(messages))) == world.expected(9)
        for count in range(before, len(messages)):
            assert believe(messages[:count]) - {"late"} == world.expected(8), count


def fill_in(world: World, rng: random.Random, missed: list[int], ran: list[int]) -> None:
    """Insert all days that were missed, in any order, while destinations are delivered to."""
    for number in rng.sample(missed, len(missed)):
        summary = world.run(number, INSERT)
        assert (summary["inserted"], summary["as_of"]) == (True, instant_text(day(number)))
        if rng.random() < 0.5:
            world.publish("prompt", day(number))
        if rng.random() < 0.3:
            world.publish("behind", day(rng.choice(ran)))
    for number, members in enumerate(world.days):
        assert world.users_at(day(number)) == members, number


@pytest.mark.parametrize("share", [0.0, 99.0], ids=["a base at each run", "one base"])
def test_a_resync_has_the_exit_of_who_was_a_member_in_an_inserted_run_alone(world, share):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Basel"}, *({"u0": CITIES[n % 3]} for n in range(2, 9))]
    for number in (0, 2, 3, 4):
        world.run(number, compaction_share=share)
    stream = world.publish("live", day(4))
    world.run(1, INSERT, compaction_share=share)
    compensations = {c.table for c in read_timeline(world.people.ledger()).change_sets if c.compensates}
    for number, history in ((5, 90), (6, 90), (7, 1), (8, 1)):
        world.run(number, compaction_share=share, keep_history=timedelta(days=history))
        world.publish("live", day(number))
        alone, again = Stream(), world.delivery("live", resync=str(number))
        resync(Outbox(world.people.ledger(), again, alone.put), world.delivery("live"))
        found = {(user, is_member) for _, user, is_member in messages_of(alone)}
        assert found == {("u0", True), ("u1", False)}, number
        assert believe(messages_of(stream)) == world.expected(number)
    assert compensations
    assert not compensations & world.people.tables(), "old values are kept for longer than the history"


def test_a_replay_has_the_past_that_was_filled_in(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u1": "Chur"}, {"u2": "Bern"}]
    for number in (0, 3):
        world.run(number)
    for number in (1, 2):
        world.run(number, INSERT)
    stream, ledger = Stream(), world.people.ledger()
    outbox = Outbox(ledger, world.delivery("replayed", replay="once"), stream.put, policy=QUICK)
    assert replay(outbox, world.delivery("replayed"), Span(since=day(0))) == day(3)
    for number in range(4):
        assert believe(messages_of(stream), until=day(number)) == world.expected(number)
    world.streams["replayed"] = stream
    before = len(stream.messages)
    assert len(world.publish("replayed", day(3)).messages) == before


def test_an_old_membership_is_corrected_by_an_insertion(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u0": "Bern", "u2": "Bern"}]
    for number in range(3):
        world.run(number)
        world.publish("a", day(number))
    before = believe(messages_of(world.streams["a"]))
    world.days[1] = {"u3": "Chur"}
    summary = world.run(1, CORRECT)
    assert (summary["as_of"], summary["corrects"]) == (instant_text(day(1) + SECOND), instant_text(day(1)))
    assert (summary["entered"], summary["exited"], summary["inserted"]) == (1, 2, True)
    # u3 exits and u0 enters again; u1 is no member on the next day anyway.
    counts = {"entered": 1, "exited": 1, "updated": 0}
    reported = {"as_of": instant_text(day(2) - SECOND), **counts, "audiences": {"vips": counts}}
    assert summary["compensation"] == reported
    assert world.users_at(day(1)) == {"u0": "Bern", "u1": "Bern"}
    assert world.users_at(day(1) + SECOND) == {"u3": "Chur"}
    stream = world.publish("a", day(1) + SECOND)
    assert believe(messages_of(stream)) == before == world.expected(2)
    assert believe(messages_of(stream), until=day(1) + SECOND) == {"u3"}
    world.days[1] = {"u3": "Bern"}
    assert world.run(1, CORRECT)["as_of"] == instant_text(day(1) + 2 * SECOND)
    assert world.users_at(day(2)) == world.days[2]


def test_an_old_membership_that_is_right_gets_no_correction_and_costs_fewer_statements(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u2": "Bern"}]
    for number in range(3):
        world.run(number)
    known = read_timeline(world.people.ledger()).change_sets

    def correct() -> tuple[dict[str, Any], int]:
        done: list[str] = []
        watched = Watched(world.people.warehouse, before=done.append)
        return world.run(1, CORRECT, warehouse=watched, compaction_share=99.0), len(done)

    def plan() -> str:
        world.fill(1)
        ledger, source = world.people.ledger(), world.people.source
        found = make_plan(ledger, source, day(1), guards=LET_ALL_THROUGH, correct=True)
        return "\n".join(describe_plan(found, [], show=False))

    assert "already right: a run would add nothing" in plan()
    summary, confirming = correct()
    assert (summary["confirmed"], summary["as_of"]) == (True, instant_text(day(1)))
    assert read_timeline(world.people.ledger()).change_sets == known
    tables = {name for name in world.people.tables() if name.startswith("changes")}
    assert tables == {c.table for c in known if c.previous_as_of}
    world.days[1] = {"u3": "Chur"}
    assert "already right" not in plan()
    summary, correcting = correct()
    assert summary["inserted"] is True
    assert confirming < correcting
    world.publish("a", day(2))
    before = len(world.streams["a"].messages)
    summary, _ = correct()
    assert (summary["confirmed"], summary["as_of"]) == (True, instant_text(day(1) + SECOND))
    assert len(world.publish("a", day(2)).messages) == before
    world.days[2] = {"u4": "Bern"}
    assert world.run(2, CORRECT)["corrects"] == instant_text(day(2))


def test_a_compensation_is_recognised_by_the_run_that_it_compensates(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u2": "Bern"}]
    for number in (0, 2):
        world.run(number)
        world.publish("a", day(number))
    world.run(1, INSERT)
    world.publish("a", day(2))
    found = find_user(world.people.ledger(), "u1")
    assert found.memberships == []
    assert [(c.as_of, c.action, c.compensates) for c in found.changes] == [
        (instant_text(day(1)), "entered", None),
        (instant_text(day(2) - SECOND), "exited", instant_text(day(1))),
    ]
    assert {d.state for c in found.changes for d in c.deliveries} == {"delivered"}
    [_, inserted, compensation, newest] = (shown := read_status(world.people.ledger(), 9))["change_sets"]
    assert compensation["compensates"] == inserted["as_of"] == instant_text(day(1))
    assert not {"compensates", "corrects"} & (inserted.keys() | newest.keys())
    [line] = [line for line in describe(shown) if line.startswith(f"  {compensation['as_of']}")]
    assert line.endswith(f"  compensates {inserted['as_of']}")
    world.days[2] = {"u3": "Bern"}
    world.run(2, CORRECT)
    assert f"corrects {instant_text(day(2))}" in "\n".join(describe(read_status(world.people.ledger(), 9)))


def test_tasks_that_share_a_delivery_all_get_what_was_inserted(world):
    world.days, world.message_format = [dict.fromkeys(USERS, city) for city in CITIES], AUDIENCES
    stream = Stream()

    def publish(number: int, part: int) -> None:
        delivery = world.delivery("a", part=Part(number=part, of=2))
        Outbox(world.people.ledger(), delivery, stream.put, policy=QUICK).drain(day(number))

    world.run(0)
    for part in (0, 1):
        publish(0, part)
    world.run(2)
    publish(2, 1)  # one is ahead of the other
    assert world.run(1, INSERT)["updated"] == len(USERS)
    for number, part in ((1, 0), (2, 0), (1, 1), (2, 1), (2, 0)):
        publish(number, part)
    check_once(stream)
    assert believe(messages_of(stream)) == world.expected(2)
    assert believe(messages_of(stream), until=day(1)) == world.expected(1)
    assert not read_standing(world.people.ledger(), world.delivery("a")).find_inserted(
        read_timeline(world.people.ledger())
    )


def test_an_insertion_is_killed_anywhere_and_made_once(warehouse):
    for side in ("before", "after"):
        for statement in range(100):
            world = World(People(warehouse), [{"u0": "Bern"}, {"u1": "Bern"}, {"u0": "Bern", "u2": "Chur"}])
            for number in (0, 2):
                world.run(number)
                world.publish("a", day(number))
            dying = DiesAt(warehouse, statement, side)
            try:
                world.run(1, INSERT, warehouse=dying)
            except Killed:
                ended = False
            else:
                ended = True
            again = world.run(1, INSERT)
            assert again["inserted"] is True
            stream = world.publish("a", day(1))
            check_once(stream)
            assert believe(messages_of(stream)) == world.expected(2)
            assert world.users_at(day(1)) == world.days[1]
            assert world.users_at(day(2)) == world.days[2]
            world.days.append({"u9": "Bern"})
            world.run(3)
            known = read_timeline(world.people.ledger()).standing
            assert {t for t in world.people.tables() if t.startswith(("changes", "base"))} == known
            if ended:
                break
        assert 3 < statement < 60


@pytest.mark.parametrize("publishing", [1, 2])
def test_what_is_half_sent_is_finished_before_what_was_inserted(world, publishing):
    """Also by the publishing task of the inserted run, which is the first one to go on."""
    world.days = [dict.fromkeys(USERS, "Bern"), {"u0": "Bern"}, dict.fromkeys(USERS, "Chur")]
    world.message_format = AUDIENCES
    world.run(0)
    world.publish("a", day(0))
    world.run(2)
    stream = world.streams["a"]
    sent = len(stream.puts)

    def dies(number, batch):
        if number == sent + 1:
            raise Killed
        return [Fate.TAKEN] * len(batch)

    stream.script = dies
    with pytest.raises(Killed):
        world.publish("a", day(2))
    stream.script = None
    world.run(1, INSERT)
    world.publish("a", day(publishing))
    assert believe(messages_of(stream)) == world.expected(2)
    times = [time for time, *_ in messages_of(stream)]
    assert times.index(day(1).timestamp()) > max(n for n, t in enumerate(times) if t == day(2).timestamp())


def test_an_inserted_run_is_sent_again_with_the_same_messages(world):
    world.days = [{"u0": "Bern"}, {"u1": "Bern", "u2": "Chur"}, {"u0": "Bern", "u2": "Bern"}]
    for number, how in ((0, None), (2, None), (1, INSERT)):
        world.run(number, how)
        world.publish("a", day(number))
    before = list(world.streams["a"].messages)
    again = world.publish("a", day(1), resend=True).messages[len(before) :]
    assert again == [m for m in before if json.loads(m)["computed_time"] == str(int(day(1).timestamp()))]
    assert believe(messages_of(world.streams["a"])) == world.expected(2)


def test_a_format_without_a_time_gets_by_a_resend_only_what_is_newest(world):
    world.days = [{"u0": "Bern"}, {"u0": "Chur"}, {"u0": "Basel"}, {"u0": "Bern"}]
    stream = Stream()

    def publish(number: int, **how: Any) -> None:
        delivery = small_delivery(message_format="adobe_profile", options={})
        Outbox(world.people.ledger(), delivery, stream.put, policy=QUICK).drain(day(number), **how)

    for number, how in ((0, None), (2, None), (1, INSERT)):
        world.run(number, how)
        publish(number)
    world.run(3)
    publish(3)
    before = list(stream.messages)
    for number in (1, 2):
        with pytest.raises(HistoryGone, match="its old values would count as the newest"):
            publish(number, resend=True)
    assert stream.messages == before
    publish(3, resend=True)
    assert stream.messages[len(before) :] == before[-1:]


def test_the_history_view_says_which_changes_are_a_compensation(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u0": "Bern"}]
    for number, how in ((0, None), (2, None), (1, INSERT)):
        world.run(number, how, history_view=True)
    view = f'{world.people.schema}."{view_name("dag.diff")}"'
    rows = world.people.warehouse.read_rows(
        f"SELECT as_of, action, compensates FROM {view} WHERE user_id = 'u1' ORDER BY as_of"
    )
    inserted = instant_text(day(1))
    assert rows == [(inserted, "entered", None), (instant_text(day(2) - SECOND), "exited", inserted)]


def test_a_plan_finds_what_the_run_finds_and_is_refused_where_the_run_is(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u1": "Chur"}, {"u2": "Bern"}]
    for number in (0, 1, 3):
        world.run(number)
    world.publish("a", day(3))
    world.days[1] = {"u2": "Bern"}
    world.days[3] = {"u2": "Bern", "u3": "Bern"}
    update = replace(LET_ALL_THROUGH, on_schema_change="update")
    for number, how in ((2, INSERT), (1, CORRECT), (3, CORRECT)):
        world.fill(number)
        ledger, source = world.people.ledger(), world.people.source
        planned = make_plan(ledger, source, day(number), guards=LET_ALL_THROUGH, **how)
        other = replace(source, properties={})
        if number < 3:
            with pytest.raises(SchemaChanged, match="between which its change set would be inserted"):
                make_plan(ledger, other, day(number), guards=update, **how)
        found = world.run(number, how)
        assert instant_text(planned.as_of) == found["as_of"]
        counted = ("entered", "exited", "updated", "members")
        assert [planned.total(n) for n in counted] == [found[n] for n in counted]
    with pytest.raises(RunSuperseded, match="a later run has already covered it"):
        make_plan(world.people.ledger(), world.people.source, day(1) + 7 * SECOND, guards=LET_ALL_THROUGH)


def test_what_is_inserted_again_after_a_restore_has_other_ids(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u0": "Bern"}]
    for number in (0, 2):
        world.run(number)
        world.publish("a", day(number))
    backup = Backup(world.people)
    world.run(1, INSERT)
    known = {json.loads(m)["message_id"]: m for m in world.publish("a", day(2)).messages}
    backup.restore()
    world.days[1] = {"u5": "Bern", "u6": "Chur", "u4": "Bern"}
    world.run(1, INSERT)
    stream = world.publish("a", day(2))
    for message in stream.messages:
        assert known.setdefault(json.loads(message)["message_id"], message) == message
    assert believe(messages_of(stream)) == world.expected(2)


def test_what_cannot_be_inserted_is_refused_with_what_to_do(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u1": "Bern"}]
    world.run(1)
    with pytest.raises(RunSuperseded, match=r"begins with the change set as of .* nothing can be inserted"):
        world.run(0, INSERT)
    world.days += [{"u1": "Bern"}, {"u2": "Bern"}]
    world.run(4)
    with pytest.raises(RunSuperseded, match="a later run has already covered it"):
        world.run(3)
    with pytest.raises(GuardTripped, match="would exit"):
        world.run(2, INSERT, guards=Guards(max_exits=0))
    assert len(read_timeline(world.people.ledger()).change_sets) == 2
    assert world.run(4, INSERT)["as_of"] == instant_text(day(4))
    sync = world.people.sync()
    with pytest.raises(RunSuperseded, match="no second is left"):
        sync.run(day(4) - SECOND, insert=True)
    world.people.source = replace(world.people.source, properties={})
    with pytest.raises(SchemaChanged):
        world.run(2, INSERT)
    with pytest.raises(SchemaChanged, match="between which its change set would be inserted"):
        world.run(2, INSERT, guards=Guards(on_schema_change="update", max_exit_ratio=None))


def test_history_that_a_destination_has_still_to_get_is_kept(world):
    world.days = [{"u0": "Bern"}, {"u1": "Bern"}, {"u2": "Bern"}, {"u3": "Bern"}, {"u4": "Bern"}]
    for number in (0, 2):
        world.run(number)
        world.publish("a", day(number))
    world.run(1, INSERT)
    short = {"keep_history": timedelta(hours=1), "compaction_share": 0.0}
    for number in (3, 4):
        world.run(number, **short)
    stream = world.publish("a", day(4))
    assert believe(messages_of(stream)) == world.expected(4)
    assert believe(messages_of(stream), until=day(1)) == world.expected(1)
    world.days.append({"u5": "Bern"})
    world.run(5, **short)
    world.publish("a", day(5))
    world.days.append({"u6": "Bern"})
    world.run(6, **short)
    with pytest.raises(HistoryGone, match="is no longer kept"):
        world.run(1, CORRECT)


def test_the_newest_change_set_stays_once_another_one_relies_on_its_membership(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u2": "Bern"}]
    world.run(0)
    world.run(2)
    world.run(1, INSERT)
    world.days[2] = {"u3": "Bern"}
    assert world.run(2)["recorded"] is True
    assert world.run(2, CORRECT)["members"] == 1
    stream = world.publish("a", day(2) + SECOND)
    assert believe(messages_of(stream)) == {"u3"}


def test_a_change_set_that_is_held_is_not_approved_once_its_membership_is_another(world):
    world.days = [{"u0": "Bern"}, {"u1": "Bern"}, {"u0": "Bern", "u2": "Bern"}]
    world.run(0)
    world.run(2)
    world.days[2] = {"u2": "Bern"}
    held = world.run(2, {"hold": True}, guards=Guards(max_exits=0))["held_table"]
    assert world.run(1, INSERT)["inserted"] is True
    with pytest.raises(ReleaseRefused):
        approve(world.people.ledger(), day(2), held)
    assert world.run(2, CORRECT)["members"] == 1


def test_a_format_without_a_time_does_not_get_what_was_inserted_before_what_it_has(world):
    world.days = [{"u0": "Bern"}, {"u0": "Bern", "u1": "Bern"}, {"u0": "Bern"}, {"u0": "Bern", "u3": "Bern"}]
    stream = Stream()

    def publish(number: int) -> Outbox:
        delivery = small_delivery(message_format="adobe_profile", options={})
        outbox = Outbox(world.people.ledger(), delivery, stream.put, policy=QUICK)
        outbox.drain(day(number))
        return outbox

    for number in (0, 2):
        world.run(number)
        publish(number)
    before = len(stream.messages)
    inserted = world.run(1, INSERT)
    outbox = publish(1)
    assert (len(stream.messages), outbox.report.omitted) == (before, 2 * inserted["entered"])
    world.run(3)
    assert publish(3).report.omitted == 0
    assert len(stream.messages) == before + 1


def test_of_a_user_too_large_for_a_record_the_newest_message_stays_true(world):
    small = Limits(records_per_request=2, record_bytes=400, request_bytes=100_000)
    large = "C" * 400
    for days in (
        [{"u0": "Bern"}, {"u0": "Bern", "u1": large}, {"u0": "Bern"}],
        [{"u0": "Bern", "u1": large}, {"u0": "Bern"}, {"u0": "Bern", "u1": large}],
        [{"u0": "Bern"}, {"u0": large, "u1": "Bern"}, {"u0": "Basel"}],
    ):
        fresh = World(People(world.people.warehouse), [*days, days[2]], message_format=AUDIENCES)
        stream = Stream()
        known: list[set[str]] = []
        for number, how in ((0, None), (2, None), (1, INSERT), (3, None)):
            fresh.run(number, how)
            outbox = Outbox(fresh.people.ledger(), fresh.delivery("a", limits=small), stream.put, policy=QUICK)
            outbox.drain(day(number), on_rejected="skip")
            known.append(believe(messages_of(stream)))
        assert known[1] == known[2] == known[3]


def test_more_parts_or_fewer_are_refused_only_while_something_is_half_sent(world):
    world.days = [dict.fromkeys(USERS, city) for city in (*CITIES, *CITIES)]
    world.message_format = AUDIENCES
    stream = Stream()

    def publish(number: int, *parts: Part) -> None:
        for part in parts:
            Outbox(world.people.ledger(), world.delivery("a", part=part), stream.put, policy=QUICK).drain(
                day(number)
            )

    both = (Part(number=0, of=2), Part(number=1, of=2))
    for number in (0, 2):
        world.run(number)
        publish(number, *both)
    world.run(1, INSERT)
    publish(2, both[0])
    with pytest.raises(DeliveryChanged, match="in 2 parts"):
        publish(2, Part())
    publish(2, both[1])
    world.run(3)
    publish(3, Part())
    assert believe(messages_of(stream)) == world.expected(3)


def test_exits_of_a_day_are_counted_along_the_inserted_runs_and_once(world):
    hour = timedelta(hours=1)
    world.days = [{f"u{n}": "Bern" for n in range(200)}]
    world.run(0)
    guards = Guards(max_exit_ratio=None, max_exit_ratio_per_day=0.5)
    sync = world.people.sync(guards=guards)
    world.people.take(*(f"u{n}" for n in range(80)))
    sync.run(day(0) + 10 * hour)
    world.people.take(*(f"u{n}" for n in range(80, 95)))
    sync.run(day(0) + 20 * hour, insert=True)
    sync.run(day(0) + 5 * hour, insert=True)
    world.people.take(*(f"u{n}" for n in range(95, 99)))
    sync.run(day(0) + 21 * hour)
    world.people.take(*(f"u{n}" for n in range(99, 150)))
    with pytest.raises(GuardTripped, match="max_exit_ratio_per_day"):
        sync.run(day(0) + 7 * hour, insert=True)


def test_however_many_days_are_inserted_a_statement_reads_few_tables(warehouse):
    longest = 0

    def look(sql: str) -> None:
        nonlocal longest
        longest = max(longest, sql.count("changes_"))

    world = World(People(warehouse), [{"u0": CITIES[n % 3]} for n in range(62)])
    watched = Watched(warehouse, before=look)
    world.run(0)
    world.run(61)
    for number in range(1, 61):
        world.run(number, INSERT, warehouse=watched, compaction_share=99.0)
    world.days.append({"u9": "Bern"})
    world.run(62, warehouse=watched, compaction_share=99.0)
    assert longest < 60
    assert [world.users_at(day(n)) for n in (1, 30, 60, 61, 62)] == [world.days[n] for n in (1, 30, 60, 61, 62)]
