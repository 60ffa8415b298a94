"""How a sync's state tables are made: which column of the source is what, and under which name it is kept.

Worked out once per run from the mapping and the types that the warehouse reports, and kept in the ledger with
every change set, so that whoever reads a change set needs no mapping. It builds no SQL and runs none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_kinesis_audience.audience import AS_IT_IS, IdentityRule
from airflow_kinesis_audience.dialects import Dialect, state_column
from airflow_kinesis_audience.kinds import KEPT_TYPES, Kind, is_list, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.audience import Source
    from airflow_kinesis_audience.events import EventSource

_Mapped = TypeVar("_Mapped", "Source", "EventSource")
_NO_COLUMN = ("query", "audience_id", "audience_name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One compared column: its name in the source, in the state (after ``new_`` or ``old_``), and its kind.

    :param rule: what its values become, if it is an identity.
    :param several: whether the source has a list of values in it; the state then has the list as JSON text.
    :param retired: not mapped any more, or in another kind: the source has nothing of it, so that the change set
        after a changed mapping finds whoever had something.
    """

    source: str
    state: str
    label: str
    role: str
    kind: Kind
    rule: IdentityRule = AS_IT_IS
    several: bool = False
    retired: bool = False

    @property
    def new(self) -> str:
        """Name in the state of the value as of the run."""
        return f"new_{self.state}"

    @property
    def old(self) -> str:
        """Name in the state of the value as last published."""
        return f"old_{self.state}"

    @property
    def wrong(self) -> str:
        """Name, while the source is read, of whether the value is not what the rule promises."""
        return f"bad_{self.state}"

    @property
    def nature(self) -> tuple[Kind, IdentityRule, bool]:
        """What its values are: those of another nature are not comparable, and what was raw is not to be sent."""
        return self.kind, self.rule, self.several

    def __str__(self) -> str:
        nature = [str(self.kind), "several values" * self.several, str(self.rule)]
        return f"{self.source} ({', '.join(filter(None, nature))})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a sync's state tables are made; kept in the ledger, so that publishing needs no mapping again.

    :param user_id: the source column of the user id, and the other two the audience or its column.
    :param columns: the compared columns, identities first, each role by its labels.
    :param fingerprint: the SQL function of the fingerprint, or none where columns are compared.
    :param key_types: what the values of the key's columns are, by column: 7 and 7.0 are two users as text.
    """

    user_id: str
    audience_id: str | None
    audience_id_column: str | None
    columns: tuple[Column, ...]
    fingerprint: str | None
    key_types: Mapping[str, str]

    @property
    def identities(self) -> tuple[Column, ...]:
        """The columns that hold identities."""
        return tuple(c for c in self.columns if c.role == "identity")

    @property
    def properties(self) -> tuple[Column, ...]:
        """The columns that hold properties."""
        return tuple(c for c in self.columns if c.role == "property")

    @property
    def checked(self) -> tuple[Column, ...]:
        """The columns whose values may not be what their rule promises."""
        return tuple(c for c in self.identities if c.rule.can_be_broken and not c.retired)

    @property
    def key(self) -> tuple[str, ...]:
        """The state columns that tell members apart; one is enough where there is one audience."""
        return ("user_id",) if self.audience_id is not None else ("audience_id", "user_id")

    @property
    def kept_types(self) -> dict[str, str]:
        """The types in which columns are kept that come from another engine, by source column."""
        return {c.source: KEPT_TYPES[c.kind] for c in self.columns}

    def matches(self, other: Layout) -> bool:
        """Tell whether rows of the one can be read as rows of the other."""
        one, another = (
            {(c.role, c.label, c.source, c.nature, c.retired) for c in x.columns} for x in (self, other)
        )
        return one == another and self.fingerprint == other.fingerprint

    def retiring(self, published: Layout, dialect: Dialect) -> Layout:
        """Add, as retired ones, the columns of a published layout that are not in this one."""
        live = {(c.role, c.label, c.nature) for c in self.columns}
        retired, taken = [], {c.state for c in self.columns}
        for c in published.columns:
            if not c.retired and (c.role, c.label, c.nature) not in live:
                name = f"retired {c.source}"
                while state_column(name, dialect) in taken:
                    name = f"retired {name}"
                state = state_column(name, dialect)
                taken.add(state)
                retired.append(replace(c, state=state, kind=Kind.TEXT, retired=True))
        return replace(self, columns=(*self.columns, *retired))

    def as_json(self) -> dict[str, Any]:
        """Give the layout as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Layout:
        """Read what :meth:`as_json` gave."""
        columns = tuple(
            Column(**{**c, "kind": Kind(c["kind"]), "rule": IdentityRule(**c.get("rule", {}))})
            for c in value["columns"]
        )
        return cls(**{"key_types": {}, **value, "columns": columns})


