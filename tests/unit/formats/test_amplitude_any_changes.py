"""For any change set: every change is sent once, every bound holds, and the bytes come out the same again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.messages import Envelope
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.formats.amplitude import AmplitudeCohort, _find_breaks
from tests.changes import AS_OF, Row, build_changes, cut

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.fixed_dictionaries({}, optional={"city": st.none() | TEXT, "n": st.none() | NUMBERS})
ACTIONS = st.sampled_from(
    [
        ("entered", None),
        ("exited", None),
        ("updated", "properties"),
        ("updated", "identities"),
        ("updated", "both"),
    ]
)


@st.composite
def change_sets(draw):
    members = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "ü::enter"]), TEXT), max_size=40, unique=True))
    return build_changes(
        [
            Row(audience_id, action, user_id, new=draw(VALUES), old=draw(VALUES), updated=updated)
            for audience_id, user_id in members
            for action, updated in [draw(ACTIONS)]
        ],
        properties=["city", "n"],
    )


RENDERERS = st.builds(
    AmplitudeCohort,
    max_users=st.sampled_from([1, 2, 5, 1000]),
    user_properties=st.sampled_from([False, True, ["n"], ["n", "city"]]),
)
ENVELOPES = st.builds(
    Envelope,
    batch_id=st.uuids(),
    partitions=st.sampled_from([1, 2, 16, 4096]),
    message_bytes=st.integers(400, 700),
)


def render(renderer, changes, envelope):
    return list(renderer(changes, envelope))


def read(messages):
    return [json.loads(message.document, parse_constant=pytest.fail) for message in messages]


def user_ids(documents):
    return [user["user_id"] for document in documents for user in document["users"]]


@given(change_sets(), RENDERERS, ENVELOPES)
def test_every_entry_and_exit_is_sent_once_to_its_own_audience_in_its_own_direction(changes, renderer, envelope):
    sent = Counter(
        (document["cohort_id"], document["in_cohort"], user["user_id"])
        for document in read(render(renderer, changes, envelope))
        for user in document["users"]
    )
    rows = list(zip(changes.audience_id, changes.action, changes.user_id, strict=True))
    must = {(a, action == "entered", u) for a, action, u in rows if action != "updated"}
    may = {(a, True, u) for a, action, u in rows if action == "updated"}
    assert set(sent.values()) <= {1}
    assert must <= set(sent) <= must | may


@given(change_sets(), RENDERERS, ENVELOPES)
def test_a_message_keeps_its_bounds_counts_its_users_and_stays_in_one_partition(changes, renderer, envelope):
    buckets = dict(zip(changes.user_id, changes.bucket, strict=True))
    for message in render(renderer, changes, envelope):
        document = json.loads(message.document)
        assert b"\n" not in message.document
        assert len(message.document) <= envelope.message_bytes
        assert 1 <= message.changes == len(document["users"]) <= renderer.max_users
        assert document["cohort_name"] == f"Audience {document['cohort_id']}"
        assert document["computed_time"] == str(int(AS_OF.timestamp()))
        lanes = {
            partition_of(document["cohort_id"], buckets[user["user_id"]], envelope.partitions)
            for user in document["users"]
        }
        assert lanes == {(message.partition, message.hash_key)}


@given(change_sets(), RENDERERS, ENVELOPES)
def test_a_message_ends_only_where_it_must(changes, renderer, envelope):
    messages = render(renderer, changes, envelope)
    rows = {
        (a, u): action for a, u, action in zip(changes.audience_id, changes.user_id, changes.action, strict=True)
    }
    for one, following in pairwise(messages):
        first, second = json.loads(one.document), json.loads(following.document)
        kinds = {rows[d["cohort_id"], d["users"][0]["user_id"]] for d in (first, second)}
        if one.partition != following.partition or len(kinds) > 1 or one.changes == renderer.max_users:
            continue
        added = len(json.dumps(second["users"][0], ensure_ascii=False, separators=(",", ":")).encode()) + 1
        # The number in a message id may be one digit shorter than the longest, for which room is kept.
        assert len(one.document) + added + 1 > envelope.message_bytes


@given(change_sets(), RENDERERS, ENVELOPES, st.lists(st.integers(0, 40), max_size=4))
def test_a_slice_has_the_same_bytes_again_and_ids_are_unique_over_all_slices(changes, renderer, envelope, ends):
    slices = cut(changes, *(end for end in ends if end < len(changes)))
    by_slice = [render(renderer, part, envelope) for part in slices]
    # Backwards, and with a renderer of its own each: a resume may start anywhere.
    again = [render(replace(renderer), part, envelope) for part in reversed(slices)][::-1]
    assert again == by_slice
    documents = read(message for messages in by_slice for message in messages)
    ids = [document["message_id"] for document in documents]
    assert len(set(ids)) == len(ids)
    assert all(message_id.startswith(f"{envelope.batch_id}::") for message_id in ids)
    whole = read(render(renderer, changes, envelope))
    assert user_ids(documents) == user_ids(whole)


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 5))
def test_breaks_are_where_the_value_changes(values, skipped):
    found = _find_breaks(pa.array(values, pa.string()).slice(skipped))
    assert found == [row for row, (one, two) in enumerate(pairwise(values[skipped:]), 1) if one != two]
