"""A rule of an identity that changes: a consumer that knows users by identities ends with what was sent last.

The consumer here knows nothing of the package: it adds what a message adds and removes what a message removes,
value by value, and has no user ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS, IdentityRule
from tests.contract.test_state_model import Crowd
from tests.engines import ENGINES, Place

RAW = AS_IT_IS
NORMALIZED = IdentityRule(normalize="email")
HASHED = IdentityRule(normalize="email", hash="sha256")
MD5 = IdentityRule(normalize="email", hash="md5")
CHANGES: Mapping[str, tuple[IdentityRule, IdentityRule]] = {
    "Email": (RAW, NORMALIZED),
    "Other": (NORMALIZED, RAW),
    "Other2": (HASHED, RAW),
    "Other3": (HASHED, MD5),
    "Other4": (HASHED, NORMALIZED),
    "Other5": (RAW, HASHED),
    "Other6": (NORMALIZED, MD5),
    "Other7": (HASHED, HASHED),
}
"""Identity type to its rule before and after: all have the same addresses, each in a column of its own."""

BEFORE = {
    "same": "same@x.example",
    "spelt": "Spelt@X.example",
    "moves": "Moves@x.example",
    "none": "None@x.example",
}
BEFORE |= {"leaves": "Leaves@x.example", "late": "Late@x.example"}
AFTER = {**BEFORE, "moves": "moved@x.example", "none": None, "new": "New@x.example"}
del AFTER["leaves"]
LATER = {name: email for name, email in AFTER.items() if name != "late"}
RAW_TEXTS = {email for email in (*BEFORE.values(), *AFTER.values()) if email is not None}
UPDATE = Guards(max_exit_ratio=None, on_empty="exit_all", on_schema_change="update")
Value = tuple[str, str]


@pytest.fixture(params=["duckdb", "postgres", "parquet", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ENGINES[request.param].open_place(request, tmp_path) as place:
        yield place


class Line:
    """A crowd whose addresses have rules, and a consumer that knows users by what is made of these alone."""

    def __init__(self, place: Place, *, policy: str = "keep_old", user_id_as: str | None = "CustomerId") -> None:
        columns = {f"c_{label.lower()}": label for label in CHANGES}
        types = {"uid": "TEXT", **dict.fromkeys(columns, "TEXT")}
        self.crowd = Crowd(place, guards=UPDATE, types=types, properties=())
        self.columns, self.policy, self.number, self.read = columns, policy, 0, 0
        self.options = {"user_id_as": user_id_as}
        self.known: set[Value] = set()

    def tell(self, emails: Mapping[str, str | None], *, after: bool) -> set[Value]:
        """Let the table hold these users, run and publish; gives all values that the messages held."""
        rows = [{"uid": name, **dict.fromkeys(self.columns, email)} for name, email in emails.items()]
        self.crowd.write(*rows)
        source = self.crowd.source(
            identities=self.columns,
            identity_rules={column: CHANGES[label][after] for column, label in self.columns.items()},
            on_identity_rule_change=self.policy,
        )
        self.crowd.run(self.number, source=source)
        self.crowd.drain(self.number, message_format="mparticle_audience", options=self.options)
        self.number += 1
        return self._hear()

    def _hear(self) -> set[Value]:
        messages = self.crowd.stream.messages
        held: set[Value] = set()
        for message in map(json.loads, messages[self.read :]):
            values = {(label, value) for label, value in message["UserIdentities"].items() if label in CHANGES}
            self.known = self.known | values if message["IsMember"] else self.known - values
            held |= values
        self.read = len(messages)
        return held


def made(label: str, email: str, *, after: bool) -> Value:
    """Make of an address what the rule of its type says, with nothing of the package."""
    rule = CHANGES[label][after]
    text = email if rule is RAW else email.strip().lower()
    return label, hashlib.new(rule.hash, text.encode()).hexdigest() if rule.hash else text


def everything(emails: Mapping[str, str | None], *, after: bool) -> set[Value]:
    return {made(label, email, after=after) for label in CHANGES for email in emails.values() if email is not None}


@pytest.mark.parametrize(
    "user_id_as", ["CustomerId", None], ids=["named by an id, too", "named by identities alone"]
)
def test_what_was_sent_under_the_old_rule_is_removed(place: Place, user_id_as: str | None) -> None:
    line = Line(place, policy="remove_old", user_id_as=user_id_as)
    line.tell(BEFORE, after=False)
    assert line.known == everything(BEFORE, after=False)
    line.tell(AFTER, after=True)
    assert line.known == everything(AFTER, after=True)
    line.tell(LATER, after=True)
    assert line.known == everything(LATER, after=True)
    line.tell({}, after=True)
    assert line.known == set()


def test_a_raw_value_that_is_hashed_from_now_on_is_not_sent_again_unless_the_author_says_so(place: Place) -> None:
    line = Line(place)
    line.tell(BEFORE, after=False)
    hashed_now = {label for label, (before, after) in CHANGES.items() if after.hash and not before.hash}
    for emails in (AFTER, LATER, {}):
        held = line.tell(emails, after=True)
        assert not {(label, email.lower()) for label in hashed_now for email in RAW_TEXTS} & {
            (label, value.lower()) for label, value in held
        }
    assert line.known == {v for v in everything(BEFORE, after=False) if v[0] in hashed_now}, (
        "keep_old leaves these"
    )