def in_given_letters(source: _Mapped, types: Mapping[str, str], dialect: Dialect) -> _Mapped:
    """Name the mapped columns as the query gives them, where the engine has letters of its own for that.

    What the query gives in just these letters stays; so does what it gives in none, or in two ways.
    """
    if not dialect.own_letters:
        return source

    def given(name: str) -> str:
        alike = [n for n in types if n.lower() == name.lower()]
        return alike[0] if name not in types and len(alike) == 1 else name

    named: dict[str, Any] = {}
    for column in (f.name for f in fields(source) if f.name not in _NO_COLUMN):
        value = getattr(source, column)
        if isinstance(value, str):
            named[column] = given(value)
        elif value is not None:
            named[column] = {given(name): meaning for name, meaning in value.items()}
    return replace(source, **named)


def layout_of(
    source: Source, types: Mapping[str, str], dialect: Dialect, *, kept_in: Dialect | None = None
) -> Layout:
    """Work out the layout from the mapping and the types that the warehouse reports.

    :param types: column name to type name, of the author's query.
    :param kept_in: of the engine that keeps the state, if it is another.
    :raises ValueError: if a mapped column is missing or has a type without a JSON form; no retry helps.
    """
    if missing := [c for c in source.columns if c not in types]:
        raise ValueError(
            f"the query gives no column {', '.join(map(repr, missing))}; "
            f"it gives {', '.join(map(repr, types)) or 'none'}. Correct the mapping or the query"
        )
    state = kept_in or dialect
    # By label, so that the order in which a mapping was written down decides nothing, not even the fingerprint.
    columns = [
        Column(
            source=name,
            state=state_column(name, state),
            label=label,
            role="identity",
            kind=Kind.TEXT,
            rule=source.identity_rules.get(name, AS_IT_IS),
            several=is_list(types[name], dialect),
        )
        for name, label in sorted(source.identities.items(), key=_label)
    ]
    columns += [
        Column(
            source=name,
            state=state_column(name, state),
            label=label,
            role="property",
            kind=kind_of(types[name], name, dialect),
        )
        for name, label in sorted(source.properties.items(), key=_label)
    ]
    keys = [c for c in (source.user_id, source.audience_id_column) if c is not None]
    return Layout(
        user_id=source.user_id,
        audience_id=source.audience_id,
        audience_id_column=source.audience_id_column,
        columns=tuple(columns),
        fingerprint=state.fingerprint,
        key_types={c: _key_type(types[c], c, dialect) for c in keys},
    )


def describe_key_differences(published: Layout, asked: Layout) -> list[str]:
    """Say what of the key is not as it was: a sentence per difference, none if users are told apart as before."""
    differences = [
        f"{name} was {getattr(published, name)!r} and is {getattr(asked, name)!r}"
        for name in ("user_id", "audience_id", "audience_id_column")
        if getattr(published, name) != getattr(asked, name)
    ]
    for name, was in published.key_types.items():
        if (is_ := asked.key_types.get(name, was)) != was:
            differences.append(f"the values of {name!r} were of kind {was} and are of kind {is_}")
    return differences


def describe_differences(published: Layout, asked: Layout) -> list[str]:
    """Say what of the compared columns is not as it was: a sentence per difference, none where nothing matters."""
    differences = []
    if published.fingerprint != asked.fingerprint:
        differences.append(f"fingerprint was {published.fingerprint!r} and is {asked.fingerprint!r}")
    before = {(c.role, c.label): str(c) for c in published.columns if not c.retired}
    now = {(c.role, c.label): str(c) for c in asked.columns}
    for key in sorted({*before, *now}):
        was, is_ = before.get(key, "not mapped"), now.get(key, "not mapped")
        if was != is_:
            differences.append(f"{key[0]} {key[1]!r} was {was} and is {is_}")
    return differences


def _label(mapped: tuple[str, str]) -> str:
    return mapped[1]


def _key_type(type_name: str, column_name: str, dialect: Dialect) -> str:
    try:
        return kind_of(type_name, column_name, dialect).value
    except ValueError:  # any type can be a key, since keys are read as text
        return type_name.lower()
