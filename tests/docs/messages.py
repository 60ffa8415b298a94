"""Messages of every kind as a stream may hold them, and what the reference makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_kinesis_audience.consumer import AudienceConsumer

AUDIENCES, USERS = ("a", "b"), [f"u-{n}" for n in range(12)]


def cohort_message(
    message_id: str = "m", *, time: int = 100, member: bool = True, users: Iterable[Any] = ("u-1",), **more: Any
) -> dict[str, Any]:
    """Write a message of the format ``amplitude_cohort``; a user is an id, or an id and properties."""
    listed = [(u, {}) if isinstance(u, str) else u for u in users]
    return {
        "cohort_id": "a",
        "cohort_name": "A",
        "in_cohort": member,
        "computed_time": str(time),
        "message_id": message_id,
        "users": [{"user_id": u, **({"user_properties": p} if p else {})} for u, p in listed],
        **more,
    }


def cohort_messages(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Tell of many entries and exits, each instant once per audience and way; and of a deletion in between."""
    for instant in range(1, 30):
        time = 1_775_000_000 + instant
        for audience in AUDIENCES:
            some = chance.sample(USERS, 4)
            for member, users in ((True, some[:2]), (False, some[2:])):
                told = [(u, {"spent": 1.5, "n": instant}) for u in users]
                message_id = f"{instant}{audience}::{'enter' if member else 'exit'}::0"
                yield cohort_message(message_id, time=time, member=member, users=told, cohort_id=audience)
        if instant == 20:
            yield cohort_message("d::deleted::0", time=time, users=(), lifecycle={"event": "deleted"})
        if instant in (10, 11):
            event = {"event": "resync_begin" if instant == 10 else "resync_complete", "members": 1, "exits": 0}
            yield cohort_message(f"r::{event['event']}::0", time=time, users=(), lifecycle=event)


def audience_message(user: str | None, *, time: int = 100, member: bool = True, **more: Any) -> dict[str, Any]:
    """Write a message of the format ``mparticle_audience``."""
    return {
        "MembershipChangedTimestamp": str(time),
        "AudienceId": 90001,
        "AudienceName": "x",
        "IsMember": member,
        "UserIdentities": {"CustomerId": user, "Email": f"{user}-{time}@example.com"} if user is not None else {},
        **more,
    }


def audience_messages(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Tell of entries, exits, and changes of identities, which are a removal and an addition of one time."""
    for instant in range(1, 40):
        time = 1_775_000_000 + instant
        for audience in (90001, "letters"):
            user = chance.choice(USERS)
            for member in chance.choice(((True,), (False,), (False, True))):
                yield audience_message(user, time=time, member=member, AudienceId=audience)
        if instant == 20:
            yield audience_message(None, time=time, member=False, Lifecycle={"Event": "deleted"})
            yield audience_message(None, time=time, Lifecycle={"Event": "resync_begin", "Members": 3, "Exits": 1})


def profile_messages(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Tell all about a user each time, also of audiences that are not in it any more."""
    for instant in range(1, 40):
        user = chance.choice(USERS)
        status = {a: {"status": chance.choice(("realized", "exited"))} for a in chance.sample("abcd", 2)}
        yield {
            "city": "Oslo",
            "segmentMembership": {"ups": status},
            "identityMap": {"crmid": [{"id": user}], "email": [{"id": f"{user}@example.com"}]},
            "messageId": f"{instant}::profile::0",
            "computedTime": str(1_775_000_000 + instant),
        }


def event_messages(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Tell of audiences as events, among events of other kinds."""
    for instant in range(1, 40):
        time, user = str(1_775_000_000_000 + instant * 1000), chance.choice(USERS)
        moved = chance.choice(("Audience Entered", "Audience Exited"))
        about = {"event_name": moved, "timestamp_unixtime_ms": time, "custom_attributes": {"audience_id": "a"}}
        other = {"event_name": "Looked", "timestamp_unixtime_ms": time}
        yield {
            "events": [{"event_type": "custom_event", "data": d} for d in (other, about)],
            "message_id": f"e{instant}",
            "user_attributes": {"plan": "gold"} if instant % 2 else None,
            "user_identities": [{"identity_type": "customer_id", "identity": user}],
        }


KINDS = {
    "amplitude_cohort": cohort_messages,
    "mparticle_audience": audience_messages,
    "adobe_profile": profile_messages,
    "mparticle_events": event_messages,
}


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode()


def arriving(kind: str) -> list[bytes]:
    """Return messages of a kind in a shuffled order, a third of them twice."""
    chance = random.Random(7)
    sent = [encode(m) for m in KINDS[kind](chance)]
    found = sent + chance.sample(sent, len(sent) // 3)
    chance.shuffle(found)
    return found


def reference(messages: Iterable[bytes]) -> dict[str, dict[str, Any]]:
    """Return, by audience and user, the properties and identities that the reference has in the end."""
    consumer = AudienceConsumer()
    for message in messages:
        consumer.apply(message)
    return {
        a: {u: [consumer.properties(a, u), consumer.identities(a, u)] for u in consumer.members(a)}
        for a in consumer.audiences()
        if consumer.members(a)
    }
