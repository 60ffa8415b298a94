"""Profiles, from the table through the diff and the outbox to Adobe's documents, on the real warehouses.

What is compared with is written here in plain Python and shares nothing with the package: what a profile is after
each run, whether that starts an export, and what the document then says, all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.producer.records import FIREHOSE_LIMITS
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.retention import Retention
from tests.warehouses import (
    LET_ALL_THROUGH,
    DiesAt,
    Fate,
    Killed,
    Stream,
    day,
    fresh_schema,
    list_tables,
    open_outbox,
    open_postgres,
    read_entries,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.changes.guards import Guards
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.report import Report
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

GOLDEN = Path(__file__).parents[1] / "golden" / "adobe_profile.json"
COLUMNS = {
    "email": "TEXT",
    "ecids": "TEXT[]",
    "hashes": "TEXT[]",
    "city": "TEXT",
    "plan": "TEXT",
    "agrees": "TEXT",
}

Values = Mapping[str, Any]
"""What a member's row says, by column; none of those that are missing."""
Members = Mapping[tuple[str, str], Values]
"""Audience and user to what their row says."""


@dataclass
class Export:
    """A table of members and a stream that is told of their profiles.

    :param mapping: of properties, column to name.
    """

    warehouse: SqlWarehouse
    options: Mapping[str, Any] = field(default_factory=dict)
    mapping: Mapping[str, str] = field(
        default_factory=lambda: {"city": "home.city", "plan": "plan", "agrees": "agrees"}
    )
    identities: Mapping[str, str] = field(default_factory=lambda: {"email": "email", "ecids": "ecid"})
    upkeep: Retention = field(default_factory=Retention)
    guards: Guards = LET_ALL_THROUGH
    stream: Stream = field(default_factory=Stream)
    schema: str = field(default_factory=fresh_schema)

    def __post_init__(self) -> None:
        self.table = f"rows_of_{self.schema}"
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        self.warehouse.execute(f"CREATE TABLE {self.table} (audience TEXT, uid TEXT, {columns})")

    def fill(self, members: Members) -> None:
        self.warehouse.execute(f"DELETE FROM {self.table}")
        for key, named in members.items():
            values = [*key, *(named.get(name) for name in COLUMNS)]
            marks = ", ".join([self.warehouse.placeholder] * len(values))
            self.warehouse.execute(f"INSERT INTO {self.table} VALUES ({marks})", values)

    def run(self, as_of: datetime, members: Members) -> None:
        self.fill(members)
        source = Source(
            query=f"SELECT * FROM {self.table}",
            user_id="uid",
            identities=self.identities,
            properties=self.mapping,
            audience_id_column="audience",
        )
        Sync(self.ledger(), source, guards=self.guards, retention=self.upkeep).run(as_of)

    def ledger(self, warehouse: Any = None) -> Ledger:
        return Ledger(warehouse or self.warehouse, self.schema, "profiles")

    def delivery(self, **changed: Any) -> Delivery:
        how = {"on_unknown_audience": "wait", **changed}  # an audience comes and goes
        return small_delivery(message_format="adobe_profile", options=self.options, **how)

    def publish(self, as_of: datetime, warehouse: Any = None, **how: Any) -> tuple[list[bytes], Report]:
        """Publish; gives what went out, in order, and what was counted."""
        before = len(self.stream.taken)
        outbox = open_outbox(self.ledger(warehouse), self.stream, self.delivery())
        outbox.drain(as_of, **how)
        return self.stream.messages[before:], outbox.report

    def tell(self, number: int, members: Members) -> list[dict[str, Any]]:
        self.run(day(number), members)
        return [json.loads(document) for document in self.publish(day(number))[0]]

    def kept(self) -> set[str]:
        """List the tables that one delivery alone needs."""
        return {n for n in list_tables(self.warehouse, self.schema) if n.startswith(("profiles", "snapshot"))}


# --- the vendor's example ----------------------------------------------------------------------------------------


