"""SQL of what differs between a membership and the source, by key: the part of a change set that costs.

Three ways, all NULL-safe, with the same columns: a join that compares every column; the same for the few rows
that a join of signatures leaves, where an engine hashes fast; and rows of both sides grouped by user, where no
such join is to be had. A user of the source whose only row has a wrong identity is there, and stays as it was, but
for what is not mapped any more. It builds statements and runs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.source_rows import is_named, is_wrong
from airflow_kinesis_audience.core.sql.statements import column, table, text
from airflow_kinesis_audience.core.state.rows import member_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect

Named = tuple[str, "exp.Query"]


def select_differing(layout: TableLayout, dialect: Dialect, *, deduplicate: bool) -> list[Named]:
    """Build ``differing`` from ``source`` and ``previous``, and what it needs.

    Columns: audience_id, user_id, member_since, gone, fresh, and per mapped column the new and the old value.

    :param deduplicate: leave out all but the first row of each user.
    """
    current = _current(layout, deduplicate=deduplicate)
    if dialect.functions.signature is not None:
        return _by_signature(layout, current, dialect.functions.signature)
    if not dialect.full_join:
        return _by_grouping(layout, current)
    return _by_columns(layout, current, table(None, "previous"))


def differs(layout: TableLayout, columns: Sequence[Column], new: str, old: str, old_name: str) -> exp.Expr:
    """Build the null-safe comparison of columns; ``old_name`` is the attribute that names the old one."""
    if not columns:
        return exp.false()
    return exp.or_(
        *(exp.NullSafeNEQ(this=column(c.new, new), expression=column(getattr(c, old_name), old)) for c in columns)
    )


def _current(layout: TableLayout, *, deduplicate: bool) -> exp.Subquery:
    """Build the rows of the source that name a user; those of a wrong identity are marked, and nobody's change."""
    wanted = [n for n in member_columns(layout) if n != "member_since" and (n != "audience_id" or n in layout.key)]
    marked = [is_wrong(layout).as_("wrong")] if layout.checked else []
    return (
        exp.select(*(column(n) for n in wanted), *marked)
        .from_(table(None, "source"))
        .where(is_named(deduplicate=deduplicate))
        .subquery("current")
    )


def _differing(layout: TableLayout, differs: exp.Expr) -> exp.Expr:
    """Build the condition on a joined row that makes it a change."""
    is_gone, is_new = (column("user_id", side).is_(exp.null()) for side in ("current", "previous"))
    if not layout.checked:
        return exp.or_(is_gone, is_new, differs)
    wrong = column("wrong", "current")
    changes = [is_gone, exp.and_(exp.or_(is_new, differs), exp.not_(wrong))]
    if layout.retired:
        changes.append(exp.and_(wrong.copy(), _has_retired(layout)))
    return exp.or_(*changes)


def _has_retired(layout: TableLayout) -> exp.Expr:
    """Build the condition on a member who was that there is something of what is not mapped any more."""
    return exp.or_(*(column(c.new, "previous").is_(exp.null()).not_() for c in layout.retired))


def _new_value(layout: TableLayout, c: Column, origin: str) -> exp.Expr:
    """Build the new value of a column: of a row with a wrong identity what it was."""
    if not layout.checked or not layout.retired or c.retired:
        return column(c.new, origin)
    return exp.case().when(column("wrong", origin), column(c.new, "previous")).else_(column(c.new, origin))


def _matching(layout: TableLayout, left: str, right: str) -> exp.Expr:
    return exp.and_(*(column(k, left).eq(column(k, right)) for k in layout.key))


def _audience(layout: TableLayout) -> exp.Expr:
    """Build the audience's id: no need to carry it through a join where there is but one."""
    if "audience_id" in layout.key:
        return _either("audience_id")
    return text(layout.audience_id or "").as_("audience_id")


def _either(name: str) -> exp.Expr:
    return exp.func("COALESCE", column(name, "current"), column(name, "previous")).as_(name)


def _presence(absent_side: str, name: str) -> exp.Expr:
    return column("user_id", absent_side).is_(exp.null()).as_(name)


def _by_columns(layout: TableLayout, current: exp.Subquery, previous: exp.Table | exp.Subquery) -> list[Named]:
    """Build ``differing`` with one join that compares every column."""
    query = (
        exp.select(
            _audience(layout),
            _either("user_id"),
            column("member_since", "previous").as_("member_since"),
            _presence("current", "gone"),
            _presence("previous", "fresh"),
            *(_new_value(layout, c, "current").as_(c.new) for c in layout.columns),
            *(column(c.new, "previous").as_(c.old) for c in layout.columns),
        )
        .from_(current)
        .join(previous, on=_matching(layout, "current", "previous"), join_type="full outer")
        .where(_differing(layout, differs(layout, layout.columns, "current", "previous", "new")))
    )
    return [("differing", query)]


