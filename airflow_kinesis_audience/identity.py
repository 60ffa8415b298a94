"""SQL of an identity's values: normalized, hashed, one or several, and whether a value is what its rule promises.

It builds expressions and runs none. Everything happens inside the warehouse, before anything is compared, so that
a raw value that is to be hashed never leaves it. A value is hashed once or not at all: what looks hashed already
is told apart and never hashed again, and so is what is not hashed although it should be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import AS_IT_IS, DIGEST_CHARACTERS
from airflow_kinesis_audience.sql import column

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlglot import exp

    from airflow_kinesis_audience.audience import IdentityRule
    from airflow_kinesis_audience.dialects import Dialect, ListFunctions
    from airflow_kinesis_audience.layout import Column

_WHITE = " \t\n\r\v\f\u00a0\u200b\ufeff"
_PUNCTUATION = _WHITE + "()-./\u2010\u2011\u2012\u2013"
"""What people write into a phone number between its digits."""

_E164 = r"^\+[1-9][0-9]{6,14}$"
"""Plus, country code, number: 15 digits at most. Source: ITU-T recommendation E.164."""

_HASHED = "^([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128}|[A-Za-z0-9+/]{43}=)$"
"""What MD5, SHA-1, SHA-256 and SHA-512 look like in hexadecimal, and SHA-256 in Base64."""

_ELEMENT = "element"


def identity_value(c: Column, dialect: Dialect) -> exp.Expr:
    """Build what is compared and kept of an identity: a text, or the JSON of a list where there are several.

    A list holds each value once, in an order that depends on the values alone. What is empty after a rule, or in a
    list, counts as no value; a list of none is NULL.
    """
    from sqlglot import exp

    if not c.several:
        value = exp.cast(column(c.source), "TEXT")
        return value if c.rule == AS_IT_IS else _kept(value, c.rule, dialect)
    found = _distinct(c, dialect)
    return exp.func("NULLIF", exp.JSONFormat(this=found), exp.Literal.string("[]"))


def is_wrong(c: Column, dialect: Dialect) -> exp.Expr | None:
    """Build the condition that an identity's value is not what its rule promises; none if the rule takes any."""
    from sqlglot import exp

    if not c.rule.can_be_broken:
        return None
    if not c.several:
        return _breaks(exp.cast(column(c.source), "TEXT"), c.rule, dialect)
    broken: exp.Expr
    if (functions := dialect.list_functions) is not None:
        wrong = _each(functions, functions.keep, _texts(c), lambda v: _breaks(v, c.rule, dialect))
        broken = exp.GT(this=_called(functions.length, wrong), expression=exp.Literal.number(0))
    else:
        one = exp.Literal.number(1)
        broken = exp.Exists(this=_elements(c, one).where(_breaks(column(_ELEMENT), c.rule, dialect)))
    return exp.func("COALESCE", broken, exp.false())


def _distinct(c: Column, dialect: Dialect) -> exp.Expr:
    """Build the list of a column's values, each kept once, NULL left out."""
    from sqlglot import exp

    if (functions := dialect.list_functions) is not None:
        kept = _each(functions, functions.transform, _texts(c), lambda v: _kept(v, c.rule, dialect))
        if functions.keeps_nulls:
            kept = _each(functions, functions.keep, kept, lambda v: v.is_(exp.null()).not_())
        return _called(functions.sort, _called(functions.distinct, kept))
    one = _kept(column(_ELEMENT), c.rule, dialect).as_("kept", quoted=True)
    once = _elements(c, one).distinct().subquery("once")
    # By a digest, because a collation's order may change with the system's libraries.
    order = exp.Ordered(this=exp.MD5(this=column("kept")))
    listed = exp.ArrayAgg(this=exp.Order(this=column("kept"), expressions=[order]))
    return exp.select(listed).from_(once).where(column("kept").is_(exp.null()).not_()).subquery()


def _texts(c: Column) -> exp.Expr:
    from sqlglot import exp

    return exp.cast(column(c.source), exp.DataType.build("ARRAY<TEXT>"))


def _each(
    functions: ListFunctions, name: str, listed: exp.Expr, build: Callable[[exp.Expr], exp.Expr]
) -> exp.Expr:
    """Build a function's call with a list and what is to be done with each element of it."""
    from sqlglot import exp

    each = exp.Lambda(this=build(column(_ELEMENT)), expressions=[exp.to_identifier(_ELEMENT, quoted=True)])
    return _called(name, each, listed) if functions.lambda_first else _called(name, listed, each)


