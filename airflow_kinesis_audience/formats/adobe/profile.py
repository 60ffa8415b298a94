"""Adobe's profile export: one document per changed profile, with all its audiences, identities and attributes.

Renders profiles to messages and nothing else: no clock, no network, nothing kept between calls. A document is the
whole of what is known of a profile, so that the newest one replaces all before it.
Format: https://experienceleague.adobe.com/en/docs/experience-platform/destinations/catalog/cloud-storage/amazon-kinesis
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from airflow_kinesis_audience.core.model.instants import epoch_seconds, instant, instant_text
from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Message, Notice, Oversized, digest_of
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.core.model.profiles import Membership, MembershipStatus, Profiles, parse_memberships
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer, RendererTraits
from airflow_kinesis_audience.formats.adobe import identities as ids
from airflow_kinesis_audience.formats.adobe.consent import find_consents, find_shown
from airflow_kinesis_audience.formats.adobe.nesting import nest
from airflow_kinesis_audience.formats.json_values import encode, render_column
from airflow_kinesis_audience.formats.option_names import check_mapped

_PROFILES = ""
"""In the place of an audience's id where a partition is chosen: all documents about a user share one."""
_OURS = ("segmentMembership", "identityMap", "messageId", "computedTime", "lifecycle")
_SWITCHES = ("on_membership_change", "on_attribute_change", "on_identity_change")
_BOOLEANS = (*_SWITCHES, "existing", "segment_names", "segment_timestamps", "message_ids")
_LASTS = (MembershipStatus.ENTERED, MembershipStatus.MEMBER)
_BEFORE = (MembershipStatus.MEMBER, MembershipStatus.EXITED)
_MOVED = (MembershipStatus.ENTERED, MembershipStatus.EXITED)
_MOST_DAYS = 3650


