"""How statements are built and rendered, and how tables and views are made and dropped.

Statements are built once as sqlglot expressions with every identifier quoted, then rendered for the engine. The
author's query alone is spliced in as it was written, so that it means exactly what its author tested.
Nothing here touches a warehouse; :class:`Warehouse` says what the hook of one must be able to do.
"""

from __future__ import annotations

import re
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.sql.collations import is_bare, write_by_bytes
from airflow_kinesis_audience.core.sql.types import LogicalType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

SOURCE_PLACEHOLDER = "author's query\0"
"""With a character that no engine lets a name have, so that no column of the author's is taken for it."""

_MOST_IN_A_ROW = 16
"""Queries of a union without a group: DuckDB planned 1,000 tables so in a tenth of the time of one chain."""


def union_all(queries: Iterable[exp.Query]) -> exp.Query:
    """Build the rows of some queries, at least one, together; the queries become part of it.

    Many come in groups of groups: the time in which DuckDB plans a chain of them grows with its square.
    """
    found = list(queries)
    while len(found) > _MOST_IN_A_ROW:
        rows = [found[n : n + _MOST_IN_A_ROW] for n in range(0, len(found), _MOST_IN_A_ROW)]
        found = [exp.select(exp.Star()).from_(_chain(row).subquery("grouped", copy=False)) for row in rows]
    return _chain(found)


def _chain(queries: Sequence[exp.Query]) -> exp.Query:
    return reduce(lambda one, other: exp.union(one, other, distinct=False, copy=False), queries)


def null_like(value: exp.Expr) -> exp.Case:
    """Build a NULL of another value's type and collation, which NULL or a literal by itself does not have."""
    return exp.case().when(exp.false(), value)


def render(expression: exp.Expr, dialect: Dialect, *, query: str | None = None) -> str:
    """Render an expression for an engine, with the author's query in the place of :data:`SOURCE_PLACEHOLDER`."""
    if not dialect.materialized_hints:
        expression = expression.copy()
        for named in expression.find_all(exp.CTE):
            named.set("materialized", None)
    sql = _write(expression, dialect)
    if query is None:
        return sql
    marker = table(None, SOURCE_PLACEHOLDER).sql(dialect=dialect.name, identify=True)
    before, found, after = sql.partition(marker)
    assert found, "a statement over the source must name the source once"  # noqa: S101
    return f"{before}(\n{query}\n){after}"


def _write(expression: exp.Expr, dialect: Dialect) -> str:
    overrides = tuple(dialect.functions.sql_overrides.items())
    return str(_generator(dialect.name, overrides)().generate(expression))


@cache
def _generator(name: str, overrides: Sequence[tuple[str, str]]) -> Callable[[], Any]:
    """Make what gives sqlglot's generator of a dialect with other SQL for some expressions and for marks."""

    def fill_in(template: str) -> Callable[[Any, exp.Expr], str]:
        return lambda generator, e: template.format(**{n: generator.sql(e, n) for n in e.args})

    engine = sqlglot.Dialect.get_or_raise(name)
    others: dict[Any, Any] = {getattr(exp, of): fill_in(template) for of, template in overrides}
    others[exp.Collate] = lambda generator, e: write_by_bytes(e, generator.sql(e, "this"), name)
    others[exp.Alias] = lambda generator, e: (
        generator.sql(e, "this") if is_bare(e, name) else generator.alias_sql(e)
    )

    def make() -> Any:
        made: Any = engine.generator(identify=True, unsupported_level=sqlglot.ErrorLevel.IGNORE)
        # No class of its own: none can be made of sqlglot's where they are compiled.
        made._dispatch = {**made._dispatch, **others}
        return made

    return make


def column(name: str, table_name: str | None = None) -> exp.Column:
    """Build a reference to a column."""
    return exp.column(name, table=table_name, quoted=True)


def table(schema: str | None, name: str) -> exp.Table:
    """Build a reference to a table; a schema may be ``database.schema``."""
    database, _, inner = (schema or "").rpartition(".")
    return exp.table_(name, db=inner or None, catalog=database or None, quoted=True)


