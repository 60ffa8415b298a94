"""The schemas that ship: golden messages and whatever the renderers make are valid, and what is wrong is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Notice, derive_batch_id
from airflow_kinesis_audience.core.model.renderer import notice_renderer
from airflow_kinesis_audience.formats import FORMATS, load_renderer
from airflow_kinesis_audience.schemas import SCHEMAS, load_schema
from tests.changes import AS_OF, Row, build_changes
from tests.unit.formats import test_adobe, test_mparticle_events

GOLDEN = Path(__file__).parents[2] / "golden"
JOB = derive_batch_id(sync_id="s", previous_as_of="", as_of="x", destination="d", render_config="r")
ENVELOPE = Envelope(batch_id=JOB, partitions=4, message_bytes=1_000_000)

VALUES = {
    "yes": True,
    "n": 3,
    "big": 2**60,
    "share": 0.5,
    "price": Decimal("1.50"),
    "day": date(2026, 1, 1),
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "text": 'a"b',
    "none": None,
}
CHANGES = build_changes(
    [
        Row("1", "entered", "u1", new=VALUES, new_identities={"Email": "x", "Other": ["a", "b"], "MPID": "7"}),
        Row("a", "exited", "u2", old=VALUES, old_identities={"Email": "y"}),
        Row(
            "a",
            "updated",
            "u3",
            updated="both",
            new={**VALUES, "n": 4},
            old=VALUES,
            new_identities={"Email": "z"},
            old_identities={"Email": None},
        ),
    ],
    properties=sorted(VALUES),
)
STAYS = test_adobe.kept(
    ("e", test_adobe.NOW, "", "a"),
    ("m", test_adobe.EARLIER, "", "b"),
    ("x", test_adobe.EARLIER, test_adobe.NOW, "c"),
    ("l", test_adobe.EARLIER, test_adobe.EARLIER, "d"),
)
PROFILE = test_adobe.build(
    STAYS,
    new={**{f"deep.{name}": value for name, value in VALUES.items()}, "ok": "n"},
    old={"ok": "y"},
    new_identities={"Email": ["x", "y"]},
)
EVENTS = test_mparticle_events.build(
    "a",
    "b",
    fields={
        "data.event_name": ["x", "y"],
        "data.session_id": [1, None],
        "data.custom_attributes.n": [1, 2],
        "mpid": [5, 6],
        "context.data_plan.plan_version": [1, 1],
        **{f"user_attributes.{name}": [value] * 2 for name, value in VALUES.items()},
    },
    identities={"Email": ["x", "y"], "IDFA": ["z", None], "mobile_number": [None, "+47"]},
)
COMMERCE = [
    test_mparticle_events.build("a", fields={"event_type": ["commerce_event"], place: [value]})
    for place, value in (
        ("data.product_action.action", "purchase"),
        ("data.promotion_action.action", "click"),
        ("data.product_impressions.0.product_impression_list", "home"),
    )
]
CASES: list[tuple[str, Mapping[str, Any], Any]] = [
    ("amplitude_cohort", {}, CHANGES),
    ("amplitude_cohort", {"user_properties": True, "max_users": 1}, CHANGES),
    ("mparticle_audience", {}, CHANGES),
    ("mparticle_audience", {"message_ids": True, "send_remove_on_identity_change": False}, CHANGES),
    (
        "mparticle_audience",
        {"identity_keys": {"Email": "mail"}, "external_names": {"a": "Outside"}, "user_id_as": "Other9"},
        CHANGES,
    ),
    ("adobe_profile", {}, PROFILE),
    ("adobe_profile", {"namespace": "own", "namespaces": {"Email": "mail"}, "user_id_as": None}, PROFILE),
    ("adobe_profile", {"existing": True, "segment_names": True, "message_ids": True}, PROFILE),
    ("adobe_profile", {"segment_timestamps": True, "keep_exits_days": 0}, PROFILE),
    ("adobe_profile", {"consent": "ok"}, PROFILE),
    ("mparticle_events", {}, CHANGES),
    ("mparticle_events", {"attribute_changes": True, "identity_changes": True}, CHANGES),
    ("mparticle_events", {}, EVENTS),
    *(("mparticle_events", {}, events) for events in COMMERCE),
    ("mparticle_events", {"batch": False, "unique_id": "x", "exclude_metadata": True}, EVENTS),
]


def errors(message_format: str, document: Any) -> list[str]:
    return [e.message for e in Draft202012Validator(load_schema(message_format)).iter_errors(document)]


def notice_of(message_format: str, kind: Lifecycle = Lifecycle.RESYNC_BEGIN) -> dict[str, Any]:
    notice = Notice(kind=kind, number=0, time=AS_OF, audience_id="a", audience_name="A", members=2, exits=1)
    message = notice_renderer(load_renderer(message_format, {}), message_format)(notice, ENVELOPE)
    found: dict[str, Any] = json.loads(message.document)
    return found


def goldens() -> Iterator[tuple[str, str]]:
    for path in sorted(p for p in GOLDEN.iterdir() if p.is_file()):
        name = next((n for n in SCHEMAS if path.stem.startswith(n)), "mparticle_audience")
        assert name != "mparticle_audience" or path.stem.startswith("mparticle_member")
        lines = path.read_text().strip().split("\n") if path.suffix == ".ndjson" else [path.read_text()]
        yield from ((name, line) for line in lines)


def test_there_is_a_valid_schema_for_every_format_and_no_other() -> None:
    assert set(SCHEMAS) == set(FORMATS)
    for name in SCHEMAS:
        Draft202012Validator.check_schema(load_schema(name))
    with pytest.raises(ValueError, match="expected one of adobe_profile, amplitude_cohort"):
        load_schema("amplitude")


def test_every_golden_message_is_valid() -> None:
    found = list(goldens())
    assert {name for name, _ in found} == set(SCHEMAS)
    for name, text in found:
        document = json.loads(text)
        # The vendor's page of audiences shows the request around the message.
        assert errors(name, document["Record"]["Data"] if "Record" in document else document) == []


@pytest.mark.parametrize(("message_format", "options", "given"), CASES)
def test_what_is_rendered_is_valid(message_format: str, options: Mapping[str, Any], given: Any) -> None:
    messages = list(load_renderer(message_format, options)(given, ENVELOPE))
    assert messages
    for message in messages:
        assert errors(message_format, json.loads(message.document)) == []


@pytest.mark.parametrize("message_format", SCHEMAS)
@pytest.mark.parametrize("kind", Lifecycle)
def test_a_notice_is_valid(message_format: str, kind: Lifecycle) -> None:
    assert errors(message_format, notice_of(message_format, kind)) == []


USER: dict[str, Any] = {"user_id": "u"}
COHORT: dict[str, Any] = {
    "cohort_name": "A",
    "cohort_id": "a",
    "in_cohort": True,
    "computed_time": "1",
    "message_id": f"{JOB}::enter::0",
    "users": [USER],
}
AUDIENCE: dict[str, Any] = {
    "MembershipChangedTimestamp": "1",
    "AudienceId": 1,
    "AudienceName": "A",
    "IsMember": True,
    "UserIdentities": {"Email": "x"},
}
ADOBE: dict[str, Any] = {
    "segmentMembership": {"ups": {"a": {"lastQualificationTime": "2026-01-01T00:00:00Z", "status": "realized"}}},
    "identityMap": {"crmid": [{"id": "u"}]},
}


def batch(**data: Any) -> dict[str, Any]:
    [found] = test_mparticle_events.render(test_mparticle_events.build("a"))
    found["events"][0]["data"] |= data
    return found


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("amplitude_cohort", {**COHORT, "cohort_id": 1}),
    ("amplitude_cohort", {**COHORT, "computed_time": 1}),
    ("amplitude_cohort", {**COHORT, "message_id": "x"}),
    ("amplitude_cohort", {**COHORT, "users": []}),
    ("amplitude_cohort", {**COHORT, "users": [{**USER, "email": "x"}]}),
    ("amplitude_cohort", {**COHORT, "lifecycle": {"event": "deleted"}}),
    ("amplitude_cohort", {k: v for k, v in COHORT.items() if k != "in_cohort"}),
    ("amplitude_cohort", {**COHORT, "in_cohort": False}),
    (
        "amplitude_cohort",
        {
            **COHORT,
            "in_cohort": False,
            "message_id": f"{JOB}::exit::0",
            "users": [{**USER, "user_properties": {"a": 1}}],
        },
    ),
    ("amplitude_cohort", {**notice_of("amplitude_cohort"), "users": [USER]}),
    ("amplitude_cohort", {**notice_of("amplitude_cohort"), "in_cohort": False}),
    ("amplitude_cohort", {**notice_of("amplitude_cohort"), "lifecycle": {"event": "deleted"}}),
    ("mparticle_audience", {**AUDIENCE, "MembershipChangedTimestamp": 1}),
    ("mparticle_audience", {**AUDIENCE, "AudienceId": "1"}),
    ("mparticle_audience", {**AUDIENCE, "AudienceId": 2**53 + 1}),
    ("mparticle_audience", {**AUDIENCE, "AudienceId": ""}),
    ("mparticle_audience", {**AUDIENCE, "MessageId": f"{JOB}::exit::0"}),
    ("mparticle_audience", {k: v for k, v in notice_of("mparticle_audience").items() if k != "MessageId"}),
    ("mparticle_audience", {**notice_of("mparticle_audience"), "IsMember": False}),
    ("mparticle_audience", {**notice_of("mparticle_audience", Lifecycle.DELETED), "IsMember": True}),
    ("mparticle_audience", {**AUDIENCE, "IsMember": "true"}),
    ("mparticle_audience", {**AUDIENCE, "UserIdentities": {}}),
    ("mparticle_audience", {**AUDIENCE, "UserIdentities": {"Email": ["x"]}}),
    ("mparticle_audience", {**AUDIENCE, "UserIdentities": {"Email": None}}),
    ("mparticle_audience", {**AUDIENCE, "Extra": 1}),
    ("adobe_profile", {**ADOBE, "identityMap": {}}),
    ("adobe_profile", {**ADOBE, "identityMap": {"crmid": ["u"]}}),
    ("adobe_profile", {**ADOBE, "computedTime": "1"}),
    ("adobe_profile", {**ADOBE, "computedTime": "1", "messageId": f"{JOB}::deleted::0"}),
    ("adobe_profile", {**ADOBE, "segmentMembership": {}}),
    ("adobe_profile", {**ADOBE, "city": {"names": ["Oslo"]}}),
    ("adobe_profile", {**ADOBE, "lifecycle": {"stage": "gold"}}),
    ("adobe_profile", {**notice_of("adobe_profile"), "city": "Oslo"}),
    ("adobe_profile", {**notice_of("adobe_profile"), "messageId": f"{JOB}::deleted::0"}),
    (
        "adobe_profile",
        {
            **ADOBE,
            "segmentMembership": {
                "ups": {"a": {"status": "exited", "lastQualificationTime": "2026-13-01T00:00:00Z"}}
            },
        },
    ),
    ("adobe_profile", {**ADOBE, "segmentMembership": {"ups": {"a": {"status": "realized"}}}}),
    (
        "adobe_profile",
        {
            **ADOBE,
            "segmentMembership": {"ups": {"a": {"status": "in", "lastQualificationTime": "2026-01-01T00:00:00Z"}}},
        },
    ),
    ("mparticle_events", batch(event_id=1)),
    ("mparticle_events", batch(custom_event_type="sport")),
    ("mparticle_events", batch(timestamp_unixtime_ms=1)),
    ("mparticle_events", batch(event_name=1)),
    ("mparticle_events", batch(event_name="Audience Entered")),
    ("mparticle_events", batch(event_name="Audience Resync Begun", custom_attributes={"audience_id": "a"})),
    ("mparticle_events", batch(session_start_unixtime_ms=1)),
    ("mparticle_events", batch(product_action={"total_amount": 1})),
    ("mparticle_events", batch(product_action={"action": "buy"})),
    ("mparticle_events", {**batch(), "mpid": 7}),
    ("mparticle_events", {**batch(), "mpid": "u-17"}),
    ("mparticle_events", {**batch(), "device_info": {"att_timestamp_unixtime_ms": 1}}),
    ("mparticle_events", {**batch(), "integration_attributes": [{"a": "b"}]}),
    ("mparticle_events", {**batch(), "source_info": {"is_historical": "yes"}}),
    ("mparticle_events", {**batch(), "events": [{**batch()["events"][0], "event_type": "commerce_event"}]}),
    ("mparticle_events", {**batch(), "events": []}),
    ("mparticle_events", {**batch(), "environment": "test"}),
    ("mparticle_events", {**batch(), "user_identities": {"email": "x"}}),
    ("mparticle_events", {**batch(), "events": [{**batch()["events"][0], "event_type": "clicked"}]}),
    ("mparticle_events", {**batch(), "extra": 1}),
]


def test_what_is_right_but_for_one_thing_is_valid_without_it() -> None:
    for name, document in (
        ("amplitude_cohort", COHORT),
        ("mparticle_audience", AUDIENCE),
        ("adobe_profile", ADOBE),
    ):
        assert errors(name, document) == []
    assert errors("mparticle_events", batch()) == []


@pytest.mark.parametrize(("message_format", "document"), WRONG)
def test_what_is_wrong_is_not_valid(message_format: str, document: dict[str, Any]) -> None:
    assert errors(message_format, document)


@pytest.mark.parametrize(
    ("message_format", "document"),
    [
        ("amplitude_cohort", COHORT),
        ("mparticle_audience", AUDIENCE),
        ("adobe_profile", ADOBE),
        ("mparticle_events", batch()),
        *((name, notice_of(name)) for name in SCHEMAS),
    ],
)
def test_nothing_that_is_required_may_be_missing(message_format: str, document: dict[str, Any]) -> None:
    required = load_schema(message_format)["required"]
    assert required
    for key in required:
        assert errors(message_format, {k: v for k, v in document.items() if k != key}), key


def test_a_consumer_can_fetch_a_schema_by_command() -> None:
    command = [sys.executable, "-m", "airflow_kinesis_audience.schemas"]
    found = subprocess.run([*command, "adobe_profile"], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == load_schema("adobe_profile")
    for arguments in (["adobe"], []):
        refused = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "amplitude_cohort" in refused.stderr