@dataclass(frozen=True, kw_only=True)
class AdobeProfile(Renderer):
    """Render profiles as Adobe's profile export.

    :param audiences: only these audiences start an export, and only their profiles are exported; none for all.
    :param attributes: the mapped attributes, property names, whose dots nest; none for all except the consent.
    :param on_membership_change: export a profile if it enters or exits a mapped audience.
    :param on_attribute_change: export a profile if a mapped attribute changes.
    :param on_identity_change: export a profile if an identity changes.
    :param existing: write ``existing``, and not ``realized``, for profiles that stay (the vendor did until 2023).
    :param keep_exits_days: how many days an ended membership stays in the document.
    :param namespace: key of the audiences.
    :param segment_names: add each audience's ``name``.
    :param segment_timestamps: add ``createdAt``, when the stay began, and ``updatedAt``, when the membership last
        changed, in epoch milliseconds.
    :param consent: a property that must be true, or ``y``, ``yes`` or ``true``, for a profile to be exported. A
        profile that withdraws it is sent once more, without attributes and with all memberships ended.
    :param namespaces: identity type to its namespace, if another one is wanted.
    :param user_id_as: namespace of the user id; none if it is not sent.
    :param message_ids: add ``messageId`` and ``computedTime``, which the vendor's documents do not have, so that
        consumers can deduplicate and restore the order.
    :raises ValueError: if an option is invalid; a retry does not help.
    """

    version: ClassVar[int] = 1

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
            raise ValueError(f"{', '.join(_SWITCHES)} are all false, so no change would be sent; set one to true")
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
    def traits(self) -> RendererTraits:
        """What the format declares about itself, as its options have it."""
        return RendererTraits(
            version=self.version,
            one_message_per_row=True,
            exits_kept=self.exits_kept,
            ordered_by_stream=self.ordered_by_stream,
            renders_notices=True,
            removes_by_update=self.consent is not None or self.user_id_as is None,
        )

    @property
    def exits_kept(self) -> timedelta:
        """How long a membership that has ended stays in the document."""
        return timedelta(days=self.keep_exits_days)

    @property
    def ordered_by_stream(self) -> bool:
        """Whether documents hold nothing to restore their order by."""
        return not self.message_ids

    def __call__(self, profiles: Profiles, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render a slice; a profile with a document beyond ``envelope.message_bytes`` as :class:`Oversized`.

        :raises ValueError: if an option names what is not mapped, or two things would have one place in the
            document; a retry does not help.
        """
        names = self._attribute_names(profiles.new_properties)
        new = {name: render_column(f"property {name}", profiles.new_properties[name]) for name in names}
        old = {name: render_column(f"property {name}", profiles.old_properties[name]) for name in names}
        whole = nest([(name, new[name]) for name in names], len(profiles), taken=_OURS)
        rewritten = _differing([(new[n], old[n]) for n in names], len(profiles))
        identities, former = self._render_sides(profiles)
        for row, (shows, showed) in enumerate(find_shown(profiles, self.consent, identities, former)):
            known, named = profiles.known[row], identities[row]
            memberships = parse_memberships(profiles.memberships[row])
            if shows:
                differs = rewritten[row], named != former[row]
                starts = showed != known or self._start(profiles, memberships, *(known and d for d in differs))
                attributes = whole[row]
            else:
                # A profile that may not be sent any more is sent once more: no other document will do it.
                starts = showed and self._were_sent(memberships)
                memberships = _all_left(memberships, instant_text(profiles.as_of))
                named, attributes = former[row], b""
            if starts and any(map(self._maps, memberships)):
                yield self._render(profiles, envelope, row, attributes, memberships, named)

    def count_excluded(self, profiles: Profiles) -> int:
        """Count the profiles that are not sent because they have not consented."""
        return sum(not agrees for agrees, _ in find_consents(profiles, self.consent))

    def count_removed(self, profiles: Profiles) -> Counter[str]:
        """Count the memberships that last, of profiles that may not be sent any more."""
        found: Counter[str] = Counter()
        for row, (shows, showed) in enumerate(find_shown(profiles, self.consent, *self._render_sides(profiles))):
            if showed and not shows:
                lasting = (m for m in parse_memberships(profiles.memberships[row]) if self._maps(m))
                found.update(m.audience_id for m in lasting if m.status is MembershipStatus.MEMBER)
        return found

    def check_options(self, mapped: Mapped) -> None:
        """Check that consent, attributes and namespaces are of what is mapped, and have a place of their own."""
        if self.audiences is not None and not self.audiences:
            raise ValueError("audiences is empty, so nothing would be exported; list ids, or set none for all")
        if self.consent is not None:
            check_mapped("consent", [self.consent], mapped.properties)
        nest([(name, []) for name in self._attribute_names(mapped.properties)], 0, taken=_OURS)
        ids.find_namespaces(mapped.identities, mapped.identities, self.namespaces, self.user_id_as)

    def named_audiences(self) -> Mapping[str, Collection[str]]:
        """Return the audiences that start an export."""
        return {"audiences": self.audiences or ()}

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience: a document about nobody, which the vendor does not have."""
        partition, hash_key = partition_of(notice.audience_id, "000", envelope.partitions)
        lifecycle: dict[str, Any] = {"event": notice.kind.value, "audienceId": notice.audience_id}
        lifecycle["audienceName"] = notice.audience_name
        if notice.kind is not Lifecycle.DELETED:
            lifecycle |= {"members": notice.members, "exits": notice.exits}
        document = {
            "segmentMembership": {},
            "identityMap": {},
            "lifecycle": lifecycle,
            "messageId": f"{envelope.batch_id}::{notice.kind}::{notice.number}",
            "computedTime": epoch_seconds(notice.time),
        }
        return Message(encode(document), partition, hash_key, 0)

    # -- what starts an export

    def _start(
        self, profiles: Profiles, memberships: Sequence[Membership], attributes: bool, identities: bool
    ) -> bool:
        """Find out whether a change starts an export; where everything is sent, everything does.

        :param attributes: whether a mapped one differs, and ``identities`` likewise.
        """
        moved = any(m.status in _MOVED and self._maps(m) for m in memberships)
        return (
            profiles.previous_as_of is None
            or (self.on_membership_change and moved)
            or (self.on_attribute_change and attributes)
            or (self.on_identity_change and identities)
        )

    def _maps(self, membership: Membership) -> bool:
        return self.audiences is None or membership.audience_id in self.audiences

    def _were_sent(self, memberships: Sequence[Membership]) -> bool:
        return any(m.status in _BEFORE and self._maps(m) for m in memberships)

    def _render_sides(self, profiles: Profiles) -> tuple[list[bytes], list[bytes]]:
        """Render the identities of each profile, those of now and those of before."""
        shown = ids.find_namespaces(profiles.new_identities, profiles.rules, self.namespaces, self.user_id_as)
        before = ids.find_former_namespaces(shown, profiles.withdrawn_rules, self.namespaces)
        new = ids.render_identities(profiles, shown, profiles.new_identities)
        return new, ids.render_identities(profiles, before, profiles.old_identities)

    # -- what is in a document

    def _attribute_names(self, mapped: Collection[str]) -> list[str]:
        if self.attributes is None:
            return sorted(name for name in mapped if name != self.consent)
        check_mapped("attributes", self.attributes, mapped)
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
            parts.append(
                f',"messageId":"{envelope.batch_id}::profile::{position}","computedTime":"{time}"'.encode()
            )
        document = b"{" + b"".join(parts)[1:] + b"}"
        if len(document) > envelope.message_bytes:
            if attributes and not any(m.status in _LASTS and self._maps(m) for m in memberships):
                # Who has left everything must not stay there because of what is known of them.
                return self._render(profiles, envelope, row, b"", memberships, identities)
            return Oversized(position, profiles.changes[row], digest_of(profiles.user_id[row]), len(document))
        where = partition_of(_PROFILES, profiles.bucket[row], envelope.partitions)
        return Message(document, *where, profiles.changes[row], str(position))

    def _describe(self, membership: Membership, profiles: Profiles) -> dict[str, Any]:
        stays = "existing" if self.existing and membership.status is MembershipStatus.MEMBER else "realized"
        described: dict[str, Any] = {
            "lastQualificationTime": membership.changed_at,
            "status": stays if membership.status in _LASTS else "exited",
        }
        if self.segment_names:
            described["name"] = profiles.audience_names.get(membership.audience_id, membership.audience_id)
        if self.segment_timestamps:
            described["createdAt"] = _epoch_milliseconds(membership.since)
            described["updatedAt"] = _epoch_milliseconds(membership.changed_at)
        return described


def _all_left(memberships: Sequence[Membership], as_of: str) -> list[Membership]:
    """Let all that lasts end; what would have begun now is not there at all."""
    before = [m for m in memberships if m.status is not MembershipStatus.ENTERED]
    return [
        m._replace(status=MembershipStatus.EXITED, until=as_of) if m.status is MembershipStatus.MEMBER else m
        for m in before
    ]


def _differing(columns: Sequence[tuple[list[bytes], list[bytes]]], rows: int) -> list[bool]:
    """Find, per profile, whether any of its attributes is another."""
    differs = [False] * rows
    for new, old in columns:
        differs = [known or n != o for known, n, o in zip(differs, new, old, strict=True)]
    return differs


def _epoch_milliseconds(text: str) -> int:
    return int(instant(text).timestamp()) * 1000


def _are_texts(names: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in names)
