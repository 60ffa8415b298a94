"""The nouns: what a sync maps, the instants it speaks for, and the changes that it finds.

Everything here is frozen and knows neither a warehouse nor a stream. A :class:`Changes` holds columns,
not rows, because formats render a million of them; the action of a change is stated, never guessed
from which values are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Action(StrEnum):
    """What happened to one member of one audience between two memberships."""

    ENTERED = "entered"
    EXITED = "exited"
    UPDATED = "updated"


class Updated(StrEnum):
    """Which side of an updated member differs."""

    IDENTITIES = "identities"
    PROPERTIES = "properties"
    BOTH = "both"


def instant(value: datetime | str, *, name: str = "as_of") -> datetime:
    """Return an instant as a whole second of UTC.

    :param value: a timezone-aware datetime, or its ISO 8601 text with an offset or ``Z``.
    :param name: what to call it in an error.
    :raises ValueError: if it is naive or no instant; a retry does not help.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(
                f"{name} is {value!r}; expected an ISO 8601 instant such as 2026-01-31T00:00:00Z"
            ) from None
    if not isinstance(value, datetime):
        raise ValueError(f"{name} is a {type(value).__name__}; expected a datetime with a time zone")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(
            f"{name} is {value.isoformat()}, without a time zone; say which instant is meant, "
            f"for example {value.isoformat()}+00:00"
        )
    return value.astimezone(UTC).replace(microsecond=0)


def instant_text(value: datetime) -> str:
    """Render an instant as RFC 3339 in UTC with whole seconds: fixed width, so that text sorts as time."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)


def epoch_seconds(value: datetime) -> str:
    """Render an instant as Unix epoch seconds in a string, as the wire formats want it."""
    return str(int(value.timestamp()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Who belongs, and which of the columns say what.

    :param query: a SELECT in the warehouse's own dialect, without a closing semicolon.
    :param user_id: column of the user id.
    :param identities: column to identity type.
    :param properties: column to property name; a dot in the name nests it where a format nests.
    :param audience_id: the one audience's id, or none where ``audience_id_column`` names many.
    :param audience_name: the one audience's name.
    :param audience_id_column: column of the audience id in a sync of many audiences.
    :param audience_name_column: column of the audience name; without it the id is the name.
    """

    query: str
    user_id: str
    identities: Mapping[str, str]
    properties: Mapping[str, str]
    audience_id: str | None = None
    audience_name: str | None = None
    audience_id_column: str | None = None
    audience_name_column: str | None = None

    def __post_init__(self) -> None:
        if (self.audience_id is None) == (self.audience_id_column is None):
            raise ValueError("give either audience_id, for one audience, or audience_id_column, for many")
        if self.audience_id is not None and not self.audience_id.strip():
            raise ValueError("audience_id is empty; an audience needs an id that never changes")
        for role, names in (("identities", self.identities), ("properties", self.properties)):
            if len(set(names.values())) < len(names):
                raise ValueError(f"{role} maps two columns to the same name; each name needs its own column")
        if twice := set(self.identities) & set(self.properties):
            raise ValueError(f"{', '.join(sorted(twice))} is mapped as identity and as property; choose one")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the query must give, each once."""
        named = (self.audience_id_column, self.audience_name_column, self.user_id)
        return tuple(dict.fromkeys(c for c in (*named, *self.identities, *self.properties) if c))


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """A run of a change set's rows as columns of one length, in the order of the change set.

    :param sync_id: the sync whose change set it is.
    :param as_of: the instant that the change set speaks for.
    :param previous_as_of: the instant of the membership before it; none where everybody enters.
    :param position: row numbers in the change set, from 0, ascending without gaps.
    :param audience_id: per row.
    :param audience_names: audience id to name, for every id in ``audience_id``.
    :param user_id: per row.
    :param action: per row, values of :class:`Action`.
    :param updated: per row, values of :class:`Updated`, none unless the action is ``updated``.
    :param bucket: per row, three hexadecimal digits: the user's place among 4,096, stable for ever.
    :param member_since: per row, RFC 3339 in UTC: when the user entered; on an exit, when the stay began.
    :param new_identities: identity type to a column of text; none where there is no such identity.
    :param old_identities: the same, as last published. All none on an entry; new ones are on an exit.
    :param new_properties: property name to a column of bool, int, float, str, date or aware datetime.
    :param old_properties: the same, as last published.
    """

    sync_id: str
    as_of: datetime
    previous_as_of: datetime | None
    position: Sequence[int]
    audience_id: Sequence[str]
    audience_names: Mapping[str, str]
    user_id: Sequence[str]
    action: Sequence[str]
    updated: Sequence[str | None]
    bucket: Sequence[str]
    member_since: Sequence[str]
    new_identities: Mapping[str, Sequence[str | None]]
    old_identities: Mapping[str, Sequence[str | None]]
    new_properties: Mapping[str, Sequence[Any]]
    old_properties: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.position)
