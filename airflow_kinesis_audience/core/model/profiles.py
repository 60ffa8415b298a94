"""The noun for formats that render users and not memberships: a profile, with all the audiences it is in.

Everything here is frozen and knows neither a warehouse nor a stream. Like changes, profiles are columns and not
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.audience import IdentityValue
    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule

_INSTANT = len("2026-01-31T00:00:00Z")


class MembershipStatus(StrEnum):
    """What a change set leaves of one membership of a profile; one character each, as it is kept."""

    ENTERED = "e"
    MEMBER = "m"
    EXITED = "x"
    LEFT = "l"
    """Exited by an earlier change set."""


class Membership(NamedTuple):
    """One audience of a profile.

    :param since: RFC 3339 in UTC: when the stay began.
    :param until: likewise when it ended; empty while it lasts.
    """

    audience_id: str
    status: MembershipStatus
    since: str
    until: str

    @property
    def changed_at(self) -> str:
        """When the membership last changed."""
        return self.until or self.since


@dataclass(frozen=True, kw_only=True, slots=True)
class Profiles:
    """The profiles that a run of a change set's rows is about, as columns of one length.

    What is known of a profile is what one of its memberships holds: of those that last, the one of the first
    audience id; else the one that ended last.

    :param sync_id: the sync whose change set it is.
    :param as_of: the instant that the change set is as of.
    :param previous_as_of: the instant before it; none where everything is sent.
    :param audience_names: audience id to name, as far as audiences have one.
    :param position: numbers in the change set, from 0, ascending without gaps.
    :param user_id: per profile.
    :param bucket: per profile, three hexadecimal digits: the user's place among 4,096, stable for ever.
    :param changes: per profile, how many changes of the change set are about it.
    :param known: per profile, whether anything was known of it before.
    :param memberships: per profile, as kept; :func:`parse_memberships` reads them.
    :param new_identities: identity type to a column of text, or of lists of text where one may have several.
    :param old_identities: the same as of the membership before, all none where nothing was known.
    :param new_properties: property name to a column of bool, int, float, str, date or aware datetime.
    :param old_properties: the same as of the membership before.
    :param rules: identity type to what its values were made by.
    :param withdrawn_rules: the same of old identities, where it was another.
    """

    sync_id: str
    as_of: datetime
    previous_as_of: datetime | None
    audience_names: Mapping[str, str]
    position: Sequence[int]
    user_id: Sequence[str]
    bucket: Sequence[str]
    changes: Sequence[int]
    known: Sequence[bool]
    memberships: Sequence[str]
    new_identities: Mapping[str, Sequence[IdentityValue]]
    old_identities: Mapping[str, Sequence[IdentityValue]]
    new_properties: Mapping[str, Sequence[Any]]
    old_properties: Mapping[str, Sequence[Any]]
    rules: Mapping[str, IdentityRule]
    withdrawn_rules: Mapping[str, IdentityRule] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.position)

    @property
    def change_count(self) -> int:
        """How many changes of the change set these are."""
        return sum(self.changes)


def parse_memberships(kept: str) -> list[Membership]:
    """Read the memberships of a profile, by audience id.

    Each is kept as its stay, two instants, the length of the audience id in characters, a colon, and the id; so an
    id may be any text.
    """
    found, at = [], 0
    while at < len(kept):
        since, until, length = (at + 1 + n * _INSTANT for n in range(3))
        colon = kept.index(":", length)
        end = colon + 1 + int(kept[length:colon])
        found.append(
            Membership(
                kept[colon + 1 : end], MembershipStatus(kept[at]), kept[since:until], kept[until:length].strip()
            )
        )
        at = end
    return sorted(found)
