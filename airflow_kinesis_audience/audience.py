"""The nouns: what a sync maps, the instants it speaks for, and the changes that it finds.

Everything here is frozen and knows neither a warehouse nor a stream. A :class:`Changes` holds columns,
not rows, because formats render a million of them; the action of a change is stated, never guessed
from which values are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Action(StrEnum):
    """What happened to one member of one audience between two memberships."""

    ENTERED = "entered"
    EXITED = "exited"
    UPDATED = "updated"


Identity = str | list[str] | None
"""One user's identity of one type: a text, a sorted list where there may be several, or none."""


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


DIGEST_CHARACTERS = {"md5": 32, "sha256": 64}
"""What identities can be hashed with, and the hexadecimal characters of it."""

NORMALIZATIONS = ("none", "trim", "email", "phone")


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityRule:
    """What an identity's values become, inside the warehouse, before anything is compared.

    :param normalize: ``none``; ``trim`` white space at both ends; ``email`` trims and lower-cases; ``phone`` makes
        E.164, the plus and the digits alone, of an international number.
    :param hash: ``md5`` or ``sha256`` of the normalized value in UTF-8, in lower-case hexadecimal; a value that
        looks hashed already is invalid.
    :param hashed: the source has digests of this kind; a value that is none is invalid.
    """

    normalize: str = "none"
    hash: str = ""
    hashed: str = ""

    def __post_init__(self) -> None:
        if self.normalize not in NORMALIZATIONS:
            raise ValueError(
                f"an identity is to be normalized as {self.normalize!r}; expected {_either(NORMALIZATIONS)}"
            )
        for digest in filter(None, (self.hash, self.hashed)):
            if digest not in DIGEST_CHARACTERS:
                raise ValueError(
                    f"an identity is to be hashed with {digest!r}; expected {_either(DIGEST_CHARACTERS)}"
                )
        if self.hashed and (self.hash or self.normalize not in ("none", "trim")):
            raise ValueError(
                "an identity that the source has hashed can be neither hashed again nor normalized; name its "
                "column in hashed_identities alone, or not there"
            )

    @property
    def can_be_broken(self) -> bool:
        """Tell whether there are values that are not what the rule promises."""
        return bool(self.hash or self.hashed or self.normalize == "phone")

    @property
    def breach(self) -> str:
        """Say what a value is that is not what the rule promises."""
        if self.hashed:
            return f"are no {self.hashed} digests in hexadecimal, though hashed_identities promises them"
        found = ["are no international phone numbers such as +47 22 12 34 56"] * (self.normalize == "phone")
        return ", or ".join(found + ["look hashed already"] * bool(self.hash))

    def __str__(self) -> str:
        hashed = [f"hashed with {self.hash}"] * bool(self.hash) + [f"given as {self.hashed}"] * bool(self.hashed)
        return ", ".join([f"normalized as {self.normalize}"] * (self.normalize != "none") + hashed)


AS_IT_IS = IdentityRule()


def identity_rules(
    identities: Mapping[str, str],
    *,
    normalize: Mapping[str, str],
    hash_with: Mapping[str, str],
    hashed_with: Mapping[str, str],
) -> dict[str, IdentityRule]:
    """Put together the rules of identities: source column to rule.

    What is hashed is normalized in any case, because two spellings of one address would be two people: by its
    identity type as an e-mail address or a phone number, else trimmed.

    :param identities: source column to identity type.
    :raises ValueError: if a column is no identity, or rules contradict each other.
    """
    for name, named in (
        ("normalize_identities", normalize),
        ("hash_identities", hash_with),
        ("hashed_identities", hashed_with),
    ):
        if unknown := sorted(set(named) - set(identities)):
            raise ValueError(
                f"{name} names {', '.join(map(repr, unknown))}; expected source columns that identities maps: "
                f"{', '.join(map(repr, identities)) or 'there are none'}"
            )
    return {
        name: IdentityRule(
            normalize=normalize.get(name) or (_normalization_of(label) if name in hash_with else "none"),
            hash=hash_with.get(name, ""),
            hashed=hashed_with.get(name, ""),
        )
        for name, label in identities.items()
        if name in {*normalize, *hash_with, *hashed_with}
    }


def _normalization_of(identity_type: str) -> str:
    letters = "".join(filter(str.isalpha, identity_type.lower()))
    if letters in ("email", "emailaddress"):
        return "email"
    return "phone" if letters in ("phone", "phonenumber", "mobile", "mobilenumber") else "trim"


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


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
    :param identity_rules: column to what its values become; those of other columns stay as they are.
    """

    query: str
    user_id: str
    identities: Mapping[str, str]
    properties: Mapping[str, str]
    audience_id: str | None = None
    audience_name: str | None = None
    audience_id_column: str | None = None
    audience_name_column: str | None = None
    identity_rules: Mapping[str, IdentityRule] = field(default_factory=dict)

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
    :param new_identities: identity type to a column of text, or of lists of text where one may have several; none
        where there is no such identity.
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
    new_identities: Mapping[str, Sequence[Identity]]
    old_identities: Mapping[str, Sequence[Identity]]
    new_properties: Mapping[str, Sequence[Any]]
    old_properties: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.position)

    @property
    def change_count(self) -> int:
        """How many changes of the change set these are."""
        return len(self)
