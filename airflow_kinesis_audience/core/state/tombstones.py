"""Tombstones: digests of the ids of users who are forgotten, which no run lets be members again.

A digest is the SHA-256 of a salt and the id. The salt is drawn once per sync and stands in its ledger, so that
digests of two states have nothing in common; the id itself is kept nowhere. Tables of tombstones are small, and
one replaces the other. It builds statements and runs none.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.sql.statements import column, sha256, table, text, union_all

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import Tombstones

DIGESTS_AT_ONCE = 200
"""Digests that one statement adds to a table."""

_SALT_BYTES = 32


def draw_salt() -> str:
    """Draw the salt of a sync, of 64 characters."""
    return secrets.token_hex(_SALT_BYTES)


def digest_of(user_id: str, salt: str) -> str:
    """Digest a user id as :func:`is_forgotten` does."""
    return hashlib.sha256((salt + user_id).encode("utf-8", "surrogatepass")).hexdigest()


def is_forgotten(schema: str, tombstones: Tombstones, dialect: Dialect, user: exp.Expr) -> exp.Expr:
    """Build the condition that a user is forgotten; one of no id is not.

    :param user: the user's id, a column that names its table.
    """
    salted = exp.DPipe(this=exp.Literal.string(tombstones.salt), expression=user)
    same = column("digest", "tombstones").eq(sha256(salted, dialect))
    origin = table(schema, tombstones.table).as_("tombstones")
    return exp.Exists(this=exp.select(exp.Literal.number(1)).from_(origin).where(same))


def without_forgotten(read: exp.Select, ledger: Ledger) -> exp.Select:
    """Build the reading of the source without users who are forgotten; as it is if there are none."""
    tombstones = ledger.state.timeline.tombstones
    if tombstones is None or not tombstones.table:
        return read
    dialect, user = ledger.warehouse.dialect, column("user_id", "given_rows")
    forgotten = is_forgotten(ledger.schema, tombstones, dialect, user)
    names = map(column, read.named_selects)
    return exp.select(*names).from_(read.subquery("given_rows", copy=False)).where(exp.not_(forgotten))


def select_tombstones(
    schema: str, known: str, digests: Sequence[str], *, recalled: Collection[str] = ()
) -> exp.Query:
    """Build a table of tombstones: those of another table, and some more.

    :param known: name of the other; empty if there is none.
    :param digests: at most :data:`DIGESTS_AT_ONCE` that are new, and at least one where nothing is known.
    :param recalled: at most as many of those known that are left out.
    """
    rows: list[exp.Query] = [exp.select(text(digest).as_("digest")) for digest in digests]
    if known:
        kept = exp.select(column("digest")).from_(table(schema, known))
        if recalled:
            kept = kept.where(exp.not_(column("digest").isin(*recalled)))
        rows.insert(0, kept)
    return union_all(rows)


def select_digests(schema: str, name: str) -> exp.Select:
    """Build the reading of a table of tombstones. Columns: digest."""
    return exp.select(column("digest")).from_(table(schema, name))


def select_counts_of_forgotten(
    schema: str, names: Sequence[str], tombstones: Tombstones, dialect: Dialect
) -> exp.Query:
    """Build how many rows of each table are about users who are forgotten. Columns: name, rows."""

    def count(name: str) -> exp.Select:
        forgotten = is_forgotten(schema, tombstones, dialect, column("user_id", "kept"))
        counted = exp.select(text(name).as_("name"), exp.Count(this=exp.Star()).as_("rows"))
        return counted.from_(table(schema, name).as_("kept")).where(forgotten)

    return union_all(map(count, names))


def select_forgotten(schema: str, names: Sequence[str], tombstones: Tombstones, dialect: Dialect) -> exp.Query:
    """Build the ids of users who are forgotten and have rows in some tables. Columns: user_id."""

    def find(name: str) -> exp.Select:
        forgotten = is_forgotten(schema, tombstones, dialect, column("user_id", "kept"))
        return (
            exp.select(column("user_id", "kept"))
            .distinct()
            .from_(table(schema, name).as_("kept"))
            .where(forgotten)
        )

    return union_all(map(find, names))


def select_kept(schema: str, name: str, tombstones: Tombstones, dialect: Dialect) -> exp.Select:
    """Build all rows of a table but those about users who are forgotten; each keeps its position."""
    forgotten = is_forgotten(schema, tombstones, dialect, column("user_id", "kept"))
    kept = exp.select(exp.Star()).from_(table(schema, name).as_("kept"))
    return kept.where(exp.not_(forgotten))
