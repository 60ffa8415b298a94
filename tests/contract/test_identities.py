"""Identities normalized, hashed and several, inside the real warehouses, against the same rules in plain Python.

What is compared with is written here and shares nothing with the package: ``hashlib``, ``str.strip`` and
``str.lower`` say what has to come out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import GuardTripped, SchemaChanged
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.warehouses import LET_ALL_THROUGH, Stream, day, open_outbox, read_changes

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.changes.guards import Guards

EMAIL = IdentityRule(normalize="email", hash="sha256")
PHONE = IdentityRule(normalize="phone", hash="sha256")
UPDATE = replace(LET_ALL_THROUGH, on_schema_change="update")
DROP = replace(LET_ALL_THROUGH, on_invalid_rows="drop")


def hexdigest(text: str, kind: str = "sha256") -> str:
    return hashlib.new(kind, text.encode()).hexdigest()


@dataclass
class Given:
    """Rows of one identity column, and runs over them."""

    warehouse: Any
    rule: IdentityRule = field(default_factory=IdentityRule)
    type_name: str = "TEXT"
    table: str = "given"

    def put(self, *values: Any) -> None:
        """Replace all rows; users are u0, u1, …"""
        self.warehouse.execute(f"DROP TABLE IF EXISTS {self.table}")
        self.warehouse.execute(f"CREATE TABLE {self.table} (uid TEXT, ident {self.type_name})")
        mark = self.warehouse.placeholder
        for n, value in enumerate(values):
            self.warehouse.execute(f"INSERT INTO {self.table} VALUES ({mark}, {mark})", [f"u{n}", value])

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.warehouse, "airflow_audience", "given")

    def run(self, number: int, *, guards: Guards = LET_ALL_THROUGH) -> Mapping[str, Any]:
        source = Source(
            query=f"SELECT * FROM {self.table}",
            user_id="uid",
            identities={"ident": "Ident"},
            properties={},
            audience_id="a",
            identity_rules={"ident": self.rule},
        )
        return Sync(self.ledger, source, guards=guards).run(day(number))

    def changes(self, number: int) -> dict[str, tuple[str, Any, Any]]:
        """Read a change set: user to action, the old identity and the new one."""
        return {
            user: (c.action[n], c.old_identities["Ident"][n], c.new_identities["Ident"][n])
            for c in read_changes(self.ledger, day(number))
            for n, user in enumerate(c.user_id)
        }

    def entered(self, *values: Any) -> list[Any]:
        """Begin with nobody, let users with these values enter, and say what their identity became."""
        self.put()
        self.run(0)
        self.put(*values)
        self.run(1)
        found = self.changes(1)
        assert {action for action, _, _ in found.values()} == {"entered"}
        return [found[f"u{n}"][2] for n in range(len(values))]


@pytest.fixture
def given(warehouse) -> Given:
    return Given(warehouse)


RAW = ["Ann@Example.com", "  bob@example.com\t\r\n", "\u00a0Eve@EXAMPLE.com ", "", "   ", None, "O'Neill@x\\y.com"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (IdentityRule(), RAW),
        (IdentityRule(normalize="trim"), [v and (v.strip() or None) for v in RAW[:3]] + [None] * 3 + RAW[6:]),
        (IdentityRule(normalize="email"), [(v or "").strip().lower() or None for v in RAW]),
        (EMAIL, [hexdigest(v.strip().lower()) if v and v.strip() else None for v in RAW]),
        (
            IdentityRule(normalize="email", hash="md5"),
            [hexdigest(v.strip().lower(), "md5") if v and v.strip() else None for v in RAW],
        ),
        (
            IdentityRule(normalize="trim", hash="sha256"),
            [hexdigest(v.strip()) if v and v.strip() else None for v in RAW],
        ),
    ],
    ids=["as it is", "trimmed", "email", "email sha256", "email md5", "trimmed sha256"],
)
def test_an_identity_becomes_what_its_rule_says(given, rule, expected):
    given.rule = rule
    assert given.entered(*RAW) == expected


def test_letters_beyond_ascii_are_hashed_as_utf8(given):
    given.rule = IdentityRule(normalize="trim", hash="sha256")
    assert given.entered("Zoë-東京-🎉") == [hexdigest("Zoë-東京-🎉")]


def test_a_phone_number_becomes_e164(given):
    given.rule = IdentityRule(normalize="phone")
    written = [
        "+47 22 12 34 56",
        "+1 (415) 555-2671",
        " +44-20.7946/0958 ",
        "+4915123456789",
        "",
        None,
        "+39 06 69812345",
    ]
    assert given.entered(*written) == [
        "+4722123456",
        "+14155552671",
        "+442079460958",
        "+4915123456789",
        None,
        None,
        "+390669812345",
    ]


@pytest.mark.parametrize(
    ("rule", "wrong", "what"),
    [
        (EMAIL, hexdigest("ann@example.com"), "are probably hashed already"),
        (EMAIL, hexdigest("ann@example.com").upper() + " ", "are probably hashed already"),
        (EMAIL, hexdigest("ann@example.com", "md5"), "are probably hashed already"),
        (EMAIL, hexdigest("ann@example.com", "sha1"), "are probably hashed already"),
        (EMAIL, "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=", "are probably hashed already"),
        (PHONE, "55 12 34 56", "are not international phone numbers"),
        (PHONE, "+44 (0)20 7946 0958", "are not international phone numbers"),
        (PHONE, "+44 ( 0 ) 20 7946 0958", "are not international phone numbers"),
        (PHONE, "+44 (020) 7946 0958", "are not international phone numbers"),
        (PHONE, "+44 020 7946 0958", "are not international phone numbers"),
        (PHONE, "+44 (\u200b00) 20 7946 0958", "are not international phone numbers"),
        (PHONE, "(00)44 20 7946 0958", "are not international phone numbers"),
        (PHONE, "+47 2212 ext. 7", "are not international phone numbers"),
        (PHONE, "+1234567890123456", "are not international phone numbers"),
        (
            PHONE,
            hexdigest("+4722123456"),
            "are not international phone numbers such as .*, or are probably hashed already",
        ),
        (IdentityRule(normalize="phone"), "0047 22 12 34 56", "are not international phone numbers"),
        (IdentityRule(hashed="sha256"), "ann@example.com", "are not sha256 digests"),
        (IdentityRule(hashed="sha256"), hexdigest("ann@example.com", "md5"), "are not sha256 digests"),
        (IdentityRule(hashed="md5"), hexdigest("ann@example.com"), "are not md5 digests"),
    ],
)
def test_a_value_that_is_not_what_its_rule_promises_stops_the_run_and_nothing_is_told_of_it(
    given, rule, wrong, what
):
    given.rule = rule
    right = {"phone": "+4722123456"}.get(rule.normalize, "bob@example.com")
    right = hexdigest(right, rule.hashed) if rule.hashed else right
    given.put(right, wrong, None)
    with pytest.raises(GuardTripped, match=rf"1 of 3 rows have 'Ident' values that {what}") as caught:
        given.run(0)
    assert wrong.strip() not in str(caught.value)
    summary = given.run(0, guards=DROP)
    assert (summary["members"], summary["dropped_rows"]) == (2, 1)


def test_wrong_values_stop_a_later_run_too_and_leave_the_baseline(given):
    given.rule = EMAIL
    given.put("ann@example.com", "bob@example.com")
    given.run(0)
    given.put("ann@example.com", "bob@example.com", hexdigest("eve@example.com"), hexdigest("may@example.com"))
    with pytest.raises(GuardTripped, match="2 of 4 rows have 'Ident' values that are probably hashed already"):
        given.run(1)
    given.put("ann@example.com", "bob@example.com")
    assert [given.run(1)[n] for n in ("entered", "exited", "updated", "members")] == [0, 0, 0, 2]


def test_rows_without_user_and_rows_with_a_wrong_identity_are_counted_apart(given):
    given.rule = EMAIL
    given.put("ann@example.com", hexdigest("bob@example.com"))
    given.warehouse.execute(f"INSERT INTO given VALUES (NULL, 'x@y.z'), (NULL, '{hexdigest('x')}'), ('', NULL)")
    with pytest.raises(
        GuardTripped,
        match=r"3 of 5 rows have no user id .*1 of 5 rows have 'Ident' values that are probably hashed",
    ):
        given.run(0)


def test_a_user_with_a_wrong_row_and_a_right_one_is_a_member_by_the_right_one(given):
    given.rule = EMAIL
    given.put(hexdigest("a@b.c"), "zoe@example.com")
    given.warehouse.execute("INSERT INTO given VALUES ('u0', 'a@b.c'), ('u1', 'zoe@example.com')")
    summary = given.run(0, guards=DROP)
    assert (summary["members"], summary["dropped_rows"]) == (2, 2)
    given.put("a@b.c", "zoe@example.com")
    assert [given.run(1)[n] for n in ("entered", "exited", "updated")] == [0, 0, 0]


def test_what_the_source_has_hashed_is_told_in_lower_case_and_not_hashed_again(given):
    given.rule = IdentityRule(hashed="sha256")
    digest = hexdigest("ann@example.com")
    assert given.entered(digest, f" {digest.upper()} ", None) == [digest, digest, None]


def test_another_spelling_of_one_address_is_no_change(given):
    given.rule = EMAIL
    given.put("Ann@Example.com", "bob@example.com")
    given.run(0)
    given.put(" ann@example.COM", "bob2@example.com")
    assert [given.run(1)[n] for n in ("entered", "exited", "updated")] == [0, 0, 1]
    assert given.changes(1) == {"u1": ("updated", hexdigest("bob@example.com"), hexdigest("bob2@example.com"))}


def raw_in_state(given: Given, needle: str) -> list[str]:
    """Find the state tables that hold a text."""
    listed = given.warehouse.read_rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'airflow_audience'"
    )
    return [
        name
        for (name,) in listed
        if needle in str(given.warehouse.read_rows(f"SELECT * FROM airflow_audience.{name}"))
    ]


def test_a_raw_value_is_not_even_kept(given):
    given.rule = EMAIL
    given.put("ann@example.com")
    given.run(0)
    given.put("ann@example.com", "bob@example.com")
    given.run(1)
    assert raw_in_state(given, hexdigest("ann@example.com"))
    assert raw_in_state(given, hexdigest("bob@example.com"))
    assert raw_in_state(given, "@") == []


def test_a_rule_that_changes_is_a_changed_mapping(given):
    given.put("ann@example.com")
    given.run(0)
    given.rule = EMAIL
    with pytest.raises(
        SchemaChanged,
        match=r"'Ident' was ident \(text\) and is ident \(text, normalized as email, hashed with sha256\)",
    ):
        given.run(1)


def test_hashing_that_is_turned_on_tells_the_digests_and_never_again_what_was_raw(given):
    given.put("ann@example.com", "bob@example.com", None)
    given.run(0)
    given.rule = EMAIL
    given.put("ann@example.com")
    given.warehouse.execute("INSERT INTO given VALUES ('u2', NULL), ('u3', 'may@example.com')")
    summary = given.run(1, guards=UPDATE)
    assert [summary[n] for n in ("entered", "exited", "updated")] == [1, 1, 1]
    assert given.changes(1) == {
        "u0": ("updated", None, hexdigest("ann@example.com")),
        "u1": ("exited", None, None),
        "u3": ("entered", None, hexdigest("may@example.com")),
    }
    given.put("ann@example.com")
    assert [given.run(2, guards=UPDATE)[n] for n in ("entered", "exited", "updated")] == [0, 2, 0]
    assert given.changes(2)["u3"] == ("exited", hexdigest("may@example.com"), None)


LISTS: Sequence[Any] = [["b@x", "a@x"], ["a@x", "a@x", "b@x", None, ""], ["b@x"], [], None, [None], ["B@x", "b@x"]]


def test_a_column_of_lists_gives_several_values_each_once_in_one_order(given):
    given.type_name = "TEXT[]"
    assert given.entered(*LISTS) == [
        ["a@x", "b@x"],
        ["a@x", "b@x"],
        ["b@x"],
        None,
        None,
        None,
        ["B@x", "b@x"],
    ]


def test_each_of_several_values_is_normalized_and_hashed(given):
    given.type_name, given.rule = "TEXT[]", EMAIL
    assert given.entered([" Ann@x.y", "bob@x.y", "ann@X.Y"], None) == [
        sorted([hexdigest("ann@x.y"), hexdigest("bob@x.y")]),
        None,
    ]
    given.put([" Ann@x.y"], [hexdigest("ann@x.y"), "eve@x.y"])
    with pytest.raises(GuardTripped, match="1 of 2 rows have 'Ident' values that are probably hashed already"):
        given.run(2)


def test_the_order_of_several_values_is_no_change_and_another_value_is(given):
    given.type_name = "TEXT[]"
    given.put(["b", "a"], ["c"], ["\"quoted\", 'and' \\ é"])
    given.run(0)
    given.put(["a", "b", "b"], ["c", "d"], ["\"quoted\", 'and' \\ é"])
    assert [given.run(1)[n] for n in ("entered", "exited", "updated")] == [0, 0, 1]
    assert given.changes(1) == {"u1": ("updated", ["c"], ["c", "d"])}
    given.put(["a"], ["c", "d"])
    given.run(2)
    assert given.changes(2) == {
        "u0": ("updated", ["a", "b"], ["a"]),
        "u2": ("exited", ["\"quoted\", 'and' \\ é"], None),
    }


def test_one_value_that_becomes_several_is_a_changed_mapping(given):
    given.put("a", "b")
    given.run(0)
    given.type_name = "TEXT[]"
    given.put(["a"], ["b", "c"])
    with pytest.raises(SchemaChanged, match=r"was ident \(text\) and is ident \(text, several values\)"):
        given.run(1)
    given.run(1, guards=UPDATE)
    assert given.changes(1) == {"u0": ("updated", "a", ["a"]), "u1": ("updated", "b", ["b", "c"])}


def test_other_formats_read_the_same_change_set(given):
    given.type_name, given.rule = "TEXT[]", EMAIL
    given.put(["ann@x.y"])
    given.run(0)
    stream = Stream()
    open_outbox(given.ledger, stream).drain(day(0))
    assert re.search(rb'"user_id":"u0"', stream.taken[0].data)
