"""The masked sample of a message: valid in each format, complete in its names, and without any value."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from airflow_kinesis_audience import schemas
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.model.messages import Envelope
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
from airflow_kinesis_audience.core.readers.masked_sample import MASK, render_masked_sample
from airflow_kinesis_audience.core.source.layout import Column, TableLayout
from airflow_kinesis_audience.core.sql.types import LogicalType
from airflow_kinesis_audience.formats import load_renderer

AS_OF = datetime(2026, 1, 2, tzinfo=UTC)
ENVELOPE = Envelope(batch_id=UUID(int=0), partitions=16, message_bytes=10_000)
OPTIONS = {"amplitude_cohort": {"user_properties": True}, "mparticle_audience": {}, "adobe_profile": {}}


def column_of(name: str, role: str, kind: LogicalType = LogicalType.TEXT, **more: Any) -> Column:
    return Column(source=name, state=name, label=name.title(), role=role, kind=kind, **more)


COLUMNS = (
    column_of("email", "identity", rule=IdentityRule(normalize="email", hash="sha256")),
    column_of("other", "identity", several=True),
    column_of("other2", "identity", retired=True),
    *(column_of(f"a_{kind}", "property", kind) for kind in LogicalType),
)
LAYOUT = TableLayout(user_id="user_id", audience_id="a", audience_id_column=None, columns=COLUMNS)
CHANGE_SET = ChangeSet(
    sync_id="s", as_of=AS_OF, previous_as_of=None, schema="x", table="t", rows=1, slice_rows=1, layout=LAYOUT
)


@pytest.mark.parametrize("message_format", OPTIONS)
def test_a_sample_is_a_valid_message_of_its_format_that_holds_masks_alone(message_format: str) -> None:
    renderer = load_renderer(message_format, OPTIONS[message_format])
    sample = render_masked_sample(CHANGE_SET, renderer, ENVELOPE)
    assert sample is not None
    jsonschema.validate(sample, schemas.load_schema(message_format))
    text = json.dumps(sample, ensure_ascii=False)
    assert MASK in text
    assert "Other2" not in text
    assert render_masked_sample(CHANGE_SET, renderer, ENVELOPE) == sample


def test_a_sample_names_each_property_with_a_value_of_its_type() -> None:
    renderer = load_renderer("amplitude_cohort", {"user_properties": True})
    [user] = render_masked_sample(CHANGE_SET, renderer, ENVELOPE)["users"]
    assert user == {
        "user_id": MASK,
        "user_properties": {
            "A_Boolean": False,
            "A_Integer": 0,
            "A_Float": 0.0,
            "A_Text": MASK,
            "A_Date": "2026-01-02",
            "A_Timestamp": "2026-01-02T00:00:00Z",
            "A_Exact": MASK,
        },
    }


def test_identities_are_masked_also_where_a_member_has_several() -> None:
    sample = render_masked_sample(CHANGE_SET, load_renderer("mparticle_audience", {}), ENVELOPE)
    found = re.findall(r'"value": "([^"]*)"|"(?:Email|Other)": "([^"]*)"', json.dumps(sample, ensure_ascii=False))
    assert {value or other for value, other in found} == {MASK}
