"""How a sync's state tables are made: which column of the source is what, and under which name it is kept.

Worked out once per run from the mapping and the types that the warehouse reports, and kept in the ledger with
every change set, so that whoever reads a change set needs no mapping. It builds no SQL and runs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS, IdentityRule
from airflow_kinesis_audience.core.sql.names import state_column
from airflow_kinesis_audience.core.sql.types import (
    KEPT_TYPES,
    LogicalType,
    is_list,
    keeps_texts,
    logical_type_of,
    may_keep_texts,
    property_kind,
    share_a_column,
    text_kind,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.sql.dialects import Dialect


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One compared column: its name in the source, in the state (after ``new_`` or ``old_``), and its kind.

    Tables of version 0.1 have the source's names in the state.

    :param rule: what its values become, if it is an identity.
    :param several: whether the source has a list of values in it; the state then has the list as JSON text.
    :param retired: not mapped any more, or in another kind: the source has nothing of it, so that the change set
        after a changed mapping finds whoever had something.
    :param withdrawn: retired, and what was sent of it is what its label had before; an earlier version had none.
    :param given: the kind that its values have in the source, where that says more: of an identity how they are
        written, of an exact property whether they fit into one column with others. Empty where it was not kept.
    """

    source: str
    state: str
    label: str
    role: str
    kind: LogicalType
    rule: IdentityRule = AS_IT_IS
    several: bool = False
    retired: bool = False
    given: str = ""
    withdrawn: bool = False

    @property
    def new(self) -> str:
        """Name in the state of the value as of the run."""
        return f"new_{self.state}"

    @property
    def old(self) -> str:
        """Name in the state of the value as last published."""
        return f"old_{self.state}"

    @property
    def invalid(self) -> str:
        """Name, while the source is read, of whether the value violates the rule."""
        return f"bad_{self.state}"

    @property
    def filled(self) -> str:
        """Name, while the source is read, of whether the source has anything in it."""
        return f"has_{self.state}"

    def is_like(self, other: Column) -> bool:
        """Whether its values compare with another's: a digest compares with no raw value, and one with no list."""
        one, another = ((c.role, c.label, c.kind, c.rule.digest, c.several) for c in (self, other))
        exact = self.kind is LogicalType.EXACT and self.given and other.given
        return one == another and not (exact and not share_a_column(self.given, other.given))

    def __str__(self) -> str:
        kind = self.given if self.kind is LogicalType.EXACT and self.given else str(self.kind)
        nature = [kind, "several values" * self.several, str(self.rule)]
        return f"{self.source} ({', '.join(filter(None, nature))})"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLayout:
    """How a sync's state tables are made; kept in the ledger, so that publishing needs no mapping again.

    :param user_id: the source column of the user id, and the other two the audience or its column; neither where
        one audience is split.
    :param columns: the compared columns, identities first, each role by its labels.
    :param key_types: what the values of the key's columns are, by column: 7 and 7.0 are two users as text.
    """

    user_id: str
    audience_id: str | None
    audience_id_column: str | None
    columns: tuple[Column, ...]
    key_types: Mapping[str, str] = field(default_factory=dict)

    @property
    def identities(self) -> tuple[Column, ...]:
        """The columns that hold identities."""
        return tuple(c for c in self.columns if c.role == "identity")

    @property
    def properties(self) -> tuple[Column, ...]:
        """The columns that hold properties."""
        return tuple(c for c in self.columns if c.role == "property")

    @property
    def retired(self) -> tuple[Column, ...]:
        """The columns that are not mapped any more."""
        return tuple(c for c in self.columns if c.retired)

    @property
    def live(self) -> tuple[Column, ...]:
        """The columns that are mapped."""
        return tuple(c for c in self.columns if not c.retired)

    @property
    def checked(self) -> tuple[Column, ...]:
        """The columns whose values may not be what their rule promises."""
        return tuple(c for c in self.identities if c.rule.can_be_violated and not c.retired)

    @property
    def filtered(self) -> tuple[Column, ...]:
        """The columns in which some values stand for no identity."""
        return tuple(c for c in self.identities if c.rule.has_no_values and not c.retired)

    @property
    def is_split(self) -> bool:
        """Whether one audience is split."""
        return self.audience_id is None and self.audience_id_column is None

    @property
    def key(self) -> tuple[str, ...]:
        """The state columns that identify a member; one is enough where there is one audience."""
        return ("user_id",) if self.audience_id is not None else ("audience_id", "user_id")

    @property
    def kept_types(self) -> dict[str, str]:
        """The types in which columns are kept that come from another engine, by source column."""
        return {c.source: KEPT_TYPES[c.kind] for c in self.columns if not c.retired}

    def matches(self, other: TableLayout) -> bool:
        """Whether rows of the one can be read as rows of the other."""

        def has(c: Column) -> bool:
            own = (c.source, c.state, c.retired)
            return any(c.is_like(o) and own == (o.source, o.state, o.retired) for o in other.columns)

        same = self.key == other.key and len(self.columns) == len(other.columns)
        return same and all(map(has, self.columns))

    def named_as(self, published: TableLayout) -> TableLayout:
        """Keep what a published layout calls the same columns, so that its tables need not be written anew.

        Version 0.1 called them as the source does. Where two such names differ by case alone, an engine may have
        taken one for the other, and none is kept.
        """
        known = [c for c in published.columns if not c.retired]
        names = [next((k.state for k in known if k.is_like(c)), c.state) for c in self.columns]
        columns = tuple(replace(c, state=name) for c, name in zip(self.columns, names, strict=True))
        alike = len({name.casefold() for name in names}) < len(names)
        return self if alike else replace(self, columns=columns)

    def retiring(self, published: TableLayout, *, keeps_raw: bool) -> TableLayout:
        """Add, as retired ones, the columns of a published layout that are not in this one.

        :param keeps_raw: leave out what was raw and is hashed now: it is sent no more, not even in a removal.
        """
        retired = (
            replace(
                c,
                state=f"retired_{state_column(c.role, c.label)}",
                kind=LogicalType.TEXT,
                retired=True,
                withdrawn=c.role == "identity",
            )
            for c in published.columns
            if not c.retired
            and not any(c.is_like(live) for live in self.columns)
            and not (keeps_raw and self._hashes(c))
        )
        return replace(self, columns=(*self.columns, *retired))

    def _hashes(self, published: Column) -> bool:
        """Whether an identity that was sent raw is hashed here, under its label or from its column."""
        if published.role != "identity" or published.rule.digest:
            return False
        same = (c for c in self.identities if c.label == published.label or c.source == published.source)
        return any(c.rule.digest for c in same)


