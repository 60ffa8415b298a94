"""Adobe's profile export: one document per changed profile, with all its audiences, identities and attributes.

Renders profiles to messages and nothing else: no clock, no network, nothing kept between calls. A document is the
whole of what is known of a profile, so that the newest one replaces all before it.
Format: https://experienceleague.adobe.com/en/docs/experience-platform/destinations/catalog/cloud-storage/amazon-kinesis
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from airflow_kinesis_audience.audience import epoch_seconds, instant, instant_text
from airflow_kinesis_audience.formats.adobe_identities import find_namespaces, render_identities
from airflow_kinesis_audience.formats.nesting import nest
from airflow_kinesis_audience.formats.values import encode, render_column
from airflow_kinesis_audience.messages import Envelope, Lifecycle, Message, Notice, partition_of
from airflow_kinesis_audience.oversize import Oversized, digest_of
from airflow_kinesis_audience.profile import Membership, Profiles, Stay, read_memberships

_PROFILES = ""
"""In the place of an audience's id where a partition is chosen: all documents about a user share one."""
_OURS = ("segmentMembership", "identityMap", "messageId", "computedTime", "lifecycle")
_SWITCHES = ("on_membership_change", "on_attribute_change", "on_identity_change")
_BOOLEANS = (*_SWITCHES, "existing", "segment_names", "segment_timestamps", "message_ids")
_LASTS = (Stay.ENTERED, Stay.MEMBER)
_BEFORE = (Stay.MEMBER, Stay.EXITED)
_MOVED = (Stay.ENTERED, Stay.EXITED)
_MOST_DAYS = 3650


