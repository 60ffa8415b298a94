"""The consumer ends with the right membership, whatever order the messages come in and however often."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience import consumer
from airflow_kinesis_audience.consumer import AudienceConsumer, aggregated, applying, membership
from airflow_kinesis_audience.consumer import messages as reading
from airflow_kinesis_audience.consumer.messages import read_mparticle_audience
from airflow_kinesis_audience.core.model.messages import Envelope
from airflow_kinesis_audience.formats.amplitude import AmplitudeCohort
from tests.changes import AS_OF, build_changes, compare
from tests.docs.messages import event_messages, profile_messages

JOBS = UUID(int=7)


def message(message_id="m1", *, time="100", member=True, users=("u1",), audience_id="a", **properties):
    return {
        "cohort_name": "A",
        "cohort_id": audience_id,
        "in_cohort": member,
        "computed_time": time,
        "message_id": message_id,
        "users": [{"user_id": u, **({"user_properties": properties} if properties else {})} for u in users],
    }


def consume(*messages):
    reader = AudienceConsumer()
    for one in messages:
        reader.apply(one)
    return reader


def test_bytes_text_and_objects_are_read_alike():
    text = json.dumps(message(users=["ü"]))
    for form in (text, text.encode(), text.encode() + b"\n", json.loads(text), MappingProxyType(json.loads(text))):
        assert consume(form).members("a") == {"ü"}


def test_a_message_id_that_was_seen_is_dropped_and_reported():
    reader = AudienceConsumer()
    assert reader.apply(message()) is True
    assert reader.apply(message()) is False
    assert reader.apply(message(users=["somebody else"], time="200")) is False
    assert reader.members("a") == {"u1"}


def test_an_older_entry_that_arrives_after_the_exit_does_not_bring_the_user_back():
    reader = consume(message("m2", time="200", member=False), message("m1", time="100"))
    assert reader.members("a") == frozenset()
    assert reader.audiences() == {"a"}


def test_times_are_compared_as_numbers():
    assert consume(message("m1", time="1000"), message("m2", time="999", member=False)).members("a") == {"u1"}


def test_audiences_do_not_touch_each_other():
    reader = consume(message("m1"), message("m2", audience_id="b"), message("m3", time="200", member=False))
    assert (reader.members("a"), reader.members("b")) == (frozenset(), {"u1"})
    assert reader.audiences() == {"a", "b"}
    assert reader.members("never heard of") == frozenset()


def test_properties_are_those_sent_last_and_gone_with_the_member():
    newer, older = message("m2", time="200", city="Bern"), message("m1", city="Rome", age=3)
    assert consume(newer, older).properties("a", "u1") == {"city": "Bern"}
    assert consume(older, newer).properties("a", "u1") == {"city": "Bern"}
    assert consume(newer, message("m3", time="300", member=False)).properties("a", "u1") == {}
    assert consume(message()).properties("a", "nobody") == {}


def test_what_is_handed_out_cannot_change_what_is_kept():
    reader = consume(message(city="Bern"))
    reader.properties("a", "u1")["city"] = "Rome"
    assert reader.properties("a", "u1") == {"city": "Bern"}


def test_two_statements_of_one_time_end_alike_in_either_order():
    going, coming, other = message("m1", member=False), message("m2", city="Bern"), message("m3", city="Rome")
    for one, two in ((going, coming), (coming, other), (going, other)):
        forth, back = consume(one, two), consume(two, one)
        assert forth.members("a") == back.members("a") == {"u1"}
        assert forth.properties("a", "u1") == back.properties("a", "u1")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not JSON"),
        ('{"cohort_id": "secret"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["secret"]', "JSON list; expected one JSON object"),
        ("null", "JSON NoneType; expected one JSON object"),
        ({}, "unknown format; expected one of the keys cohort_id"),
        ({"AudienceId": "secret"}, "lacks MembershipChangedTimestamp"),
        ({"Audience": "secret"}, "unknown format"),
        ({"cohort_id": "secret"}, "lacks in_cohort; expected a bool"),
        (message() | {"cohort_id": 7}, "cohort_id is a int; expected a str"),
        (message() | {"in_cohort": "secret"}, "in_cohort is a str; expected a bool"),
        (message() | {"in_cohort": 1}, "in_cohort is a int; expected a bool"),
        (message() | {"computed_time": 1685748245}, "computed_time is a int; expected a str"),
        (message() | {"computed_time": "2026-01-31"}, "computed_time is not a string of Unix epoch seconds"),
        (message() | {"computed_time": "1e9"}, "computed_time is not"),
        (message() | {"computed_time": "١٢"}, "computed_time is not"),
        (message() | {"message_id": None}, "message_id is a NoneType; expected a str"),
        (message() | {"users": {"user_id": "secret"}}, "users is a dict; expected a list"),
        (message() | {"users": ["secret"]}, "users has a str; expected objects"),
        (message() | {"users": [{"user": "secret"}]}, "lacks user_id"),
        (message() | {"users": [{"user_id": 7}]}, "user_id is a int; expected a str"),
        (message() | {"users": [{"user_id": "secret", "user_properties": "x"}]}, "user_properties is a str"),
    ],
)
def test_what_is_no_message_is_refused_without_its_content(broken, says):
    with pytest.raises(ValueError, match=says) as caught:
        AudienceConsumer().apply(broken)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_broken_message_changes_nothing_and_may_come_again_whole():
    reader = AudienceConsumer()
    with pytest.raises(ValueError, match="users has a int"):
        reader.apply(message() | {"users": [{"user_id": "u1"}, 7]})
    assert reader.audiences() == frozenset()
    assert reader.apply(message()) is True


def test_the_consumer_needs_nothing_but_the_standard_library():
    own = {module.__name__: module for module in (reading, membership, aggregated, applying, consumer)}
    trees = [ast.parse(Path(module.__file__).read_text()) for module in own.values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name.partition(".")[0] for name in imported - own.keys()} <= {*sys.stdlib_module_names}


# From here on: for any history. A history is a line of memberships; its messages are shuffled, some of them twice.

PROPERTIES = st.fixed_dictionaries({"n": st.none() | st.integers(0, 2)})
MEMBERS = st.dictionaries(st.sampled_from(["u1", "u2", "u3", "ü"]), PROPERTIES, max_size=4)
HISTORIES = st.lists(st.fixed_dictionaries({"a": MEMBERS, "b": MEMBERS}), min_size=1, max_size=6)


def render_history(history, *, max_users):
    rendered = []
    for run, (before, after) in enumerate(zip([{}, *history], history, strict=False)):
        changes = build_changes(compare(before, after), as_of=AS_OF + timedelta(seconds=run), properties=["n"])
        envelope = Envelope(batch_id=uuid5(JOBS, str(run)), partitions=2, message_bytes=10_000)
        renderer = AmplitudeCohort(max_users=max_users, user_properties=True)
        rendered += [one.document for one in renderer(changes, envelope)]
    return rendered


@st.composite
def shuffled_histories(draw):
    history = draw(HISTORIES)
    messages = render_history(history, max_users=draw(st.integers(1, 3)))
    twice = draw(st.lists(st.sampled_from(messages), max_size=4)) if messages else []
    return history[-1], draw(st.permutations(messages + twice))


def ends_right(reader, membership, messages):
    for one in messages:
        reader.apply(one)
    return all(reader.members(audience_id) == set(members) for audience_id, members in membership.items())


class CarelessConsumer:
    """Believes whatever comes last."""

    def __init__(self):
        self.seen, self.inside = set(), {}

    def apply(self, text):
        read = json.loads(text)
        if read["message_id"] not in self.seen:
            self.seen.add(read["message_id"])
            users = {user["user_id"] for user in read["users"]}
            inside = self.inside.setdefault(read["cohort_id"], set())
            self.inside[read["cohort_id"]] = inside | users if read["in_cohort"] else inside - users

    def members(self, audience_id):
        return self.inside.get(audience_id, set())


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(shuffled_histories())
def test_any_order_with_duplicates_ends_with_the_last_membership_and_its_properties(case):
    membership, messages = case
    reader = AudienceConsumer()
    assert ends_right(reader, membership, messages)
    assert reader.audiences() <= set(membership)
    for audience_id, members in membership.items():
        assert {user: reader.properties(audience_id, user) for user in members} == members


@given(shuffled_histories())
def test_forgetting_message_ids_changes_nothing(case):
    membership, messages = case
    reader = AudienceConsumer()
    for one in messages:
        reader._seen.clear()
        assert reader.apply(one)
    assert ends_right(reader, membership, [])


def test_a_consumer_that_ignores_the_time_is_caught_by_the_same_histories():
    membership, messages = find(shuffled_histories(), lambda case: not ends_right(CarelessConsumer(), *case))
    assert ends_right(AudienceConsumer(), membership, messages)
    in_order = sorted(messages, key=lambda text: int(json.loads(text)["computed_time"]))
    assert ends_right(CarelessConsumer(), membership, in_order)


def notice(event, job="r", *, audience_id="a", time="100", **counts):
    sent = {"lifecycle": {"event": event, **counts}}
    return {**message(f"{job}::{event}::0", audience_id=audience_id, time=time, users=()), **sent}


@pytest.mark.parametrize("turned", [False, True])
def test_what_was_said_of_an_audience_until_it_was_deleted_is_void(turned):
    sent = [
        message("m1", time="90", users=["u1"]),
        message("m2", time="100", users=["u2"]),
        message("m3", time="101", users=["u3"], city="Bern"),
        notice("deleted"),
        message("m4", time="90", users=["u1"], audience_id="b"),
    ]
    reader = consume(*(reversed(sent) if turned else sent))
    assert (reader.members("a"), reader.members("b")) == ({"u3"}, {"u1"})
    assert (reader.properties("a", "u2"), reader.properties("a", "u3")) == ({}, {"city": "Bern"})


def test_an_older_deletion_does_not_undo_a_newer_one():
    reader = consume(notice("deleted", "x", time="100"), notice("deleted", "y", time="50"), message(time="75"))
    assert reader.members("a") == frozenset()


def test_a_resync_is_complete_when_everything_that_it_counts_has_arrived_and_its_end():
    sent = [
        notice("resync_begin", members=2, exits=1),
        message("r::enter::0", users=["u1", "u2"]),
        message("r::exit::2", users=["u3"], member=False),
    ]
    end = notice("resync_complete", members=2, exits=1)
    others = [message("other::enter::0", users=["u9"]), message("r::enter::9", audience_id="b")]
    reader = consume(*sent, *sent, *others)
    [resync] = reader.resyncs()
    assert (resync.arrived_members, resync.arrived_exits, resync.complete) == (2, 1, False)
    reader.apply(end)
    assert [r.complete for r in reader.resyncs()] == [True]
    for missing in range(1, 3):
        assert not consume(*(m for n, m in enumerate(sent) if n != missing), end).resyncs()[0].complete


@pytest.mark.parametrize(
    "sent",
    [
        {"lifecycle": 1},
        {"lifecycle": {}},
        {"lifecycle": {"event": 1}},
        {"lifecycle": {"event": "x", "exits": "1"}},
    ],
)
def test_a_notice_that_makes_no_sense_is_an_error(sent):
    with pytest.raises(ValueError, match=r"lifecycle|event"):
        consume({**message(), **sent})


def of_mparticle(member=True, *, time="100", audience_id=7, user="u1", **more):
    identities = {"CustomerId": user, "Email": "a@x"} if user else {}
    return {
        "MembershipChangedTimestamp": time,
        "AudienceId": audience_id,
        "AudienceName": "A",
        "IsMember": member,
        "UserIdentities": identities,
        **more,
    }


def test_messages_of_mparticle_are_distinguished_by_the_key_that_is_named():
    reader = consume(of_mparticle(), of_mparticle(user="u2"), of_mparticle(False, time="101", user="u2"))
    assert reader.members("7") == {"u1"}
    assert reader.identities("7", "u1") == {"CustomerId": "u1", "Email": "a@x"}
    assert reader.identities("7", "u2") == reader.identities("8", "u1") == {}
    by_email = AudienceConsumer(readers={"AudienceId": partial(read_mparticle_audience, user="Email")})
    by_email.apply(of_mparticle())
    assert by_email.members("7") == {"a@x"}


def test_a_message_without_an_id_is_known_again_by_its_content():
    reader = AudienceConsumer()
    assert reader.apply(of_mparticle())
    assert not reader.apply(json.dumps(of_mparticle(), indent=3))
    assert reader.apply(of_mparticle(time="101"))
    assert reader.apply(of_mparticle(MessageId="m"))
    assert not reader.apply(of_mparticle(time="103", MessageId="m"))


def test_a_removal_and_an_addition_of_one_time_leave_the_member_in_either_order():
    going, coming = of_mparticle(False), {**of_mparticle(), "UserIdentities": {"CustomerId": "u1", "Email": "b@x"}}
    for sent in ([going, coming], [coming, going]):
        assert consume(*sent).identities("7", "u1") == {"CustomerId": "u1", "Email": "b@x"}


def test_notices_of_mparticle_end_an_audience_and_count_a_resync():
    def lifecycle(event, **counts):
        return of_mparticle(user=None, MessageId=f"r::{event}::0", Lifecycle={"Event": event, **counts})

    begin, end = (lifecycle(e, Members=1, Exits=1) for e in ("resync_begin", "resync_complete"))
    arrived = [of_mparticle(MessageId="r::enter::0"), of_mparticle(False, user="u2", MessageId="r::exit::1")]
    assert [r.complete for r in consume(begin, *arrived, end).resyncs()] == [True]
    assert [r.complete for r in consume(begin, arrived[0], end).resyncs()] == [False]
    assert consume(*arrived, lifecycle("deleted")).members("7") == frozenset()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (of_mparticle(audience_id=True), "AudienceId is a bool"),
        (of_mparticle(audience_id=1.5), "AudienceId is a float; expected a str or int"),
        (of_mparticle(time=100), "MembershipChangedTimestamp is a int"),
        (of_mparticle(time="soon"), "MembershipChangedTimestamp is not a string of Unix epoch seconds"),
        (of_mparticle(member=1), "IsMember is a int"),
        (of_mparticle(UserIdentities=["secret"]), "UserIdentities is a list"),
        (of_mparticle(user=None), "UserIdentities has no text under CustomerId.*user_id_as"),
        (of_mparticle(UserIdentities={"CustomerId": ["secret"]}), "UserIdentities has no text under CustomerId"),
        (of_mparticle(MessageId=7), "MessageId is a int"),
        (of_mparticle(Lifecycle={"Event": "deleted", "Members": True}), "Members or Exits that are not numbers"),
        (of_mparticle(Lifecycle={"Members": 1}), "lacks Event"),
    ],
)
def test_what_is_no_message_of_mparticle_is_refused_without_its_content(broken, says):
    reader = AudienceConsumer()
    with pytest.raises(ValueError, match=says) as caught:
        reader.apply(broken)
    assert "secret" not in str(caught.value)
    assert "a@x" not in str(caught.value)
    assert reader.audiences() == frozenset()


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "u-secret", "id", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a", "event"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(found, place=()):
    if place:
        yield place
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in inner:
        yield from places(value, (*place, key))


WHOLE = [
    message(city="Bern") | {"lifecycle": {"event": "resync_begin", "members": 1, "exits": 1}},
    of_mparticle(MessageId="m"),
    of_mparticle(Lifecycle={"Event": "deleted"}),
    next(profile_messages(Random(1))),
    next(event_messages(Random(1))),
]


@given(st.sampled_from(WHOLE), st.data())
def test_a_message_with_anything_at_any_place_is_read_or_refused_without_its_content(whole, data):
    changed = json.loads(json.dumps(whole))
    *outer, last = data.draw(st.sampled_from(list(places(whole))))
    inner = changed
    for key in outer:
        inner = inner[key]
    inner[last] = data.draw(ANY_JSON)
    said = ""
    try:
        AudienceConsumer().apply(json.dumps(changed))
    except ValueError as error:
        said = str(error)
    assert "secret" not in said


def test_a_number_may_keep_all_its_digits():
    text = json.dumps(message(n=1.5)).replace("1.5", "0.12345678901234567890123")
    exact = consumer.read_message(text, parse_float=Decimal)
    assert str(exact.statements[0].properties["n"]) == "0.12345678901234567890123"
    assert exact.statements[0].beats(replace(exact.statements[0], properties={})) in (True, False)
