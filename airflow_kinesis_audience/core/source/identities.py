"""SQL of an identity's values: normalized, hashed, one or several, and whether a value is what its rule promises.

It builds expressions and runs none. Everything happens inside the warehouse, before anything is compared, so that
a raw value that is to be hashed never leaves it. White space, lower case and what is no value are the same on
every engine, by tables and not by a collation. A value is hashed once or not at all: one that looks hashed already
is counted as invalid and never hashed again, and so is one that is not hashed although it should be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS, DIGEST_CHARACTERS
from airflow_kinesis_audience.core.source.letter_case import LETTERS
from airflow_kinesis_audience.core.source.texts import element_text, text_of
from airflow_kinesis_audience.core.sql.collations import by_bytes
from airflow_kinesis_audience.core.sql.statements import column, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
    from airflow_kinesis_audience.core.source.layout import Column
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.sql.functions import ListFunctions

_WHITE = "".join(
    chr(point)
    for first, last in (
        *(
            (0x09, 0x0D),
            (0x1C, 0x20),
            (0x85, 0x85),
            (0xA0, 0xA0),
            (0xAD, 0xAD),
            (0x061C, 0x061C),
            (0x1680, 0x1680),
        ),
        *((0x180E, 0x180E), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x2064), (0x2066, 0x206F)),
        *((0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    )
    for point in range(first, last + 1)
)
"""What goes at both ends: Unicode's white space, the four separators of ASCII, and what has no width: soft hyphen,
joiners, marks of direction, byte order mark (of kind Cf, what is to be ignored by whoever does not know it)."""

_PUNCTUATION = _WHITE + "()-./\u2010\u2011\u2012\u2013"
"""What people write into a phone number between its digits."""

_E164 = r"^\+[1-9][0-9]{6,14}$"
"""Plus, country code, number: 15 digits at most. Source: ITU-T recommendation E.164."""

_WITH_TRUNK_ZERO = "^[+](1|7|20|27|3[0-46]|4[013-689]|5[1-8]|6[0-1345]|8[46]|90|9[234578])0[0-9]*$"
"""A number with the zero that is dialled within the country: no subscriber's number begins with it there. Source:
the metadata of Google's libphonenumber. In Italy the zero is part of the number."""

_IN_PARENTHESES = "^.*[(]0.*$"
"""A zero that begins what stands in parentheses, of a number without white space."""

_PLAIN = "^[!-~]+[.]$"
"""ASCII without white space, and the full stop that is put behind it: to some engines $ is before a line's end."""

_ASCII = "^[\t\n\v\f\r -~]*[.]$"

_GMAIL = "^[.]*[!-*,/-?A-~-][!-?A-~]*@(gmail|googlemail)[.]com[.]$"
"""An address at Gmail, in ASCII, whose name has something else than dots before a plus. Source: the pages on
normalizing addresses for Google Ads and Campaign Manager 360, which leave the domain as it is."""

_HASHED = "^([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128}|[A-Za-z0-9+/]{43}=)$"
"""What MD5, SHA-1, SHA-256 and SHA-512 look like in hexadecimal, and SHA-256 in Base64."""

_ELEMENT = "element"


def identity_value(c: Column, dialect: Dialect) -> exp.Expr:
    """Build what is compared and kept of an identity: a text, or the JSON of a list where there are several.

    A list holds each value once, in an order that depends on the values alone. What is empty after a rule, or in a
    list, counts as no value; a list of none is NULL.
    """
    if not c.several:
        value = text_of(c.source, c.given, dialect)
        return value if c.rule == AS_IT_IS else _kept(value, c.rule, dialect)
    found = _distinct(c, dialect)
    return exp.func("NULLIF", exp.JSONFormat(this=found), exp.Literal.string("[]"))


def is_invalid(c: Column, dialect: Dialect) -> exp.Expr | None:
    """Build the condition that an identity's value is not what its rule promises; none if the rule takes any."""
    if not c.rule.can_be_violated:
        return None
    if not c.several:
        return _breaks(text_of(c.source, c.given, dialect), c.rule, dialect)
    broken: exp.Expr
    if (functions := dialect.functions.of_lists) is not None:
        wrong = _each(functions, functions.keep, _texts(c), lambda v: _breaks(v, c.rule, dialect))
        broken = exp.GT(this=_called(functions.length, wrong), expression=exp.Literal.number(0))
    else:
        one = exp.Literal.number(1)
        broken = exp.Exists(this=_elements(c, one).where(_breaks(column(_ELEMENT), c.rule, dialect)))
    return exp.func("COALESCE", broken, exp.false())


