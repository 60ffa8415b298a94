"""The nouns: what a sync maps, and the changes that it finds.

Everything here is frozen and knows neither a warehouse nor a stream. A :class:`Changes` holds columns,
not rows, because formats render a million of them; the action of a change is stated, never guessed
from which values are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
    from airflow_kinesis_audience.core.model.splits import Split


class Action(StrEnum):
    """What happened to one member of one audience between two memberships."""

    ENTERED = "entered"
    EXITED = "exited"
    UPDATED = "updated"


CHANGE_COUNTS = tuple(action.value for action in Action)
"""By which names changes are counted, in summaries and in the ledger."""

COUNTS = (*CHANGE_COUNTS, "members")

IdentityValue = str | list[str] | None
"""One user's identity of one type: a text, a sorted list where there may be several, or none."""


class UpdatedPart(StrEnum):
    """Which side of an updated member differs."""

    IDENTITIES = "identities"
    PROPERTIES = "properties"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Who belongs, and what each of the columns means.

    :param query: a SELECT in the warehouse's own dialect, without a closing semicolon.
    :param user_id: column of the user id.
    :param identities: column to identity type.
    :param properties: column to property name; a dot in the name nests it where a format nests.
    :param audience_id: the one audience's id, or none where ``audience_id_column`` names many.
    :param audience_name: the one audience's name.
    :param audience_id_column: column of the audience id in a sync of many audiences.
    :param audience_name_column: column of the audience name; without it the id is the name.
    :param identity_rules: column to what its values become; those of other columns stay as they are.
    :param on_identity_rule_change: of an identity that was sent raw and is hashed from now on: ``keep_old`` never
        sends the raw value again, ``remove_old`` sends it once more, in removals.
    :param exclude_query: a SELECT likewise, of one column: ids of users that are in no audience.
    :param consent_column: boolean column; a user is in no audience if it is not true in any row of theirs.
    :param split: the shares of users that are in audiences of their own.
    :param exclusive_by: ids of audiences: of those that take a user, the user is in the first alone.
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
    on_identity_rule_change: str = "keep_old"
    exclude_query: str | None = None
    consent_column: str | None = None
    split: Split | None = None
    exclusive_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.on_identity_rule_change not in ("keep_old", "remove_old"):
            raise ValueError(
                f"on_identity_rule_change is {self.on_identity_rule_change!r}; expected keep_old or remove_old"
            )
        if (self.audience_id is None) == (self.audience_id_column is None):
            raise ValueError("set either audience_id, for one audience, or audience_id_column, for many")
        if self.audience_id is not None and not self.audience_id.strip():
            raise ValueError("audience_id is empty; an audience needs an id that never changes")
        self._check_exclusive()
        for role, names in (("identities", self.identities), ("properties", self.properties)):
            if len(set(names.values())) < len(names):
                raise ValueError(f"{role} maps two columns to the same name; each name needs its own column")
        if twice := set(self.identities) & set(self.properties):
            raise ValueError(f"{', '.join(sorted(twice))} is mapped as identity and as property; choose one")

    def _check_exclusive(self) -> None:
        names = self.exclusive_by
        if not names:
            return
        if self.audience_id_column is None:
            raise ValueError("exclusive_by orders the audiences of one sync; set audience_id_column, or remove it")
        if len(names) < 2 or len(set(names)) < len(names) or not all(isinstance(n, str) and n for n in names):
            raise ValueError(
                f"exclusive_by is {list(names)!r}; expected two audience ids or more, each once, in their order"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the query must give, each once."""
        named = (self.audience_id_column, self.audience_name_column, self.user_id, self.consent_column)
        return tuple(dict.fromkeys(c for c in (*named, *self.identities, *self.properties) if c))

    @property
    def exclusive_audiences(self) -> frozenset[str]:
        """The audiences that exclude each other, groups of a split among them."""
        return frozenset(audience for name in self.exclusive_by for audience in self.with_groups(name))

    def with_groups(self, audience_id: str) -> tuple[str, ...]:
        """Name an audience, and those that a split makes of its users."""
        groups = self.split.shares if self.split is not None else ()
        return (audience_id, *(f"{audience_id}.{group}" for group in groups))

    @property
    def queries(self) -> str:
        """All queries that say who belongs, for a digest."""
        return "\n".join(filter(None, (self.query, self.exclude_query)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """A run of a change set's rows as columns of one length, in the order of the change set.

    :param sync_id: the sync whose change set it is.
    :param as_of: the instant that the change set is as of.
    :param previous_as_of: the instant of the membership before it; none where everybody enters.
    :param position: row numbers in the change set, from 0, ascending; without gaps until users are forgotten.
    :param audience_id: per row.
    :param audience_names: audience id to name, for every id in ``audience_id``.
    :param user_id: per row.
    :param action: per row, values of :class:`Action`.
    :param updated: per row, values of :class:`UpdatedPart`, none unless the action is ``updated``.
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
    new_identities: Mapping[str, Sequence[IdentityValue]]
    old_identities: Mapping[str, Sequence[IdentityValue]]
    new_properties: Mapping[str, Sequence[Any]]
    old_properties: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.position)

    @property
    def change_count(self) -> int:
        """How many changes of the change set these are."""
        return len(self)
