"""The layout tells which source column is what, survives the ledger, and knows when it is another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from msgspec import convert, to_builtins

from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.source.layout import (
    TableLayout,
    describe_differences,
    describe_key_differences,
    layout_of,
)
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.sql.types import LogicalType

SOURCE = Source(
    query="SELECT 1",
    user_id="uid",
    identities={"email": "Email", "phone no": "Phone"},
    properties={"city": "address.city", "n" * 70: "long"},
    audience_id="vips",
)
TYPES = {
    "uid": "BIGINT",
    "email": "TEXT",
    "phone no": "BIGINT",
    "city": "TEXT",
    "n" * 70: "NUMERIC",
    "more": "JSON",
}
POSTGRES = DIALECTS["postgres"]


def found(source: Source = SOURCE, **types: str) -> TableLayout:
    return layout_of(source, {**TYPES, **types}, POSTGRES)


def test_identities_are_text_whatever_their_type_and_properties_keep_theirs():
    layout = found()
    assert [(c.label, c.kind) for c in layout.identities] == [
        ("Email", LogicalType.TEXT),
        ("Phone", LogicalType.TEXT),
    ]
    assert [(c.label, c.kind) for c in layout.properties] == [
        ("address.city", LogicalType.TEXT),
        ("long", LogicalType.EXACT),
    ]


def test_new_and_old_values_have_columns_of_their_own_within_the_limit_of_postgresql_which_is_the_lowest():
    names = [name for c in found().columns for name in (c.new, c.old)]
    assert len(set(names)) == 2 * len(SOURCE.identities | SOURCE.properties)
    assert max(len(name.encode()) for name in names) <= 63


def test_a_layout_is_the_same_after_the_ledger():
    for dialect in DIALECTS.values():
        layout = layout_of(SOURCE, TYPES, dialect)
        assert convert(json.loads(json.dumps(to_builtins(layout))), TableLayout) == layout


def test_a_column_that_the_query_does_not_give_is_named_beside_those_that_it_gives():
    types = {"uid": "BIGINT", "email": "TEXT"}
    with pytest.raises(ValueError, match=r"no column 'phone no', 'city', 'n+'; it returns 'uid', 'email'\."):
        layout_of(SOURCE, types, POSTGRES)


def test_one_audience_needs_no_audience_in_its_key():
    assert found().key == ("user_id",)
    many = replace(SOURCE, audience_id=None, audience_id_column="more")
    assert found(many).key == ("audience_id", "user_id")


def test_nothing_differs_where_only_order_names_or_other_columns_do():
    turned = replace(
        SOURCE,
        query="SELECT 2",
        audience_name="Renamed",
        identities=dict(reversed(SOURCE.identities.items())),
        properties=dict(reversed(SOURCE.properties.items())),
    )
    assert describe_differences(found(), found(turned, more="TEXT")) == []


@pytest.mark.parametrize(
    ("change", "types", "sentences"),
    [
        (
            {"properties": {"city": "address.city"}},
            {},
            [f"property 'long' was {'n' * 70} (decimal) and is not mapped"],
        ),
        ({}, {"city": "BIGINT"}, ["property 'address.city' was city (text) and is city (integer)"]),
        (
            {"identities": {"phone no": "Email", "email": "Phone"}},
            {},
            [
                "identity 'Email' was email (text) and is phone no (text)",
                "identity 'Phone' was phone no (text) and is email (text)",
            ],
        ),
    ],
)
def test_each_difference_is_told_with_what_was_and_what_is(change, types, sentences):
    assert describe_differences(found(), found(replace(SOURCE, **change), **types)) == sentences


@pytest.mark.parametrize(
    ("change", "types", "sentences"),
    [
        ({"user_id": "more"}, {}, ["user_id was 'uid' and is 'more'"]),
        ({"audience_id": "b"}, {}, ["audience_id was 'vips' and is 'b'"]),
        ({}, {"uid": "DATE"}, ["the values of 'uid' were of kind integer and are of kind date"]),
        ({}, {"uid": "NUMERIC(20, 2)"}, []),
        ({}, {"uid": "NUMERIC(18)"}, []),
        ({}, {"uid": "JSON"}, ["the values of 'uid' were of kind integer and are of kind json"]),
        ({}, {"uid": "INTEGER", "city": "BIGINT"}, []),
    ],
)
def test_each_difference_of_the_key_is_told(change, types, sentences):
    assert describe_key_differences(found(), found(replace(SOURCE, **change), **types)) == sentences


def test_a_key_of_which_no_kind_was_written_down_differs_in_nothing():
    kept = {n: v for n, v in to_builtins(found()).items() if n != "key_types"}
    old = convert(kept, TableLayout)
    assert describe_key_differences(old, found(uid="DATE")) == []