def test_the_vendors_example_comes_out_of_rows(warehouse: SqlWarehouse) -> None:
    export = Export(
        warehouse,
        {"user_id_as": None, "existing": True},
        mapping={
            "city": "person.name.firstName",
            "plan": "person.name.lastName",
            "agrees": "person.birthDate",
            "email": "personalEmail.address",
        },
        identities={"ecids": "ecid", "hashes": "email_lc_sha256"},
    )
    john = {
        "email": "john.doe@acme.com",
        "ecids": ["66478888669296734530114754794777368480", "14575006536349286404619648085736425115"],
        "city": "John",
        "plan": "Doe",
        "agrees": "YYYY-MM-DD",
        "hashes": ["655332b5fa2aea4498bf7a290cff017cb4", "66baf76ef9de8b42df8903f00e0e3dc0b7"],
    }
    first, second, third, last = (
        "947c1c46-008d-40b0-92ec-3af86eaf41c1",
        "59bd2fkd-3c48-4b18-bf56-4f5c5e6967ae",
        "7841ba61-23c1-4bb3-a495-00d3g5fe1e93",
        "5114d758-ce71-43ba-b53e-e2a91d67b67f",
    )
    history = [
        ("2021-08-25T23:37:33Z", [first]),
        ("2022-01-02T23:37:33Z", [first, second, third]),
        ("2022-01-11T21:24:39Z", [first, second]),
        ("2022-01-11T23:37:33Z", [first, second, last]),
    ]
    for as_of, audiences in history:
        export.run(instant(as_of), {(audience, "john"): john for audience in audiences})
        [document], report = export.publish(instant(as_of))
    assert json.loads(document) == json.loads(GOLDEN.read_text())
    assert (report.delivered, report.messages, report.omitted) == (1, 1, 0)


# --- a model of every profile, and what of it is to be told ------------------------------------------------------


@dataclass
class Model:
    """What every profile is, and what a destination has to be told after a run."""

    options: Mapping[str, Any]
    lasting: dict[tuple[str, str], tuple[int, Values]] = field(default_factory=dict)
    ended: dict[tuple[str, str], tuple[int, int, Values]] = field(default_factory=dict)
    first: bool = True

    def step(self, number: int, members: Members) -> dict[str, dict[str, Any]]:
        """Go to the next run; gives the document that is due per user."""
        before, lead_before = dict(self.lasting), {u: self.lead(u) for u in self.users()}
        moved: dict[tuple[str, str], str] = {}
        for key in [k for k in self.lasting if k not in members]:
            since, values = self.lasting.pop(key)
            self.ended[key] = (since, number, values)
            moved[key] = "left"
        for key, values in members.items():
            if key not in self.lasting:
                self.ended.pop(key, None)
                moved[key] = "came"
            self.lasting[key] = (self.lasting.get(key, (number, None))[0], values)
        written = {u for (a, u), (_, v) in self.lasting.items() if before.get((a, u), (0, v))[1] != v}
        touched = written | {u for _, u in moved}
        first, self.first = self.first, False
        if first:
            touched = {u for _, u in members}
        due = {u: self.due(u, number, moved, before, lead_before.get(u), first) for u in touched}
        return {u: document for u, document in due.items() if document is not None}

    def users(self) -> set[str]:
        return {u for _, u in (*self.lasting, *self.ended)}

    def lead(self, user: str) -> Values | None:
        """Say what is known of a profile: by the first audience that lasts, else by the one that ended last."""
        lasting = sorted((a, v) for (a, u), (_, v) in self.lasting.items() if u == user)
        if lasting:
            return min(lasting, key=lambda found: found[0])[1]
        ended = [((-until, a), v) for (a, u), (_, until, v) in self.ended.items() if u == user]
        return min(ended, key=lambda found: found[0])[1] if ended else None

    def identities(self, user: str, values: Values) -> dict[str, Any]:
        found = {"ecid": values["ecids"], "email": [values["email"]]}
        found["crmid"] = [user] if self.options["user_id_as"] else []
        lists = {name: sorted({v for v in vs or [] if v}) for name, vs in found.items()}
        return {name: [{"id": v} for v in vs] for name, vs in lists.items() if vs}

    def attributes(self, values: Values) -> dict[str, Any]:
        whole = {"home.city": values["city"], "plan": values["plan"], "agrees": values["agrees"]}
        default = [n for n in whole if n != self.options["consent"]]
        asked = default if self.options["attributes"] is None else self.options["attributes"]
        return {name: whole[name] for name in asked}

    def may(self, user: str, values: Values | None) -> bool:
        if values is None or not self.identities(user, values):
            return False
        return self.options["consent"] is None or values["agrees"] == "y"

    def mapped(self, audience: str) -> bool:
        return self.options["audiences"] is None or audience in self.options["audiences"]

    def due(  # noqa: C901
        self,
        user: str,
        number: int,
        moved: Mapping[tuple[str, str], str],
        before: Mapping[tuple[str, str], Any],
        lead_before: Values | None,
        first: bool,
    ) -> dict[str, Any] | None:
        o, lead = self.options, self.lead(user)
        assert lead is not None
        lead_before = None if first else lead_before
        told: dict[str, dict[str, Any]] = {}
        for (audience, u), (since, _) in self.lasting.items():
            if u == user:
                stays = o["existing"] and moved.get((audience, u)) != "came" and not first
                told[audience] = {"status": "existing" if stays else "realized", "lastQualificationTime": since}
        for (audience, u), (_, until, _) in self.ended.items():
            recent = until > number - o["keep_exits_days"] or moved.get((audience, u)) == "left"
            if u == user and recent:
                told[audience] = {"status": "exited", "lastQualificationTime": until}
        if self.may(user, lead):
            identities, attributes = self.identities(user, lead), self.attributes(lead)
            starts = first or (lead_before is not None and not self.may(user, lead_before))
            if o["on_membership_change"]:
                starts |= any(u == user and self.mapped(a) for a, u in moved)
            if lead_before is not None:
                if o["on_attribute_change"]:
                    starts |= self.attributes(lead_before) != attributes
                if o["on_identity_change"]:
                    starts |= self.identities(user, lead_before) != identities
        elif self.may(user, lead_before):
            assert lead_before is not None
            identities, attributes = self.identities(user, lead_before), {}
            starts = any(u == user and self.mapped(a) for a, u in before)
            told = {a: t for a, t in told.items() if moved.get((a, user)) != "came"}
            for t in told.values():
                if t["status"] != "exited":
                    t |= {"status": "exited", "lastQualificationTime": number}
        else:
            return None
        if not starts or not any(map(self.mapped, told)):
            return None
        for t in told.values():
            t["lastQualificationTime"] = f"{day(t['lastQualificationTime']):%Y-%m-%dT%H:%M:%SZ}"
        nested = {k: v for k, v in attributes.items() if k != "home.city"}
        if "home.city" in attributes:
            nested["home"] = {"city": attributes["home.city"]}
        return {**nested, "segmentMembership": {"ups": told}, "identityMap": identities}


