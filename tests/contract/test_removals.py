"""Members who stay in the source and are removed at a destination by an update: they are counted first.

For every format that can remove by an update, and for an author's own. The reading of the wire is plain Python.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd  # noqa: TC002
import pytest

from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.core.changes import counts as counts_module
from airflow_kinesis_audience.core.changes.guards import NO_PERMISSION, Guards, Permission
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, GuardTripped, ReleaseRefused
from airflow_kinesis_audience.core.model.audience import Changes  # noqa: TC001
from airflow_kinesis_audience.core.model.messages import Envelope, Message
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.removals import find_stopped, release
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.sync_details import Event
from airflow_kinesis_audience.formats.transform import load_transform
from airflow_kinesis_audience.formats.transformed import TransformedRenderer
from tests.warehouses import (
    QUICK,
    Fate,
    People,
    Stream,
    Watched,
    day,
    insert_rows,
    read_entries,
    small_delivery,
)

ONE = Guards(max_exits=1)
ALL = Permission(everything=True)
BY_EMAIL = {"forward_customer_ids": False}


def without_email(members: pd.DataFrame) -> pd.DataFrame:
    """Be an author's function that leaves e-mails out of who moved to Rome."""
    members["Email"] = members["Email"].where(members["city"] != "Rome", None)
    return members


class Forgetful:
    """An author's own format: whoever has no city is removed."""

    def __call__(self, changes: Changes, envelope: Envelope) -> Iterator[Message]:
        for row, user in enumerate(changes.user_id):
            member = changes.action[row] != "exited" and changes.new_properties["city"][row] is not None
            yield Message(json.dumps([user, member]).encode(), changes.audience_id[row], None, 1)

    def count_removed(self, changes: Changes) -> Mapping[str, int]:
        gone = [a for a, c in zip(changes.audience_id, changes.new_properties["city"], strict=True) if c is None]
        return {a: gone.count(a) for a in set(gone)}


def by_identities(document: Any) -> tuple[str, bool]:
    return document["UserIdentities"]["Email"], document["IsMember"]


def by_profile(document: Any) -> tuple[str, bool]:
    statuses = {m["status"] for m in document["segmentMembership"].get("ups", {}).values()}
    return str(document["identityMap"]), statuses <= {"realized"}


@dataclass(frozen=True)
class Way:
    """A format that removes by an update.

    :param gone: what the update makes of a member.
    :param read: a message as who it is about, and whether they are a member.
    """

    message_format: str
    gone: Mapping[str, str | None]
    read: Callable[[Any], tuple[str, bool]]
    options: Mapping[str, Any] = field(default_factory=dict)
    transform: str = ""

    def delivery(self, name: str = "a", **how: Any) -> Any:
        delivery = small_delivery(name, message_format=self.message_format, options=dict(self.options), **how)
        if self.transform:
            made = TransformedRenderer(delivery.renderer, load_transform(f"{__name__}.{self.transform}"))
            delivery = replace(delivery, renderer=made)
        return delivery


WAYS = {
    "mParticle without customer ids": Way(
        "mparticle_audience", {"email": None, "city": "Bern"}, by_identities, BY_EMAIL
    ),
    "an author's function": Way(
        "mparticle_audience", {"city": "Rome"}, by_identities, BY_EMAIL, transform="without_email"
    ),
    "Adobe with a consent": Way("adobe_profile", {"city": "no"}, by_profile, {"consent": "city"}),
    "Adobe without the user id": Way("adobe_profile", {"email": None}, by_profile, {"user_id_as": None}),
    "a format of an author's own": Way(f"{__name__}.Forgetful", {"city": None}, lambda d: (d[0], d[1])),
}
MPARTICLE = WAYS["mParticle without customer ids"]