def is_filled(c: Column, dialect: Dialect) -> exp.Expr:
    """Build the condition, never NULL, that the source has anything in an identity's column."""
    if not c.several:
        found = exp.NEQ(this=text_of(c.source, c.given, dialect), expression=exp.Literal.string(""))
        return exp.func("COALESCE", found, exp.false())
    if (functions := dialect.functions.of_lists) is not None:
        some: exp.Expr = exp.GT(this=_called(functions.length, _texts(c)), expression=exp.Literal.number(0))
    else:
        some = exp.Exists(this=_elements(c, exp.Literal.number(1)))
    return exp.func("COALESCE", some, exp.false())


def _distinct(c: Column, dialect: Dialect) -> exp.Expr:
    """Build the list of a column's values, each kept once, NULL left out."""
    if (functions := dialect.functions.of_lists) is not None:
        kept = _each(
            functions, functions.transform, _texts(c), lambda v: _kept(element_text(v, c.given), c.rule, dialect)
        )
        if functions.keeps_nulls:
            kept = _each(functions, functions.keep, kept, lambda v: v.is_(exp.null()).not_())
        return _called(functions.sort, _called(functions.distinct, kept))
    one = _kept(element_text(by_bytes(column(_ELEMENT)), c.given), c.rule, dialect).as_("kept")
    once = _elements(c, one).distinct().subquery("once")
    # By a digest, because a collation's order may change with the system's libraries.
    order = exp.Ordered(this=exp.MD5(this=column("kept")))
    listed = exp.ArrayAgg(this=exp.Order(this=column("kept"), expressions=[order]))
    return exp.select(listed).from_(once).where(column("kept").is_(exp.null()).not_()).subquery()


def _texts(c: Column) -> exp.Expr:
    return exp.cast(column(c.source), exp.DataType.build("ARRAY<TEXT>"))


def _each(
    functions: ListFunctions, name: str, listed: exp.Expr, build: Callable[[exp.Expr], exp.Expr]
) -> exp.Expr:
    """Build a function's call with a list and what is to be done with each element of it."""
    each = exp.Lambda(this=build(column(_ELEMENT)), expressions=[exp.to_identifier(_ELEMENT, quoted=True)])
    return _called(name, each, listed) if functions.lambda_first else _called(name, listed, each)


def _called(name: str, *given: exp.Expr) -> exp.Expr:
    # By this very name: sqlglot would put another in the place of one that it knows.
    return exp.Anonymous(this=name, expressions=list(given))


def _elements(c: Column, wanted: exp.Expr) -> exp.Select:
    alias = exp.TableAlias(
        this=exp.to_identifier("elements", quoted=True), columns=[exp.to_identifier(_ELEMENT, quoted=True)]
    )
    return exp.select(wanted).from_(exp.Unnest(expressions=[_texts(c)], alias=alias))


def _kept(value: exp.Expr, rule: IdentityRule, dialect: Dialect) -> exp.Expr:
    """Build what is kept of one value."""
    kept = _normalized(value, rule, dialect)
    if not rule.hash:
        return kept
    if rule.hash == "md5":
        return exp.MD5(this=kept)
    return sha256(kept, dialect)


def _normalized(value: exp.Expr, rule: IdentityRule, dialect: Dialect) -> exp.Expr:
    """Build what a rule makes of one value before it is hashed; what is no value becomes NULL."""
    empty = exp.Literal.string("")
    if rule.normalize == "none" and not rule.hashed:
        return exp.func("NULLIF", value.copy(), empty)
    trimmed = _trimmed(value, dialect)
    nothing = [exp.Literal.string(text) for text in ("", *rule.no_values) if text == _writable(text, dialect)]
    is_nothing = exp.In(this=_lowered(trimmed), expressions=nothing)
    if rule.normalize == "phone":
        digits = exp.func("NULLIF", _without(value, _PUNCTUATION, dialect), empty)
        return exp.case().when(is_nothing, exp.null()).else_(digits)
    lower = rule.is_email or bool(rule.hashed)
    # Most values need no table: they are ASCII, and have nothing at their ends.
    plain = exp.and_(_is_of(value, _PLAIN, dialect), exp.not_(exp.In(this=_lowered(value), expressions=nothing)))
    found = exp.case()
    if rule.normalize == "gmail":
        found = found.when(
            _is_of(_lowered(trimmed), _GMAIL, dialect), _without_spellings(_lowered(trimmed), dialect)
        )
    found = found.when(plain, _lowered(value) if lower else value.copy()).when(is_nothing, exp.null())
    if rule.is_email and dialect.functions.character_sets:
        found = found.when(_is_of(value, _ASCII, dialect), _lowered(trimmed))
        pairs = [p for p in map("".join, zip(*LETTERS, strict=True)) if p == _writable(p, dialect)]
        letters = ("".join(of_pairs) for of_pairs in zip(*pairs, strict=True))
        return found.else_(exp.func("TRANSLATE", trimmed.copy(), *map(exp.Literal.string, letters)))
    return found.else_(_lowered(trimmed) if lower else trimmed)


