"""SQL of what a run counts and selects of the one reading of the source.

It builds statements and runs none. Rows without a user id are counted here and compared nowhere; those with an
identity that its rule does not allow are counted, and show no more than that their user is there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.source.exclusion import LISTED, UNCONSENTED
from airflow_kinesis_audience.core.source.priority import OUTRANKED
from airflow_kinesis_audience.core.sql.statements import column, table, text
from airflow_kinesis_audience.core.state.rows import (
    MEMBER,
    audience_rows,
    base_columns,
    member_columns,
    padded,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout

_REASONS = (LISTED, UNCONSENTED, OUTRANKED)
"""Why a row names nobody, by the author's word; a reason that is not asked for has no column."""


def select_first_base(
    read: exp.Select,
    layout: TableLayout,
    as_of: datetime,
    *,
    deduplicate: bool = False,
    materialize: bool = True,
    nulls: bool = False,
) -> exp.Query:
    """Build the base of a first run, straight from the source.

    :param read: the reading of the source, from :func:`read_source`.
    :param deduplicate: leave out all but the first row of each user.
    :param materialize: keep what is read of the source until all is found; otherwise it is read twice in this
        statement.
    :param nulls: count of each mapped column the rows that have nothing in it.
    """
    names = base_columns(layout)
    given: dict[str, exp.Expr] = {n: column(n) for n in member_columns(layout)}
    given |= {
        "action": text(MEMBER),
        "member_since": text(instant_text(as_of)),
        "left_at": exp.cast(exp.null(), "TEXT"),
    }
    members = padded(given, names).from_(table(None, "source")).where(is_member(layout, deduplicate=deduplicate))
    audiences = audience_rows(table(None, "audiences"), names)
    return (
        exp.union(members, audiences, distinct=False)
        .with_(
            "source",
            as_=select_source(read, layout, deduplicate=deduplicate),
            materialized=materialize,
            copy=False,
        )
        .with_(
            "audiences",
            as_=select_audiences(layout, deduplicate=deduplicate, nulls=nulls, left_out=reasons_of(read)),
            copy=False,
        )
    )


def select_source(read: exp.Select, layout: TableLayout, *, deduplicate: bool = False) -> exp.Select:
    """Build the values of the source.

    :param read: the reading of the source.
    :param deduplicate: number the rows of each user, which costs a sort, so that all but the first can be left
        out. Which one is the first depends on the values alone, so that it is the same one on the next run.
    """
    if not deduplicate:
        return read
    numbered = exp.select(exp.Star(), _occurrence(layout).as_("occurrence"))
    return numbered.from_(read.subquery("read", copy=False))


def _occurrence(layout: TableLayout) -> exp.Window:
    """Number the rows of each user; one with a wrong identity is the first only if there is no other."""
    order = [exp.Ordered(this=column(c.new), nulls_first=False) for c in layout.columns] or [
        exp.Ordered(this=column("user_id"))
    ]
    if layout.checked:
        last = exp.case().when(is_wrong(layout), exp.Literal.number(1)).else_(exp.Literal.number(0))
        order = [exp.Ordered(this=last, nulls_first=False), *order]
    return exp.Window(
        this=exp.RowNumber(),
        partition_by=[column("audience_id"), column("user_id")],
        order=exp.Order(expressions=order),
    )


def is_member(layout: TableLayout, *, deduplicate: bool) -> exp.Expr:
    """Build the condition on a row of the source that makes it a member's."""
    right = [exp.not_(column(c.invalid)) for c in layout.checked]
    return exp.and_(is_named(deduplicate=deduplicate), *right)


def is_named(*, deduplicate: bool) -> exp.Expr:
    """Build the condition on a row of the source that names a user of an audience, whatever else it has."""
    named = [column(n).is_(exp.null()).not_() for n in ("user_id", "audience_id")]
    return exp.and_(*named, *([column("occurrence").eq(1)] if deduplicate else []))


def is_wrong(layout: TableLayout) -> exp.Expr:
    """Build the condition on a row of the source that has an identity which its rule does not allow."""
    return exp.or_(*(column(c.invalid) for c in layout.checked))


def select_kept(layout: TableLayout) -> exp.Select:
    """Build how many members of each audience stay as they were, as all their rows have a wrong identity.

    Rows of the source are numbered.
    """
    unsure = (
        exp.select(column("audience_id"), column("user_id"))
        .from_(table(None, "source"))
        .where(is_named(deduplicate=True), is_wrong(layout))
        .subquery("unsure")
    )
    same = exp.and_(*(column(k, "unsure").eq(column(k, "previous")) for k in layout.key))
    return (
        exp.select(column("audience_id", "unsure"), exp.Count(this=exp.Star()).as_("members"))
        .from_(unsure)
        .join(table(None, "previous"), on=same)
        .group_by(column("audience_id", "unsure"))
    )


