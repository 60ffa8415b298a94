"""mParticle's messages: their bytes, which users they name and how, and what each setting means."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_audience.core.model.messages import (
    Envelope,
    Lifecycle,
    Message,
    Notice,
    Oversized,
    derive_batch_id,
)
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.formats.mparticle.audience import MparticleAudience
from airflow_kinesis_audience.formats.mparticle.identity_types import (
    DEVICE_TYPES,
    IDENTITY_TYPES,
    USER_TYPES,
    find_type,
)
from tests.changes import AS_OF, Row, build_changes, cut

GOLDEN = Path(__file__).parents[2] / "golden"
JOB = derive_batch_id(
    sync_id="s", previous_as_of="", as_of="2026-01-31T00:00:00Z", destination="d", render_config="r"
)
ENVELOPE = Envelope(batch_id=JOB, partitions=4, message_bytes=1_000_000)
EVERYTHING = {
    "Email": "a@x.y",
    "AdvertisingIdentifier": "idfa-1",
    "GoogleAdvertisingIdentifier": "gaid-1",
    "MPID": "7",
}


def render(changes, **options) -> list[dict[str, Any]]:
    return [json.loads(m.document) for m in MparticleAudience(**options)(changes, ENVELOPE)]


def entered(user="u1", audience="1", **identities) -> Row:
    return Row(audience, "entered", user, new_identities=identities)


def exited(user="u1", audience="1", **identities) -> Row:
    return Row(audience, "exited", user, old_identities=identities)


def updated(old, new, user="u1", audience="1") -> Row:
    return Row(audience, "updated", user, updated="identities", old_identities=old, new_identities=new)


def sent(rows, **options) -> list[tuple[bool, dict[str, Any]]]:
    """Render rows; gives, per message, whether it adds, and the identities."""
    rows = rows if isinstance(rows, list) else [rows]
    return [(m["IsMember"], m["UserIdentities"]) for m in render(build_changes(rows), **options)]


def without_space(text: str) -> str:
    """Remove white space outside of strings, and nothing else."""
    return re.sub(r'("(?:[^"\\]|\\.)*")|\s+', lambda found: found[1] or "", text)


FOGG = {
    "Email": "phileas@travelers.com",
    "Other": "balloondude83",
    "Other3": "balloongal89",
    "FacebookId": "phileas83",
}


@pytest.mark.parametrize(
    ("golden", "row"),
    [
        ("added", entered("p.fogg138", "123123", **FOGG, GoogleAdvertisingIdentifier="phileas83")),
        ("removed", exited("p.fogg138", "123123", **FOGG)),
    ],
)
def test_the_vendors_examples_come_out_byte_for_byte(golden, row):
    changes = build_changes(
        [row],
        as_of=datetime.fromtimestamp(1234565788, UTC),
        audience_names={"123123": "LowEngagement"},
    )
    [message] = MparticleAudience()(changes, ENVELOPE)
    request = f'{{"DeliveryStreamName":"mPTravelAudiences","Record":{{"Data":{message.document.decode()}}}}}'
    assert request == without_space((GOLDEN / f"mparticle_member_{golden}.json").read_text())


def test_the_table_has_all_that_the_vendor_names():
    assert (len(USER_TYPES), len(DEVICE_TYPES)) == (18, 8)
    assert {t.name for t in IDENTITY_TYPES if t.documented} == {
        "CustomerId",
        "Email",
        "Other",
        "Other3",
        "FacebookId",
        "GoogleAdvertisingIdentifier",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("customer_id", "CustomerId"),
        ("Customer ID", "CustomerId"),
        ("email", "Email"),
        ("idfa", "AdvertisingIdentifier"),
        ("GAID", "GoogleAdvertisingIdentifier"),
        ("idfv", "VendorIdentifier"),
        ("android_uuid", "AndroidId"),
        ("Android ID", "AndroidId"),
        ("other_id_2", "Other2"),
        ("Other 10", "Other10"),
        ("facebook", "FacebookId"),
        ("mpid", "MPID"),
        ("roku_advertising_id", "RokuAdvertisingIdentifier"),
        ("loyalty", None),
        ("other_11", None),
    ],
)
def test_a_type_is_known_by_its_letters_and_digits(name, expected):
    assert find_type(name) == expected


def test_every_type_has_its_key_and_stands_in_the_vendors_order():
    names = [t.name for t in IDENTITY_TYPES]
    row = entered(**{name: f"value of {name}" for name in reversed(names)})
    [(_, identities)] = sent(row, user_id_as=None)
    assert list(identities.items()) == [(name, f"value of {name}") for name in names]


@pytest.mark.parametrize("name", [t.name for t in IDENTITY_TYPES])
def test_every_key_can_be_another(name):
    row = entered(**{name: "v"})
    assert sent(row, user_id_as=None, identity_keys={name: "mine"}) == [(True, {"mine": "v"})]


@pytest.mark.parametrize(
    ("audience_id", "expected"),
    [
        ("123123", 123123),
        ("0", 0),
        ("-7", -7),
        ("007", "007"),
        ("-0", "-0"),
        ("1e3", "1e3"),
        ("9007199254740992", 2**53),
        ("9007199254740993", "9007199254740993"),
        ("12345678901234567890", "12345678901234567890"),
        ("gs72ns", "gs72ns"),
        ("١٢", "١٢"),
        ("5\n", "5\n"),
    ],
)
def test_an_audience_id_is_a_number_where_it_is_one(audience_id, expected):
    [message] = render(build_changes([entered(audience=audience_id)]))
    assert message["AudienceId"] == expected
    assert type(message["AudienceId"]) is type(expected)


def test_unknown_identities_are_absent_and_several_are_a_list():
    row = entered(Email=None, Other="", AndroidId=["a1", "a2"], VendorIdentifier=["only"], YahooId="y")
    assert sent(row) == [
        (True, {"CustomerId": "u1", "YahooId": "y", "VendorIdentifier": "only", "AndroidId": ["a1", "a2"]})
    ]


# Every setting of the vendor's page, both values. Columns: option, value, change, what is sent.
ADDED, REMOVED = True, False
SETTINGS: list[tuple[str, Any, Row, list[tuple[bool, dict[str, Any]]]]] = [
    (
        "send_remove_on_identity_change",
        True,
        updated({"Email": "old"}, {"Email": "new"}),
        [(REMOVED, {"CustomerId": "u1", "Email": "old"}), (ADDED, {"CustomerId": "u1", "Email": "new"})],
    ),
    (
        "send_remove_on_identity_change",
        False,
        updated({"Email": "old"}, {"Email": "new"}),
        [(ADDED, {"CustomerId": "u1", "Email": "new"})],
    ),
    ("send_anonymous_users", True, entered(MPID="7"), [(ADDED, {"MPID": "7"})]),
    ("send_anonymous_users", False, entered(MPID="7"), []),
    ("send_anonymous_users", True, exited(MPID="7"), [(REMOVED, {"MPID": "7"})]),
    ("send_anonymous_users", False, exited(MPID="7"), []),
    ("send_anonymous_users", False, entered(MPID="7", YahooId="y"), [(ADDED, {"YahooId": "y", "MPID": "7"})]),
    ("send_anonymous_users", False, entered(), []),
    ("forward_email_addresses", True, entered(**EVERYTHING), [(ADDED, EVERYTHING)]),
    (
        "forward_email_addresses",
        False,
        entered(**EVERYTHING),
        [(ADDED, {k: v for k, v in EVERYTHING.items() if k != "Email"})],
    ),
    (
        "forward_customer_ids",
        True,
        entered(CustomerId="c", Email="e"),
        [(ADDED, {"CustomerId": "c", "Email": "e"})],
    ),
    ("forward_customer_ids", False, entered(CustomerId="c", Email="e"), [(ADDED, {"Email": "e"})]),
    ("forward_idfas", True, entered(**EVERYTHING), [(ADDED, EVERYTHING)]),
    (
        "forward_idfas",
        False,
        entered(**EVERYTHING),
        [(ADDED, {k: v for k, v in EVERYTHING.items() if k != "AdvertisingIdentifier"})],
    ),
    ("forward_google_advertising_ids", True, entered(**EVERYTHING), [(ADDED, EVERYTHING)]),
    (
        "forward_google_advertising_ids",
        False,
        entered(**EVERYTHING),
        [(ADDED, {k: v for k, v in EVERYTHING.items() if k != "GoogleAdvertisingIdentifier"})],
    ),
    ("identities_to_exclude", [], entered(**EVERYTHING), [(ADDED, EVERYTHING)]),
    ("identities_to_exclude", ["idfa", "Email", "MPID", "GAID"], entered(**EVERYTHING), []),
    ("identities_to_exclude", ["idfa", "e-mail", "gaid"], entered(**EVERYTHING), [(ADDED, {"MPID": "7"})]),
    (
        "identities_to_exclude",
        ["loyalty card"],
        entered(Loyalty_Card="l", YahooId="y"),
        [(ADDED, {"YahooId": "y"})],
    ),
]


@pytest.mark.parametrize(("option", "value", "row", "expected"), SETTINGS)
def test_each_setting_means_what_the_page_says(option, value, row, expected):
    # The remove on an identity change is about which users differ; all else is about what is sent of them.
    user_id_as = "CustomerId" if option == "send_remove_on_identity_change" else None
    assert sent(row, user_id_as=user_id_as, **{option: value}) == expected


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("send_remove_on_identity_change", True),
        ("send_anonymous_users", True),
        ("forward_email_addresses", True),
        ("forward_customer_ids", True),
        ("forward_idfas", True),
        ("forward_google_advertising_ids", True),
        ("identities_to_exclude", ()),
    ],
)
def test_each_setting_has_the_pages_default(option, default):
    assert getattr(MparticleAudience(), option) == default


@pytest.mark.parametrize(
    ("names", "external", "expected"),
    [
        ({"1": "internal"}, {"1": "external"}, "external"),
        ({"1": "internal"}, {"1": ""}, "internal"),
        ({"1": "internal"}, {"2": "external"}, "internal"),
        ({}, {}, "Audience 1"),
    ],
)
def test_the_external_name_comes_before_the_internal_one(names, external, expected):
    [message] = render(build_changes([entered()], audience_names=names), external_names=external)
    assert message["AudienceName"] == expected


@pytest.mark.parametrize("both", [True, False])
def test_who_can_be_named_no_more_is_removed_and_who_can_be_now_is_added(both):
    options = {"user_id_as": "MPID", "send_anonymous_users": False, "send_remove_on_identity_change": both}
    named, anonymous = {"Email": "e"}, {"Email": None}
    assert sent(updated(named, anonymous), **options) == [(REMOVED, {"Email": "e", "MPID": "u1"})]
    assert sent(updated(anonymous, named), **options) == [(ADDED, {"Email": "e", "MPID": "u1"})]
    assert sent(exited(Email=None), **options) == []


def test_an_update_of_what_is_not_sent_makes_no_message():
    row = updated({"Email": "old", "YahooId": "y"}, {"Email": "new", "YahooId": "y"})
    assert sent(row, forward_email_addresses=False) == []
    properties = Row(
        "1", "updated", "u1", {"city": "Oslo"}, {"city": "Rome"}, "properties", {"Email": "e"}, {"Email": "e"}
    )
    assert sent(properties) == []


def test_changes_are_counted_once_with_their_last_message_and_share_a_lane():
    rows = [
        updated({"Email": "old"}, {"Email": "new"}, user="u1"),
        updated({"Email": "same"}, {"Email": "same"}, user="u2"),
        entered("u3", Email="e"),
        exited("u4", Email="e"),
    ]
    changes = build_changes(rows)
    found = list(MparticleAudience()(changes, ENVELOPE))
    assert sum(m.changes for m in found) == 3
    position = str(changes.user_id.index("u1"))
    of_u1 = [m for m in found if m.ordering_key == position]
    assert [m.changes for m in of_u1] == [0, 1]
    assert [json.loads(m.document)["IsMember"] for m in of_u1] == [REMOVED, ADDED]
    assert len({m.ordering_key for m in found}) == 3
    for m in found:
        bucket = changes.bucket[int(m.ordering_key)]
        assert (m.partition, m.hash_key) == partition_of("1", bucket, ENVELOPE.partitions)


def test_slices_give_the_messages_of_the_whole():
    rows = [entered(f"u{n}", Email=f"e{n}", audience=str(n % 3)) for n in range(50)]
    changes = build_changes(rows)
    parts = [m for part in cut(changes, 7, 8, 30) for m in MparticleAudience(message_ids=True)(part, ENVELOPE)]
    assert parts == list(MparticleAudience(message_ids=True)(changes, ENVELOPE))


def test_message_ids_are_derived_from_the_change():
    found = render(build_changes([updated({"Email": "a"}, {"Email": "b"})]), message_ids=True)
    assert [m["MessageId"] for m in found] == [f"{JOB}::exit::0", f"{JOB}::enter::0"]
    assert "MessageId" not in render(build_changes([entered()]))[0]


@pytest.mark.parametrize(
    ("kind", "member", "lifecycle"),
    [
        (Lifecycle.DELETED, False, {"Event": "deleted"}),
        (Lifecycle.RESYNC_BEGIN, True, {"Event": "resync_begin", "Members": 5, "Exits": 2}),
        (Lifecycle.RESYNC_COMPLETE, True, {"Event": "resync_complete", "Members": 5, "Exits": 2}),
    ],
)
def test_what_happens_to_a_whole_audience_is_a_message_about_nobody(kind, member, lifecycle):
    notice = Notice(kind=kind, number=3, time=AS_OF, audience_id="42", audience_name="inside", members=5, exits=2)
    message = MparticleAudience(external_names={"42": "outside"}).render_notice(notice, ENVELOPE)
    assert json.loads(message.document) == {
        "MembershipChangedTimestamp": str(int(AS_OF.timestamp())),
        "AudienceId": 42,
        "AudienceName": "outside",
        "IsMember": member,
        "UserIdentities": {},
        "Lifecycle": lifecycle,
        "MessageId": f"{JOB}::{kind}::3",
    }
    assert message.changes == 0


def test_a_message_is_one_line_of_utf8_whatever_is_in_it():
    nasty = 'line\nbreak\u2028 "quoted" \\ Zoë 東京 \x00'
    [message] = MparticleAudience()(
        build_changes([entered(nasty, Email=nasty, Other=[nasty, "b"])], audience_names={"1": nasty}), ENVELOPE
    )
    assert b"\n" not in message.document
    found = json.loads(message.document)
    assert found["UserIdentities"] == {"CustomerId": nasty, "Email": nasty, "Other": [nasty, "b"]}


@pytest.mark.parametrize(
    ("identities", "options", "sentence"),
    [
        (
            {"Loyalty": "l"},
            {},
            "'Loyalty' is unknown to mParticle. Map it to a key with identity_keys",
        ),
        ({"CustomerId": "c"}, {}, "user id and a mapped identity would both be sent as 'CustomerId'"),
        (
            {"idfa": "a", "AdvertisingIdentifier": "b"},
            {},
            "two columns are mapped to the identity type 'Advertising",
        ),
        (
            {"Email": "a", "Other": "b"},
            {"identity_keys": {"Other": "Email"}},
            "two identity types would be sent as",
        ),
    ],
)
def test_a_mapping_that_cannot_be_sent_is_refused_without_a_value(identities, options, sentence):
    changes = build_changes([entered("secret-user", **{k: f"secret-{v}" for k, v in identities.items()})])
    with pytest.raises(ValueError, match=sentence) as caught:
        list(MparticleAudience(**options)(changes, ENVELOPE))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"send_anonymous_users": "yes"}, "send_anonymous_users is 'yes'; expected true or false"),
        ({"forward_idfas": 1}, "forward_idfas is 1; expected true or false"),
        ({"message_ids": None}, "message_ids is None; expected true or false"),
        ({"identities_to_exclude": "Email"}, "identities_to_exclude is 'Email'; expected a list"),
        ({"identities_to_exclude": [1]}, "identities_to_exclude is .*; expected a list"),
        ({"identity_keys": {"Email": ""}}, "identity_keys has an empty key"),
        ({"identity_keys": ["Email"]}, "identity_keys is .*; expected texts by text"),
        ({"external_names": {"1": None}}, "external_names is .*; expected texts by text"),
        ({"user_id_as": 7}, "user_id_as is 7; expected an identity type"),
        ({"user_id_as": "Loyalty"}, "'Loyalty' is unknown to mParticle"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        MparticleAudience(**options)


def test_a_type_of_ones_own_is_sent_under_the_key_that_it_was_given():
    row = entered(Loyalty="l", Badge="b", Email="e")
    keys = {"Loyalty": "LoyaltyCard", "Badge": "Badge"}
    [(_, identities)] = sent(row, identity_keys=keys)
    assert list(identities) == ["CustomerId", "Email", "Badge", "LoyaltyCard"]
    assert sent(row, identity_keys=keys, user_id_as="loyal", identities_to_exclude=["loyal"])


def test_a_change_that_is_too_large_is_named_by_a_digest_and_none_of_its_messages_is_made():
    changes = build_changes(
        [
            Row(
                "7",
                "updated",
                "secret-user",
                updated="identities",
                old_identities={"Email": "a@x"},
                new_identities={"Email": "x" * 500},
            ),
            entered("small", Email="b@x"),
        ]
    )
    envelope = Envelope(batch_id=JOB, partitions=1, message_bytes=400)
    digest = hashlib.sha256(b"secret-user").hexdigest()[:12]
    sent = list(MparticleAudience()(changes, envelope))
    [oversized] = [t for t in sent if isinstance(t, Oversized)]
    assert (oversized.user, oversized.changes) == (digest, 1)
    assert oversized.position == changes.user_id.index("secret-user")
    assert oversized.size > 400
    assert [t.changes for t in sent if isinstance(t, Message)] == [1]


def test_text_that_utf8_cannot_encode_is_refused_without_its_value():
    for row in (
        entered("u1", Email="secret\ud800"),
        entered("secret\ud800"),
        entered("u1", Email=["secret\ud800"]),
    ):
        with pytest.raises(ValueError, match="lone surrogate") as caught:
            list(MparticleAudience()(build_changes([row]), ENVELOPE))
        assert "secret" not in str(caught.value)