def named_table(name: str, dialect: Dialect | None = None) -> exp.Table:
    """Build a reference to a table that an author names, with its schema and database if they are named, too.

    A part in double quotes or backticks is taken as it is, dots and all. So is one without, but that an engine
    which means upper case by it gets it in upper case.

    :raises ValueError: if it is no table's name; a retry does not help.
    """
    if not _TABLE_NAME.fullmatch(name):
        raise ValueError(
            f"table is {name!r}; expected a table name such as marts.lapsed, with quotes around a part that "
            'needs them, such as "My.Schema"."order"'
        )
    parts = [_unquoted(part, dialect) for part in re.findall(_NAME_PART, name)]
    *database, schema, inner = ["", *parts]
    return exp.table_(inner, db=schema or None, catalog=".".join(filter(None, database)) or None, quoted=True)


_NAME_PART = r"""(?:^|(?<=\.))(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|[^."`\s][^.]*)"""
_TABLE_NAME = re.compile(rf"{_NAME_PART}(?:\.{_NAME_PART})*")


def _unquoted(part: str, dialect: Dialect | None) -> str:
    if (quote := part[0]) in '"`':
        return part[1:-1].replace(quote * 2, quote)
    folds = dialect is not None and dialect.folds_to_upper and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", part)
    return part.upper() if folds else part


def text(value: str) -> exp.Expr:
    """Build a text literal with the type of text, which a bare literal lacks on some engines."""
    return exp.cast(exp.Literal.string(value), "TEXT")


def sha256(value: exp.Expr, dialect: Dialect) -> exp.Expr:
    """Build the SHA-256 of a text in UTF-8, in lower-case hexadecimal."""
    if dialect.functions.sha256_takes_bytes:
        value = exp.func("CONVERT_TO", value, exp.Literal.string("UTF8"))
    return exp.SHA2(this=value, length=exp.Literal.number(256))


def read_value(name: str, kind: LogicalType) -> exp.Expr:
    """Build what is read of one state column."""
    value: exp.Expr = column(name)
    if kind is LogicalType.EXACT:
        value = exp.cast(value, "TEXT")
        value = exp.case().when(value.copy().isin("NaN", "Infinity", "-Infinity"), exp.null()).else_(value)
    return value.as_(name)


def write_table(
    warehouse: Warehouse,
    target: exp.Table,
    query: exp.Query,
    *,
    source_query: str | None = None,
    sliced_by: str = "",
    has_audience_rows: bool = False,
    apart: bool = False,
) -> None:
    """Create a table from a query; no engine has to rename, replace or update what is never changed.

    :param source_query: the author's query, where the query reads the source.
    :param sliced_by: the column by which the table will be read slice by slice, if so.
    :param has_audience_rows: whether the table has a row per audience, and those will be looked for.
    :param apart: whether the task may end before the statement does.
    """
    name = target.sql(dialect=warehouse.dialect.name, identify=True)
    sql = render(query, warehouse.dialect, query=source_query)
    write = warehouse.write_table_apart if apart else warehouse.write_table
    write(name, sql, sliced_by=sliced_by, has_audience_rows=has_audience_rows)


def drop_table(warehouse: Warehouse, target: exp.Table) -> None:
    """Drop a table if it is there."""
    dialect = warehouse.dialect
    warehouse.drop_table(target.sql(dialect=dialect.ddl.sqlglot_name or dialect.name, identify=True))


def has_table(warehouse: Warehouse, target: exp.Table) -> bool:
    """Tell whether a table is there and can be read."""
    nothing = exp.select(exp.Literal.number(1)).from_(target).where(exp.false())
    try:
        warehouse.read_rows(render(nothing, warehouse.dialect))
    except WarehouseRefused:
        return False
    return True


def write_view(warehouse: Warehouse, target: exp.Table, query: exp.Query, *, replace: bool = True) -> None:
    """Create a view.

    :param replace: put it in the place of one of that name, if there is one; otherwise the engine refuses it.
    """
    statement = exp.Create(this=target, kind="VIEW", expression=query, replace=replace)
    warehouse.execute(render(statement, warehouse.dialect))


def drop_view(warehouse: Warehouse, target: exp.Table) -> None:
    """Drop a view if it is there."""
    name = target.sql(dialect=warehouse.dialect.name, identify=True)
    warehouse.execute(f"DROP VIEW IF EXISTS {name}")
