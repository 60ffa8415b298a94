"""mParticle's event batches: a documented one reproduced, where everything stands, and what each option means."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.consumer.messages import read_message, read_mparticle_events
from airflow_kinesis_audience.core.exceptions import MessageTooLarge
from airflow_kinesis_audience.core.model.events import Events
from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Notice, derive_batch_id
from airflow_kinesis_audience.formats.mparticle.event_fields import EVENT_TYPES, event_identity
from airflow_kinesis_audience.formats.mparticle.identity_types import IDENTITY_TYPES
from airflow_kinesis_audience.formats.mparticle_events import MparticleEvents
from tests.changes import Row, build_changes

GOLDEN = Path(__file__).parents[2] / "golden" / "mparticle_events.json"
END = datetime(2014, 6, 12, tzinfo=UTC)
WHEN = datetime(2014, 6, 11, 21, 20, 13, 976_000, tzinfo=UTC)
JOB = derive_batch_id(sync_id="s", previous_as_of="", as_of="x", destination="d", render_config="r")
ENVELOPE = Envelope(batch_id=JOB, partitions=4, message_bytes=1_000_000)
OURS = ("message_id", "batch_id", "source_request_id")


def build(*ids: str, batch: list[int] | None = None, **more: Any) -> Events:
    """Build events of one user; fields and identities are columns."""
    count = len(ids)
    return Events(
        **{
            "sync_id": "s",
            "end": END,
            "batch": batch or [0] * count,
            "event_id": list(ids),
            "user_id": ["u1"] * count,
            "device_id": [None] * count,
            "bucket": ["abc"] * count,
            "occurred_at": [WHEN] * count,
            "identities": {},
            "fields": {"data.event_name": ["click"] * count},
            **more,
        }
    )


def render(given: Any, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(m.document) for m in MparticleEvents(**options)(given, ENVELOPE)]


def with_field(place: str, value: Any, kind: str = "custom_event") -> Events:
    fields = {"event_type": [kind], "data.event_name": ["n"], place: [value]}
    return build("e", fields=fields)


def test_a_documented_batch_comes_out_of_columns() -> None:
    golden = json.loads(GOLDEN.read_text())
    fields = {
        "data.event_name": "click",
        "data.custom_event_type": "navigation",
        "data.event_id": 6004677780660780000,
        "data.session_id": 4957918240501247982,
        "data.session_uuid": "91b86d0c-86cb-4124-a8b2-edee107de454",
        "data.location.latitude": 40.7142,
        "data.location.longitude": 74.0064,
        "data.location.accuracy": 195.0165104914573,
        "data.custom_attributes.button_name": "home",
        "data.custom_attributes.other_attribute": "xyz",
        "device_info.brand": "iPhone6,1",
        "device_info.platform": "iOS",
        "device_info.screen_height": 1136,
        "device_info.is_tablet": False,
        "device_info.att_timestamp_unixtime_ms": 1614187122051,
        "device_info.android_uuid": None,
        "application_info.application_name": "App Name",
        "application_info.application_version": "1.0.1",
        "application_info.package": "com.newco.myapp",
        "user_attributes.$age": "18",
        "user_attributes.$city": "New York",
        "user_attributes.a_custom_attribute": "some_value",
        "partner_identities.partner_id": "1234",
        "consent_state.gdpr.parental.consented": False,
        "consent_state.gdpr.parental.document": "parental_consent_agreement_v2",
        "consent_state.gdpr.parental.timestamp_unixtime_ms": 1523039002083,
        "source_info.channel": "server_to_server",
        "source_info.is_historical": True,
    }
    identities = {
        "Email": "h.jekyll.md@example.com",
        "MPID": "7346244611012968789",
        "IDFA": "613ff528-afd1-4c1b-9628-e6ed25ece9c0",
        "IDFV": "8c61383f-2216-4713-8c1c-1cb0a5d7a4cc",
    }
    events = build(
        "e8335d31-2031-4bff-afec-17ffc1784697",
        user_id=["h.jekyll.md"],
        fields={place: [value] for place, value in fields.items()},
        identities={name: [value] for name, value in identities.items()},
    )
    plan = {"context.data_plan.plan_id": "mobile_data_plan", "context.data_plan.plan_version": 2}
    [batch] = render(events, constants=plan)
    assert batch == golden
    assert batch["message_id"] == batch["source_request_id"] == str(uuid.UUID(batch["message_id"]))
    assert -(2**63) <= int(batch["batch_id"]) < 2**63


def test_ids_are_made_of_the_events_and_of_nothing_else() -> None:
    first, second = (render(build("a", "b", end=end))[0] for end in (END, datetime(2026, 1, 1, tzinfo=UTC)))
    assert [first[k] for k in OURS] == [second[k] for k in OURS]
    assert first["events"] == second["events"]
    other = render(build("a", "c"))[0]
    assert other["events"][0] == first["events"][0]
    assert other["message_id"] != first["message_id"]
    assert render(build("a", sync_id="t"))[0]["events"] != render(build("a"))[0]["events"]


def test_a_batch_is_of_one_user_and_has_a_bound() -> None:
    events = build("a", "b", "c", "d", "e", batch=[0, 0, 0, 3, 3])
    assert [len(b["events"]) for b in render(events)] == [3, 2]
    assert [len(b["events"]) for b in render(events, max_events=2)] == [2, 1, 2]
    assert [len(b["events"]) for b in render(events, batch=False)] == [1] * 5
    small = Envelope(batch_id=JOB, partitions=4, message_bytes=1_500)
    sizes = [len(json.loads(m.document)["events"]) for m in MparticleEvents()(events, small)]
    assert sum(sizes) == 5
    assert max(sizes) < 3


def test_what_is_known_is_that_of_the_newest_event() -> None:
    fields = {"data.event_name": ["x", "y"], "user_attributes.city": ["Rome", "Bern"]}
    [batch] = render(build("a", "b", fields=fields))
    assert batch["user_attributes"] == {"city": "Bern"}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_type_of_event_can_be_sent(kind: str) -> None:
    needed = ("screen_name", "registration_token", "application_transition_type", "push_message_type", "label")
    fields = {"event_type": [kind], "data.event_name": ["n"], "data.register": [True]}
    fields |= {f"data.{name}": ["x"] for name in needed}
    switches = {"attribute_changes": True, "identity_changes": True}
    [batch] = render(build("a", fields=fields), **switches)
    assert batch["events"][0]["event_type"] == kind
    sent = render(build("a", fields=fields))
    assert len(sent) == (kind not in ("user_attribute_change", "user_identity_change"))


def test_every_identity_has_its_place() -> None:
    kinds = {t.name: event_identity(t.name) for t in IDENTITY_TYPES}
    assert kinds["Other3"].user == "other_id_3"
    assert kinds["GoogleAdvertisingIdentifier"].place == "device_info.android_advertising_id"
    assert kinds["MPID"].place == "mpid"
    assert len({k.user or k.place for k in kinds.values()}) == len(kinds)
    assert event_identity("mobile_number").user == "mobile_number"
    [batch] = render(build("a", identities={"Other": [["x", "y"]]}), user_id_as=None)
    assert [i["identity"] for i in batch["user_identities"]] == ["x", "y"]
    with pytest.raises(ValueError, match="'loyalty' is unknown to mParticle"):
        render(build("a", identities={"loyalty": ["x"]}))


@pytest.mark.parametrize(
    ("place", "value", "sent"),
    [
        ("data.session_id", 7, "7"),
        ("data.session_start_unixtime_ms", 2**60, str(2**60)),
        ("data.session_duration_ms", 6000, "6000"),
        ("data.response_code", 200, 200),
        ("data.custom_attributes.n", 2**60, str(2**60)),
        ("data.custom_attributes.n", 3, 3),
        ("mpid", -5, "-5"),
        ("device_info.screen_dpi", 160, 160),
    ],
)
def test_integers_of_64_bits_are_strings(place: str, value: int, sent: Any) -> None:
    [batch] = render(with_field(place, value))
    found: Any = {**batch, "data": batch["events"][0]["data"]}
    for part in place.split("."):
        found = found[part]
    assert found == sent


def test_numbers_make_lists_and_nothing_is_left_out_silently() -> None:
    fields = {
        "event_type": ["commerce_event"],
        "data.product_action.action": ["purchase"],
        "data.product_action.products.1.id": ["b"],
        "data.product_action.products.0.id": ["a"],
        "data.product_action.products.0.price": [1.5],
        "data.product_action.coupon_code": [None],
    }
    [batch] = render(build("e", fields=fields))
    assert batch["events"][0]["data"]["product_action"] == {
        "action": "purchase",
        "products": [{"id": "a", "price": 1.5}, {"id": "b"}],
    }


def test_names_of_attributes_are_kept_whatever_they_are() -> None:
    fields = {
        "data.event_name": ["n"],
        "data.custom_attributes.a.b": [1],
        "user_attributes.2024": ["x"],
        "user_attributes.home.city": ["Bern"],
        "integration_attributes.160.key": ["k"],
        "deleted_user_attributes.0": ["old"],
    }
    [batch] = render(build("e", fields=fields))
    assert batch["events"][0]["data"]["custom_attributes"] == {"a.b": 1}
    assert batch["user_attributes"] == {"2024": "x", "home.city": "Bern"}
    assert batch["integration_attributes"] == {"160": {"key": "k"}}
    assert batch["deleted_user_attributes"] == ["old"]
    [batch] = render(changes(Row("a", "entered", "u1", new={"home.city": "Bern", "2024": 1})))
    assert batch["user_attributes"] == {"home.city": "Bern", "2024": 1}


def test_metadata_and_any_other_place_can_be_left_out() -> None:
    fields = {
        "data.event_name": ["n"],
        "data.location.latitude": [1.0],
        "device_info.device": ["Ann's phone"],
        "device_info.platform": ["iOS"],
        "ip": ["1.2.3.4"],
    }
    events = build("e", fields=fields, identities={"IDFA": ["x"]})
    [whole] = render(events)
    assert (whole["ip"], whole["device_info"]["device"]) == ("1.2.3.4", "Ann's phone")
    [batch] = render(events, exclude_metadata=True)
    assert "ip" not in batch
    assert batch["device_info"] == {"platform": "iOS", "ios_advertising_id": "x"}
    [batch] = render(events, exclude=["data.location", "device_info.ios_advertising_id"])
    assert "location" not in batch["events"][0]["data"]
    assert "ios_advertising_id" not in batch["device_info"]
    assert render(events, unique_id="feed-7", environment="development")[0]["unique_id"] == "feed-7"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 1}, "batch is 1"),
        ({"max_events": 0}, "max_events is 0"),
        ({"environment": "test"}, "expected production or development"),
        ({"exclude": "ip"}, "exclude is 'ip'"),
        ({"constants": ["a"]}, "constants is"),
        ({"constants": {"plan": 1}}, "'plan' is not a place in a batch"),
        ({"constants": {"data.event_name": "x"}}, "a place of an event"),
        ({"user_id_as": "loyalty"}, "unknown to mParticle"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MparticleEvents(**options)


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (with_field("price", 1), "'price' is not a place in a batch"),
        (with_field("data.", 1), "'data.' is not a place in a batch"),
        (with_field("device_info", 1), "'device_info' is not a place in a batch"),
        (with_field("mpid.x", 1), "'mpid.x' is not a place in a batch"),
        (with_field("data.product_action.products.first.id", 1), "products is a list"),
        (build("e", identities={"IDFA": [["x", "y"]]}), "several identities of type IDFA"),
        (with_field("data.a..b", 1), "an empty part"),
        (with_field("data.event_name.x", 1), "inside a value"),
        (
            with_field("data.custom_event_type", "sport"),
            "data.custom_event_type of an event has a value",
        ),
        (with_field("data.product_action.action", "buy", kind="commerce_event"), "expected add_to_cart"),
        (with_field("data.x", 1, kind="clicked"), "of a type that is unknown to mParticle"),
        (with_field("data.x", 1, kind="screen_view"), "screen_view has no screen_name"),
    ],
)
def test_what_the_format_does_not_have_is_said(events: Events, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        render(events)


def test_an_event_that_is_too_large_names_nobody() -> None:
    with pytest.raises(MessageTooLarge, match="one event with its user's identities") as raised:
        list(MparticleEvents()(build("e"), Envelope(batch_id=JOB, partitions=4, message_bytes=50)))
    assert "u1" not in str(raised.value)


# --- changes of audiences ----------------------------------------------------------------------------------------


def changes(*given: Row) -> Any:
    return build_changes(given, as_of=END, audience_names={"a": "Alpha"})


CITY = {"city": "Bern"}


def test_who_enters_and_exits_makes_custom_events() -> None:
    sent = render(
        changes(
            Row("a", "entered", "u1", new=CITY, new_identities={"Email": "x"}),
            Row("a", "exited", "u2", old={"city": "Rome"}, old_identities={"Email": "y"}),
        )
    )
    found = {b["user_identities"][-1]["identity"]: b for b in sent}
    for user, name, city, email in (
        ("u1", "Audience Entered", "Bern", "x"),
        ("u2", "Audience Exited", "Rome", "y"),
    ):
        [event] = found[user]["events"]
        assert event["event_type"] == "custom_event"
        assert event["data"]["event_name"] == name
        assert event["data"]["custom_attributes"] == {"audience_id": "a", "audience_name": "Alpha"}
        assert event["data"]["timestamp_unixtime_ms"] == "1402531200000"
        assert found[user]["user_attributes"] == {"city": city}
        assert found[user]["user_identities"][0]["identity"] == email
    assert len({b["message_id"] for b in sent}) == 2


def test_updates_are_sent_on_request() -> None:
    updated = Row(
        "a",
        "updated",
        "u1",
        updated="both",
        new={"city": "Bern", "plan": None, "same": 1},
        old={"city": None, "plan": "paid", "same": 1},
        new_identities={"Email": "x", "MPID": "7"},
        old_identities={"Email": None, "MPID": "6"},
    )
    assert render(changes(updated)) == []
    [batch] = render(changes(updated), attribute_changes=True, identity_changes=True)
    attributes = {
        e["data"]["user_attribute_name"]: e["data"]
        for e in batch["events"]
        if e["event_type"] == "user_attribute_change"
    }
    assert attributes.keys() == {"city", "plan"}
    city, plan = attributes["city"], attributes["plan"]
    assert (city["new"], city["old"], city["deleted"], city["is_new_attribute"]) == ("Bern", None, False, True)
    assert (plan["new"], plan["old"], plan["deleted"], plan["is_new_attribute"]) == (None, "paid", True, False)
    [identity] = [e["data"] for e in batch["events"] if e["event_type"] == "user_identity_change"]
    assert (identity["new"]["identity_type"], identity["new"]["identity"], identity["old"]) == ("email", "x", None)
    assert len(render(changes(updated), identity_changes=True)[0]["events"]) == 1


def test_a_consumer_reads_what_the_events_say_of_audiences() -> None:
    consumer = AudienceConsumer()
    for batch in render(
        changes(Row("a", "entered", "u1", new=CITY), Row("b", "exited", "u1"), Row("b", "entered", "u2"))
    ):
        consumer.apply(batch)
    assert (consumer.members("a"), consumer.members("b")) == ({"u1"}, {"u2"})
    assert consumer.properties("a", "u1") == CITY
    assert read_message(render(build("e"))[0]).statements == []
    [batch] = render(changes(Row("a", "entered", "u1", new_identities={"Email": "x"})))
    assert read_mparticle_events(batch, user="email").statements[0].user_id == "x"
    with pytest.raises(ValueError, match="user_identities has no other"):
        read_mparticle_events(batch, user="other")


@pytest.mark.parametrize("kind", Lifecycle)
def test_a_notice_is_an_event_of_nobody(kind: Lifecycle) -> None:
    notice = Notice(kind=kind, number=0, time=END, audience_id="a", audience_name="Alpha", members=3, exits=1)
    message = MparticleEvents().render_notice(notice, ENVELOPE)
    reading = read_message(message.document)
    assert reading.statements == []
    assert reading.notice is not None
    counts = (0, 0) if kind is Lifecycle.DELETED else (3, 1)
    assert (reading.notice.event, reading.notice.members, reading.notice.exits) == (kind.value, *counts)
    assert message.changes == 0
