"""mParticle's audience messages: one per membership change, with all identities of the user.

Renders changes to messages and nothing else: no clock, no network, nothing kept between calls. A consumer that
applies every message in the order of time never keeps a user about whose end no message can come: a user that the
new identities cannot name is removed by the old ones.
Format: https://docs.mparticle.com/integrations/amazon-kinesis-firehose/audience/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from airflow_kinesis_audience.core.model.audience import Action, Changes, IdentityValue
from airflow_kinesis_audience.core.model.instants import epoch_seconds
from airflow_kinesis_audience.core.model.messages import (
    Direction,
    Envelope,
    Lifecycle,
    Message,
    Notice,
    Oversized,
    digest_of,
)
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer, RendererTraits
from airflow_kinesis_audience.formats.json_values import LARGEST_EXACT_INTEGER, encode
from airflow_kinesis_audience.formats.mparticle.identity_fragments import join, render_fragments
from airflow_kinesis_audience.formats.mparticle.identity_types import IDENTITY_TYPES, find_type, fold
from airflow_kinesis_audience.formats.option_names import refuse

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


class _Side(NamedTuple):
    """One side of a change: the user's identities as fragments of JSON, and whether they may be sent."""

    shown: bytes
    sendable: bool


@dataclass(frozen=True, kw_only=True)
class MparticleAudience(Renderer):
    """Render changes as mParticle's audience messages.

    An update is sent only if an identity that is sent differs. A user without an identity to send is never sent.

    :param send_remove_on_identity_change: send an update as a removal with the old identities and an addition
        with the new ones; if false, only as the addition.
    :param send_anonymous_users: also send users that have only an mParticle id.
    :param forward_email_addresses: send ``Email``; the following three do the same for their identities.
    :param identities_to_exclude: identity types that are not sent.
    :param user_id_as: identity type of the sync's user id in messages; none if it is not sent.
    :param identity_keys: identity type to its key in messages, if another one is wanted.
    :param external_names: audience id to the name that is sent instead of the audience's name.
    :param message_ids: add ``MessageId``, which the vendor's messages do not have, so that consumers can
        deduplicate and check a resync.
    :raises ValueError: if an option is invalid; a retry does not help.
    """

    version: ClassVar[int] = 1
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
            raise ValueError("identity_keys has an empty key; to exclude a type, add it to identities_to_exclude")
        if self.user_id_as is not None:
            if not isinstance(self.user_id_as, str):
                raise ValueError(f"user_id_as is {self.user_id_as!r}; expected an identity type, or none")
            self._find_shown(())

    @property
    def traits(self) -> RendererTraits:
        """What the format declares about itself: who is always named by the user id is never removed."""
        named = any(s.kind != "MPID" or self.send_anonymous_users for s in self._find_shown(()))
        return RendererTraits(
            version=self.version, one_message_per_row=True, renders_notices=True, removes_by_update=not named
        )

    def __call__(self, changes: Changes, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render a slice; a change with a message beyond ``envelope.message_bytes`` as :class:`Oversized`.

        :raises ValueError: if a mapped identity has no key, or two have one; a retry does not help.
        """
        old, new = self._render_sides(changes)
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
            # Of a change all messages are sent, or none: a removal alone would lose a member.
            if (size := max(map(len, documents))) > envelope.message_bytes:
                yield Oversized(position, 1, digest_of(changes.user_id[row]), size)
                continue
            where = partition(audience_id, changes.bucket[row], envelope.partitions)
            for left, document in zip(reversed(range(len(happens))), documents, strict=True):
                # A change is delivered when the last of its messages is.
                yield Message(document, *where, int(left == 0), str(position))

    def count_removed(self, changes: Changes) -> Counter[str]:
        """Count the updates that are a removal alone: there is nothing left to send of these members."""
        happens = map(self._happens, changes.action, *self._render_sides(changes))
        found = zip(changes.audience_id, changes.action, happens, strict=True)
        return Counter(a for a, action, what in found if action == Action.UPDATED and what == (False,))

    def _happens(self, action: str, old: _Side, new: _Side) -> tuple[bool, ...]:
        """Find which messages a change makes, in order: false removes, true adds."""
        if action == Action.ENTERED:
            return (True,) * new.sendable
        if action == Action.EXITED:
            return (False,) * old.sendable
        if old.shown == new.shown:
            return ()
        # A user that can't be named any more is removed in any case: no other message will do it.
        removes = old.sendable and (self.send_remove_on_identity_change or not new.sendable)
        return (False,) * removes + (True,) * new.sendable

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience: a message about nobody, with a key of its own.

        The body of the vendor's own message is not public; this one is ours.
        """
        partition, hash_key = partition_of(notice.audience_id, "000", envelope.partitions)
        lifecycle: dict[str, Any] = {"Event": notice.kind.value}
        if notice.kind is not Lifecycle.DELETED:
            lifecycle |= {"Members": notice.members, "Exits": notice.exits}
        document = {
            "MembershipChangedTimestamp": epoch_seconds(notice.time),
            "AudienceId": _number_or_text(notice.audience_id),
            "AudienceName": self.external_names.get(notice.audience_id) or notice.audience_name,
            "IsMember": notice.kind is not Lifecycle.DELETED,
            "UserIdentities": {},
            "Lifecycle": lifecycle,
            "MessageId": f"{envelope.batch_id}::{notice.kind}::{notice.number}",
        }
        return Message(encode(document), partition, hash_key, 0)

    def check_options(self, mapped: Mapped) -> None:
        """Check that each identity type which an option names is mParticle's or mapped, and means one thing."""
        self._find_shown(mapped.identities)
        named = {*mapped.identities, *mapped.former_identities}
        named |= {self.user_id_as} if self.user_id_as is not None else set()
        folded = set(map(fold, named))
        what = "the identity types that are mapped, and mParticle's,"
        expected = [*sorted(named - set(_ORDER)), *_ORDER]
        if unknown := [n for n in self.identities_to_exclude if not find_type(n) and fold(n) not in folded]:
            refuse("identities_to_exclude", unknown, what, expected)
        if unknown := [n for n in self.identity_keys if not find_type(n) and n not in named]:
            refuse("identity_keys", unknown, what, expected)
        keys = {(find_type(name) or name): key for name, key in self.identity_keys.items()}
        if twice := [n for n, key in self.identity_keys.items() if keys[find_type(n) or n] != key]:
            raise ValueError(
                f"identity_keys has two keys for the identity type {find_type(twice[0])!r}; remove one"
            )

    def named_audiences(self) -> Mapping[str, Collection[str]]:
        """Return the audiences that are to have another name."""
        return {"external_names": self.external_names}

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
        return f'}},"MessageId":"{envelope.batch_id}::{direction}::{position}"}}'.encode()

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
                by = "" if label is not None else "user_id_as: "
                raise ValueError(
                    f"{by}identity type {name!r} is unknown to mParticle. Map it to a key with identity_keys, or "
                    f"exclude it with identities_to_exclude. mParticle's types are {', '.join(_ORDER)}"
                )
            if key in shown:
                raise ValueError(
                    f"two identity types would be sent as {key!r}; set another key for one of them in "
                    "identity_keys"
                )
            shown[key] = _Shown(key, kind, label)
        return sorted(shown.values(), key=lambda s: (_ORDER.get(s.kind, len(_ORDER)), s.key))

    def _render_sides(self, changes: Changes) -> tuple[list[_Side], list[_Side]]:
        """Render what was sent of the users, and what is to be."""
        shown = self._find_shown(changes.new_identities)
        old = self._render_side(changes, shown, changes.old_identities)
        return old, self._render_side(changes, shown, changes.new_identities)

    def _render_side(
        self, changes: Changes, shown: Sequence[_Shown], identities: Mapping[str, Sequence[IdentityValue]]
    ) -> list[_Side]:
        """Render the users' identities on one side of the changes, by columns."""
        columns = [
            render_fragments(s.key, changes.user_id if s.label is None else identities[s.label]) for s in shown
        ]
        whole = join(columns, len(changes))
        named = whole
        if not self.send_anonymous_users:
            named = join([c for s, c in zip(shown, columns, strict=True) if s.kind != "MPID"], len(changes))
        return [_Side(fragments, bool(names)) for fragments, names in zip(whole, named, strict=True)]


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
            f"the user id and a mapped identity would both be sent as {kind!r}; set user_id_as to another type, "
            "or to null if the user id is not sent"
        )
    return (
        f"two columns are mapped to the identity type {kind!r}; map one column per type, of lists if a user can "
        "have several"
    )