def _by_grouping(layout: TableLayout, current: exp.Subquery) -> list[Named]:
    """Build ``differing`` without a join: a group per user, of the row that is and the row that was.

    Where a user repeats, a group may mix their rows. That change set never counts: there are more rows than users.
    """

    def side(number: exp.Expr, since: exp.Expr, name: str) -> exp.Select:
        return exp.select(
            number.as_("side"),
            since.as_("member_since"),
            *(column(n, name) for n in (*layout.key, *(c.new for c in layout.columns))),
        )

    def of(number: int, name: str) -> exp.Expr:
        return exp.Max(this=exp.case().when(column("side").eq(number), column(name)))

    # 0 is what was, 2 what is, and 1 a row of a user who is there with a wrong identity.
    now: exp.Expr = exp.Literal.number(2)
    if layout.checked:
        now = exp.case().when(column("wrong", "current"), exp.Literal.number(1)).else_(now)
    is_ = side(now, exp.cast(exp.null(), "TEXT"), "current").from_(current)
    was = side(exp.Literal.number(0), column("member_since", "previous"), "previous")
    was = was.from_(table(None, "previous"))
    is_missing = exp.Max(this=column("side")).eq(0)
    is_new = exp.Min(this=column("side")).neq(0)
    is_changed = exp.or_(
        is_new.copy(), *(exp.NullSafeNEQ(this=of(2, c.new), expression=of(0, c.new)) for c in layout.columns)
    )
    is_wrong_alone = exp.Max(this=column("side")).eq(1)
    if layout.checked:
        is_changed = exp.and_(is_changed, exp.Max(this=column("side")).eq(2))
    keeps = bool(layout.checked and layout.retired)
    if keeps:
        has_retired = exp.or_(*(of(0, c.new).is_(exp.null()).not_() for c in layout.retired))
        is_changed = exp.or_(is_changed, exp.and_(is_wrong_alone, has_retired))

    def new_value(c: Column) -> exp.Expr:
        if c.retired or not keeps:
            return of(2, c.new)
        return exp.case().when(is_wrong_alone.copy(), of(0, c.new)).else_(of(2, c.new))

    audience = column("audience_id") if "audience_id" in layout.key else _audience(layout)
    query = (
        exp.select(
            audience,
            column("user_id"),
            exp.Max(this=column("member_since")).as_("member_since"),
            is_missing.as_("gone"),
            is_new.as_("fresh"),
            *(new_value(c).as_(c.new) for c in layout.columns),
            *(of(0, c.new).as_(c.old) for c in layout.columns),
        )
        .from_(exp.union(is_, was, distinct=False).subquery("sides", copy=False))
        .group_by(*(column(k) for k in layout.key))
        .having(exp.or_(is_missing.copy(), is_changed))
    )
    # Sort the rows rather than look each up in a table of groups: four times as fast, measured.
    query.set("operation_modifiers", [exp.Var(this="SQL_BIG_RESULT")])
    return [("differing", query)]


def _by_signature(layout: TableLayout, current: exp.Subquery, function: str) -> list[Named]:
    """Build ``differing`` from the rows that have no equal one on the other side, found by their signatures.

    Equal values may have unlike signatures, if their types differ: what remains is compared by its columns. It is
    compared with who is there under another signature, too, since a user may repeat.
    """
    signature = _signature(layout, function)
    now, was = (
        exp.select(exp.Star(), *(e.copy() for e in signature)).from_(origin)
        for origin in (current, table(None, "previous"))
    )
    bare = exp.select(*map(column, _SIGNATURE)).from_(table(None, "was")).subquery("was")
    missing = exp.or_(*(column(_SIGNATURE[0], side).is_(exp.null()) for side in ("now", "was")))
    odd = (
        exp.select(*(column(n, "now") for n in current.this.named_selects))
        .select(*(column(n, "was").as_(f"was_{n}") for n in _SIGNATURE))
        .from_(table(None, "now"))
        .join(
            bare, on=exp.and_(*(column(n, "now").eq(column(n, "was")) for n in _SIGNATURE)), join_type="full outer"
        )
        .where(missing)
    )
    odd_now = exp.select(*map(column, current.this.named_selects)).from_(table(None, "odd"))
    odd_now = odd_now.where(column("user_id").is_(exp.null()).not_())
    same_signature = (column(f"was_{n}", "odd").eq(column(n, "was")) for n in _SIGNATURE)
    odd_was = exp.select(*map(column, member_columns(layout))).from_(table(None, "was"))
    odd_was = odd_was.where(
        exp.or_(_exists("odd", same_signature), _exists("odd", (_matching(layout, "odd", "was"),)))
    )
    compared = _by_columns(layout, odd_now.subquery("current"), odd_was.subquery("previous"))
    return [("now", now), ("was", was), ("odd", odd), *compared]


def _signature(layout: TableLayout, function: str) -> list[exp.Expr]:
    """Build 128 bits over key and values: so many that two unlike rows are not expected to share them.

    The second half is of the values in reverse, and of another text than the user id: it differs where two ids
    have one hash.
    """
    names = (*layout.key, *(c.new for c in layout.columns))
    other_id = exp.DPipe(this=exp.Literal.string("."), expression=column("user_id"))
    halves: tuple[list[exp.Expr], list[exp.Expr]] = (
        [column(n) for n in names],
        [other_id if n == "user_id" else column(n) for n in reversed(names)],
    )
    return [
        exp.alias_(exp.Anonymous(this=function, expressions=half), name, quoted=True)
        for name, half in zip(_SIGNATURE, halves, strict=True)
    ]


def _exists(name: str, conditions: Iterable[exp.Expr]) -> exp.Exists:
    return exp.Exists(this=exp.select(exp.Literal.number(1)).from_(table(None, name)).where(*conditions))


_SIGNATURE = ("signature", "signature_back")
"""The two halves of a signature: of key and values, and of the same in reverse."""
