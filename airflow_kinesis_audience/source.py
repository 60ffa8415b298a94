"""SQL of the one reading of the source: who is in it, under which audience, with which values.

It builds statements and runs none. The author's query stands in each of them once, so that all that a run finds is
of one moment. Rows that name no user, or hold an identity that is not what its rule promises, are counted here and
compared nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.identity import identity_value, is_wrong
from airflow_kinesis_audience.kinds import Kind
from airflow_kinesis_audience.membership import (
    MEMBER,
    audience_rows,
    base_columns,
    fingerprint_of,
    member_columns,
    padded,
    with_expressions,
)
from airflow_kinesis_audience.sql import SOURCE_PLACEHOLDER, Warehouse, column, table, text
from airflow_kinesis_audience.staging import stand_where_state_is

if TYPE_CHECKING:
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.dialects import Dialect
    from airflow_kinesis_audience.layout import Column, Layout


def select_first_base(
    read: exp.Select, layout: Layout, as_of: datetime, *, once: bool = False, kept: bool = True
) -> exp.Query:
    """Build the base of a first run, straight from the source.

    :param read: the reading of the source, from :func:`read_source`.
    :param once: leave out all but the first row of each user.
    :param kept: keep what is read of the source until all is found; otherwise it is read twice in this statement.
    """
    from sqlglot import exp

    names = base_columns(layout)
    given: dict[str, exp.Expr] = {n: column(n) for n in member_columns(layout)}
    given |= {
        "action": text(MEMBER),
        "member_since": text(instant_text(as_of)),
        "left_at": exp.cast(exp.null(), "TEXT"),
    }
    members = padded(given, names).from_(table(None, "source")).where(is_member(layout, once=once))
    audiences = audience_rows(table(None, "audiences"), names, wrong_identities=column("wrong_identities"))
    query = exp.union(members, audiences, distinct=False)
    read = select_source(read, layout, once=once)
    return with_expressions(
        query, [("source", read, kept), ("audiences", select_audiences(layout, once=once), None)]
    )


def read_source(warehouse: Warehouse, source: Source, layout: Layout, query: str) -> tuple[exp.Select, str | None]:
    """Give the reading of the source for a statement over the state, and the query, if the statement holds it."""
    columns = source_columns(source, layout, warehouse.origin.dialect)
    given = columns.from_(table(None, SOURCE_PLACEHOLDER).as_("given", quoted=True))
    kinds = dict.fromkeys(("audience_id", "audience_name", "user_id"), Kind.TEXT)
    kinds |= {c.new: c.kind for c in layout.columns} | {c.wrong: Kind.BOOLEAN for c in layout.checked}
    return stand_where_state_is(warehouse, given, query, kinds)


def select_source(read: exp.Select, layout: Layout, *, once: bool = False) -> exp.Select:
    """Build the values of the source, and the fingerprint over them.

    :param read: the reading of the source.

    :param once: number the rows of each user, which costs a sort, so that all but the first can be left out. Which
        one is the first depends on the values alone, so that it is the same one on the next run.
    """
    from sqlglot import exp

    more: list[exp.Expr] = []
    if layout.fingerprint:
        more.append(fingerprint_of(layout).as_("fingerprint", quoted=True))
    if once:
        more.append(_occurrence(layout).as_("occurrence", quoted=True))
    return exp.select(exp.Star(), *more).from_(read.subquery("read", copy=False)) if more else read


def source_columns(source: Source, layout: Layout, dialect: Dialect) -> exp.Select:
    """Build what is taken of each row: keys as text, the compared values, and which identities are wrong.

    An empty user id counts as none: nobody could be told of it.
    """
    from sqlglot import exp

    audience: exp.Expr
    name: exp.Expr
    if source.audience_id_column is not None:
        audience = key_text(source.audience_id_column)
        named_by = source.audience_name_column or source.audience_id_column
        name = exp.cast(column(named_by), "TEXT")
    else:
        audience = text(source.audience_id or "")
        name = text(source.audience_name or source.audience_id or "")
    checks = [(c, is_wrong(c, dialect)) for c in layout.checked]
    return exp.select(
        audience.as_("audience_id", quoted=True),
        name.as_("audience_name", quoted=True),
        key_text(source.user_id).as_("user_id", quoted=True),
        *(value_of(c, dialect).as_(c.new, quoted=True) for c in layout.columns),
        *(check.as_(c.wrong, quoted=True) for c, check in checks if check is not None),
    )


def key_text(name: str) -> exp.Expr:
    """Build a key as text; an empty one counts as none."""
    from sqlglot import exp

    return exp.func("NULLIF", exp.cast(column(name), "TEXT"), exp.Literal.string(""))


def value_of(c: Column, dialect: Dialect) -> exp.Expr:
    """Build what is taken of a mapped column: of an identity what its rule makes, of a retired one nothing."""
    from sqlglot import exp

    if c.retired:
        return exp.cast(exp.null(), "TEXT")
    if c.role == "identity":
        return identity_value(c, dialect)
    return exp.cast(column(c.source), "TEXT") if c.kind is Kind.TEXT else column(c.source)


def _occurrence(layout: Layout) -> exp.Window:
    """Number the rows of each user; those with a wrong identity by themselves, since they do not count."""
    from sqlglot import exp

    order = [exp.Ordered(this=column(c.new), nulls_first=False) for c in layout.columns] or [
        exp.Ordered(this=column("user_id"))
    ]
    return exp.Window(
        this=exp.RowNumber(),
        partition_by=[column("audience_id"), column("user_id"), *(column(c.wrong) for c in layout.checked)],
        order=exp.Order(expressions=order),
    )


def is_member(layout: Layout, *, once: bool) -> exp.Expr:
    """Build the condition on a row of the source that makes it a member's; others are counted, not compared."""
    from sqlglot import exp

    named = [column(n).is_(exp.null()).not_() for n in ("user_id", "audience_id")]
    right = [exp.not_(column(c.wrong)) for c in layout.checked]
    return exp.and_(*named, *right, *([column("occurrence").eq(1)] if once else []))