def _without_spellings(address: exp.Expr, dialect: Dialect) -> exp.Expr:
    """Build an address at Gmail without the dots of its name, and without a plus and what follows it there."""
    plus, at = exp.Literal.string("+"), exp.Literal.string("@")
    has_plus = exp.Like(this=address.copy(), expression=exp.Literal.string("%+%"))
    ends = exp.case().when(has_plus, _position(plus, address)).else_(_position(at, address))
    length = exp.Sub(this=ends, expression=exp.Literal.number(1))
    name = exp.func("SUBSTRING", address.copy(), exp.Literal.number(1), length)
    domain = exp.func("SUBSTRING", address.copy(), _position(at, address))
    return exp.Concat(expressions=[_without(name, ".", dialect), domain], safe=False, coalesce=False)


def _position(character: exp.Expr, value: exp.Expr) -> exp.Expr:
    return exp.StrPosition(this=value.copy(), substr=character.copy())


def _lowered(value: exp.Expr) -> exp.Expr:
    """Build a text in lower case: of ASCII on every engine, of all letters where there is no TRANSLATE."""
    return exp.Lower(this=value.copy())


def _is_of(value: exp.Expr, pattern: str, dialect: Dialect) -> exp.Expr:
    ended = exp.Concat(expressions=[value.copy(), exp.Literal.string(".")], safe=False, coalesce=False)
    return matches(exp.paren(ended), pattern, dialect)


def _breaks(value: exp.Expr, rule: IdentityRule, dialect: Dialect) -> exp.Expr:
    """Build the condition, never NULL, that one value is not what the rule promises."""
    conditions: list[exp.Expr] = []
    if rule.hashed:
        pattern = f"^[0-9a-f]{{{DIGEST_CHARACTERS[rule.hashed]}}}$"
        conditions.append(exp.not_(matches(_normalized(value, rule, dialect), pattern, dialect)))
    if rule.hash:
        conditions.append(matches(_trimmed(value, dialect), _HASHED, dialect))
    if rule.normalize == "phone":
        # A zero for callers within the country would make another number.
        number, written = _normalized(value, rule, dialect), _without(value, _WHITE, dialect)
        conditions += [
            exp.not_(matches(number, _E164, dialect)),
            matches(number.copy(), _WITH_TRUNK_ZERO, dialect),
            matches(written, _IN_PARENTHESES, dialect),
        ]
    return exp.func("COALESCE", exp.or_(*conditions), exp.false())


def matches(value: exp.Expr, pattern: str, dialect: Dialect) -> exp.Expr:
    """Build the condition that a text matches a regular expression."""
    if dialect.functions.regexp_like:
        return exp.RegexpLike(this=value, expression=exp.Literal.string(pattern))
    found = exp.Anonymous(this="REGEXP_INSTR", expressions=[value, exp.Literal.string(pattern)])
    return exp.GT(this=found, expression=exp.Literal.number(0))


def _trimmed(value: exp.Expr, dialect: Dialect) -> exp.Expr:
    white = _writable(_WHITE, dialect)
    if not dialect.functions.character_sets:
        any_of = _any_of(white)
        return _removed(value, f"^{any_of}+|{any_of}+$")
    return exp.Trim(this=value.copy(), expression=exp.Literal.string(white))


def _without(value: exp.Expr, characters: str, dialect: Dialect) -> exp.Expr:
    characters = _writable(characters, dialect)
    if not dialect.functions.character_sets:
        return _removed(value, _any_of(characters))
    return exp.func("TRANSLATE", value.copy(), exp.Literal.string(characters), exp.Literal.string(""))


def _writable(characters: str, dialect: Dialect) -> str:
    """Return those of some characters that a text can have on an engine."""
    return characters.encode(dialect.text_encoding, "ignore").decode(dialect.text_encoding)


def _any_of(characters: str) -> str:
    return f"[{characters}]".replace("-", r"\-")


def _removed(value: exp.Expr, pattern: str) -> exp.Expr:
    """Build a text without whatever matches a pattern."""
    given = [value.copy(), exp.Literal.string(pattern), exp.Literal.string("")]
    return exp.Anonymous(this="REGEXP_REPLACE", expressions=given)
