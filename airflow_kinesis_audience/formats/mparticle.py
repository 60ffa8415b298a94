"""mParticle's audience messages: one per membership change, with all identities of the user.

Renders changes to messages and nothing else: no clock, no network, nothing kept between calls. A consumer that
believes every message in the order of time never keeps a user whom it can be told nothing of any more: whoever
cannot be named by the new identities is removed by the old ones.
Format: https://docs.mparticle.com/integrations/amazon-kinesis-firehose/audience/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import orjson

from airflow_kinesis_audience.audience import Action, Changes, Identity, epoch_seconds
from airflow_kinesis_audience.formats.mparticle_identities import IDENTITY_TYPES, find_type, fold
from airflow_kinesis_audience.formats.values import LARGEST_EXACT_INTEGER, encode, render_column, render_texts
from airflow_kinesis_audience.messages import Direction, Envelope, Lifecycle, Message, Notice, partition_of
from airflow_kinesis_audience.oversize import Oversized, digest_of

_INTEGER = re.compile("0|-?[1-9][0-9]{0,15}")
_ORDER = {t.name: n for n, t in enumerate(IDENTITY_TYPES)}
_SWITCHES = {
    "Email": "forward_email_addresses",
    "CustomerId": "forward_customer_ids",
    "AdvertisingIdentifier": "forward_idfas",
    "GoogleAdvertisingIdentifier": "forward_google_advertising_ids",
}
_BOOLEANS = ("send_remove_on_identity_change", "send_anonymous_users", *_SWITCHES.values(), "message_ids")


class _Shown(NamedTuple):
    """An identity that is sent: its key, its type, and how it is mapped; not at all if it is the user id."""

    key: str
    kind: str
    label: str | None


class _Told(NamedTuple):
    """What one side of a change says of the user: fragments of JSON, and whether that may be sent."""

    shown: bytes
    sendable: bool


@dataclass(frozen=True, kw_only=True)
class MparticleAudience:
    """Render changes as mParticle's audience messages.

    An update is told only if an identity that is sent differs; a user of whom nothing would be sent never.

    :param send_remove_on_identity_change: tell an update as a removal with the identities that were sent and an
        addition with the new ones; if not, as the addition alone.
    :param send_anonymous_users: tell of users of whom nothing but the mParticle id would be sent.
    :param forward_email_addresses: send ``Email``; likewise the following three their identities.
    :param identities_to_exclude: identity types that are not sent.
    :param user_id_as: the identity type as which the sync's user id is sent; none if it is not.
    :param identity_keys: identity type to another key than its own.
    :param external_names: audience id to the name that is sent instead of the audience's own.
    :param message_ids: add ``MessageId``, which the vendor's messages do not have, for consumers to drop
        duplicates by and to check a resync.
    :raises ValueError: if an option is not one of these; a retry does not help.
    """

    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    send_remove_on_identity_change: bool = True
    send_anonymous_users: bool = True
    forward_email_addresses: bool = True
    forward_customer_ids: bool = True
    forward_idfas: bool = True
    forward_google_advertising_ids: bool = True
    identities_to_exclude: Sequence[str] = ()
    user_id_as: str | None = "CustomerId"
    identity_keys: Mapping[str, str] = field(default_factory=dict)
    external_names: Mapping[str, str] = field(default_factory=dict)
    message_ids: bool = False

    def __post_init__(self) -> None:
        for name in _BOOLEANS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false")
        excluded = self.identities_to_exclude
        if isinstance(excluded, str) or not isinstance(excluded, Sequence) or not _are_names(excluded):
            raise ValueError(f"identities_to_exclude is {excluded!r}; expected a list of identity types")
        for name in ("identity_keys", "external_names"):
            given = getattr(self, name)
            if not isinstance(given, Mapping) or not _are_names([*given, *given.values()]):
                raise ValueError(f"{name} is {given!r}; expected texts by text")
        if "" in self.identity_keys.values():
            raise ValueError(
                "identity_keys has an empty key; to leave a type out, name it in identities_to_exclude"
            )
        if self.user_id_as is not None:
            if not isinstance(self.user_id_as, str):
                raise ValueError(f"user_id_as is {self.user_id_as!r}; expected an identity type, or none")
            self._find_shown(())

    def __call__(self, changes: Changes, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render a slice; a change with a message beyond ``envelope.message_bytes`` as :class:`Oversized`.

        :raises ValueError: if a mapped identity has no key, or two have one; a retry does not help.
        """
        shown = self._find_shown(changes.new_identities)
        old, new = (self._render_side(changes, shown, s) for s in (changes.old_identities, changes.new_identities))
        heads = {(a, e): self._head(changes, a, e) for a in changes.audience_names for e in (False, True)}
        partition = lru_cache(maxsize=None)(partition_of)
        for row, happens in enumerate(map(self._happens, changes.action, old, new)):
            if not happens:
                continue
            audience_id, position = changes.audience_id[row], changes.position[row]
            documents = [
                heads[audience_id, enters]
                + (new if enters else old)[row].shown[1:]
                + self._end(envelope, enters, position)
                for enters in happens
            ]
            # Of a change all messages are told, or none: a removal alone would lose a member.
            if (size := max(map(len, documents))) > envelope.message_bytes:
                yield Oversized(position, 1, digest_of(changes.user_id[row]), size)
                continue
            where = partition(audience_id, changes.bucket[row], envelope.partitions)
            for left, document in zip(reversed(range(len(happens))), documents, strict=True):
                # A change is told when the last of its messages is.
                yield Message(document, *where, int(left == 0), str(position))

    def _happens(self, action: str, old: _Told, new: _Told) -> tuple[bool, ...]:
        """Say which messages a change makes, in order: false removes, true adds."""
        if action == Action.ENTERED:
            return (True,) * new.sendable
        if action == Action.EXITED:
            return (False,) * old.sendable
        if old.shown == new.shown:
            return ()
        # Whoever cannot be told of any more is removed in any case: there will be no other message to do it.
        removes = old.sendable and (self.send_remove_on_identity_change or not new.sendable)
        return (False,) * removes + (True,) * new.sendable

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience: a message about nobody, with a key of its own.

        The body of the vendor's own message is not public; this one is ours.
        """
        partition, hash_key = partition_of(notice.audience_id, "000", envelope.partitions)
        told: dict[str, Any] = {"Event": notice.kind.value}
        if notice.kind is not Lifecycle.DELETED:
            told |= {"Members": notice.members, "Exits": notice.exits}
        document = {
            "MembershipChangedTimestamp": epoch_seconds(notice.time),
            "AudienceId": _number_or_text(notice.audience_id),
            "AudienceName": self.external_names.get(notice.audience_id) or notice.audience_name,
            "IsMember": notice.kind is not Lifecycle.DELETED,
            "UserIdentities": {},
            "Lifecycle": told,
            "MessageId": f"{envelope.job}::{notice.kind}::{notice.number}",
        }
        return Message(encode(document), partition, hash_key, 0)

    def _head(self, changes: Changes, audience_id: str, enters: bool) -> bytes:
        document: dict[str, Any] = {
            "MembershipChangedTimestamp": epoch_seconds(changes.as_of),
            "AudienceId": _number_or_text(audience_id),
            "AudienceName": self.external_names.get(audience_id) or changes.audience_names[audience_id],
            "IsMember": enters,
            "UserIdentities": {},
        }
        return encode(document)[: -len(b"}}")]

    def _end(self, envelope: Envelope, enters: bool, position: int) -> bytes:
        if not self.message_ids:
            return b"}}"
        direction = Direction.ENTER if enters else Direction.EXIT
        return f'}},"MessageId":"{envelope.job}::{direction}::{position}"}}'.encode()

    def _find_shown(self, labels: Iterable[str]) -> list[_Shown]:
        """Find under which key each mapped identity, and the user id, is sent, in the order of a message."""
        keys = {find_type(name) or name: key for name, key in self.identity_keys.items()}
        excluded = {find_type(name) or fold(name) for name in self.identities_to_exclude}
        excluded |= {name for name, switch in _SWITCHES.items() if not getattr(self, switch)}
        asked: list[tuple[str, str | None]] = [(label, label) for label in labels]
        asked += [(self.user_id_as, None)] if self.user_id_as is not None else []
        shown: dict[str, _Shown] = {}
        types: set[str] = set()
        for name, label in asked:
            kind = find_type(name) or name
            if kind in types:
                raise ValueError(_twice(kind, self.user_id_as))
            types.add(kind)
            if (kind if find_type(name) else fold(name)) in excluded:
                continue
            key = keys.get(kind, kind if kind in _ORDER else None)
            if key is None:
                raise ValueError(
                    f"identity type {name!r} is none of mParticle's, so it has no key; give it one in "
                    f"identity_keys, or leave it out by identities_to_exclude. mParticle's are {', '.join(_ORDER)}"
                )
            if key in shown:
                raise ValueError(
                    f"two identity types would be sent as {key!r}; give one another key in identity_keys"
                )
            shown[key] = _Shown(key, kind, label)
        return sorted(shown.values(), key=lambda s: (_ORDER.get(s.kind, len(_ORDER)), s.key))

    def _render_side(
        self, changes: Changes, shown: Sequence[_Shown], identities: Mapping[str, Sequence[Identity]]
    ) -> list[_Told]:
        """Render what one side of each change says of the user, by columns."""
        columns = [
            _fragments(s.key, identities[s.label]) if s.label is not None else _fragments(s.key, changes.user_id)
            for s in shown
        ]
        whole = _join(columns, len(changes))
        named = whole
        if not self.send_anonymous_users:
            named = _join([c for s, c in zip(shown, columns, strict=True) if s.kind != "MPID"], len(changes))
        return [_Told(fragments, bool(names)) for fragments, names in zip(whole, named, strict=True)]


def _join(columns: Sequence[Sequence[bytes]], rows: int) -> list[bytes]:
    return [b"".join(row) for row in zip(*columns, strict=True)] if columns else [b""] * rows


def _fragments(key: str, column: Sequence[Identity]) -> list[bytes]:
    """Render a column as one fragment per value, with a comma before it; nothing where there is no value."""
    before = b"," + orjson.dumps(key) + b":"
    # The key is what the error names, and never the value.
    texts = render_column(f"identity {key}", [None if isinstance(value, list) else value for value in column])
    return [
        (before + (_list(key, value) if isinstance(value, list) else text) if value else b"")
        for value, text in zip(column, texts, strict=True)
    ]


def _list(key: str, values: list[str]) -> bytes:
    """Render several values as a list, one as itself."""
    rendered = render_texts(f"identity {key}", values)
    return rendered[0] if len(rendered) == 1 else b"[" + b",".join(rendered) + b"]"


def _number_or_text(audience_id: str) -> int | str:
    """Give an audience id as a number where it is written as one that every reader keeps exactly."""
    if _INTEGER.fullmatch(audience_id) and abs(int(audience_id)) <= LARGEST_EXACT_INTEGER:
        return int(audience_id)
    return audience_id


def _are_names(found: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in found)


def _twice(kind: str, user_id_as: str | None) -> str:
    if user_id_as is not None and (find_type(user_id_as) or user_id_as) == kind:
        return (
            f"the user id is to be sent as {kind!r}, and an identity of that type is mapped, too; say in "
            "user_id_as as what the user id is sent, or null if it is not"
        )
    return f"two columns are mapped to the identity type {kind!r}; each type needs one column, of lists if need be"