KEYS = st.tuples(st.sampled_from(["a", "b:1", "é"]), st.sampled_from(["u1", "u2", "u3"]))
VALUES = st.fixed_dictionaries(
    {
        "email": st.sampled_from([None, "x@y", "z@y"]),
        "ecids": st.sampled_from([None, ["1"], ["2", "1"]]),
        "city": st.sampled_from([None, "Rome"]),
        "plan": st.sampled_from(["free", "paid"]),
        "agrees": st.sampled_from([None, "y", "y", "n"]),
    }
)
HISTORIES = st.lists(st.dictionaries(KEYS, VALUES, max_size=7), min_size=2, max_size=6)
OPTIONS = st.fixed_dictionaries(
    {
        "audiences": st.sampled_from([None, None, ["a"], ["a", "é"]]),
        "attributes": st.sampled_from([None, None, ["plan"], []]),
        "on_membership_change": st.booleans(),
        "on_attribute_change": st.booleans(),
        "on_identity_change": st.booleans(),
        "existing": st.booleans(),
        "keep_exits_days": st.sampled_from([0, 1, 2, 30]),
        "consent": st.sampled_from([None, None, "agrees"]),
        "user_id_as": st.sampled_from([None, "crmid"]),
    }
).filter(lambda o: o["on_membership_change"] or o["on_attribute_change"] or o["on_identity_change"])


def check(warehouse: SqlWarehouse, history: Sequence[Members], options: Mapping[str, Any], share: float) -> None:
    export = Export(warehouse, options, upkeep=Retention(compaction_share=share))
    model = Model(options)
    with mock.patch.object(rows_module, "SLICE_ROWS", 3):
        for number, members in enumerate(history):
            documents, due = export.tell(number, members), model.step(number, members)
            assert sorted(map(to_text, documents)) == sorted(map(to_text, due.values()))
    assert not export.kept()
    warehouse.execute(f"DROP SCHEMA {export.schema} CASCADE")
    warehouse.execute(f"DROP TABLE {export.table}")


def to_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)


def bounds(examples: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=slow)


@pytest.mark.slow
def test_every_document_is_what_the_profile_is_then_on_duckdb(duckdb_in_memory: SqlWarehouse) -> None:
    @bounds(15)
    @given(HISTORIES, OPTIONS, st.sampled_from([0.0, 0.3]))
    def documents(history: Sequence[Members], options: Mapping[str, Any], share: float) -> None:
        check(duckdb_in_memory, history, options, share)

    documents()


