"""Writes the messages of a step in each wire format, with what each message means.

It uses no renderer of the package: the test of this module compares its messages with theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.conformance.batches import (
    StepChanges,
    build_message,
    build_notice,
    fact_of,
    lifecycle_of,
    rfc3339,
)
from airflow_kinesis_audience.conformance.expected import Fact, Sent
from airflow_kinesis_audience.conformance.names import Names, partition_of, properties_of

if TYPE_CHECKING:
    from airflow_kinesis_audience.conformance.histories import Change

_MOST_USERS = 3
"""Users of one message of ``amplitude_cohort``."""


def write_cohorts(batch: StepChanges) -> Iterator[Sent]:
    """Write messages of ``amplitude_cohort``: per audience, direction and partition up to three users."""

    def group_of(change: Change) -> tuple[int, bool, int]:
        return change.place.audience, change.new is not None, partition_of(change.place.user)

    n = 0
    for (audience, member, partition), found in groupby(sorted(batch.changes, key=group_of), group_of):
        changes = list(found)
        for start in range(0, len(changes), _MOST_USERS):
            some = changes[start : start + _MOST_USERS]
            users = [_write_cohort_user(batch.names, change) for change in some]
            document = _cohort(batch, audience, member, "enter" if member else "exit", n) | {"users": users}
            facts = [fact_of(batch.names, c, {"properties": properties_of(c.new or 0)}) for c in some]
            yield build_message(batch, document, document["message_id"], partition, facts=facts)
            n += len(some)


def _write_cohort_user(names: Names, change: Change) -> dict[str, Any]:
    user: dict[str, Any] = {"user_id": names.user_id(change.place.user)}
    return user if change.new is None else {**user, "user_properties": properties_of(change.new)}


def _cohort(batch: StepChanges, audience: int, member: bool, what: str, n: int) -> dict[str, Any]:
    return {
        "cohort_name": batch.names.audience_name(audience),
        "cohort_id": batch.names.audience_id(audience),
        "in_cohort": member,
        "computed_time": str(batch.time),
        "message_id": batch.message_id(what, n),
        "users": [],
    }


def write_cohort_notice(batch: StepChanges, audience: int, event: str, members: int, exits: int) -> Sent:
    """Write what happens to a whole cohort."""
    document = _cohort(batch, audience, event != "deleted", event, audience)
    document["lifecycle"] = lifecycle_of(event, members, exits)
    return build_notice(batch, document, document["message_id"], audience, event)


def write_audience_changes(batch: StepChanges) -> Iterator[Sent]:
    """Write messages of ``mparticle_audience``: a changed address is a removal and an addition of one time."""
    for n, change in enumerate(batch.changes):
        place = change.place
        for member, version in ((False, change.old), (True, change.new)):
            stays = change.old is not None and change.new is not None
            emails = {batch.names.email(place.user, v) for v in (change.old, change.new) if v is not None}
            if version is None or (stays and len(emails) == 1):
                continue
            identities = {
                "CustomerId": batch.names.user_id(place.user),
                "Email": batch.names.email(place.user, version),
            }
            document = _audience(batch, place.audience, member, "enter" if member else "exit", n)
            document["UserIdentities"] = identities
            fact = replace(fact_of(batch.names, change, {"identities": identities}), member=member)
            yield build_message(batch, document, document["MessageId"], partition_of(place.user), facts=[fact])


def _audience(batch: StepChanges, audience: int, member: bool, what: str, n: int) -> dict[str, Any]:
    return {
        "MembershipChangedTimestamp": str(batch.time),
        "AudienceId": int(batch.names.audience_id(audience)),
        "AudienceName": batch.names.audience_name(audience),
        "IsMember": member,
        "UserIdentities": {},
        "MessageId": batch.message_id(what, n),
    }


def write_audience_notice(batch: StepChanges, audience: int, event: str, members: int, exits: int) -> Sent:
    """Write what happens to a whole audience of mParticle."""
    document = _audience(batch, audience, event != "deleted", event, audience)
    document["Lifecycle"] = {key.capitalize(): v for key, v in lifecycle_of(event, members, exits).items()}
    return build_notice(batch, document, document["MessageId"], audience, event)


def write_profiles(batch: StepChanges) -> Iterator[Sent]:
    """Write documents of ``adobe_profile``: the whole of a user in each."""
    names = batch.names
    for n, user in enumerate(sorted({change.place.user for change in batch.changes})):
        member_of = sorted(place for place in batch.members if place.user == user)
        left = {place: time for place, time in batch.left.items() if place.user == user}
        version = batch.after[user]
        identities = {"crmid": names.user_id(user), "email": names.email(user, version)}
        statuses = dict.fromkeys(member_of, "realized") | dict.fromkeys(left, "exited")
        named = {
            names.audience_id(place.audience): {
                "lastQualificationTime": rfc3339(left.get(place, batch.time)),
                "status": status,
            }
            for place, status in sorted(statuses.items())
        }
        document = {
            **properties_of(version),
            "segmentMembership": {"ups": named},
            "identityMap": {namespace: [{"id": text}] for namespace, text in identities.items()},
            "messageId": batch.message_id("profile", n),
            "computedTime": str(batch.time),
        }
        values = {"properties": properties_of(version), "identities": identities}
        facts = [
            Fact(
                audience_id=names.audience_id(place.audience),
                user_id=names.user_id(user),
                member=place in batch.members,
                values=values,
            )
            for place in statuses
        ]
        sent = build_message(batch, document, str(document["messageId"]), partition_of(user), facts=facts)
        yield replace(sent, whole=names.user_id(user))


def write_profile_notice(batch: StepChanges, audience: int, event: str, members: int, exits: int) -> Sent:
    """Write what happens to a whole audience of profiles."""
    about = {"audienceId": batch.names.audience_id(audience), "audienceName": batch.names.audience_name(audience)}
    document = {
        "segmentMembership": {},
        "identityMap": {},
        "lifecycle": lifecycle_of(event, members, exits) | about,
        "messageId": batch.message_id(event, audience),
        "computedTime": str(batch.time),
    }
    return build_notice(batch, document, str(document["messageId"]), audience, event)


def write_change_events(batch: StepChanges) -> Iterator[Sent]:
    """Write batches of ``mparticle_events``: an entry or an exit is a custom event; an update is none."""
    for change in batch.changes:
        if change.old is not None and change.new is not None:
            continue
        place, member = change.place, change.new is not None
        version = change.new if change.new is not None else change.old or 0
        name = "Audience Entered" if member else "Audience Exited"
        document = _event_batch(batch, name, place.audience, f"{place.audience}/{place.user}/{member}")
        document["user_attributes"] = properties_of(version)
        identities = {
            "email": batch.names.email(place.user, version),
            "customer_id": batch.names.user_id(place.user),
        }
        document["user_identities"] = [
            {"identity_type": kind, "identity": text, "timestamp_unixtime_ms": f"{batch.time}000"}
            for kind, text in identities.items()
        ]
        # An update of a member has no event, so that the values of a member may be older ones.
        facts = [fact_of(batch.names, change, {})]
        yield build_message(batch, document, document["message_id"], partition_of(place.user), facts=facts)


def _event_batch(
    batch: StepChanges, name: str, audience: int, of: str, counts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    event_id, batch_id = (batch.names.uuid(f"{batch.number}/{what}/{name}/{of}") for what in ("event", "batch"))
    time = f"{batch.time}000"
    attributes = {
        "audience_id": batch.names.audience_id(audience),
        "audience_name": batch.names.audience_name(audience),
    }
    data = {
        "event_id": _int64(event_id.bytes),
        "source_message_id": str(event_id),
        "timestamp_unixtime_ms": time,
        "event_start_unixtime_ms": time,
        "event_name": name,
        "custom_event_type": "other",
        "custom_attributes": {**attributes, **(counts or {})},
    }
    return {
        "events": [{"data": data, "event_type": "custom_event"}],
        "schema_version": 2,
        "environment": "production",
        "message_type": "events",
        "message_id": str(batch_id),
        "batch_id": _int64(batch_id.bytes),
        "source_request_id": str(batch_id),
        "timestamp_unixtime_ms": time,
    }


_EVENTS = {
    "resync_begin": "Audience Resync Begun",
    "resync_complete": "Audience Resync Complete",
    "deleted": "Audience Deleted",
}


def write_event_notice(batch: StepChanges, audience: int, event: str, members: int, exits: int) -> Sent:
    """Write what happens to a whole audience, as an event of nobody."""
    counts = {n: v for n, v in lifecycle_of(event, members, exits).items() if n != "event"}
    document = _event_batch(batch, _EVENTS[event], audience, str(audience), counts)
    return build_notice(batch, document, document["message_id"], audience, event)


def _int64(start: bytes) -> str:
    return str(int.from_bytes(start[:8], "big", signed=True))
