"""How a sync's state tables are made: which column of the source is what, and under which name it is kept.

Worked out once per run from the mapping and the types that the warehouse reports, and kept in the ledger with
every change set, so that whoever reads a change set needs no mapping. It builds no SQL and runs none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.sql import Dialect, Kind, kind_of, state_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.audience import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One compared column: its name in the source, in the state (after ``new_`` or ``old_``), and its kind."""

    source: str
    state: str
    label: str
    role: str
    kind: Kind

    @property
    def new(self) -> str:
        """Name in the state of the value as of the run."""
        return f"new_{self.state}"

    @property
    def old(self) -> str:
        """Name in the state of the value as last published."""
        return f"old_{self.state}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a sync's state tables are made; kept in the ledger, so that publishing needs no mapping again.

    :param key: the source columns of the key, and the audience id where there is only one.
    :param columns: the compared columns, identities first.
    :param fingerprint: the SQL function of the fingerprint, or none where columns are compared.
    """

    user_id: str
    audience_id: str | None
    audience_id_column: str | None
    columns: tuple[Column, ...]
    fingerprint: str | None

    @property
    def identities(self) -> tuple[Column, ...]:
        """The columns that hold identities."""
        return tuple(c for c in self.columns if c.role == "identity")

    @property
    def properties(self) -> tuple[Column, ...]:
        """The columns that hold properties."""
        return tuple(c for c in self.columns if c.role == "property")

    @property
    def key(self) -> tuple[str, ...]:
        """The state columns that tell members apart; one is enough where there is one audience."""
        return ("user_id",) if self.audience_id is not None else ("audience_id", "user_id")

    def as_json(self) -> dict[str, Any]:
        """Give the layout as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Layout:
        """Read what :meth:`as_json` gave."""
        columns = tuple(Column(**{**c, "kind": Kind(c["kind"])}) for c in value["columns"])
        return cls(**{**value, "columns": columns})


def layout_of(source: Source, types: Mapping[str, str], dialect: Dialect) -> Layout:
    """Work out the layout from the mapping and the types that the warehouse reports.

    :param types: column name to type name, of the author's query.
    :raises ValueError: if a mapped column is missing or has a type without a JSON form; no retry helps.
    """
    if missing := [c for c in source.columns if c not in types]:
        raise ValueError(
            f"the query gives no column {', '.join(map(repr, missing))}; "
            f"it gives {', '.join(map(repr, types)) or 'none'}. Correct the mapping or the query"
        )
    columns = [
        Column(source=name, state=state_column(name, dialect), label=label, role="identity", kind=Kind.TEXT)
        for name, label in source.identities.items()
    ]
    columns += [
        Column(
            source=name,
            state=state_column(name, dialect),
            label=label,
            role="property",
            kind=kind_of(types[name], name, dialect),
        )
        for name, label in source.properties.items()
    ]
    return Layout(
        user_id=source.user_id,
        audience_id=source.audience_id,
        audience_id_column=source.audience_id_column,
        columns=tuple(columns),
        fingerprint=dialect.fingerprint,
    )


def describe_differences(published: Layout, asked: Layout) -> list[str]:
    """Say what of the mapping is not as it was: a sentence per difference, none where nothing matters."""
    differences = [
        f"{name} was {getattr(published, name)!r} and is {getattr(asked, name)!r}"
        for name in ("user_id", "audience_id", "audience_id_column", "fingerprint")
        if getattr(published, name) != getattr(asked, name)
    ]
    before = {(c.role, c.label): f"{c.source} ({c.kind})" for c in published.columns}
    now = {(c.role, c.label): f"{c.source} ({c.kind})" for c in asked.columns}
    for key in sorted({*before, *now}):
        was, is_ = before.get(key, "not mapped"), now.get(key, "not mapped")
        if was != is_:
            differences.append(f"{key[0]} {key[1]!r} was {was} and is {is_}")
    return differences