@pytest.mark.slow
def test_every_document_is_what_the_profile_is_then_on_postgresql(postgres_database: str) -> None:
    @bounds(30)
    @given(HISTORIES, OPTIONS, st.sampled_from([0.0, 0.3]))
    def documents(history: Sequence[Members], options: Mapping[str, Any], share: float) -> None:
        check(warehouse, history, options, share)

    warehouse = open_postgres(postgres_database)
    documents()
    warehouse.close()


# --- attempts, slices, resync, the end ---------------------------------------------------------------------------

PEOPLE = {
    (audience, f"u{n}"): {"email": f"u{n}@x", "city": f"c{n % 3}"} for audience in ("a", "b") for n in range(9)
}
LATER = {
    key: {**values, "city": "moved"} for key, values in PEOPLE.items() if key[1] != "u0" and key != ("b", "u1")
}
IDS = {"message_ids": True}


def consume(documents: Sequence[bytes]) -> AudienceConsumer:
    consumer = AudienceConsumer()
    for document in documents:
        consumer.apply(document)
    return consumer


def check_believed(consumer: AudienceConsumer, members: Members) -> None:
    for audience in ("a", "b"):
        assert consumer.members(audience) == {u for a, u in members if a == audience}
    for (audience, user), values in members.items():
        assert consumer.properties(audience, user)["home"] == {"city": values["city"]}
        assert consumer.identities(audience, user) == {"crmid": user, "email": values["email"]}


@pytest.mark.parametrize("order", [1, -1])
def test_a_consumer_is_right_in_any_order_and_with_repetitions(warehouse: SqlWarehouse, order: int) -> None:
    export = Export(warehouse, IDS)
    for number, members in enumerate((PEOPLE, LATER, {}, PEOPLE, LATER)):
        export.run(day(number), members)
        export.publish(day(number))
        check_believed(consume([*export.stream.messages, *export.stream.messages[::3]][::order]), members)


def test_a_slice_is_bounded_by_memberships_and_a_profile_is_never_cut(warehouse: SqlWarehouse) -> None:
    crowd = {(f"a{n}", "in all"): {"email": "all@x"} for n in range(25)} | PEOPLE
    export = Export(warehouse)
    with mock.patch.object(rows_module, "SLICE_ROWS", 5):
        documents = export.tell(0, crowd)
    counts = sorted(len(document["segmentMembership"]["ups"]) for document in documents)
    assert counts == [2] * 9 + [25]
    entries = read_entries(export.ledger())
    [written] = [e.detail for e in entries if e.event == "profiles" and e.detail.written]
    assert written.slices >= 4
    assert [e.detail.delivered for e in entries if e.event == "delivered"] == [len(crowd)]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_publish_that_dies_anywhere_goes_on_with_the_same_documents_and_leaves_no_table(
    duckdb_in_memory: SqlWarehouse, side: str
) -> None:
    straight = None
    for at in range(200):
        export = Export(duckdb_in_memory, IDS, schema=f"dies_{side}_{at}")
        export.run(day(0), PEOPLE)
        dies = DiesAt(duckdb_in_memory, at, side)
        try:
            export.publish(day(0), dies)
        except Killed:
            export.publish(day(0))
        export.run(day(1), LATER)
        export.publish(day(1))
        assert not export.kept()
        found = sorted(set(export.stream.messages))
        straight = straight or [without_id(document) for document in found]
        assert [without_id(document) for document in found] == straight
        ids = [json.loads(document)["messageId"] for document in found]
        assert len(set(ids)) == len(ids) == 18
        if not dies.dead:
            return
    pytest.fail("there was no end of statements")


def without_id(document: bytes) -> str:
    """Drop the id, which says which sync and stream it was: each time another."""
    return to_text({k: v for k, v in json.loads(document).items() if k != "messageId"})


def test_what_was_refused_is_sent_again_and_nothing_else(warehouse: SqlWarehouse) -> None:
    export = Export(warehouse, IDS)
    export.run(day(0), PEOPLE)
    export.stream.script = lambda number, batch: [Fate.REJECTED if number > 1 else Fate.TAKEN for _ in batch]
    with pytest.raises(DeliveryIncomplete):
        export.publish(day(0))
    assert export.kept()
    first = list(export.stream.messages)
    export.stream.script = None
    second, report = export.publish(day(0))
    assert len({*first, *second}) == len(first) + len(second) == 9
    assert (report.messages, report.delivered) == (len(second), 2 * len(second))
    assert not export.kept()


