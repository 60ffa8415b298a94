"""What an author may ask of identities, and which error a contradiction gives."""

from __future__ import annotations

import hashlib

import pytest
from msgspec import convert, to_builtins

from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS, IdentityRule, identity_rules
from airflow_kinesis_audience.core.source.layout import TableLayout, describe_differences, layout_of
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.sql.types import is_list

NONE: dict[str, str] = {}


def rules(identities, normalize=NONE, hash_with=NONE, hashed_with=NONE):
    return identity_rules(identities, normalize=normalize, hash_with=hash_with, hashed_with=hashed_with)


@pytest.mark.parametrize(
    ("identity_type", "normalize"),
    [
        ("Email", "email"),
        ("email_address", "email"),
        ("Phone", "phone"),
        ("mobile_number", "phone"),
        ("phone_number_2", "phone"),
        ("CustomerId", "trim"),
        ("Other3", "trim"),
    ],
)
def test_what_is_hashed_is_normalized_by_its_type(identity_type, normalize):
    assert rules({"c": identity_type}, hash_with={"c": "sha256"}) == {
        "c": IdentityRule(normalize=normalize, hash="sha256")
    }


def test_what_the_author_says_of_normalizing_counts_before_the_type():
    assert rules({"c": "Email"}, normalize={"c": "trim"}, hash_with={"c": "md5"}) == {
        "c": IdentityRule(normalize="trim", hash="md5")
    }


def test_the_texts_that_stand_for_no_identity_can_be_others_and_are_of_no_use_where_values_are_sent_as_they_are():
    own = identity_rules(
        {"c": "Other"}, normalize={"c": "trim"}, hash_with={}, hashed_with={}, placeholders={"c": ["Unknown"]}
    )
    assert own["c"].no_values == ("unknown",)
    assert "null" in IdentityRule(normalize="trim").no_values
    assert hashlib.md5(b"", usedforsecurity=False).hexdigest() in IdentityRule(hashed="md5").no_values
    with pytest.raises(ValueError, match="set normalize, hash or hashed for it"):
        identity_rules({"c": "Other"}, normalize={}, hash_with={}, hashed_with={}, placeholders={"c": []})


def test_identities_without_a_rule_have_none():
    assert rules({"a": "Email", "b": "Other"}, normalize={"b": "trim"}) == {"b": IdentityRule(normalize="trim")}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"normalize": {"x": "email"}}, "normalize_identities names 'x'; expected source columns .*: 'mail'"),
        ({"hash_with": {"Email": "md5"}}, "hash_identities names 'Email'; expected source columns"),
        ({"hashed_with": {"x": "md5"}}, "hashed_identities names 'x'"),
        (
            {"normalize": {"mail": "e-mail"}},
            "normalize of an identity is 'e-mail'; expected none, trim, email, gmail or phone",
        ),
        ({"hash_with": {"mail": "sha1"}}, "hash of an identity is 'sha1'; expected md5 or sha256"),
        ({"hash_with": {"mail": "md5"}, "hashed_with": {"mail": "md5"}}, "cannot be hashed or normalized again"),
        ({"normalize": {"mail": "email"}, "hashed_with": {"mail": "md5"}}, "cannot be hashed or normalized again"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        rules({"mail": "Email"}, **given)


def layout(rule: IdentityRule = AS_IT_IS, type_name: str = "VARCHAR") -> TableLayout:
    source = Source(
        query="",
        user_id="u",
        identities={"mail": "Email"},
        properties={},
        audience_id="a",
        identity_rules={"mail": rule},
    )
    return layout_of(source, {"u": "VARCHAR", "mail": type_name}, DIALECTS["duckdb"])


def test_a_rule_is_pinned_in_what_the_ledger_keeps():
    kept = layout(IdentityRule(normalize="email", hash="sha256"), "VARCHAR[]")
    assert convert(to_builtins(kept), TableLayout) == kept
    assert not kept.matches(layout(IdentityRule(normalize="email", hash="md5"), "VARCHAR[]"))
    assert not kept.matches(layout(IdentityRule(normalize="email", hash="sha256")))
    assert describe_differences(layout(IdentityRule(normalize="email", hash="sha256")), kept) == [
        "identity 'Email' was mail (text, normalized as email, hashed with sha256) and is "
        "mail (text, several values, normalized as email, hashed with sha256)"
    ]


def test_a_layout_that_was_kept_before_there_were_rules_has_none():
    kept = to_builtins(layout())
    for c in kept["columns"]:
        del c["rule"], c["several"]
    assert convert(kept, TableLayout) == layout()


@pytest.mark.parametrize(
    ("type_name", "dialect", "expected"),
    [
        ("VARCHAR[]", "duckdb", True),
        ("VARCHAR[3]", "duckdb", True),
        ("text[]", "postgres", True),
        ("character varying[]", "postgres", True),
        ("VARCHAR", "duckdb", False),
        ("jsonb", "postgres", False),
        ("citext", "postgres", False),
    ],
)
def test_a_column_of_lists_is_known_by_its_type(type_name, dialect, expected):
    assert is_list(type_name, DIALECTS[dialect]) is expected
