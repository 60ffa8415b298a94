"""Adobe's documents: what each option means, and what cannot be meant."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_kinesis_audience.consumer.messages import read_adobe_profile, read_message
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Notice, Oversized, derive_batch_id
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.core.model.profiles import Membership, MembershipStatus, Profiles, parse_memberships
from airflow_kinesis_audience.formats.adobe.nesting import nest
from airflow_kinesis_audience.formats.adobe.profile import AdobeProfile

AS_OF = datetime(2026, 1, 31, tzinfo=UTC)
NOW, EARLIER = "2026-01-31T00:00:00Z", "2026-01-01T00:00:00Z"
JOB = derive_batch_id(sync_id="s", previous_as_of="", as_of=NOW, destination="d", render_config="r")
ENVELOPE = Envelope(batch_id=JOB, partitions=4, message_bytes=1_000_000)
NONE = " " * 20


def kept(*memberships: tuple[str, str, str, str]) -> str:
    """Write memberships as the warehouse does: stay, since, until, audience."""
    return "".join(f"{stay}{since}{until or NONE}{len(a)}:{a}" for stay, since, until, a in memberships)


def build(
    memberships: str,
    *,
    new: dict[str, Any] | None = None,
    old: dict[str, Any] | None = None,
    new_identities: dict[str, Any] | None = None,
    old_identities: dict[str, Any] | None = None,
    known: bool = True,
    rules: dict[str, IdentityRule] | None = None,
    withdrawn_rules: dict[str, IdentityRule] | None = None,
) -> Profiles:
    """Build a slice of one profile."""
    new, new_identities = new or {}, new_identities or {}
    return Profiles(
        sync_id="s",
        as_of=AS_OF,
        previous_as_of=datetime(2026, 1, 30, tzinfo=UTC),
        audience_names={"a": "Alpha"},
        position=[7],
        user_id=["u1"],
        bucket=["abc"],
        changes=[2],
        known=[known],
        memberships=[memberships],
        new_identities={k: [v] for k, v in new_identities.items()},
        old_identities={k: [(old_identities or new_identities).get(k)] for k in new_identities},
        new_properties={k: [v] for k, v in new.items()},
        old_properties={k: [(old or new).get(k)] for k in new},
        rules=rules or {},
        withdrawn_rules=withdrawn_rules or {},
    )


ENTERED = kept(("e", NOW, "", "a"), ("m", EARLIER, "", "b"), ("l", EARLIER, EARLIER, "c"))


def render(profiles: Profiles, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(message.document) for message in AdobeProfile(**options)(profiles, ENVELOPE)]


def memberships_of(profiles: Profiles, **options: Any) -> dict[str, Any]:
    [document] = render(profiles, **options)
    return document["segmentMembership"]


def test_memberships_are_read_as_they_are_kept_whatever_the_audience_is_called() -> None:
    odd = ["a", "7:a", "", "é🙂", "e2026-01-31T00:00:00Z"]
    found = parse_memberships(kept(*(("x", EARLIER, NOW, a) for a in odd)))
    assert found == sorted(Membership(a, MembershipStatus.EXITED, EARLIER, NOW) for a in odd)
    assert parse_memberships("") == []


def test_the_statuses_and_their_times() -> None:
    sent = memberships_of(build(ENTERED))["ups"]
    assert {a: (m["status"], m["lastQualificationTime"]) for a, m in sent.items()} == {
        "a": ("realized", NOW),
        "b": ("realized", EARLIER),
        "c": ("exited", EARLIER),
    }
    sent = memberships_of(build(ENTERED), existing=True)["ups"]
    assert {a: m["status"] for a, m in sent.items()} == {"a": "realized", "b": "existing", "c": "exited"}


def test_names_and_timestamps_are_there_if_asked_for() -> None:
    stays = build(kept(("x", EARLIER, NOW, "a"), ("m", EARLIER, "", "b")))
    assert set(memberships_of(stays)["ups"]["a"]) == {"status", "lastQualificationTime"}
    sent = memberships_of(stays, segment_names=True, segment_timestamps=True, namespace="own")["own"]
    assert sent["a"]["name"] == "Alpha"
    assert sent["b"]["name"] == "b"
    assert (sent["a"]["createdAt"], sent["a"]["updatedAt"]) == (1767225600000, 1769817600000)
    assert (sent["b"]["createdAt"], sent["b"]["updatedAt"]) == (1767225600000, 1767225600000)


def test_values_nest_and_none_is_lost() -> None:
    new = {
        "person.name.first": "Ann",
        "person.age": None,
        "person.born": date(1990, 2, 3),
        "spent": Decimal("12.50"),
        "person.name.last": 'O"Neil',
        "big": 2**60,
    }
    [document] = render(build(ENTERED, new=new))
    assert document["person"] == {
        "name": {"first": "Ann", "last": 'O"Neil'},
        "age": None,
        "born": "1990-02-03",
    }
    assert (document["spent"], document["big"]) == ("12.50", str(2**60))


@pytest.mark.parametrize(
    ("rule", "namespace"),
    [
        (None, "Email"),
        (IdentityRule(normalize="email"), "Email"),
        (IdentityRule(normalize="email", hash="sha256"), "email_lc_sha256"),
        (IdentityRule(hashed="sha256"), "email_lc_sha256"),
        (IdentityRule(normalize="email", hash="md5"), "Email_md5"),
    ],
)
def test_what_is_hashed_never_stands_in_the_namespace_of_what_is_not(
    rule: IdentityRule | None, namespace: str
) -> None:
    profiles = build(ENTERED, new_identities={"Email": "x"}, rules={"Email": rule} if rule else {})
    [document] = render(profiles)
    assert document["identityMap"] == {"crmid": [{"id": "u1"}], namespace: [{"id": "x"}]}
    [document] = render(profiles, namespaces={"Email": "mine"}, user_id_as=None)
    assert document["identityMap"] == {"mine": [{"id": "x"}]}


def test_who_may_not_be_sent_any_more_is_named_in_the_namespace_of_then_though_a_rule_has_changed() -> None:
    profiles = build(
        kept(("m", EARLIER, "", "a")),
        new={"ok": False},
        old={"ok": True},
        new_identities={"Email": "digest"},
        old_identities={"Email": "raw"},
        rules={"Email": IdentityRule(hashed="sha256")},
        withdrawn_rules={"Email": IdentityRule()},
    )
    [document] = render(profiles, consent="ok")
    assert document["identityMap"] == {"crmid": [{"id": "u1"}], "Email": [{"id": "raw"}]}
    [document] = render(profiles, consent="ok", namespaces={"Email": "mine"})
    assert document["identityMap"] == {"crmid": [{"id": "u1"}], "mine": [{"id": "raw"}]}


CHANGES = {
    "membership": build(kept(("e", NOW, "", "a")), new={"p": 1}),
    "attribute": build(kept(("m", EARLIER, "", "a")), new={"p": 1}, old={"p": 2}),
    "identity": build(
        kept(("m", EARLIER, "", "a")), new_identities={"E": "x"}, old_identities={"E": "y"}, new={"p": 1}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("switch", CHANGES)
def test_each_kind_of_change_has_a_switch(change: str, switch: str) -> None:
    assert len(render(CHANGES[change])) == 1
    assert len(render(CHANGES[change], **{f"on_{switch}_change": False})) == (change != switch)


def test_only_mapped_attributes_are_there_and_start_an_export() -> None:
    profiles = build(kept(("m", EARLIER, "", "a")), new={"p": 1, "q": 1}, old={"p": 2, "q": 1})
    assert "p" in render(profiles)[0]
    assert render(profiles, attributes=["q"]) == []
    assert render(profiles, attributes=["p"])[0].keys() == {"p", "segmentMembership", "identityMap"}


def test_unmapped_audiences_start_nothing_but_are_there() -> None:
    assert render(build(ENTERED), audiences=["b"]) == []
    assert set(memberships_of(build(ENTERED), audiences=["a"])["ups"]) == {"a", "b", "c"}
    elsewhere = build(kept(("m", EARLIER, "", "b")), new={"p": 1}, old={"p": 2})
    assert render(elsewhere, audiences=["a"]) == []


@pytest.mark.parametrize(
    ("value", "sent"), [(True, 1), ("y", 1), (" Yes", 1), ("TRUE", 1), (False, 0), ("n", 0), (None, 0), ("", 0)]
)
def test_a_profile_is_exported_only_with_consent(value: Any, sent: int) -> None:
    profiles = build(ENTERED, new={"ok": value, "p": 1}, known=False)
    documents = render(profiles, consent="ok")
    assert len(documents) == sent
    assert AdobeProfile(consent="ok").count_excluded(profiles) == 1 - sent
    assert all("ok" not in document for document in documents)


def test_a_message_has_a_key_of_its_user_and_counts_its_changes() -> None:
    [message] = AdobeProfile()(build(ENTERED), ENVELOPE)
    assert (message.partition, message.hash_key) == partition_of("", "abc", 4)
    assert (message.changes, message.ordering_key) == (2, "7")
    assert "messageId" not in json.loads(message.document)
    [message] = AdobeProfile(message_ids=True)(build(ENTERED), ENVELOPE)
    document = json.loads(message.document)
    assert (document["messageId"], document["computedTime"]) == (f"{JOB}::profile::7", "1769817600")


@pytest.mark.parametrize("kind", Lifecycle)
def test_a_notice_is_a_document_about_nobody(kind: Lifecycle) -> None:
    notice = Notice(kind=kind, number=0, time=AS_OF, audience_id="a", audience_name="Alpha", members=3, exits=1)
    reading = read_message(AdobeProfile().render_notice(notice, ENVELOPE).document)
    assert reading.statements == []
    assert reading.notice is not None
    counts = (0, 0) if kind is Lifecycle.DELETED else (3, 1)
    assert (reading.notice.event, reading.notice.members, reading.notice.exits) == (kind.value, *counts)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"existing": "yes"}, "existing is 'yes'; expected true or false"),
        ({f"on_{switch}_change": False for switch in CHANGES}, "all false"),
        ({"keep_exits_days": -1}, "keep_exits_days is -1"),
        ({"keep_exits_days": 1.5}, "keep_exits_days is 1.5"),
        ({"audiences": "a"}, "audiences is 'a'; expected a list"),
        ({"attributes": [1]}, "attributes is .1.; expected a list"),
        ({"namespaces": {"a": 1}}, "namespaces is"),
        ({"consent": ""}, "consent is ''"),
        ({"user_id_as": 7}, "user_id_as is 7"),
        ({"namespace": None}, "namespace is None"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AdobeProfile(**options)


@pytest.mark.parametrize(
    ("options", "profiles", "sentence"),
    [
        ({"attributes": ["z"]}, build(ENTERED, new={"p": 1}), "attributes names 'z'; the mapped properties are p"),
        ({"consent": "z"}, build(ENTERED, new={"p": 1}), "consent names 'z'; the mapped properties are p"),
        ({"namespaces": {"z": "y"}}, build(ENTERED), "namespaces names 'z'; the mapped identity types are none"),
        ({"user_id_as": None}, build(ENTERED), "no identity"),
        ({"user_id_as": "E"}, build(ENTERED, new_identities={"E": "x"}), "two identities .* 'E'"),
        ({}, build(ENTERED, new={"identityMap.x": 1}), "has the place that the format uses for 'identityMap'"),
        (
            {},
            build(ENTERED, new={"lifecycle.event": "deleted"}),
            "has the place that the format uses for 'lifecycle'",
        ),
        ({}, build(ENTERED, new={"a": 1, "a.b": 2}), "a value and an object"),
        ({}, build(ENTERED, new={"a.b.c": 1, "a.b": 2}), "a value and an object"),
        ({}, build(ENTERED, new={"a..b": 1}), "an empty part"),
    ],
)
def test_what_the_mapping_does_not_have_is_said(
    options: dict[str, Any], profiles: Profiles, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        render(profiles, **options)


def test_a_document_that_is_too_large_names_nobody() -> None:
    small = Envelope(batch_id=JOB, partitions=4, message_bytes=100)
    [sent] = AdobeProfile()(build(ENTERED), small)
    assert isinstance(sent, Oversized)
    assert (sent.position, sent.user) == (7, hashlib.sha256(b"u1").hexdigest()[:12])
    assert sent.size > 100


def test_no_columns_nest_to_nothing() -> None:
    assert nest([], 2) == [b"", b""]
    assert nest([("a.b", [b"1", b"2"]), ("a.c.d", [b"3", b"4"])], 2) == [
        b',"a":{"b":1,"c":{"d":3}}',
        b',"a":{"b":2,"c":{"d":4}}',
    ]


GOOD = {
    "segmentMembership": {"ups": {"a": {"status": "realized", "lastQualificationTime": NOW}}},
    "identityMap": {"crmid": [{"id": "u1"}], "email": [{"id": "x"}, {"id": "y"}]},
    "messageId": "j::profile::0",
    "computedTime": "1769817600",
    "plan": "free",
}


def test_a_document_is_read() -> None:
    reading = read_message(GOOD)
    [statement] = reading.statements
    assert (statement.audience_id, statement.user_id, statement.member) == ("a", "u1", True)
    assert statement.properties == {"plan": "free"}
    assert statement.identities == {"crmid": "u1", "email": ["x", "y"]}
    assert reading.whole == ("u1", 1769817600)
    assert read_adobe_profile(GOOD, user="email").statements[0].user_id == "x"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"computedTime": None}, "computedTime is a NoneType"),
        ({"computedTime": "soon"}, "epoch seconds"),
        ({"messageId": 1}, "messageId is a int"),
        ({"identityMap": {}}, "nothing under crmid"),
        ({"identityMap": {"crmid": "u1"}}, "crmid is a str"),
        ({"identityMap": {"crmid": ["u1"]}}, "0 is a str"),
        ({"identityMap": {"crmid": [{"id": 1}]}}, "id is a int"),
        ({"segmentMembership": []}, "segmentMembership is a list"),
        ({"segmentMembership": {"ups": []}}, "ups is a list"),
        ({"segmentMembership": {"ups": {"a": 1}}}, "a is a int"),
        ({"segmentMembership": {"ups": {"a": {}}}}, "lacks status"),
    ],
)
def test_a_document_that_is_none_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_message({**GOOD, **change})


def test_a_document_without_its_time_says_what_to_ask_for() -> None:
    with pytest.raises(ValueError, match="set message_ids"):
        read_message({k: v for k, v in GOOD.items() if k != "computedTime"})