@dataclass
class Crowd:
    """Members of audiences, and a destination that has them all."""

    people: People
    way: Way
    stream: Stream = field(default_factory=Stream)

    def write(self, *gone: str, users: int = 30, audiences: tuple[str, ...] = ("a",)) -> None:
        """Write the source: of those who are gone the format has nothing to say any more."""
        rows = []
        for audience in audiences:
            for n in range(users):
                values: dict[str, str | None] = {"email": f"u{n}@x.example", "city": "yes"}
                values |= self.way.gone if f"u{n}" in gone or f"{audience}/u{n}" in gone else {}
                rows.append((audience, "VIPs", f"u{n}", values["email"], values["city"]))
        self.people.clear()
        insert_rows(self.people.warehouse, self.people.table, rows)

    def run(self, number: int, guards: Guards = ONE, **how: Any) -> dict[str, Any]:
        return self.people.run(number, guards=guards, how=how)

    def publish(self, number: int, permission: Permission = NO_PERMISSION, **how: Any) -> Any:
        warehouse = how.pop("warehouse", None)
        delivery = self.way.delivery(**how)
        outbox = Outbox(
            self.people.ledger(warehouse), delivery, self.stream.put, policy=QUICK, permission=permission
        )
        outbox.drain(day(number))
        return outbox.report

    def removed(self) -> int:
        """Count who is no member any more by the last message about them."""
        last = dict(map(self.way.read, map(json.loads, self.stream.messages)))
        return list(last.values()).count(False)

    def counted(self) -> list[Any]:
        """List what the ledger has of removals."""
        return [e.detail for e in read_entries(self.people.ledger()) if e.event is Event.REMOVALS]

    def begin(self, **how: Any) -> None:
        self.write(**how)
        self.run(0)
        self.publish(0)


def of_everybody(count: int = 30) -> tuple[str, ...]:
    return tuple(f"u{n}" for n in range(count))


@pytest.fixture(params=WAYS)
def crowd(request: pytest.FixtureRequest, warehouse: Any) -> Crowd:
    return Crowd(People(warehouse, many=True), WAYS[request.param])


@pytest.fixture
def by_email(warehouse: Any) -> Crowd:
    return Crowd(People(warehouse, many=True), MPARTICLE)


def test_updates_that_would_remove_members_are_stopped_before_the_first_record(crowd, monkeypatch):
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    crowd.begin()
    crowd.write(*of_everybody())
    found = crowd.run(1)
    assert (found["exited"], found["updated"]) == (0, 30)
    sent = len(crowd.stream.puts)
    said = (
        r"as of 2026-01-02T00:00:00Z was stopped before kinesis://eu-west-1/a received anything of it: "
        r"audience 'a': "
        r"30 of 30 members would exit \(max_exits is 1\): 30 of them are still in the source, but an update"
    )
    for _ in range(2):
        with pytest.raises(GuardTripped, match=said):
            crowd.publish(1)
        assert len(crowd.stream.puts) == sent
    assert len(crowd.counted()) == 1, "what was found is not counted again"
    crowd.publish(1, ALL)
    assert crowd.removed() == 30


def test_updates_within_the_bounds_pass_and_are_counted_once(crowd):
    crowd.begin()
    crowd.write("u0")
    crowd.run(1)
    crowd.publish(1)
    assert (crowd.removed(), crowd.counted()) == (1, []), "one update alone breaks no bound"
    crowd.people.warehouse.execute(f"UPDATE {crowd.people.table} SET city = 'true' WHERE uid <> 'u0'")
    crowd.people.change("u1", **crowd.way.gone)
    assert crowd.run(2)["updated"] == 29
    crowd.publish(2)
    assert (crowd.removed(), [d.breaches for d in crowd.counted()]) == (2, [()])


def test_a_person_lets_it_through_and_it_is_the_very_one(crowd):
    crowd.begin()
    crowd.write(*of_everybody(10))
    crowd.run(1)
    with pytest.raises(GuardTripped):
        crowd.publish(1)
    ledger = crowd.people.ledger()
    [stopped] = find_stopped(ledger.read())
    shown = "\n".join(describe(read_status(crowd.people.ledger(), 5)))
    where = f"{stopped.destination} ({stopped.message_format}) is stopped before the change set as of"
    assert f"{where} 2026-01-02T00:00:00Z, waiting for approval: {stopped.sentences[0]}" in shown
    assert (stopped.as_of, stopped.destination) == (day(1), "kinesis://eu-west-1/a")
    assert "10 of 30 members would exit" in stopped.sentences[0]
    with pytest.raises(ReleaseRefused, match="is no longer the one that is stopped"):
        release(ledger, stopped.log, "another")
    for _ in range(2):
        release(ledger, stopped.log, stopped.table)
    assert find_stopped(crowd.people.ledger().read()) == []
    assert "is stopped" not in "\n".join(describe(read_status(crowd.people.ledger(), 5)))
    crowd.publish(1)
    assert crowd.removed() == 10
    crowd.write(*of_everybody(20))
    crowd.run(2)
    with pytest.raises(GuardTripped, match="10 of 30 members"):
        crowd.publish(2)


