"""Reads and checks one message, in any of the wire formats, and applies nothing.

One half of the reference for teams that read the stream; ``membership.py`` is the other half. It needs Python's
standard library alone. The invariant: a message is read as a whole, or fails with an error that shows nothing of
the content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_kinesis_audience.consumer.aggregated import MARK

_MOVES = {"Audience Entered": True, "Audience Exited": False}
_NOTICES = {
    "Audience Resync Begun": "resync_begin",
    "Audience Resync Complete": "resync_complete",
    "Audience Deleted": "deleted",
}
_COUNTS = ("custom_attributes", "event", "members", "exits")
_EPOCH_SECONDS = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a message states about one user of one audience at one time.

    :param time: the time to order by; comparable among all messages of a format, in Unix epoch seconds.
    :param properties: the user's properties as of that time; empty if the message has none.
    :param identities: the user's identities as of that time, likewise; a text each, or a list of several.
    """

    audience_id: str
    user_id: str
    time: int
    member: bool
    properties: Mapping[str, Any] = field(default_factory=dict)
    identities: Mapping[str, Any] = field(default_factory=dict)

    def beats(self, other: Statement) -> bool:
        """Decide whether this statement wins over another about the same user and audience.

        The newer one wins. Between two with the same time, the choice must not depend on which came first: an
        entry wins over an exit, because a format can send a replacement as both.
        """
        if self.time != other.time:
            return self.time > other.time
        return self._rank() > other._rank()

    def _rank(self) -> tuple[bool, str]:
        return self.member, json.dumps([self.properties, self.identities], sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class AudienceNotice:
    """What a message states about a whole audience.

    :param event: ``resync_begin``, ``resync_complete`` or ``deleted``.
    :param members: entries that the resync sends, and ``exits`` likewise.
    """

    audience_id: str
    time: int
    event: str
    members: int = 0
    exits: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A message that was read: its id and its statements.

    All messages of one change set, or of one resync, share the part of the id before ``::``.

    :param whole: a user, and an instant: the message has the whole state of the user as of then, so that earlier
        statements about the user's memberships are void.
    """

    message_id: str
    statements: Sequence[Statement]
    notice: AudienceNotice | None = None
    whole: tuple[str, int] | None = None

    @property
    def batch_id(self) -> str:
        """Common prefix of the ids of all messages that were sent together."""
        return self.message_id.partition("::")[0]

    @property
    def job(self) -> str:
        """The former name of ``batch_id``."""
        return self.batch_id


MessageReader = Callable[[Mapping[str, Any]], Reading]


def read_message(
    message: bytes | str | Mapping[str, Any],
    *,
    readers: Mapping[str, MessageReader] | None = None,
    parse_float: Callable[[str], Any] | None = None,
) -> Reading:
    """Read a message of any known format.

    :param readers: by a key that only one format's messages have, its reader.
    :param parse_float: type of a number with a fraction, by default float; ``decimal.Decimal`` keeps all digits.
    :raises ValueError: if it is not a message; the error shows nothing of the content.
    """
    if not isinstance(message, Mapping):
        if isinstance(message, bytes) and message.startswith(MARK):
            raise ValueError("the record holds several messages, or a part of them; split it with split_record")
        try:
            message = json.loads(message, parse_float=parse_float)
        except (ValueError, RecursionError):  # the cause is dropped: it carries the whole document
            raise ValueError("the message is not JSON in UTF-8; expected one JSON object") from None
        if not isinstance(message, Mapping):
            raise ValueError(f"the message is a JSON {type(message).__name__}; expected one JSON object")
    readers = READERS if readers is None else readers
    for mark, read in readers.items():
        if mark in message:
            return read(message)
    raise ValueError(f"the message has an unknown format; expected one of the keys {', '.join(readers)}")


def read_amplitude_cohort(message: Mapping[str, Any]) -> Reading:
    """Read a message of the format ``amplitude_cohort``.

    :raises ValueError: if a key is missing or of another type.
    """
    audience_id = _expect(message, "cohort_id", str)
    member = _expect(message, "in_cohort", bool)
    time = _read_time(message, "computed_time")
    statements = []
    for user in _expect(message, "users", list):
        if not isinstance(user, Mapping):
            raise ValueError(f"users has a {type(user).__name__}; expected objects")
        properties = dict(_expect(user, "user_properties", Mapping)) if "user_properties" in user else {}
        user_id = _expect(user, "user_id", str)
        statements.append(Statement(audience_id, user_id, time, member, properties))
    notice = None
    if "lifecycle" in message:
        notice = _read_notice(message, ("lifecycle", "event", "members", "exits"), audience_id, time)
    return Reading(_expect(message, "message_id", str), statements, notice)


def read_mparticle_audience(message: Mapping[str, Any], *, user: str = "CustomerId") -> Reading:
    """Read a message of the format ``mparticle_audience``.

    These messages have no id unless the sender sets ``message_ids``. Without one, the id is a digest of the
    content, because a message that is put twice has the same bytes.

    :param user: the key of ``UserIdentities`` that identifies the user: the sender's ``user_id_as``.
    :raises ValueError: if a key is missing or of another type.
    """
    audience_id = _expect(message, "AudienceId", (str, int))
    if isinstance(audience_id, bool):
        raise ValueError("AudienceId is a bool; expected a number or a text")
    time = _read_time(message, "MembershipChangedTimestamp")
    member = _expect(message, "IsMember", bool)
    identities = dict(_expect(message, "UserIdentities", Mapping))
    message_id = _expect(message, "MessageId", str) if "MessageId" in message else _digest(message)
    audience_id = str(audience_id)
    if "Lifecycle" in message:
        notice = _read_notice(message, ("Lifecycle", "Event", "Members", "Exits"), audience_id, time)
        return Reading(message_id, [], notice)
    user_id = identities.get(user)
    if not isinstance(user_id, str):
        raise ValueError(
            f"UserIdentities has no text under {user}, which identifies the user; read the messages with "
            "functools.partial(read_mparticle_audience, user=...) and the key that the sender's user_id_as gives"
        )
    return Reading(message_id, [Statement(audience_id, user_id, time, member, identities=identities)])


def _read_time(message: Mapping[str, Any], key: str) -> int:
    time = _expect(message, key, str)
    if not _EPOCH_SECONDS.fullmatch(time):
        raise ValueError(f"{key} is not a string of Unix epoch seconds")
    return int(time)


def _read_notice(message: Mapping[str, Any], keys: Sequence[str], audience_id: str, time: int) -> AudienceNotice:
    """Read what happens to a whole audience; ``keys`` are those of the object, its event and its two counts."""
    outer, event, *counted = keys
    found = _expect(message, outer, Mapping)
    counts = [found.get(n, 0) for n in counted]
    if not all(type(count) is int for count in counts):
        raise ValueError(f"{outer} has {' or '.join(counted)} that are not numbers")
    return AudienceNotice(audience_id, time, _expect(found, event, str), *counts)


def read_adobe_profile(message: Mapping[str, Any], *, user: str = "crmid") -> Reading:
    """Read a message of the format ``adobe_profile``.

    :param user: the namespace that identifies the user: the sender's ``user_id_as``.
    :raises ValueError: if a key is missing or of another type, or the message holds no time.
    """
    if "computedTime" not in message:
        raise ValueError("the message lacks computedTime, which gives its order; set message_ids")
    time, message_id = _read_time(message, "computedTime"), _expect(message, "messageId", str)
    if "lifecycle" in message:
        audience_id = _expect(_expect(message, "lifecycle", Mapping), "audienceId", str)
        notice = _read_notice(message, ("lifecycle", "event", "members", "exits"), audience_id, time)
        return Reading(message_id, [], notice)
    identities = {}
    for namespace, found in _objects(message, "identityMap", list):
        ids = [_expect(dict(enumerate(found)), n, Mapping) for n in range(len(found))]
        identities[namespace] = [_expect(identity, "id", str) for identity in ids]
    if not identities.get(user):
        raise ValueError(
            f"identityMap has nothing under {user}, which identifies the user; read the messages with "
            "functools.partial(read_adobe_profile, user=...) and the sender's user_id_as"
        )
    user_id = identities[user][0]
    known = ("segmentMembership", "identityMap", "messageId", "computedTime")
    profile: dict[str, Mapping[str, Any]] = {
        "properties": {name: value for name, value in message.items() if name not in known},
        "identities": {namespace: ids[0] if len(ids) == 1 else ids for namespace, ids in identities.items()},
    }
    statements = [
        Statement(audience_id, user_id, time, _expect(membership, "status", str) != "exited", **profile)
        for _, audiences in _objects(message, "segmentMembership", Mapping)
        for audience_id, membership in _objects({"audiences": audiences}, "audiences", Mapping)
    ]
    return Reading(message_id, statements, whole=(user_id, time))


def read_mparticle_events(message: Mapping[str, Any], *, user: str = "customer_id") -> Reading:
    """Read a message of the format ``mparticle_events``: only its custom events about audiences.

    :param user: the identity type that identifies the user: the sender's ``user_id_as``.
    :raises ValueError: if a key is missing or of another type.
    """
    message_id = _expect(message, "message_id", str)
    identities: dict[str, str] = {}
    # The vendor's own batches may have null there.
    given = {"user_identities": message.get("user_identities") or []}
    given["user_attributes"] = message.get("user_attributes") or {}
    for identity in _expect(given, "user_identities", list):
        identities.setdefault(_expect(identity, "identity_type", str), _expect(identity, "identity", str))
    statements, notice = [], None
    for event in _expect(message, "events", list):
        data = _expect(event, "data", Mapping)
        name = data.get("event_name")
        if _expect(event, "event_type", str) != "custom_event" or name not in (*_MOVES, *_NOTICES):
            continue
        attributes = _expect(data, "custom_attributes", Mapping)
        audience_id = _expect(attributes, "audience_id", str)
        time = _read_time(data, "timestamp_unixtime_ms") // 1000
        if name in _NOTICES:
            lifecycle = {"custom_attributes": {**attributes, "event": _NOTICES[name]}}
            notice = _read_notice(lifecycle, _COUNTS, audience_id, time)
        elif user not in identities:
            raise ValueError(
                f"user_identities has no {user}, which identifies the user; read the messages with "
                "functools.partial(read_mparticle_events, user=...) and the sender's user_id_as"
            )
        else:
            known = (dict(_expect(given, "user_attributes", Mapping)), dict(identities))
            statements.append(Statement(audience_id, identities[user], time, _MOVES[name], *known))
    return Reading(message_id, statements, notice)


def _objects(message: Mapping[Any, Any], key: str, kind: type) -> list[tuple[str, Any]]:
    """Read an object all of whose values are of one type."""
    found = _expect(message, key, Mapping)
    return [(name, _expect(found, name, kind)) for name in found]


def _digest(message: Mapping[str, Any]) -> str:
    canonical = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


READERS: Mapping[str, MessageReader] = {
    "cohort_id": read_amplitude_cohort,
    "AudienceId": read_mparticle_audience,
    "segmentMembership": read_adobe_profile,
    "events": read_mparticle_events,
}
"""A key that only one format's messages have, to that format's reader."""


def _expect(found: Any, key: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(found, Mapping):
        raise ValueError(f"the message has a {type(found).__name__} where an object with {key} was expected")
    expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
    if key not in found:
        raise ValueError(f"the message lacks {key}; expected a {expected}")
    if not isinstance(found[key], kind):
        raise ValueError(f"{key} is a {type(found[key]).__name__}; expected a {expected}")
    return found[key]
