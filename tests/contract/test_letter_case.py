"""E-mail addresses and placeholders by rule, on databases of every collation, against one oracle in plain Python.

The oracle is ``unicodedata`` alone: the white space, the format characters and the simple lower-case mapping that
the documentation names. Which letters have one is asked of the table, since Python knows more of them.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sqlglot import exp

from airflow_kinesis_audience.core.model.identity_rules import NO_VALUES, IdentityRule
from airflow_kinesis_audience.core.source import identities
from airflow_kinesis_audience.core.source.letter_case import LETTERS
from airflow_kinesis_audience.core.sql.statements import column, render, table
from tests.warehouses import open_duckdb, open_postgres

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

EMAIL = IdentityRule(normalize="email")
GMAIL = IdentityRule(normalize="gmail")
TRIM = IdentityRule(normalize="trim")
PHONE = IdentityRule(normalize="phone")
DATABASES = {
    "C": "LOCALE 'C'",
    "C.UTF-8": "LOCALE 'C.UTF-8'",
    "Turkish": "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C.UTF-8'",
    "root": "LOCALE_PROVIDER icu ICU_LOCALE 'und' LOCALE 'C.UTF-8'",
}
"""Databases of PostgreSQL, as CREATE DATABASE makes them."""

WHITE = [
    chr(n)
    for n in range(1, 0x10000)
    if chr(n).isspace() or (unicodedata.category(chr(n)) == "Cf" and not 0x600 <= n <= 0x8E2) or n == 0x061C
]
WHITE = [c for c in WHITE if c not in "\ufff9\ufffa\ufffb"]  # they are to be shown


def lower(text: str) -> str:
    """Lower-case each letter by itself, where Unicode 5.2 has one letter for it."""
    known = set(LETTERS.upper)
    return "".join(("i" if c == "İ" else c.lower()) if c in known else c for c in text)


@pytest.fixture(params=["duckdb", "mysql", *DATABASES])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlWarehouse]:
    """Open an empty database of one collation."""
    if request.param == "duckdb":
        with open_duckdb(tmp_path / "warehouse.duckdb") as warehouse:
            yield warehouse
        return
    if request.param == "mysql":
        server, database = (request.getfixturevalue(f"mysql_{n}") for n in ("server", "database"))
        with server.open(database) as warehouse:
            warehouse.execute(f"ALTER DATABASE {database} COLLATE utf8mb4_turkish_ci")
            yield warehouse
        return
    server, name = request.getfixturevalue("postgres_server"), f"letters_{request.param.lower()[:3].strip('.')}"
    try:
        server.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8' {DATABASES[request.param]}")
    except Exception as error:
        pytest.skip(f"this server has no such collation: {type(error).__name__}")
    with contextlib.ExitStack() as stack:
        stack.callback(server.execute, f'DROP DATABASE "{name}"')
        yield stack.enter_context(open_postgres(server.dsn(name)))


def become(warehouse: SqlWarehouse, rule: IdentityRule, texts: list[str]) -> list[str | None]:
    """Give what a rule makes of texts, in one statement."""
    mark = warehouse.placeholder
    is_mysql = warehouse.dialect.name == "mysql"
    warehouse.execute("DROP TABLE IF EXISTS given")
    warehouse.execute(f"CREATE TABLE given (n INT, v {'LONGTEXT' if is_mysql else 'TEXT'})")
    for first in range(0, len(texts), 500):
        part = texts[first : first + 500]
        values = [v for n, text in enumerate(part, first) for v in (n, text)]
        warehouse.execute(f"INSERT INTO given VALUES {', '.join([f'({mark}, {mark})'] * len(part))}", values)
    made = identities._normalized(exp.cast(column("v"), "TEXT"), rule, warehouse.dialect)
    query = exp.select(made.as_("made")).from_(table(None, "given")).order_by(column("n"))
    return [row[0] for row in warehouse.read_rows(render(query, warehouse.dialect))]


def test_every_letter_becomes_the_same_whatever_the_collation(engine: SqlWarehouse) -> None:
    assigned = [chr(n) for n in range(0x21, 0x10450) if unicodedata.category(chr(n))[0] in "LMNSP"]
    texts = ["x" + "".join(assigned[n : n + 40]) + "X@Y" for n in range(0, len(assigned), 40)]
    assert become(engine, EMAIL, texts) == [lower(text) for text in texts]
    words = ["İSTANBUL.IŞIK@Örnek.TR", "ΟΔΟΣ@ΑΒΓ.gr", "STRAßE@x.DE", "ÉVE@Ü.Example", "ПЁТР@ПОЧТА.РФ", "I@I.I"]
    assert become(engine, EMAIL, words) == [lower(word) for word in words]


def test_white_space_and_what_has_no_width_goes_at_both_ends_and_stays_inside(engine: SqlWarehouse) -> None:
    assert len(WHITE) > 50
    texts = [f"{c}{c}a{c}b@X{c}" for c in WHITE]
    texts += ["".join(WHITE) + "É@x" + "".join(reversed(WHITE)), "a@x\n", "a@x\r"]
    expected = [f"a{c}b@x" for c in WHITE] + ["é@x", "a@x", "a@x"]
    assert become(engine, EMAIL, texts) == expected
    assert become(engine, TRIM, [f"{c}B{c}" for c in WHITE]) == ["B"] * len(WHITE)
    assert become(engine, EMAIL, [f"{c}{c}" for c in WHITE]) == [None] * len(WHITE)


_NAMES = (
    "ada",
    "A.d.a",
    "ada+news",
    "a.d.a+x.y+z",
    ".ada.",
    "-a",
    "a-b_c",
    "a+",
    "+a",
    "..",
    ".+a",
    "",
    "a b",
    "É.a",
)
_DOMAINS = (
    "gmail.com",
    "GoogleMail.COM",
    "gmail.co",
    "xgmail.com",
    "gmail.com.au",
    "a.gmail.com",
    "gmail.com@x",
    "x@gmail.com",
)
AT_GMAIL = [f"{name}@{domain}" for name in _NAMES for domain in _DOMAINS]
AT_GMAIL += [f"{c}A.b+c@Gmail.com{c}" for c in WHITE] + ["gmail.com", "a.b+c", "A.I+I@GMAIL.COM", "a.b@gmailxcom"]


def gmail(text: str) -> str | None:
    """Say what becomes of an address by the rule ``gmail``: the oracle, which knows no SQL."""
    address = lower(text.strip("".join(WHITE)))
    name, at, domain = address.partition("@")
    bare = name.partition("+")[0].replace(".", "")
    is_plain = bare and name.isascii() and name.isprintable() and " " not in name
    return bare + at + domain if is_plain and domain in ("gmail.com", "googlemail.com") else address


def test_an_address_at_gmail_loses_its_dots_and_what_follows_a_plus_and_no_other_does(
    engine: SqlWarehouse,
) -> None:
    assert become(engine, GMAIL, AT_GMAIL) == [gmail(text) for text in AT_GMAIL]
    assert become(engine, EMAIL, ["A.b+c@Gmail.com"]) == ["a.b+c@gmail.com"]
    assert become(engine, GMAIL, ["null", " N/A "]) == [None, None]


def test_what_stands_for_no_identity_is_none(engine: SqlWarehouse) -> None:
    written = [*NO_VALUES, "NULL", "None", "NaN", "N/A", "\u00a0", "\ufeffnull\u200b", " - "]
    for rule in (EMAIL, TRIM, PHONE, IdentityRule(hashed="md5")):
        assert become(engine, rule, written) == [None] * len(written), rule
    # What only looks like one to a collation is none.
    kept = ["nullo", "nüll", "non", "0", "a-", "n a"]
    assert become(engine, TRIM, kept) == kept
    own = IdentityRule(normalize="trim", placeholders=("Unknown", "0"))
    assert become(engine, own, ["unknown", " 0", "null", ""]) == [None, None, "null", None]
    assert become(engine, IdentityRule(hashed="md5"), ["D41D8CD98F00B204E9800998ECF8427E"]) == [None]