def test_a_source_that_is_corrected_is_computed_again_and_nothing_was_sent(crowd):
    crowd.begin()
    crowd.write(*of_everybody())
    crowd.run(1)
    with pytest.raises(GuardTripped):
        crowd.publish(1)
    [stopped] = find_stopped(crowd.people.ledger().read())
    crowd.write("u3")
    crowd.run(1)
    assert find_stopped(crowd.people.ledger().read()) == []
    with pytest.raises(ReleaseRefused):
        release(crowd.people.ledger(), stopped.log, stopped.table)
    crowd.publish(1)
    assert crowd.removed() == 1


def test_exits_and_removals_count_together_and_what_was_let_through_counts_no_more(by_email):
    by_email.begin()
    by_email.write("u0", "u1", users=28)
    three = Guards(max_exits=3)
    assert by_email.run(1, three)["exited"] == 2
    with pytest.raises(GuardTripped, match=r"4 of 30 members would exit .* 2 of them are still in the source"):
        by_email.publish(1)
    assert by_email.run(2, ONE)["exited"] == 0
    by_email.publish(2, ALL)
    by_email.write("u0", "u1", "u2", users=20)
    assert by_email.run(3, three, permission=ALL)["exited"] == 8
    by_email.publish(3)
    assert len(by_email.counted()) == 2, "three are no more than a bound allows"
    by_email.write("u0", "u1", "u2", "u3", "u4", "u5", "u6", users=12)
    by_email.run(4, three, permission=ALL)
    with pytest.raises(GuardTripped, match=r"4 of 20 members would exit .* 4 of them are still"):
        by_email.publish(4)


@pytest.mark.parametrize(
    ("guards", "said"),
    [
        (Guards(), "24 of 40 members would exit, 60%"),
        (Guards(max_exit_ratio=None, max_exit_ratio_per_day=0.5), "24 of 40 members .* within a day"),
        (Guards(max_exit_ratio=None, min_members=17), "16 members would remain"),
        (Guards(max_exit_ratio=None), None),
        (Guards(max_exit_ratio=0.6), None),
    ],
)
@pytest.mark.parametrize("few", [20, 1], ids=["few audiences", "many audiences"])
def test_every_bound_of_the_diff_holds_for_each_audience_by_itself(by_email, monkeypatch, guards, said, few):
    if few == 1 and guards.max_exit_ratio_per_day:
        pytest.skip("more than 20 audiences are looked at as one in this")
    monkeypatch.setattr(counts_module, "FEW_AUDIENCES", few)
    by_email.begin(users=40, audiences=("a", "b"))
    gone = {f"a/u{n}" for n in range(24)} | {f"b/u{n}" for n in range(19)}
    by_email.write(*gone, users=40, audiences=("a", "b"))
    by_email.run(1, guards)
    if said is None:
        by_email.publish(1)
        return
    with pytest.raises(GuardTripped, match=f"audience 'a': {said}") as stopped:
        by_email.publish(1, Permission(audiences=["b"]))
    assert "audience 'b'" not in str(stopped.value)
    by_email.publish(1, Permission(audiences=["a"]))
    assert by_email.removed() == 24


@pytest.mark.parametrize(
    "way",
    [
        Way("amplitude_cohort", {"email": None}, by_identities),
        Way("mparticle_audience", {"email": None}, by_identities),
        Way("mparticle_events", {"email": None}, by_identities),
        Way("adobe_profile", {"email": None}, by_profile),
    ],
    ids=lambda way: way.message_format,
)
def test_a_format_that_cannot_remove_by_an_update_pays_nothing(warehouse, way):
    crowd = Crowd(People(warehouse, many=True), way)
    assert not way.delivery().renderer.traits.removes_by_update
    crowd.begin()
    statements = []
    for number, guards in enumerate([Guards(max_exit_ratio=None), ONE], 1):
        crowd.write(*of_everybody(10 * number))
        crowd.run(number, guards)
        watched, seen = Watched(warehouse), []
        watched.before = seen.append
        crowd.publish(number, warehouse=watched)
        # On a slow machine a delivery writes a checkpoint more, so rows of the ledger do not count.
        statements.append(sum(not ("INSERT INTO" in sql and '."ledger"' in sql) for sql in seen))
    assert statements[0] == statements[1]
    assert crowd.counted() == []


