"""Who is in no audience, whatever else the author's query gives of them: users of a list, or without consent.

A user is excluded as a whole: of all audiences, and by any one row without consent. An excluded row stays in what
is read and names nobody, so that it is counted, and what it led to is an ordinary exit. It builds expressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.source.query import check_query, read_types
from airflow_kinesis_audience.core.source.texts import text_of
from airflow_kinesis_audience.core.sql.names import slug
from airflow_kinesis_audience.core.sql.statements import column, table
from airflow_kinesis_audience.core.sql.types import is_boolean, keeps_texts, text_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

LISTED, UNCONSENTED = "excluded_by_list", "excluded_by_consent"
"""Names, while the source is read, of whether a row's user is excluded, by each argument for itself."""

_REFUSED, _USER = "refused", "excluded_id"
_ZERO, _ONE = exp.Literal.number(0), exp.Literal.number(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExcludedUsers:
    """A query of users that are excluded: its text, its one column, and what kind of values that has."""

    query: str
    column: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """Who is excluded.

    :param users: those that a query gives.
    :param consent_column: column of the source that is true in every row of a user who is not excluded.
    """

    users: ExcludedUsers | None
    consent_column: str | None

    def mark(self, taken: exp.Select, dialect: Dialect) -> exp.Select:
        """Build what is read of the source and why a row is excluded; an excluded row has no user id.

        :param taken: what is taken of each row, a named expression per column.
        """
        names, excluding = taken.named_selects, {}
        reading = exp.select().from_(taken.subquery("taken", copy=False))
        if self.users is not None:
            excluding[LISTED] = _listed(self.users, dialect)
        if self.consent_column is not None:
            consents = exp.func("COALESCE", column(self.consent_column).eq(exp.true()), exp.false())
            taken = taken.select(exp.not_(consents).as_(_REFUSED), copy=False)
            refused = exp.select(column("user_id").as_(_USER)).from_(table(None, "taken"))
            excluding[UNCONSENTED] = refused.where(column(_REFUSED), column("user_id").is_(exp.null()).not_())
            reading = exp.select().from_(table(None, "taken")).with_("taken", as_=taken, copy=False)
        users = _join_users(excluding)
        marks: dict[str, exp.Expr] = {n: exp.func("COALESCE", column(n, "users"), _ZERO).eq(1) for n in excluding}
        if UNCONSENTED in marks:
            # A row without a user id has no user to be found by.
            marks[UNCONSENTED] = exp.or_(column(_REFUSED, "taken"), marks[UNCONSENTED])
        user_id = exp.case().when(exp.or_(*marks.values()), exp.null()).else_(column("user_id", "taken"))
        given = ((n, user_id if n == "user_id" else column(n, "taken")) for n in names)
        reading = reading.select(*(value.as_(n) for n, value in (*given, *marks.items())))
        same = column("user_id", "taken").eq(column(_USER, "users"))
        return reading.join(users.subquery("users", copy=False), on=same, join_type="left")


def describe_exclusion(
    origin: Warehouse, source: Source, types: Mapping[str, str], layout: TableLayout, sync_id: str
) -> Exclusion | None:
    """Find out who is excluded; none if nobody is.

    :param types: column name to type name, of the source.
    :raises ValueError: if the query or the column of consent cannot be used; a retry does not help.
    :raises WarehouseRefused: if the warehouse cannot run the query; a retry does not help.
    """
    consent = source.consent_column
    if consent is not None and not is_boolean(types[consent], origin.dialect):
        raise ValueError(
            f"consent_column {consent!r} is of type {types[consent]}; expected a boolean. Write a condition in "
            f"the query, for example: {consent} = 'granted' AS {consent}"
        )
    users = None
    if source.exclude_query is not None:
        users = _describe_users(origin, source.exclude_query, sync_id)
        key = layout.key_types[source.user_id]
        if not (keeps_texts(key, users.kind) or keeps_texts(users.kind, key)):
            raise ValueError(
                f"exclude_sql returns {users.column!r} of kind {users.kind}, and the user ids in "
                f"{source.user_id!r} are of kind {key}: no user would be found in it. Cast one of them"
            )
    return None if users is None and consent is None else Exclusion(users=users, consent_column=consent)


def _describe_users(origin: Warehouse, query: str, sync_id: str) -> ExcludedUsers:
    if not query.strip():
        raise ValueError("exclude_sql is empty; expected a SELECT that returns the ids of users, or None")
    query = check_query(query, origin.dialect, "exclude_sql")
    if slug(sync_id) in query.lower():
        raise ValueError(
            "exclude_sql reads the state of this sync. A user who exits would then no longer be excluded, and "
            "would enter again in the next run. Select the users from a table of your own"
        )
    types = read_types(origin, query, "who is excluded", "exclude_sql")
    if len(types) != 1:
        raise ValueError(
            f"exclude_sql returns the columns {', '.join(map(repr, types)) or 'none'}; expected one, the user id"
        )
    [(name, type_name)] = types.items()
    kind = text_kind(type_name, name, origin.dialect, role="key")
    return ExcludedUsers(query=query, column=name, kind=kind)


def _join_users(excluding: Mapping[str, exp.Select]) -> exp.Query:
    """Build who is excluded, each user once, and 1 under the name of each reason that there is."""
    if len(excluding) == 1:
        [(name, query)] = excluding.items()
        return query.distinct().select(_ONE.copy().as_(name))
    marked = [
        query.select(*((_ONE if n == name else _ZERO).copy().as_(n) for n in excluding))
        for name, query in excluding.items()
    ]
    reasons = (exp.Max(this=column(n)).as_(n) for n in excluding)
    users = exp.union(*marked, distinct=False).subquery("reasons", copy=False)
    return exp.select(column(_USER), *reasons).from_(users).group_by(column(_USER))


def _listed(users: ExcludedUsers, dialect: Dialect) -> exp.Select:
    """Build the ids of a query as texts, as those of the source are; NULL and an empty one are nobody's."""
    # As it was written, like the query of the source.
    origin = exp.Table(this=exp.Var(this=f"(\n{users.query}\n)"))
    user_id = exp.func("NULLIF", text_of(users.column, users.kind, dialect), exp.Literal.string(""))
    listed = exp.select(user_id.as_(_USER)).from_(origin.as_("excluding", table=True, quoted=True))
    return listed.where(column(users.column).is_(exp.null()).not_())
