"""Another mapping, another type, another key: never exits and entries, and nothing forgotten."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.exceptions import SchemaChanged
from tests.warehouses import (
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_changes,
    read_membership,
    read_timeline,
    small_delivery,
)

UPDATE = Guards(max_exit_ratio=None, on_empty="exit_all", on_schema_change="update")


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse)
    people.put("u1", email="a@x", city="Bern")
    people.put("u2", email="b@x")
    people.run(0)
    return people


def changed(people: People, number: int) -> dict[str, tuple[str, dict, dict]]:
    """Read a change set: user to action, old values and new ones."""
    found = {}
    for changes in read_changes(people.ledger(), day(number)):
        old = {**changes.old_identities, **changes.old_properties}
        new = {**changes.new_identities, **changes.new_properties}
        for n, user in enumerate(changes.user_id):
            found[user] = (changes.action[n], {k: v[n] for k, v in old.items()}, {k: v[n] for k, v in new.items()})
    return found


def source_with(people: People, **changes):
    return replace(people.source, **changes)


def test_a_column_that_comes_updates_the_members_who_have_it(people):
    source = source_with(people, properties={"city": "city", "title": "title"})
    people.warehouse.execute(f"UPDATE {people.table} SET title = NULL WHERE uid = 'u2'")
    summary = people.run(1, source=source, guards=UPDATE)
    assert [summary[n] for n in ("entered", "exited", "updated")] == [0, 0, 1]
    assert changed(people, 1) == {
        "u1": (
            "updated",
            {"Email": "a@x", "city": "Bern", "title": None},
            {"Email": "a@x", "city": "Bern", "title": "VIPs"},
        )
    }
    assert people.run(2, source=source)["updated"] == 0


def test_a_column_that_goes_updates_the_members_who_had_something(people):
    source = source_with(people, properties={})
    assert people.run(1, source=source, guards=UPDATE)["updated"] == 1
    assert changed(people, 1) == {
        "u1": ("updated", {"Email": "a@x", "city": "Bern"}, {"Email": "a@x", "city": None})
    }
    people.change("u1", city="Rome", email="c@x")
    people.run(2, source=source)
    assert changed(people, 2) == {"u1": ("updated", {"Email": "a@x"}, {"Email": "c@x"})}


def test_a_column_of_another_type_is_told_anew(people):
    source = source_with(
        people, query=f"SELECT uid, email, CASE WHEN city IS NULL THEN NULL ELSE 7 END AS city FROM {people.table}"
    )
    summary = people.run(1, source=source, guards=UPDATE)
    assert [summary[n] for n in ("entered", "exited", "updated")] == [0, 0, 1]
    assert changed(people, 1) == {"u1": ("updated", {"Email": "a@x", "city": None}, {"Email": "a@x", "city": 7})}


def test_who_has_no_value_in_the_other_type_is_told_so_even_where_two_columns_share_a_name(people):
    nothing = f"SELECT uid, email, CAST(NULL AS BIGINT) AS city FROM {people.table}"
    source = source_with(people, query=nothing)
    assert people.run(1, source=source, guards=UPDATE)["updated"] == 1
    assert changed(people, 1) == {
        "u1": ("updated", {"Email": "a@x", "city": None}, {"Email": "a@x", "city": None})
    }
    assert people.run(2, source=source)["updated"] == 0


@pytest.mark.parametrize(
    "type_name",
    ["BOOLEAN", "BIGINT", "DOUBLE PRECISION", "DATE", "TIMESTAMP WITH TIME ZONE", "DECIMAL(9, 2)", "UUID"],
)
def test_a_column_of_any_type_may_come_without_a_value(people, type_name):
    query = f"SELECT uid, email, city, CAST(NULL AS {type_name}) AS more FROM {people.table}"
    source = source_with(people, query=query, properties={"city": "city", "more": "more"})
    assert people.run(1, source=source, guards=UPDATE)["updated"] == 0
    assert people.run(2, source=source)["updated"] == 0


def test_an_identity_taken_from_another_column_updates_those_for_whom_it_is_another(people):
    query = f"SELECT uid, CASE uid WHEN 'u1' THEN 'a@x' ELSE 'new@x' END AS mail, city FROM {people.table}"
    source = source_with(people, query=query, identities={"mail": "Email"})
    people.run(1, source=source, guards=UPDATE)
    assert changed(people, 1) == {
        "u2": ("updated", {"Email": "b@x", "city": None}, {"Email": "new@x", "city": None})
    }


def test_a_renamed_identity_is_another_identity(people):
    source = source_with(people, identities={"email": "Other"})
    people.run(1, source=source, guards=UPDATE)
    assert {u: (a, old["Other"], new["Other"]) for u, (a, old, new) in changed(people, 1).items()} == {
        "u1": ("updated", None, "a@x"),
        "u2": ("updated", None, "b@x"),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "email", "identities": {"uid": "Email"}},
        {"audience_id": "others"},
        {"audience_id": None, "audience_id_column": "audience"},
        {"query": "SELECT 1.5 AS uid, email, city FROM {table}"},
    ],
    ids=["another column", "another audience", "many audiences", "another type"],
)
@pytest.mark.parametrize("how", [{}, {"permission": Permission(everything=True)}, {"hold": True}])
def test_another_key_is_refused_whatever_is_permitted(people, change, how):
    source = source_with(
        people, **{n: v.format(table=people.table) if n == "query" else v for n, v in change.items()}
    )
    before = people.tables()
    with pytest.raises(SchemaChanged, match="the key differs from the key"):
        people.sync(source=source, guards=UPDATE).run(day(1), **how)
    assert people.tables() == before


def test_a_changed_mapping_may_pass_once_or_be_released(people):
    source = source_with(people, properties={"city": "town"})
    with pytest.raises(SchemaChanged, match="on_schema_change"):
        people.run(1, source=source)
    held = people.run(1, source=source, how={"hold": True})
    assert (held["updated"], len(held["held"])) == (1, 1)
    assert approve(people.ledger(), day(1), held["held_table"])["updated"] == 1
    with pytest.raises(SchemaChanged):
        people.run(2)
    assert people.run(2, how={"permission": Permission(everything=True)})["updated"] == 1


def test_there_and_back_again_with_a_destination_behind(people):
    """Two changes of the mapping while a destination gets nothing: it hears of each change as it was then."""
    stream = Stream()
    options = {"max_users": 2, "user_properties": True}
    delivery = small_delivery(options=options)
    open_outbox(people.ledger(), stream, delivery).drain(day(0))
    town = source_with(people, properties={"city": "town"})
    settings = {"guards": UPDATE, "compaction_share": 0.0, "keep_history": timedelta(0)}
    people.change("u1", city="Rome")
    people.run(1, source=town, **settings)
    people.put("u3", city="Oslo")
    people.run(2, source=town, **settings)
    people.take("u2")
    people.run(3, **settings)
    people.run(4, **settings)
    open_outbox(people.ledger(), stream, delivery).drain(day(4))
    consumer = stream.consume()
    assert members_of(consumer) == people.members()
    assert consumer.properties("vips", "u3") == {"city": "Oslo", "town": None}
    people.run(5, **settings)
    assert len(people.tables()) <= 3


def test_what_was_known_before_the_change_is_still_known(people):
    before = read_membership(people.ledger(), day(0))
    source = source_with(people, properties={"city": "town"}, identities={})
    people.run(1, source=source, guards=UPDATE)
    people.run(2, source=source)
    assert read_membership(people.ledger(), day(0)) == before
    assert set(read_membership(people.ledger(), day(2))) == set(before)


def test_a_run_computed_again_after_a_changed_mapping_needs_no_second_base(people):
    source = source_with(people, properties={"city": "town"})
    people.run(1, source=source, guards=UPDATE)
    bases = read_timeline(people.ledger()).bases
    people.put("u3")
    assert people.run(1, source=source, guards=UPDATE)["entered"] == 1
    assert read_timeline(people.ledger()).bases == bases
    people.run(1, guards=UPDATE)
    assert {e.layout.properties[0].label for e in read_timeline(people.ledger()).change_sets} == {"city"}
    assert people.run(2)["updated"] == 0


def test_a_mapping_may_be_taken_back_before_anything_was_sent_however_short_the_history(people):
    settings = {"guards": UPDATE, "keep_history": timedelta(0), "compaction_share": 0.0}
    people.put("u3")
    people.run(1, **settings)
    people.put("u4")
    people.run(2, source=source_with(people, properties={"city": "town"}), **settings)
    summary = people.run(2, **settings)
    assert [summary[n] for n in ("entered", "exited", "updated")] == [1, 0, 0]
    assert people.run(3, **settings)["members"] == 4


def test_a_run_killed_after_any_statement_of_a_changed_mapping_loses_nothing(people):
    for number, at in enumerate(range(40), 1):
        people.put(f"v{at}", city="Bern")
        source = source_with(people, properties={"city": f"label {at}"})
        dying, seen = Watched(people.warehouse), []

        def die(sql: str, dying: Watched = dying, seen: list[str] = seen, at: int = at) -> None:
            seen.append(sql)
            if len(seen) > at:
                dying.kill()

        dying.after = die
        with contextlib.suppress(Killed):
            people.sync(dying, source=source, guards=UPDATE).run(day(number))
        summary = people.run(number, source=source, guards=UPDATE)
        assert (summary["members"], summary["exited"]) == (at + 3, 0)
        if not dying.dead:
            break
    assert at > 5