def test_a_resend_gives_the_same_bytes_and_leaves_no_table(warehouse: SqlWarehouse) -> None:
    export = Export(warehouse, IDS)
    for number, members in enumerate((PEOPLE, LATER)):
        export.run(day(number), members)
        first = export.publish(day(number))[0]
        again, _ = export.publish(day(number), resend=True)
        assert sorted(again) == sorted(first)
    assert not export.kept()


def test_a_resync_tells_every_profile_again_those_too_that_have_left(warehouse: SqlWarehouse) -> None:
    export = Export(warehouse, {**IDS, "keep_exits_days": 1})
    for number, members in enumerate((PEOPLE, LATER, LATER, LATER)):
        export.run(day(number), members)
        export.publish(day(number))
    before = len(export.stream.taken)
    delivery = replace(export.delivery(), resync="again")
    resync(open_outbox(export.ledger(), export.stream, delivery), export.delivery())
    told = export.stream.messages[before:]
    check_believed(consume(told), LATER)
    # Also to a consumer that never heard of any exit.
    check_believed(consume([*(m for m in export.stream.messages[:9]), *told]), LATER)
    assert not export.kept()


def test_the_end_of_a_sync_takes_everybody_out(warehouse: SqlWarehouse) -> None:
    export = Export(warehouse, IDS)
    export.run(day(0), PEOPLE)
    export.publish(day(0))
    close(export.ledger(), day(1), exits=True)
    announce_deletion(open_outbox(export.ledger(), export.stream, export.delivery()))
    check_believed(consume(export.stream.messages), {})
    assert not list_tables(warehouse, export.schema)
    notices = [m for m in map(json.loads, export.stream.messages) if "lifecycle" in m]
    assert [(n["lifecycle"]["event"], n["lifecycle"]["audienceId"]) for n in notices] == [
        ("deleted", "a"),
        ("deleted", "b"),
    ]


def test_who_takes_consent_back_is_told_of_once_more_and_counted(warehouse: SqlWarehouse) -> None:
    export = Export(warehouse, {"consent": "agrees"})
    yes, no = ({"email": "u@x", "city": "Rome", "agrees": agrees} for agrees in ("y", "n"))
    export.run(day(0), {("a", "u"): yes, ("a", "never"): no})
    [document], report = export.publish(day(0))
    assert json.loads(document)["home"] == {"city": "Rome"}
    assert (report.delivered, report.omitted, report.excluded) == (1, 1, 1)
    export.run(day(1), {("a", "u"): no, ("a", "never"): no})
    [document], report = export.publish(day(1))
    assert json.loads(document) == {
        "segmentMembership": {"ups": {"a": {"lastQualificationTime": "2026-01-02T00:00:00Z", "status": "exited"}}},
        "identityMap": {"crmid": [{"id": "u"}], "email": [{"id": "u@x"}]},
    }
    assert (report.delivered, report.excluded) == (1, 1)
    export.run(day(2), {("a", "u"): {**no, "city": "Bern"}})
    documents, report = export.publish(day(2))
    assert (documents, report.excluded) == ([], 2)
    export.run(day(3), {("a", "u"): {**no, "city": "Bern", "agrees": "y"}})
    [document], report = export.publish(day(3))
    told = json.loads(document)
    assert told["home"] == {"city": "Bern"}
    assert told["segmentMembership"]["ups"]["a"]["status"] == "realized"


def test_a_mapping_that_grows_tells_the_profiles_that_have_something_of_it(warehouse: SqlWarehouse) -> None:
    export = Export(warehouse, mapping={"city": "city"})
    export.tell(0, {("a", "u"): {"city": "Rome", "plan": "paid"}, ("a", "v"): {"city": "Rome"}})
    export.mapping = {"city": "city", "plan": "plan"}
    export.guards = replace(LET_ALL_THROUGH, on_schema_change="update")
    [document] = export.tell(1, {("a", "u"): {"city": "Rome", "plan": "paid"}, ("a", "v"): {"city": "Rome"}})
    assert (document["city"], document["plan"]) == ("Rome", "paid")


def test_a_destination_without_an_order_needs_what_restores_it() -> None:
    firehose = {"limits": FIREHOSE_LIMITS, "record_end": b"\n", "message_format": "adobe_profile"}
    with pytest.raises(ValueError, match="does not keep the order"):
        small_delivery(options={}, **firehose)
    small_delivery(options=IDS, **firehose)