def select_audiences(layout: Layout, *, once: bool = False) -> exp.Select:
    """Build what is to be known of each audience from the one reading of the source: its name and its rows.

    Rows that are not invalid are members, unless users repeat and their rows were not numbered. In
    ``wrong_identities`` are rows with a user: those that have any wrong identity, then those that have each.
    """
    from sqlglot import exp

    conditions: list[exp.Expr] = [exp.not_(column(c.wrong)) for c in layout.checked]
    conditions += [column("occurrence").eq(1)] if once else []
    named: exp.Expr = column("user_id")
    if conditions:
        named = exp.case().when(exp.and_(*conditions), named)
    return (
        exp.select(
            column("audience_id"),
            exp.Max(this=column("audience_name")).as_("audience_name", quoted=True),
            exp.Count(this=exp.Star()).as_("source_rows", quoted=True),
            exp.Sub(this=exp.Count(this=exp.Star()), expression=exp.Count(this=named)).as_(
                "invalid_rows", quoted=True
            ),
            _count_wrong(layout).as_("wrong_identities", quoted=True),
        )
        .from_(table(None, "source"))
        .group_by(column("audience_id"))
    )


def _count_wrong(layout: Layout) -> exp.Expr:
    from sqlglot import exp

    if not layout.checked:
        return exp.cast(exp.null(), "TEXT")
    wrong = [column(c.wrong) for c in layout.checked]
    counts = [
        exp.cast(exp.Count(this=exp.case().when(condition, column("user_id"))), "TEXT")
        for condition in (exp.or_(*wrong), *wrong)
    ]
    whole: exp.Expr = counts[0]
    for count in counts[1:]:
        whole = exp.DPipe(this=exp.DPipe(this=whole, expression=exp.Literal.string(",")), expression=count)
    return whole


def read_wrong(layout: Layout, counted: str | None) -> tuple[int, dict[str, int]]:
    """Read what an audience's row says of wrong identities: rows that have any, and those per sentence."""
    if counted is None:
        return 0, {}
    rows, *each = map(int, counted.split(","))
    return rows, {
        f"have {c.label!r} values that {c.rule.breach}": n for c, n in zip(layout.checked, each, strict=True) if n
    }
