"""For any history of identities and any settings: a consumer ends with exactly those who may be sent.

The model is plain Python and shares nothing with the format: it says, for one user at one time, what a message may
hold, and nothing about which messages there are.
"""

from __future__ import annotations

import itertools
import json
import random
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid5

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.consumer.messages import READERS, read_mparticle_audience
from airflow_kinesis_audience.core.model.messages import Envelope
from airflow_kinesis_audience.formats.mparticle.audience import MparticleAudience
from tests.changes import AS_OF, Row, build_changes

JOBS = UUID(int=7)
VALUE = st.none() | st.sampled_from(["", "x", "y"])
IDENTITIES = st.fixed_dictionaries(
    {"Email": VALUE, "YahooId": VALUE, "AndroidId": st.none() | st.sampled_from([["a"], ["a", "b"], ["b"]])}
)
HISTORIES = st.lists(
    st.dictionaries(st.tuples(st.sampled_from(["7", "a"]), st.sampled_from(["u1", "u2", "u3"])), IDENTITIES),
    min_size=1,
    max_size=6,
)
OPTIONS = st.fixed_dictionaries(
    {
        "user_id_as": st.sampled_from(["CustomerId", "MPID"]),
        "send_remove_on_identity_change": st.booleans(),
        "send_anonymous_users": st.booleans(),
        "forward_email_addresses": st.booleans(),
        "identities_to_exclude": st.sampled_from([[], ["Yahoo ID"], ["AndroidId", "Email"]]),
        "message_ids": st.booleans(),
    }
)


def due(user_id, identities, options):
    """Say what a consumer should know of a member; nothing if it should not know the member."""
    hidden = {"Yahoo ID": "YahooId"}
    excluded = {hidden.get(name, name) for name in options["identities_to_exclude"]}
    excluded |= set() if options["forward_email_addresses"] else {"Email"}
    shown = {k: v for k, v in identities.items() if v and k not in excluded}
    shown = {k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in shown.items()}
    if options["user_id_as"] == "MPID" and not shown and not options["send_anonymous_users"]:
        return None
    return {options["user_id_as"]: user_id, **shown}


def find_changes(before, after):
    for key in sorted({*before, *after}):
        audience_id, user_id = key
        was, now = before.get(key), after.get(key)
        if was is None:
            yield Row(audience_id, "entered", user_id, new_identities=now)
        elif now is None:
            yield Row(audience_id, "exited", user_id, old_identities=was)
        elif was != now:
            yield Row(
                audience_id, "updated", user_id, old_identities=was, new_identities=now, updated="identities"
            )


def render_history(history, options):
    for run, (before, after) in enumerate(itertools.pairwise([{}, *history])):
        changes = build_changes(find_changes(before, after), as_of=AS_OF + timedelta(seconds=run))
        envelope = Envelope(batch_id=uuid5(JOBS, str(run)), partitions=2, message_bytes=10_000)
        yield list(MparticleAudience(**options)(changes, envelope))


def consumer_of(options):
    read = partial(read_mparticle_audience, user=options["user_id_as"])
    return AudienceConsumer(readers={**READERS, "AudienceId": read})


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES, OPTIONS, st.integers(0, 2**32))
def test_any_order_with_duplicates_ends_with_those_who_may_be_sent(history, options, seed):
    chance = random.Random(seed)
    messages = [m.document for run in render_history(history, options) for m in run]
    messages += chance.choices(messages, k=3) if messages else []
    chance.shuffle(messages)
    consumer = consumer_of(options)
    for message in messages:
        consumer.apply(message)
    known = {
        (audience_id, user_id): consumer.identities(audience_id, user_id)
        for audience_id in consumer.audiences()
        for user_id in consumer.members(audience_id)
    }
    expected = {(a, u): due(u, identities, options) for (a, u), identities in history[-1].items()}
    assert known == {key: identities for key, identities in expected.items() if identities is not None}


@settings(max_examples=400, deadline=None)
@given(HISTORIES, OPTIONS)
def test_a_removal_names_what_was_sent_last_and_changes_are_counted_once(history, options):
    sent = {}
    for (before, after), messages in zip(
        itertools.pairwise([{}, *history]), render_history(history, options), strict=True
    ):
        for message in messages:
            found = json.loads(message.document)
            key = str(found["AudienceId"]), found["UserIdentities"][options["user_id_as"]]
            if found["IsMember"]:
                sent[key] = found["UserIdentities"]
            else:
                assert sent.pop(key) == found["UserIdentities"]
        moved = {}
        for audience_id, user_id in {**before, **after}:
            key = audience_id, user_id
            was, now = (due(user_id, m[key], options) if key in m else None for m in (before, after))
            moved[key] = was != now
        assert sum(m.changes for m in messages) == sum(moved.values())


@given(HISTORIES, OPTIONS)
def test_messages_of_one_change_are_in_one_lane_and_others_are_not(history, options):
    for messages in render_history(history, options):
        users = {}
        for message in messages:
            found = json.loads(message.document)
            users.setdefault(message.ordering_key, set()).add(
                (found["AudienceId"], found["UserIdentities"][options["user_id_as"]])
            )
        assert all(len(found) == 1 for found in users.values())
        assert len(users) == len(set(itertools.chain.from_iterable(users.values())))
