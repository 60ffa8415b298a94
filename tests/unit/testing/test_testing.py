"""A mapping is tested with rows before and after, without a scheduler, a warehouse or a stream."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import GuardTripped
from airflow_kinesis_audience.operators import (
    AudienceDiffOperator,
    AudienceToFirehoseOperator,
    AudienceToKinesisOperator,
)
from airflow_kinesis_audience.testing import find_messages

ANN, BOB = {"user_id": "ann", "email": "Ann@X.org"}, {"user_id": "bob", "email": "bob@x.org"}


def diff(**changed: Any) -> AudienceDiffOperator:
    arguments: dict[str, Any] = {
        "task_id": "diff",
        "warehouse_conn_id": "nowhere",
        "sql": "SELECT * FROM a_table_of_another_engine QUALIFY 1",
        "audience_id": "a",
        "audience_name": "A",
        "identities": {"email": "Email"},
        **changed,
    }
    return AudienceDiffOperator(**arguments)


def publish(message_format: str = "mparticle_audience", **changed: Any) -> AudienceToKinesisOperator:
    return AudienceToKinesisOperator(
        task_id="publish", change_set={}, stream_name="s", message_format=message_format, **changed
    )


def moves(messages: list[dict[str, Any]]) -> list[tuple[bool, str, str]]:
    return [(m["IsMember"], m["UserIdentities"]["CustomerId"], m["UserIdentities"]["Email"]) for m in messages]


def test_a_changed_address_is_a_removal_and_an_addition_and_who_is_gone_exits() -> None:
    messages = find_messages(diff(), publish(), before=[ANN, BOB], after=[{**ANN, "email": "new@x.org"}])
    assert sorted(moves(messages)) == [
        (False, "ann", "Ann@X.org"),
        (False, "bob", "bob@x.org"),
        (True, "ann", "new@x.org"),
    ]
    of_ann = [member for member, user, _ in moves(messages) if user == "ann"]
    assert of_ann == [False, True]
    assert {m["MembershipChangedTimestamp"] for m in messages} == {"1767225600"}


def test_without_rows_before_everybody_enters_and_equal_rows_give_nothing() -> None:
    assert moves(find_messages(diff(), publish(), after=[ANN])) == [(True, "ann", "Ann@X.org")]
    assert find_messages(diff(), publish(), before=[ANN, BOB], after=[BOB, ANN]) == []
    assert moves(find_messages(diff(), publish(), before=[ANN], after=[])) == [(False, "ann", "Ann@X.org")]


def test_identities_are_normalized_and_hashed_as_the_task_says() -> None:
    hashed = diff(hash_identities={"email": "sha256"})
    [message] = find_messages(hashed, publish(), after=[ANN])
    assert message["UserIdentities"]["Email"] == hashlib.sha256(b"ann@x.org").hexdigest()
    assert find_messages(hashed, publish(), before=[ANN], after=[{**ANN, "email": " ann@x.org"}]) == []


def test_values_of_any_type_are_properties() -> None:
    row = {
        "user_id": "ann",
        "spent": Decimal("12.50"),
        "last": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "big": 2**60,
        "gold": True,
    }
    task = diff(identities={}, properties=["spent", "last", "big", "gold", "none"])
    [message] = find_messages(
        task, publish("amplitude_cohort", format_options={"user_properties": True}), after=[row]
    )
    [user] = message["users"]
    assert user["user_properties"] == {
        "spent": "12.50",
        "last": "2026-01-01T12:00:00Z",
        "big": str(2**60),
        "gold": True,
        "none": None,
    }


def test_whole_profiles_and_events_are_found_too() -> None:
    task = diff(properties={"plan": "plan"})
    to_adobe = publish("adobe_profile", format_options={"message_ids": True})
    [profile] = find_messages(task, to_adobe, before=[{**ANN, "plan": "free"}], after=[{**ANN, "plan": "gold"}])
    assert (profile["plan"], profile["segmentMembership"]["ups"]["a"]["status"]) == ("gold", "realized")
    [batch] = find_messages(diff(identities={"email": "email"}), publish("mparticle_events"), after=[ANN])
    assert batch["events"][0]["data"]["event_name"] == "Audience Entered"


def test_a_delivery_stream_and_many_audiences_work_alike() -> None:
    task = diff(audience_id=None, audience_name=None, audience_id_column="of", identities={})
    firehose = AudienceToFirehoseOperator(
        task_id="p", change_set={}, delivery_stream_name="d", message_format="amplitude_cohort"
    )
    rows = [{"of": "a", "user_id": "ann"}, {"of": "b", "user_id": "ann"}]
    messages = find_messages(task, firehose, before=rows, after=rows[:1])
    assert [(m["cohort_id"], m["in_cohort"]) for m in messages] == [("b", False)]


def test_the_same_rows_give_the_same_documents() -> None:
    first, second = (find_messages(diff(), publish(), after=[ANN, BOB]) for _ in range(2))
    assert first == second


def test_what_is_wrong_with_rows_is_an_error_unless_it_is_to_be_dropped() -> None:
    with pytest.raises(GuardTripped, match="repeat"):
        find_messages(diff(), publish(), after=[ANN, ANN])
    assert len(find_messages(diff(on_invalid_rows="drop"), publish(), after=[ANN, ANN])) == 1
    with pytest.raises(ValueError, match="column 'email' has values of the types int, str; expected one type"):
        find_messages(diff(), publish(), after=[ANN, {**BOB, "email": 7}])