def layout_of(source: Source, types: Mapping[str, str], dialect: Dialect) -> TableLayout:
    """Work out the layout from the mapping and the types that the warehouse reports.

    :param types: column name to type name, of the author's query.
    :raises ValueError: if a mapped column is missing or has a type without a JSON form; no retry helps.
    """
    if missing := [c for c in source.columns if c not in types]:
        raise ValueError(
            f"the query returns no column {', '.join(map(repr, missing))}; it returns "
            f"{', '.join(map(repr, types)) or 'none'}. Correct the mapping or the query"
        )
    # By label, so that the order in which a mapping was written down decides nothing.
    columns = [
        Column(
            source=name,
            state=state_column("identity", label),
            label=label,
            role="identity",
            kind=LogicalType.TEXT,
            rule=source.identity_rules.get(name, AS_IT_IS),
            several=is_list(types[name], dialect),
            given=text_kind(types[name], name, dialect, role="identity"),
        )
        for name, label in sorted(source.identities.items(), key=_label)
    ]
    columns += [
        Column(
            source=name,
            state=state_column("property", label),
            label=label,
            role="property",
            kind=logical_type_of(types[name], name, dialect),
            given=property_kind(types[name], dialect),
        )
        for name, label in sorted(source.properties.items(), key=_label)
    ]
    keys = [c for c in (source.user_id, source.audience_id_column) if c is not None]
    return TableLayout(
        user_id=source.user_id,
        audience_id=source.audience_id if source.split is None else None,
        audience_id_column=source.audience_id_column,
        columns=tuple(columns),
        key_types={c: text_kind(types[c], c, dialect, role="key") for c in keys},
    )


def describe_key_differences(published: TableLayout, asked: TableLayout) -> list[str]:
    """Say what of the key is not as it was: a sentence per difference, none if it identifies users as before."""
    differences = []
    if asked.is_split and not published.is_split:
        # Whoever is in a group now exits from the audience and enters the group's.
        published = replace(published, audience_id=None)
    elif published.is_split and not asked.is_split:
        differences.append("split was set and is not; to end it, set the share of every group to 0")
        published = replace(published, audience_id=asked.audience_id)
    differences += [
        f"{name} was {getattr(published, name)!r} and is {getattr(asked, name)!r}"
        for name in ("user_id", "audience_id", "audience_id_column")
        if getattr(published, name) != getattr(asked, name)
    ]
    for name, was in published.key_types.items():
        is_ = asked.key_types.get(name, was)
        if not (keeps_texts(was, is_) or may_keep_texts(was, is_)):
            differences.append(f"the values of {name!r} were of kind {was} and are of kind {is_}")
    return differences


def recast_keys(published: TableLayout, asked: TableLayout) -> dict[str, str]:
    """Give the state columns of keys that were numbers and are texts now: what kind of numbers they were."""
    named = {"user_id": asked.user_id, "audience_id": asked.audience_id_column or ""}
    kinds = {n: (published.key_types.get(c, ""), asked.key_types.get(c, "")) for n, c in named.items()}
    return {n: was for n, (was, is_) in kinds.items() if may_keep_texts(was, is_)}


def describe_differences(published: TableLayout, asked: TableLayout) -> list[str]:
    """Say what of the compared columns is not as it was: a sentence per difference, none where nothing matters."""
    differences = []
    before = {(c.role, c.label): c for c in published.columns if not c.retired}
    now = {(c.role, c.label): c for c in asked.columns}
    for key in sorted({*before, *now}):
        was, is_ = before.get(key), now.get(key)
        if was is None or is_ is None or not is_.is_like(was) or (is_.source, is_.rule) != (was.source, was.rule):
            differences.append(f"{key[0]} {key[1]!r} was {was or _NOWHERE} and is {is_ or _NOWHERE}")
        elif is_.role == "identity" and not keeps_texts(was.given, is_.given):
            differences.append(f"the values of {key[0]} {key[1]!r} were of kind {was.given}, are of {is_.given}")
    return differences


_NOWHERE = "not mapped"


def _label(mapped: tuple[str, str]) -> str:
    return mapped[1]
