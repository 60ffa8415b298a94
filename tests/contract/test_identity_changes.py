"""Identities that change, from the table through the diff and the outbox to mParticle's messages.

What went out is read as JSON and with nothing of the package: which way each message goes, and whom it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.warehouses import LET_ALL_THROUGH, Stream, day, open_outbox, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

OLD, NEW = "old@x.example", "new@x.example"
ONE_USER = "u"
Row = tuple[str | None, Sequence[str] | None, str | None, str | None]
"""E-mail, loyalty numbers, mParticle id, city."""
Told = tuple[bool, Mapping[str, Any]]


Said = list[Told]


class Lines:
    """A table that holds one user or nobody, and two delivery streams that are told of it after each run.

    With a change of identities one is told a removal and an addition, the other the addition alone.
    """

    def __init__(self, warehouse: SqlWarehouse, options: Mapping[str, Any] | None = None) -> None:
        self.warehouse = warehouse
        self.deliveries = [
            small_delivery(
                f"removes-{removes}",
                message_format="mparticle_audience",
                options={**(options or {}), "send_remove_on_identity_change": removes},
            )
            for removes in (True, False)
        ]
        self.number = 0
        warehouse.execute("CREATE TABLE one (uid TEXT, email TEXT, cards TEXT[], mpid TEXT, city TEXT)")

    def tell(self, row: Row | None, rules: Mapping[str, IdentityRule] | None = None) -> tuple[Said, Said]:
        """Let the table hold this row, run and publish; gives what went out to each, in order."""
        self.warehouse.execute("DELETE FROM one")
        if row is not None:
            email, cards, *others = row
            values = [ONE_USER, email, list(cards) if cards is not None else None, *others]
            marks = ", ".join([self.warehouse.placeholder] * len(values))
            self.warehouse.execute(f"INSERT INTO one VALUES ({marks})", values)
        ledger = Ledger(self.warehouse, "airflow_audience", "one")
        source = Source(
            query="SELECT * FROM one",
            user_id="uid",
            identities={"email": "Email", "cards": "Other", "mpid": "MPID"},
            properties={"city": "city"},
            audience_id="a",
            identity_rules=rules or {},
        )
        Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(self.number))
        told: list[Said] = []
        for delivery in self.deliveries:
            stream = Stream()
            open_outbox(ledger, stream, delivery).drain(day(self.number))
            found = [json.loads(message) for message in stream.messages]
            told.append([(f["IsMember"], f["UserIdentities"]) for f in found])
        self.number += 1
        return told[0], told[1]


def gone(**identities: Any) -> Told:
    return False, identities


def here(**identities: Any) -> Told:
    return True, identities


NAMED = {"CustomerId": ONE_USER}
PSEUDONYM = {"user_id_as": None}
"""The user id is not sent: a user is named by the other identities or not at all."""

CASES: Mapping[str, tuple[Mapping[str, Any], Row, Row | None, Said, Said]] = {
    "a new e-mail": (
        {},
        (OLD, None, None, None),
        (NEW, None, None, None),
        [gone(**NAMED, Email=OLD), here(**NAMED, Email=NEW)],
        [here(**NAMED, Email=NEW)],
    ),
    "an e-mail that was none before": (
        {},
        (None, None, None, None),
        (NEW, None, None, None),
        [gone(**NAMED), here(**NAMED, Email=NEW)],
        [here(**NAMED, Email=NEW)],
    ),
    "no e-mail any more": (
        {},
        (OLD, None, None, None),
        (None, None, None, None),
        [gone(**NAMED, Email=OLD), here(**NAMED)],
        [here(**NAMED)],
    ),
    "another city alone": ({}, (OLD, None, None, "Bern"), (OLD, None, None, "Rome"), [], []),
    "another city with another e-mail": (
        {},
        (OLD, None, None, "Bern"),
        (NEW, None, None, "Rome"),
        [gone(**NAMED, Email=OLD), here(**NAMED, Email=NEW)],
        [here(**NAMED, Email=NEW)],
    ),
    "one card more": (
        {},
        (None, ["c1"], None, None),
        (None, ["c2", "c1"], None, None),
        [gone(**NAMED, Other="c1"), here(**NAMED, Other=["c1", "c2"])],
        [here(**NAMED, Other=["c1", "c2"])],
    ),
    "the same cards in another order": (
        {},
        (None, ["c1", "c2"], None, None),
        (None, ["c2", "c1"], None, None),
        [],
        [],
    ),
    "an e-mail that is not sent": (
        {"forward_email_addresses": False},
        (OLD, None, None, None),
        (NEW, None, None, None),
        [],
        [],
    ),
    "a type that is excluded": (
        {"identities_to_exclude": ["Other"]},
        (OLD, ["c1"], None, None),
        (OLD, ["c2"], None, None),
        [],
        [],
    ),
    "nothing left to be named by": (
        PSEUDONYM,
        (OLD, None, None, None),
        (None, None, None, None),
        [gone(Email=OLD)],
        [gone(Email=OLD)],
    ),
    "named for the first time": (
        PSEUDONYM,
        (None, None, None, None),
        (NEW, None, None, None),
        [here(Email=NEW)],
        [here(Email=NEW)],
    ),
    "anonymous from now on": (
        PSEUDONYM,
        (OLD, None, "7", None),
        (None, None, "7", None),
        [gone(Email=OLD, MPID="7"), here(MPID="7")],
        [here(MPID="7")],
    ),
    "anonymous from now on, and such users are not sent": (
        {**PSEUDONYM, "send_anonymous_users": False},
        (OLD, None, "7", None),
        (None, None, "7", None),
        [gone(Email=OLD, MPID="7")],
        [gone(Email=OLD, MPID="7")],
    ),
    "leaves": (
        {},
        (OLD, ["c2", "c1"], "7", None),
        None,
        [gone(**NAMED, Email=OLD, Other=["c1", "c2"], MPID="7")],
        [gone(**NAMED, Email=OLD, Other=["c1", "c2"], MPID="7")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told_of_a_change_with_the_toggle_on_and_off(warehouse: SqlWarehouse, case: str) -> None:
    options, before, after, on, off = CASES[case]
    lines = Lines(warehouse, options)
    lines.tell(before)
    assert lines.tell(after) == (on, off)
    assert lines.tell(after) == ([], []), "what is told once is not told again"


def test_who_leaves_is_named_as_they_were_told_last_whatever_changed_on_the_way(warehouse: SqlWarehouse) -> None:
    lines = Lines(warehouse)
    lines.tell((OLD, None, None, None))
    lines.tell((NEW, ["c1"], None, None))
    left = [gone(**NAMED, Email=NEW, Other="c1")]
    assert lines.tell(None) == (left, left)
    back = [here(**NAMED, Email=OLD)]
    assert lines.tell((OLD, None, None, None)) == (back, back)


def test_a_removal_names_the_digest_that_was_sent_and_spelling_alone_changes_nothing(
    warehouse: SqlWarehouse,
) -> None:
    rules = {"email": IdentityRule(normalize="email", hash="sha256")}
    old, new = (hashlib.sha256(text.encode()).hexdigest() for text in (OLD, NEW))
    lines = Lines(warehouse)
    entered = [here(**NAMED, Email=old)]
    assert lines.tell((OLD, None, None, None), rules) == (entered, entered)
    assert lines.tell((f" {OLD.upper()}", None, None, None), rules) == ([], [])
    removal, addition = gone(**NAMED, Email=old), here(**NAMED, Email=new)
    assert lines.tell((NEW, None, None, None), rules) == ([removal, addition], [addition])
    left = [gone(**NAMED, Email=new)]
    assert lines.tell(None, rules) == (left, left)