def _called(name: str, *given: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    # By this very name: sqlglot would put another in the place of one that it knows.
    return exp.Anonymous(this=name, expressions=list(given))


def _elements(c: Column, wanted: exp.Expr) -> exp.Select:
    from sqlglot import exp

    alias = exp.TableAlias(
        this=exp.to_identifier("elements", quoted=True), columns=[exp.to_identifier(_ELEMENT, quoted=True)]
    )
    return exp.select(wanted).from_(exp.Unnest(expressions=[_texts(c)], alias=alias))


def _kept(value: exp.Expr, rule: IdentityRule, dialect: Dialect) -> exp.Expr:
    """Build what is kept of one value."""
    from sqlglot import exp

    kept = _normalized(value, rule, dialect)
    if not rule.hash:
        return kept
    if rule.hash == "md5":
        return exp.MD5(this=kept)
    given = exp.func("CONVERT_TO", kept, exp.Literal.string("UTF8")) if dialect.hashes_bytes else kept
    return exp.SHA2(this=given, length=exp.Literal.number(256))


def _normalized(value: exp.Expr, rule: IdentityRule, dialect: Dialect) -> exp.Expr:
    from sqlglot import exp

    empty = exp.Literal.string("")
    if rule.normalize == "phone":
        return exp.func("NULLIF", _without(value, _PUNCTUATION, dialect), empty)
    as_given = rule.normalize == "none" and not rule.hashed
    trimmed = value.copy() if as_given else _trimmed(value, dialect)
    lowered = exp.Lower(this=trimmed) if rule.normalize == "email" or rule.hashed else trimmed
    return exp.func("NULLIF", lowered, empty)


def _breaks(value: exp.Expr, rule: IdentityRule, dialect: Dialect) -> exp.Expr:
    """Build the condition, never NULL, that one value is not what the rule promises."""
    from sqlglot import exp

    conditions: list[exp.Expr] = []
    if rule.hashed:
        pattern = f"^[0-9a-f]{{{DIGEST_CHARACTERS[rule.hashed]}}}$"
        conditions.append(exp.not_(_matches(_normalized(value, rule, dialect), pattern, dialect)))
    if rule.hash:
        conditions.append(_matches(_trimmed(value, dialect), _HASHED, dialect))
    if rule.normalize == "phone":
        # A zero in parentheses is there for callers within the country, and would make another number.
        national = exp.Like(this=value.copy(), expression=exp.Literal.string("%(0)%"))
        conditions += [exp.not_(_matches(_normalized(value, rule, dialect), _E164, dialect)), national]
    return exp.func("COALESCE", exp.or_(*conditions), exp.false())


def _matches(value: exp.Expr, pattern: str, dialect: Dialect) -> exp.Expr:
    from sqlglot import exp

    if dialect.regexp_like:
        return exp.RegexpLike(this=value, expression=exp.Literal.string(pattern))
    found = exp.Anonymous(this="REGEXP_INSTR", expressions=[value, exp.Literal.string(pattern)])
    return exp.GT(this=found, expression=exp.Literal.number(0))


def _trimmed(value: exp.Expr, dialect: Dialect) -> exp.Expr:
    from sqlglot import exp

    if not dialect.character_sets:
        any_of = _any_of(_WHITE)
        return _removed(value, f"^{any_of}+|{any_of}+$")
    return exp.Trim(this=value.copy(), expression=exp.Literal.string(_WHITE))


def _without(value: exp.Expr, characters: str, dialect: Dialect) -> exp.Expr:
    from sqlglot import exp

    if not dialect.character_sets:
        return _removed(value, _any_of(characters))
    return exp.func("TRANSLATE", value.copy(), exp.Literal.string(characters), exp.Literal.string(""))


def _any_of(characters: str) -> str:
    return f"[{characters}]".replace("-", r"\-")


def _removed(value: exp.Expr, pattern: str) -> exp.Expr:
    """Build a text without whatever matches a pattern."""
    from sqlglot import exp

    given = [value.copy(), exp.Literal.string(pattern), exp.Literal.string("")]
    return exp.Anonymous(this="REGEXP_REPLACE", expressions=given)
