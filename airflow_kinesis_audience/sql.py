"""How statements are built, rendered and run, and how what they make is named.

Statements are built once as sqlglot expressions with every identifier quoted, then rendered for the engine. The
author's query alone is spliced in as it was written, so that it means exactly what its author tested.
Nothing here touches a warehouse; :class:`Warehouse` says what the door to one must be able to do.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa
    from sqlglot import exp

    from airflow_kinesis_audience.dialects import Dialect

SOURCE_PLACEHOLDER = "author's query"


class Warehouse(Protocol):
    """What the rooms of the core ask of a warehouse. Every statement commits by itself."""

    dialect: Dialect
    placeholder: str

    @property
    def origin(self) -> Warehouse:
        """Where an author's query is run: here, unless the state is kept apart from the warehouse."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives no rows."""

    def write_table(self, name: str, query: str, *, sliced_by: str = "", tells_audiences: bool = False) -> None:
        """Create a table of a query's rows.

        :param name: quoted, with its schema.
        :param sliced_by: the column by which it will be read slice by slice, if so.
        :param tells_audiences: whether it has rows that tell of audiences, and will be asked for them.
        """

    def drop_table(self, name: str) -> None:
        """Drop a table if it is there."""

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""

    def read_types(self, query: str) -> dict[str, str]:
        """Read a query's column names and the engine's names of their types, running none of it."""

    def keep_rows(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> str:
        """Keep rows of the origin until this door is closed; gives the name, without a schema, of their table."""

    def may_read_twice(self, query: str) -> bool:
        """Tell whether to read a query twice within one statement costs less than to keep its rows in between.

        Only where both readings are sure to give the same rows.
        """

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in batches of at most ``rows`` rows, columns by position, in the given types."""


def render(expression: exp.Expr, dialect: Dialect, *, query: str | None = None) -> str:
    """Render an expression for an engine, with the author's query in the place of :data:`SOURCE_PLACEHOLDER`."""
    from sqlglot import exp

    if not dialect.keeps_expressions:
        expression = expression.copy()
        for named in expression.find_all(exp.CTE):
            named.set("materialized", None)
    sql = _write(expression, dialect)
    if query is None:
        return sql
    marker = table(None, SOURCE_PLACEHOLDER).sql(dialect=dialect.name, identify=True)
    before, found, after = sql.partition(marker)
    assert found, "a statement over the source must name it once"  # noqa: S101
    return f"{before}(\n{query}\n){after}"


def _write(expression: exp.Expr, dialect: Dialect) -> str:
    if not dialect.forms:
        return expression.sql(dialect=dialect.name, identify=True)
    return str(_writer(dialect.name, tuple(dialect.forms.items()))().generate(expression))


@cache
def _writer(name: str, forms: Sequence[tuple[str, str]]) -> Callable[[], Any]:
    """Make sqlglot's own writer of a dialect with other forms of some expressions."""
    from sqlglot import Dialect as Engines
    from sqlglot import ErrorLevel, exp

    def form(template: str) -> Callable[[Any, exp.Expr], str]:
        return lambda writer, e: template.format(**{n: writer.sql(e, n) for n in e.args})

    engine = Engines.get_or_raise(name)
    given = type(engine.generator())
    own = {**given.TRANSFORMS, **{getattr(exp, written): form(template) for written, template in forms}}
    writer = type(given.__name__, (given,), {"TRANSFORMS": own})
    return lambda: writer(dialect=engine, identify=True, unsupported_level=ErrorLevel.IGNORE)


def check_query(query: str, dialect: Dialect) -> str:
    """Return the author's query without a closing semicolon.

    :raises ValueError: if it is empty or more than one statement; a retry does not help.
    """
    from sqlglot import Dialect as Tokenizers
    from sqlglot import TokenType
    from sqlglot.errors import TokenError

    try:
        tokens = Tokenizers.get_or_raise(dialect.name).tokenize(query)
    except TokenError as error:
        raise ValueError("sql cannot be read: a quote or a comment is not closed") from error
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise ValueError("sql is empty; expected a SELECT that gives one row per member")
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        raise ValueError("sql holds more than one statement; expected a single SELECT, without semicolons")
    if tokens[0].token_type not in (TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN):
        raise ValueError(f"sql begins with {tokens[0].text.upper()}; expected a SELECT or WITH ... SELECT")
    depth = 0
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth < 0:
            break
    if depth:
        raise ValueError("sql has a parenthesis that is not closed, or closed too often")
    return query[: tokens[-1].end + 1]


def column(name: str, table_name: str | None = None) -> exp.Column:
    """Build a reference to a column."""
    from sqlglot import exp

    return exp.column(name, table=table_name, quoted=True)


def table(schema: str | None, name: str) -> exp.Table:
    """Build a reference to a table; a schema may be ``database.schema``."""
    from sqlglot import exp

    database, _, inner = (schema or "").rpartition(".")
    return exp.table_(name, db=inner or None, catalog=database or None, quoted=True)


def text(value: str) -> exp.Expr:
    """Build a text literal with the type of text, which a bare literal lacks on some engines."""
    from sqlglot import exp

    return exp.cast(exp.Literal.string(value), "TEXT")


def read_value(name: str, kind: Kind) -> exp.Expr:
    """Build what is read of one state column."""
    from sqlglot import exp

    value: exp.Expr = column(name)
    if kind is Kind.EXACT:
        value = exp.cast(value, "TEXT")
        value = exp.case().when(value.copy().isin("NaN", "Infinity", "-Infinity"), exp.null()).else_(value)
    return value.as_(name, quoted=True)


def write_table(
    warehouse: Warehouse,
    target: exp.Table,
    query: exp.Query,
    *,
    source_query: str | None = None,
    sliced_by: str = "",
    tells_audiences: bool = False,
) -> None:
    """Create a table from a query; no engine has to rename, replace or update what is never changed.

    :param source_query: the author's query, where the query reads the source.
    :param sliced_by: the column by which the table will be read slice by slice, if so.
    :param tells_audiences: whether the table has rows that tell of audiences, and will be asked for them.
    """

    name = target.sql(dialect=warehouse.dialect.name, identify=True)
    sql = render(query, warehouse.dialect, query=source_query)
    warehouse.write_table(name, sql, sliced_by=sliced_by, tells_audiences=tells_audiences)


def drop_table(warehouse: Warehouse, target: exp.Table) -> None:
    """Drop a table if it is there."""
    dialect = warehouse.dialect
    warehouse.drop_table(target.sql(dialect=dialect.definitions or dialect.name, identify=True))


def write_view(warehouse: Warehouse, target: exp.Table, query: exp.Query, *, replace: bool = True) -> None:
    """Create a view.

    :param replace: put it in the place of one of that name, if there is one; otherwise the engine refuses it.
    """
    from sqlglot import exp

    statement = exp.Create(this=target, kind="VIEW", expression=query, replace=replace)
    warehouse.execute(render(statement, warehouse.dialect))


def drop_view(warehouse: Warehouse, target: exp.Table) -> None:
    """Drop a view if it is there."""
    name = target.sql(dialect=warehouse.dialect.name, identify=True)
    warehouse.execute(f"DROP VIEW IF EXISTS {name}")


def view_name(sync_id: str) -> str:
    """Name the view over a sync's change sets."""
    return f"history_{slug(sync_id)}"


def table_name(what: str, sync_id: str, as_of: datetime, token: str) -> str:
    """Name a new state table after its sync and instant, in at most 60 bytes of ASCII.

    :param token: six characters that no other attempt has, so that none writes into another's table.
    """
    when = re.sub(r"[^0-9T]", "", instant_text(as_of)).replace("T", "_")
    return f"{what}_{slug(sync_id)}_{when}_{token}"


def slug(sync_id: str) -> str:
    """Shorten a sync's name to at most 28 ASCII characters that no other sync has."""
    digest = hashlib.blake2b(sync_id.encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'[^a-z0-9]+', '_', sync_id.lower()).strip('_')[:19]}_{digest}"
