"""Readers of the two formats, and what a consumer makes of all messages: nothing of the package's.

A message says of users that they are members, or are none any more, as of its time. One about a whole audience may
say that all before is void.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Key = tuple[str, str]
"""An audience and a user."""
Members = Mapping[Key, Mapping[str, Any]]
"""Who belongs, with the properties that have a value."""


class Said(NamedTuple):
    """What a message says of one user."""

    message_id: str
    time: int
    key: Key
    member: bool
    properties: Mapping[str, Any]


class Void(NamedTuple):
    """That what was said of an audience up to a time does not hold any more."""

    time: int
    audience: str


@dataclass
class Heard:
    """What messages say, one after the other."""

    said: list[Said] = field(default_factory=list)
    voids: list[Void] = field(default_factory=list)

    def known_at(self, time: int, *, since: int = 0) -> dict[Key, Mapping[str, Any]]:
        """Find who is a member for a consumer: per user the newest time wins, and of one time the membership."""
        newest: dict[Key, Said] = {}
        voids = {v.audience: v.time for v in sorted(self.voids) if v.time <= time}
        for s in self.said:
            if not since <= s.time <= time or s.time <= voids.get(s.key[0], 0):
                continue
            before = newest.get(s.key)
            if before is None or (s.time, s.member) > (before.time, before.member):
                newest[s.key] = s
        return {key: s.properties for key, s in newest.items() if s.member}


def _valued(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}


def read_cohort(data: bytes) -> Iterable[Said | Void]:
    """Read a message of the format ``amplitude_cohort``."""
    found = json.loads(data)
    time, audience = int(found["computed_time"]), found["cohort_id"]
    if found.get("lifecycle", {}).get("event") == "deleted":
        yield Void(time, audience)
    for user in found["users"]:
        properties = _valued(user.get("user_properties", {}))
        yield Said(found["message_id"], time, (audience, user["user_id"]), found["in_cohort"], properties)


def read_profile(data: bytes) -> Iterable[Said | Void]:
    """Read a message of the format ``adobe_profile``: the whole of what is known of one user."""
    found = json.loads(data)
    time, message_id = int(found.pop("computedTime")), found.pop("messageId")
    if (lifecycle := found.pop("lifecycle", None)) is not None:
        if lifecycle["event"] == "deleted":
            yield Void(time, lifecycle["audienceId"])
        return
    memberships = found.pop("segmentMembership")["ups"]
    [user] = [identity["id"] for identity in found.pop("identityMap")["crmid"]]
    for audience, membership in memberships.items():
        member = membership["status"] != "exited"
        yield Said(message_id, time, (audience, user), member, _valued(found))


def message_id_of(data: bytes) -> str:
    found = json.loads(data)
    name: str = found.get("message_id") or found["messageId"]
    return name


Reader = Callable[[bytes], Iterable[Said | Void]]


def tell_members(members: Members) -> Members:
    """Say what a destination is to know of which the format tells each membership: the same."""
    return members


def tell_profiles(members: Members, *, consent: str | None) -> Members:
    """Say what a destination of profiles is to know: a user has the properties of the first audience.

    :param consent: a property without which nobody hears of a user, and which is not told.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for (_, user), properties in sorted(members.items()):
        first.setdefault(user, properties)
    return {
        key: {name: value for name, value in first[key[1]].items() if name != consent}
        for key in members
        if consent is None or first[key[1]].get(consent) == "yes"
    }