def select_audiences(
    layout: TableLayout,
    *,
    deduplicate: bool = False,
    has_kept: bool = False,
    nulls: bool = False,
    left_out: Collection[str] = (),
) -> exp.Select:
    """Build what is to be known of each audience from the one reading of the source: its name and its rows.

    Rows that are not invalid are those of members, unless users repeat and their rows were not numbered. In
    ``wrong_identities`` is what :func:`.source_counts.parse_invalid_counts` reads.

    :param has_kept: members stay whose rows are wrong, as ``kept`` says; their rows are not counted as invalid.
    :param nulls: count of each mapped column the rows that have nothing in it.
    :param left_out: the reasons for which rows of the source may name nobody.
    """
    counted = _count_rows(layout, deduplicate=deduplicate, nulls=nulls, left_out=left_out)
    if not has_kept:
        return counted
    kept = exp.func("COALESCE", column("members", "kept"), exp.Literal.number(0))
    known = exp.DPipe(this=column("wrong_identities", "counted"), expression=exp.Literal.string("|"))
    return (
        exp.select(
            *(column(n, "counted") for n in ("audience_id", "audience_name", "source_rows")),
            exp.Sub(this=column("invalid_rows", "counted"), expression=kept).as_("invalid_rows"),
            exp.DPipe(this=known, expression=exp.cast(kept.copy(), "TEXT")).as_("wrong_identities"),
        )
        .from_(counted.subquery("counted"))
        .join(
            table(None, "kept"),
            on=column("audience_id", "counted").eq(column("audience_id", "kept")),
            join_type="left",
        )
    )


def reasons_of(read: exp.Select) -> tuple[str, ...]:
    """List the reasons for which a row of the source may name nobody, by the author's word."""
    return tuple(n for n in _REASONS if n in read.named_selects)


def _count_rows(layout: TableLayout, *, deduplicate: bool, nulls: bool, left_out: Collection[str]) -> exp.Select:
    conditions: list[exp.Expr] = [exp.not_(column(c.invalid)) for c in layout.checked]
    conditions += [column("occurrence").eq(1)] if deduplicate else []
    named: exp.Expr = column("user_id")
    if conditions:
        named = exp.case().when(exp.and_(*conditions), named)
    known = _count_invalid(layout, deduplicate=deduplicate, left_out=left_out)
    if nulls and (empty := _count_nulls(layout)) is not None:
        known = _joined(empty, "#", exp.Literal.string("") if known is None else known)
    only = text(layout.audience_id).as_("audience_id") if layout.audience_id is not None else None
    query = exp.select(
        only or column("audience_id"),
        exp.Max(this=column("audience_name")).as_("audience_name"),
        exp.Count(this=exp.Star()).as_("source_rows"),
        exp.Sub(this=exp.Count(this=exp.Star()), expression=exp.Count(this=named)).as_("invalid_rows"),
        (exp.cast(exp.null(), "TEXT") if known is None else known).as_("wrong_identities"),
    ).from_(table(None, "source"))
    # To group by what is the same in all rows takes twice as long as to count them.
    return query.having(exp.Count(this=exp.Star()) > 0) if only else query.group_by(column("audience_id"))


def _count_nulls(layout: TableLayout) -> exp.Expr | None:
    rows = exp.Count(this=exp.Star())
    return _listed([exp.Sub(this=rows.copy(), expression=exp.Count(this=column(c.new))) for c in layout.live])


def _count_left_out(reasons: Collection[str]) -> exp.Expr | None:
    """Build how many rows are left out for each reason, and for either of those of excluded users."""
    if not reasons:
        return None
    of_users = exp.or_(exp.false(), *(column(n) for n in reasons if n != OUTRANKED))
    conditions = [of_users, *(column(n) if n in reasons else exp.false() for n in _REASONS)]
    counts = [exp.Count(this=exp.case().when(c, exp.Literal.number(1))) for c in conditions]
    return _listed(counts)


def _count_invalid(layout: TableLayout, *, deduplicate: bool, left_out: Collection[str]) -> exp.Expr | None:
    wrong = [column(c.invalid) for c in layout.checked]
    conditions = [is_wrong(layout), *wrong] if wrong else []
    counts = [exp.Count(this=exp.case().when(c, column("user_id"))) for c in conditions]
    whole = _listed(counts)
    nothing = [exp.and_(column(c.filled), column(c.new).is_(exp.null())) for c in layout.filtered]
    if (empty := _listed([exp.Count(this=exp.case().when(c, column("user_id"))) for c in nothing])) is not None:
        whole = _joined(empty, ";", whole or exp.Literal.string(""))
    if (rows := _count_left_out(left_out)) is not None:
        whole = _joined(rows, ":", whole or exp.Literal.string(""))
    if not deduplicate:
        return whole
    # That users repeat hides how many rows name none.
    nameless = exp.Sub(this=exp.Count(this=exp.Star()), expression=exp.Count(this=column("user_id")))
    return _joined(whole or exp.Literal.string(""), "|", exp.cast(nameless, "TEXT"))


def _listed(counts: Sequence[exp.Expr]) -> exp.Expr | None:
    """Build numbers between commas; none if there is no number."""
    texts: list[exp.Expr] = [exp.cast(count, "TEXT") for count in counts]
    return functools.reduce(lambda left, right: _joined(left, ",", right), texts) if texts else None


def _joined(left: exp.Expr, mark: str, right: exp.Expr) -> exp.Expr:
    return exp.DPipe(this=exp.DPipe(this=left, expression=exp.Literal.string(mark)), expression=right)