def test_a_delivery_that_has_begun_is_not_stopped_in_the_middle(crowd):
    crowd.begin()
    crowd.write(*of_everybody())
    crowd.run(1)
    begun = len(crowd.stream.puts)
    crowd.stream.script = lambda n, batch: [Fate.TAKEN if n < begun + 3 else Fate.REJECTED] * len(batch)
    with pytest.raises(DeliveryIncomplete):
        crowd.publish(1, ALL)
    crowd.stream.script = None
    rows = len(crowd.counted())
    crowd.publish(1)
    assert (crowd.removed(), len(crowd.counted())) == (30, rows)


def test_parts_are_decided_once(by_email):
    parts = 4
    by_email.write()
    by_email.run(0)
    for n in range(parts):
        by_email.publish(0, part=Part(n, parts))
    by_email.write(*of_everybody())
    by_email.run(1)
    for n in range(parts):
        with pytest.raises(GuardTripped, match="30 of 30 members"):
            by_email.publish(1, part=Part(n, parts))
    assert len(by_email.counted()) == 1
    by_email.publish(1, ALL, part=Part(0, parts))
    for n in range(1, parts):
        by_email.publish(1, part=Part(n, parts))
    assert by_email.removed() == 30
    assert [d.released for d in by_email.counted()] == [False, True]


def test_another_destination_and_other_options_have_a_decision_of_their_own(by_email):
    by_email.begin()
    by_email.publish(0, name="b")
    by_email.write(*of_everybody())
    by_email.run(1)
    by_email.publish(1, ALL)
    with pytest.raises(GuardTripped):
        by_email.publish(1, name="b")
    customers = Crowd(by_email.people, replace(MPARTICLE, options={}))
    customers.publish(1, name="b")
    assert all("CustomerId" in json.loads(m)["UserIdentities"] for m in customers.stream.messages)


def test_a_backlog_is_sent_up_to_what_is_stopped(by_email):
    by_email.begin()
    by_email.write(users=31)
    by_email.run(1)
    by_email.write(*of_everybody(), users=31)
    by_email.run(2)
    by_email.write(users=32)
    by_email.run(3)
    before = len(by_email.stream.messages)
    with pytest.raises(GuardTripped, match="2026-01-03"):
        by_email.publish(3)
    assert len(by_email.stream.messages) == before + 1
    by_email.publish(3, ALL)
    assert by_email.removed() == 0


def test_a_deletion_is_stopped_by_nothing(by_email):
    by_email.begin()
    by_email.write(*of_everybody())
    by_email.run(1)
    with pytest.raises(GuardTripped):
        by_email.publish(1)
    close(by_email.people.ledger(), day(2), exits=True)
    outbox = Outbox(by_email.people.ledger(), MPARTICLE.delivery(), by_email.stream.put, policy=QUICK)
    announce_deletion(outbox)
    named = [json.loads(m) for m in by_email.stream.messages if b"Lifecycle" not in m]
    assert {by_identities(d)[0]: by_identities(d)[1] for d in named} == {
        f"u{n}@x.example": False for n in range(30)
    }


def test_an_error_of_an_authors_count_shows_no_value(by_email, monkeypatch):
    own = Crowd(by_email.people, WAYS["a format of an author's own"])
    own.begin()
    own.write(*of_everybody())
    own.run(1)

    def fail(_: Any, changes: Changes) -> Any:
        raise KeyError(changes.user_id[0])

    monkeypatch.setattr(Forgetful, "count_removed", fail)
    with pytest.raises(
        ValueError, match=r"count_removed of message_format .*Forgetful failed with KeyError"
    ) as failed:
        own.publish(1)
    assert "u1" not in str(failed.value)