@dataclass(frozen=True, kw_only=True)
class AdobeProfile:
    """Render profiles as Adobe's profile export.

    :param audiences: the mapped audiences: a profile that is in none of them is not exported, and the others start
        no export; none for all.
    :param attributes: the mapped attributes, property names whose dots nest; none for all but the consent.
    :param on_membership_change: export a profile that enters or exits a mapped audience.
    :param on_attribute_change: export a profile of which a mapped attribute is another.
    :param on_identity_change: export a profile of which an identity is another.
    :param existing: say ``existing`` of who stays, as the vendor did until 2023, and not ``realized``.
    :param keep_exits_days: how long a membership that has ended stays in the document.
    :param namespace: under which the audiences stand.
    :param segment_names: add each audience's ``name``.
    :param segment_timestamps: add ``createdAt``, when the stay began, and ``updatedAt``, when the membership last
        changed, in epoch milliseconds.
    :param consent: a property that must be true, or ``y``, ``yes`` or ``true``, for a profile to be exported. Who
        takes it back is told of once more, as having left everything and without attributes.
    :param namespaces: identity type to another namespace than its own name.
    :param user_id_as: the namespace under which the user id is sent; none if it is not.
    :param message_ids: add ``messageId`` and ``computedTime``, which the vendor's documents do not have, for
        consumers to drop duplicates by and to restore the order.
    :raises ValueError: if an option is not one of these; a retry does not help.
    """

    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    audiences: Sequence[str] | None = None
    attributes: Sequence[str] | None = None
    on_membership_change: bool = True
    on_attribute_change: bool = True
    on_identity_change: bool = True
    existing: bool = False
    keep_exits_days: int = 30
    namespace: str = "ups"
    segment_names: bool = False
    segment_timestamps: bool = False
    consent: str | None = None
    namespaces: Mapping[str, str] = field(default_factory=dict)
    user_id_as: str | None = "crmid"
    message_ids: bool = False

    def __post_init__(self) -> None:
        for name in _BOOLEANS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false")
        if not any(getattr(self, name) for name in _SWITCHES):
            raise ValueError(f"{', '.join(_SWITCHES)} are all off, so no change would be told; leave one on")
        if type(self.keep_exits_days) is not int or not 0 <= self.keep_exits_days <= _MOST_DAYS:
            raise ValueError(
                f"keep_exits_days is {self.keep_exits_days!r}; expected a number of days up to {_MOST_DAYS}"
            )
        self._check_names()

    def _check_names(self) -> None:
        for name in ("audiences", "attributes"):
            given = getattr(self, name)
            if given is None:
                continue
            if isinstance(given, str) or not isinstance(given, Sequence) or not _are_texts(given):
                raise ValueError(f"{name} is {given!r}; expected a list of names, or none for all")
        given = self.namespaces
        if not isinstance(given, Mapping) or not _are_texts([*given, *given.values()]):
            raise ValueError(f"namespaces is {given!r}; expected texts by text")
        for name in ("consent", "user_id_as", "namespace"):
            given = getattr(self, name)
            if not (isinstance(given, str) and given) and (given is not None or name == "namespace"):
                raise ValueError(f"{name} is {given!r}; expected a name")

    @property
    def exits_kept(self) -> timedelta:
        """How long a membership that has ended stays in the document."""
        return timedelta(days=self.keep_exits_days)

    @property
    def ordered_by_stream(self) -> bool:
        """Whether documents tell nothing to restore their order by."""
        return not self.message_ids

    def __call__(self, profiles: Profiles, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render a slice; a profile with a document beyond ``envelope.message_bytes`` as :class:`Oversized`.

        :raises ValueError: if an option names what is not mapped, or two things would have one place in the
            document; a retry does not help.
        """
        names = self._attribute_names(profiles)
        new = {name: render_column(f"property {name}", profiles.new_properties[name]) for name in names}
        old = {name: render_column(f"property {name}", profiles.old_properties[name]) for name in names}
        whole = nest([(name, new[name]) for name in names], len(profiles), taken=_OURS)
        shown = find_namespaces(profiles, self.namespaces, self.user_id_as)
        identities = render_identities(profiles, shown, profiles.new_identities)
        former = render_identities(profiles, shown, profiles.old_identities)
        rewritten = _differing([(new[n], old[n]) for n in names], len(profiles))
        for row, (agrees, agreed) in enumerate(self._consents(profiles)):
            known, named = profiles.known[row], identities[row]
            memberships = read_memberships(profiles.memberships[row])
            speaks, spoke = agrees and bool(named), agreed and known and bool(former[row])
            if speaks:
                differs = rewritten[row], named != former[row]
                starts = spoke != known or self._start(profiles, memberships, *(known and d for d in differs))
                attributes = whole[row]
            else:
                # Whoever can be told of no more is told of once more: there will be no other document to do it.
                starts = spoke and self._were_told(memberships)
                memberships = _all_left(memberships, instant_text(profiles.as_of))
                named, attributes = former[row], b""
            if starts and any(map(self._maps, memberships)):
                yield self._render(profiles, envelope, row, attributes, memberships, named)

    def count_excluded(self, profiles: Profiles) -> int:
        """Count the profiles that are not told of because they have not consented."""
        return sum(not agrees for agrees, _ in self._consents(profiles))

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience: a document about nobody, which the vendor does not have."""
        partition, hash_key = partition_of(notice.audience_id, "000", envelope.partitions)
        told: dict[str, Any] = {"event": notice.kind.value, "audienceId": notice.audience_id}
        told["audienceName"] = notice.audience_name
        if notice.kind is not Lifecycle.DELETED:
            told |= {"members": notice.members, "exits": notice.exits}
        document = {
            "segmentMembership": {},
            "identityMap": {},
            "lifecycle": told,
            "messageId": f"{envelope.job}::{notice.kind}::{notice.number}",
            "computedTime": epoch_seconds(notice.time),
        }
        return Message(encode(document), partition, hash_key, 0)

    # -- what starts an export

    def _start(
        self, profiles: Profiles, memberships: Sequence[Membership], attributes: bool, identities: bool
    ) -> bool:
        """Tell whether a change starts an export; where everything is told, everything does.

        :param attributes: whether a mapped one differs, and ``identities`` likewise.
        """
        moved = any(m.stay in _MOVED and self._maps(m) for m in memberships)
        return (
            profiles.previous_as_of is None
            or (self.on_membership_change and moved)
            or (self.on_attribute_change and attributes)
            or (self.on_identity_change and identities)
        )

    def _maps(self, membership: Membership) -> bool:
        return self.audiences is None or membership.audience_id in self.audiences

    def _were_told(self, memberships: Sequence[Membership]) -> bool:
        return any(m.stay in _BEFORE and self._maps(m) for m in memberships)

    def _consents(self, profiles: Profiles) -> list[tuple[bool, bool]]:
        """Tell, per profile, whether it consents and whether it did."""
        if self.consent is None:
            return [(True, True)] * len(profiles)
        if self.consent not in profiles.new_properties:
            raise ValueError(_not_mapped("consent", [self.consent], profiles))
        sides = (profiles.new_properties[self.consent], profiles.old_properties[self.consent])
        now, before = ([_is_yes(value) for value in side] for side in sides)
        known = (was and there for was, there in zip(before, profiles.known, strict=True))
        return list(zip(now, known, strict=True))

    # -- what is in a document

    def _attribute_names(self, profiles: Profiles) -> list[str]:
        mapped = sorted(profiles.new_properties)
        if self.attributes is None:
            return [name for name in mapped if name != self.consent]
        if unknown := sorted(set(self.attributes) - set(mapped)):
            raise ValueError(_not_mapped("attributes", unknown, profiles))
        return sorted(set(self.attributes))

    def _render(
        self,
        profiles: Profiles,
        envelope: Envelope,
        row: int,
        attributes: bytes,
        memberships: Sequence[Membership],
        identities: bytes,
    ) -> Message | Oversized:
        audiences = {m.audience_id: self._describe(m, profiles) for m in memberships}
        parts = [attributes, b',"segmentMembership":', encode({self.namespace: audiences} if audiences else {})]
        parts += [b',"identityMap":{', identities[1:], b"}"]
        position = profiles.position[row]
        if self.message_ids:
            time = epoch_seconds(profiles.as_of)
            parts.append(f',"messageId":"{envelope.job}::profile::{position}","computedTime":"{time}"'.encode())
        document = b"{" + b"".join(parts)[1:] + b"}"
        if len(document) > envelope.message_bytes:
            return Oversized(position, profiles.changes[row], digest_of(profiles.user_id[row]), len(document))
        where = partition_of(_PROFILES, profiles.bucket[row], envelope.partitions)
        return Message(document, *where, profiles.changes[row], str(position))

    def _describe(self, membership: Membership, profiles: Profiles) -> dict[str, Any]:
        stays = "existing" if self.existing and membership.stay is Stay.MEMBER else "realized"
        told: dict[str, Any] = {
            "lastQualificationTime": membership.changed_at,
            "status": stays if membership.stay in _LASTS else "exited",
        }
        if self.segment_names:
            told["name"] = profiles.audience_names.get(membership.audience_id, membership.audience_id)
        if self.segment_timestamps:
            told["createdAt"] = _epoch_milliseconds(membership.since)
            told["updatedAt"] = _epoch_milliseconds(membership.changed_at)
        return told


def _all_left(memberships: Sequence[Membership], as_of: str) -> list[Membership]:
    """Let all that lasts end; what would have begun now is not there at all."""
    before = [m for m in memberships if m.stay is not Stay.ENTERED]
    return [m._replace(stay=Stay.EXITED, until=as_of) if m.stay is Stay.MEMBER else m for m in before]


def _differing(columns: Sequence[tuple[list[bytes], list[bytes]]], rows: int) -> list[bool]:
    """Tell, per profile, whether any of its attributes is another."""
    differs = [False] * rows
    for new, old in columns:
        differs = [known or n != o for known, n, o in zip(differs, new, old, strict=True)]
    return differs


def _is_yes(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("y", "yes", "true"))


def _epoch_milliseconds(text: str) -> int:
    return int(instant(text).timestamp()) * 1000


def _are_texts(names: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def _not_mapped(option: str, names: Sequence[str], profiles: Profiles) -> str:
    mapped = ", ".join(sorted(profiles.new_properties)) or "none"
    return f"{option} names {', '.join(names)}; the mapped properties are {mapped}"
