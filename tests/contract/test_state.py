"""Runs of a sync: whatever fails, is killed or overlaps, the published membership is never lost and never guessed.

Each test looks at a real warehouse afterwards: which change sets there are, which tables, and who is a member.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_kinesis_audience.core.exceptions import (
    GuardTripped,
    HistoryGone,
    LedgerConflict,
    LedgerUnreadable,
    RunSuperseded,
    SchemaChanged,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state import commits
from airflow_kinesis_audience.core.state import retention as retention_module
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, TableStarted
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
)


@pytest.fixture
def people(warehouse) -> People:
    return People(warehouse)


def users(people: People, number: int) -> set[str]:
    """Read who was a member as of a day."""
    return {user for _, user in read_membership(people.ledger(), day(number))}


def referenced(people: People) -> set[str]:
    """List the tables that the ledger says are there."""
    timeline = read_timeline(people.ledger())
    return {e.table for e in timeline.change_sets if not e.dropped} | {b.table for b in timeline.bases}


def seal(people: People, number: int) -> None:
    """Have a delivery rely on a change set."""
    open_outbox(people.ledger(), Stream()).drain(day(number))


def test_a_first_run_makes_everybody_a_member_and_says_so_in_numbers(people):
    people.put("u1", "u2")
    assert people.run(0) == {
        "sync_id": "dag.diff",
        "as_of": instant_text(day(0)),
        "previous_as_of": None,
        "entered": 2,
        "exited": 0,
        "updated": 0,
        "members": 2,
        "audiences": {"vips": {"entered": 2, "exited": 0, "updated": 0, "members": 2}},
    }
    assert users(people, 0) == {"u1", "u2"}


def test_each_audience_of_many_has_its_own_numbers(warehouse):
    people = People(warehouse, many=True)
    people.put("u1", "u2", audience="a")
    people.put("u1", audience="b")
    people.run(0)
    people.take("u1", audience="a")
    people.change("u2", city="Bern")
    people.put("u3", "u4", audience="c")
    assert people.run(1)["audiences"] == {
        "a": {"entered": 0, "exited": 1, "updated": 1, "members": 1},
        "b": {"entered": 0, "exited": 0, "updated": 0, "members": 1},
        "c": {"entered": 2, "exited": 0, "updated": 0, "members": 2},
    }


@pytest.mark.parametrize("number", [0, 1], ids=["first", "later"])
def test_a_run_that_nobody_relies_on_is_computed_again_and_its_old_table_goes(people, number):
    people.put("u1")
    for earlier in range(number + 1):
        people.run(earlier)
    replaced = read_timeline(people.ledger()).change_sets[-1].table
    people.put("u2")
    assert people.run(number)["members"] == 2
    assert users(people, number) == {"u1", "u2"}
    assert replaced not in people.tables()
    assert people.tables() == referenced(people)


@pytest.mark.parametrize("number", [0, 1], ids=["first", "later"])
def test_a_change_set_that_a_delivery_relies_on_stays_as_it_is(people, number):
    people.put("u1")
    for earlier in range(number + 1):
        before = people.run(earlier)
    seal(people, number)
    people.put("u2")
    assert people.run(number) == {**before, "recorded": True}
    assert users(people, number) == {"u1"}
    assert people.run(number + 1)["entered"] == 1


def test_a_run_computed_again_over_a_base_made_from_it_leaves_no_base_behind(people):
    people.put("u1")
    people.run(0, compaction_share=0.0)
    people.put("u2")
    people.run(1, compaction_share=0.0)
    people.put("u2")  # twice: the next run folds day 1 up, and is stopped then
    with pytest.raises(GuardTripped):
        people.run(2, compaction_share=0.0)
    assert [b.as_of for b in read_timeline(people.ledger()).bases] == [day(0), day(1)]
    people.take("u2")
    assert people.run(1, compaction_share=0.0)["members"] == 1
    people.put("u3")
    assert people.run(2, compaction_share=0.0)["entered"] == 1
    assert (users(people, 1), users(people, 2)) == ({"u1"}, {"u1", "u3"})
    assert people.tables() == referenced(people)


def test_a_run_older_than_the_newest_is_superseded_or_finds_its_own_change_set(people):
    people.put("u1")
    people.run(0)
    people.put("u2")
    known = people.run(2)
    people.put("u3")
    people.run(4)
    people.put("u4")
    assert people.run(2) == {**known, "recorded": True}
    for number in (1, 3):
        with pytest.raises(RunSuperseded, match="nothing to compute"):
            people.run(number)
    assert users(people, 4) == {"u1", "u2", "u3"}


BAD_ROWS = {
    "null": ([None], "1 of 2 rows have no user id"),
    "empty": ([""], "1 of 2 rows have no user id"),
    "repeated": (["u1"], "1 of 2 rows repeat a user id"),
    "repeated and new": (["u2", "u2", "u2"], "2 of 4 rows repeat a user id"),
}


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_rows_that_cannot_be_told_apart_stop_the_run_and_leave_everything_as_it_was(people, kind, first):
    added, sentence = BAD_ROWS[kind]
    people.put("u1")
    if not first:
        people.run(0)
    before = people.tables()
    people.put(*added)
    with pytest.raises(GuardTripped, match=f"audience 'vips': {sentence}"):
        people.run(1)
    assert people.tables() == before
    assert [e.as_of for e in read_timeline(people.ledger()).change_sets] == ([] if first else [day(0)])
    people.clear()
    people.put("u1", "u9")
    assert people.run(1)["entered"] == (2 if first else 1)
    assert users(people, 1) == {"u1", "u9"}


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
@pytest.mark.parametrize("audience", [None, ""])
def test_rows_without_an_audience_stop_the_run(warehouse, audience, first):
    people = People(warehouse, many=True)
    people.put("u1", audience="a")
    if not first:
        people.run(0)
    people.put("u2", "u3", audience=audience)
    with pytest.raises(GuardTripped, match="2 rows have no audience id"):
        people.run(1)


def test_one_user_in_two_audiences_is_no_repetition(warehouse):
    people = People(warehouse, many=True)
    for audience in ("a", "A"):
        people.put("u1", "U1", audience=audience)
    assert people.run(0)["members"] == 4
    assert people.run(1)["members"] == 4


def test_no_error_tells_who_is_a_member(people):
    people.put("secret-user", "secret-user", email="secret@x", city="secret city")
    with pytest.raises(GuardTripped) as stopped:
        people.run(0)
    assert "secret" not in str(stopped.value)


def test_another_mapping_or_type_is_never_turned_into_exits_and_entries(people):
    people.put("u1", email="a@x", city="Bern")
    people.run(0)
    asked = {
        "property 'city' was city": replace(people.source, properties={}),
        "identity 'Email' was email": replace(people.source, identities={"city": "Email"}, properties={}),
        "property 'city' was city .text. and is city .integer": replace(
            people.source, query=f"SELECT uid, email, 1 AS city FROM {people.table}"
        ),
        "user_id was 'uid'": replace(people.source, user_id="email", identities={"uid": "Email"}),
        "audience_id was 'vips'": replace(people.source, audience_id="others"),
    }
    for sentence, source in asked.items():
        with pytest.raises(SchemaChanged, match=sentence):
            people.sync(source=source).run(day(1))
    people.put("u2")
    assert people.run(1)["entered"] == 1


def test_the_order_of_the_mapping_and_other_columns_do_not_matter(people):
    source = replace(people.source, properties={"city": "city", "title": "title"})
    people.put("u1", city="Bern")
    people.sync(source=source).run(day(0))
    turned = replace(
        source,
        query=f"SELECT city, title, 1 AS more, uid, email FROM {people.table}",
        properties={"title": "title", "city": "city"},
    )
    summary = people.sync(source=turned).run(day(1))
    assert (summary["updated"], summary["exited"], summary["entered"]) == (0, 0, 0)
    people.change("u1", city="Rome")
    people.sync(source=turned).run(day(2))
    [changes] = read_changes(people.ledger(), day(2))
    assert (changes.old_properties, changes.new_properties["city"]) == (
        {"city": ["Bern"], "title": ["VIPs"]},
        ["Rome"],
    )


def is_created(sql: str, what: str) -> bool:
    """Tell whether a statement makes a state table of a kind."""
    named = sql.partition(" AS ")[0].replace("`", '"')
    return sql.startswith("CREATE TABLE") and f'"{what}_' in named


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("second", [1, 2], ids=["same instant", "later instant"])
@pytest.mark.parametrize("first_run", [True, False], ids=["first run", "later run"])
def test_of_two_runs_at_once_one_stops_and_nothing_is_lost(people, reopen, first_run, second, moment):
    people.put("u1")
    if not first_run:
        people.run(0)
    other = reopen()
    ran = []

    def run_the_other(sql: str) -> None:
        if is_created(sql, "base" if first_run else "changes") and not ran:
            ran.append(people.sync(other).run(day(second)))

    people.put("u2")
    watched = Watched(people.warehouse, **{moment: run_the_other})
    with pytest.raises(LedgerConflict, match="another run"):
        people.sync(watched).run(day(1))
    assert ran
    assert people.tables() == referenced(people)
    assert users(people, second) == {"u1", "u2"}
    if second == 1:
        assert people.run(1) == ran[0]
    else:
        with pytest.raises(RunSuperseded):
            people.run(1)
    people.put("u3")
    people.run(3)
    assert users(people, 3) == {"u1", "u2", "u3"}
    assert people.tables() == referenced(people)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_another_overtakes_between_its_new_base_and_its_change_set_stops(people, reopen, moment):
    people.put("u1")
    people.run(0)
    people.put("u2")
    people.run(1)
    people.put("u3")
    ran, bases = [], []

    def run_the_other(sql: str) -> None:
        """Run for a later instant at every statement after the base was recorded, one after the other."""
        bases.extend(["base"] if is_created(sql, "base") else [])
        if bases and sql.startswith("INSERT INTO") and not ran:
            bases.append(sql)
            if len(bases) > 1:
                ran.append(people.sync(reopen(), compaction_share=9.0).run(day(3)))

    watched = Watched(people.warehouse, **{moment: run_the_other})
    with pytest.raises((LedgerConflict, RunSuperseded)):
        people.sync(watched, compaction_share=0.0).run(day(2))
    assert ran
    assert [e.as_of for e in read_timeline(people.ledger()).change_sets] == [day(0), day(1), day(3)]
    assert users(people, 3) == {"u1", "u2", "u3"}


@pytest.mark.parametrize("what", ["base", "changes"])
def test_a_run_that_clears_up_leaves_the_table_that_another_is_writing(people, reopen, what):
    people.put("u1")
    people.run(0)
    people.put("u2")
    other = Watched(reopen())
    drops = []

    def finish_a_run(sql: str) -> None:
        """Once the later run's table is written, let the earlier one, which had recorded its own, clear up."""
        if is_created(sql, what) and not drops:
            drops.append(True)
            sync = people.sync()
            sync.retention.expire(sync.committer, day(1))

    people.run(1)
    people.put("u3")
    other.after = finish_a_run
    assert people.sync(other).run(day(2))["entered"] == 1
    assert drops
    assert users(people, 2) == {"u1", "u2", "u3"}
    assert people.tables() == referenced(people)


def test_a_delivery_that_begins_while_a_run_is_computed_again_keeps_what_it_relies_on(people, reopen):
    people.put("u1")
    people.run(0)
    people.put("u2")
    people.run(1)
    stream, other = Stream(), reopen()
    watched = Watched(people.warehouse)

    def deliver_meanwhile(sql: str) -> None:
        if is_created(sql, "changes") and not stream.puts:
            open_outbox(people.ledger(other), stream).drain(day(1))

    watched.after = deliver_meanwhile
    people.put("u3")
    with pytest.raises(LedgerConflict):
        people.sync(watched).run(day(1))
    assert people.run(1)["members"] == 2
    people.run(2)
    open_outbox(people.ledger(), stream).drain(day(2))
    assert members_of(stream.consume()) == people.members()
    assert people.tables() == referenced(people)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("what", ["base", "changes"])
def test_what_a_killed_run_left_behind_goes_with_the_next(people, what, moment):
    people.put("u1")
    if what == "changes":
        people.run(0)
    watched = Watched(people.warehouse)
    setattr(watched, moment, lambda sql: watched.kill() if is_created(sql, what) else None)
    with pytest.raises(Killed):
        people.sync(watched).run(day(1))
    if moment == "after":
        assert people.tables() != referenced(people)
    people.put("u2")
    people.run(1)
    assert users(people, 1) == {"u1", "u2"}
    assert people.tables() == referenced(people)


def test_a_table_that_the_server_finishes_after_its_task_was_killed_goes_with_a_later_run(people, monkeypatch):
    people.put("u1")
    people.run(0)
    watched, under_way = Watched(people.warehouse), []

    def leave_it_to_the_server(sql: str) -> None:
        if is_created(sql, "changes"):
            under_way.append(sql)
            watched.kill()

    watched.before = leave_it_to_the_server
    with pytest.raises(Killed):
        people.sync(watched).run(day(1))
    people.put("u2")
    people.run(1)
    people.warehouse.execute(under_way[0])
    assert people.tables() != referenced(people)
    people.put("u3")
    people.run(2)
    assert people.tables() == referenced(people)
    assert users(people, 2) == {"u1", "u2", "u3"}
    monkeypatch.setattr(commits, "LATEST_END", timedelta(0))
    people.run(3)
    assert read_timeline(people.ledger()).orphans == frozenset(), "it is looked for no longer than it may come"


def test_a_run_killed_after_any_statement_loses_nothing(people):
    people.put("u0")
    people.run(0, compaction_share=0.0)
    for at in itertools.count():
        people.put(f"u{at + 1}")
        dying, statements = Watched(people.warehouse), itertools.count()
        dying.after = lambda _, dying=dying, at=at, statements=statements: (
            dying.kill() if next(statements) == at else None
        )
        number = at + 1
        with contextlib.suppress(Killed):
            people.sync(dying, compaction_share=0.0).run(day(number))
        assert people.run(number, compaction_share=0.0)["members"] == number + 1
        assert people.tables() == referenced(people)
        assert users(people, number) == people.members()["vips"]
        if not dying.dead:
            break
    assert at > 4


def test_a_run_killed_while_it_clears_up_can_be_computed_again(people):
    settings = {"compaction_share": 0.0, "keep_history": timedelta(0)}
    people.put("u0")
    people.run(0, **settings)
    for at in itertools.count():
        number = at + 1
        people.put(f"u{number}")
        dying, statements = Watched(people.warehouse), itertools.count()
        dying.after = lambda _, dying=dying, at=at, statements=statements: (
            dying.kill() if next(statements) == at else None
        )
        with contextlib.suppress(Killed):
            people.sync(dying, **settings).run(day(number))
        people.put(f"late{number}")
        assert people.run(number, **settings)["members"] == 2 * number + 1
        assert users(people, number) == people.members()["vips"]
        assert people.tables() == referenced(people)
        if not dying.dead:
            break
    assert at > 8


def test_old_state_goes_and_what_is_kept_is_right_at_every_instant(people):
    true = {}
    for number in range(12):
        people.put(f"u{number}")
        if number % 3 == 2:
            people.take(f"u{number - 2}")
        people.run(number, compaction_share=0.3, keep_history=timedelta(days=4))
        true[number] = people.members()["vips"]
        for earlier in range(max(0, number - 4), number + 1):
            assert users(people, earlier) == true[earlier]
        assert people.tables() == referenced(people)
    with pytest.raises(HistoryGone, match="no longer kept"):
        read_membership(people.ledger(), day(0))


def test_a_history_of_no_length_keeps_the_newest_membership_and_the_names(people):
    stream = Stream()
    for number in range(6):
        people.put(f"u{number}")
        people.run(number, compaction_share=0.0, keep_history=timedelta(0))
        open_outbox(people.ledger(), stream).drain(day(number))
        assert members_of(stream.consume()) == people.members()
    people.clear()
    people.run(6, compaction_share=0.0, keep_history=timedelta(0))
    open_outbox(people.ledger(), stream).drain(day(6))
    assert members_of(stream.consume()) == {}
    assert b'"cohort_name":"VIPs"' in stream.messages[-1]
    assert len(people.tables()) <= 3


def test_nothing_goes_that_a_delivery_has_still_to_send(people):
    late, quick = Stream(), Stream()
    people.put("u0")
    settings = {"compaction_share": 0.0, "keep_history": timedelta(0)}
    people.run(0, **settings)
    open_outbox(people.ledger(), late).drain(day(0))
    for number in range(1, 6):
        people.put(f"u{number}")
        people.take(f"u{number - 1}")
        people.run(number, **settings)
    open_outbox(people.ledger(), late).drain(day(5))
    told = [(m.count(b"user_id"), b'"in_cohort":true' in m) for m in late.messages]
    assert len(told) == 11, "an entry, then an entry and an exit on each of five days"
    assert members_of(late.consume()) == people.members()
    before = people.tables()
    people.run(6, **settings)
    assert before - people.tables(), "what all have had goes"
    open_outbox(people.ledger(), quick).drain(day(6))


def test_many_change_sets_are_folded_up_however_small(people, monkeypatch):
    monkeypatch.setattr(retention_module, "MOST_CHANGE_SETS", 4)
    people.put(*(f"u{n}" for n in range(50)))
    for number in range(10):
        people.run(number, compaction_share=99.0, keep_history=timedelta(days=99))
        people.take(f"u{number}")
    assert [b.as_of for b in read_timeline(people.ledger()).bases] == [day(0), day(4), day(8)]
    assert users(people, 9) == {f"u{n}" for n in range(9, 50)}


def test_of_two_rows_with_one_number_exactly_one_is_taken(people, reopen):
    first, second = people.ledger(), people.ledger(reopen())
    first.prepare()
    second.prepare()
    first.append(SYNC_LOG, TableStarted(table="a"), as_of=day(0))
    with pytest.raises(LedgerConflict, match="retry"):
        second.append(SYNC_LOG, TableStarted(table="b"), as_of=day(0))
    second.read()
    assert [e.detail for e in second.entries()] == [TableStarted(table="a")]
    second.append(SYNC_LOG, TableStarted(table="b"), as_of=day(0))
    second.append("of a delivery", DestinationDetached(), as_of=day(0))
    first.read()
    assert [(e.log, e.sequence) for e in first.entries()] == [(SYNC_LOG, 1), (SYNC_LOG, 2), ("of a delivery", 1)]


def test_a_row_whose_answer_was_lost_counts_once(people):
    lost = []

    def lose_answers(sql: str) -> None:
        if sql.startswith("INSERT INTO"):
            lost.append(sql)
            raise WarehouseUnavailable("the connection broke after the row was taken")

    people.put("u1")
    people.sync(Watched(people.warehouse, after=lose_answers)).run(day(0))
    assert len(lost) >= 2
    people.put("u2")
    assert people.run(1)["previous_as_of"] == instant_text(day(0))


def test_a_row_that_never_arrived_is_an_error_and_the_next_attempt_does_it(people):
    watched = Watched(people.warehouse)

    def break_on_recording(sql: str) -> None:
        if sql.startswith("INSERT INTO") and len(people.tables()) > 0:
            raise WarehouseUnavailable("the connection broke before the row arrived")

    watched.before = break_on_recording
    people.put("u1")
    with pytest.raises(WarehouseUnavailable):
        people.sync(watched).run(day(0))
    assert people.run(0)["members"] == 1
    assert people.tables() == referenced(people)


def test_syncs_of_one_schema_do_not_see_each_other(warehouse):
    one = People(warehouse)
    one.put("u1")
    one.run(0)
    other = one.sync(ledger=Ledger(warehouse, one.schema, "dag'; DROP TABLE x; --"))
    one.put("u2")
    assert other.run(day(5))["entered"] == 2
    assert one.run(1)["entered"] == 1


@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
def test_a_ledger_that_may_not_be_read_is_never_an_empty_one(people, reopen):
    people.put("u1")
    people.run(0)
    people.put("u2")
    statements = (
        "CREATE ROLE reader_of_nothing",
        f"GRANT ALL ON SCHEMA {people.schema} TO reader_of_nothing",
        f"GRANT SELECT ON {people.table} TO reader_of_nothing",
        "SET ROLE reader_of_nothing",
    )
    denied = reopen()
    before = people.tables()
    try:
        for statement in statements:
            denied.execute(statement)
        with pytest.raises(LedgerUnreadable, match="needs SELECT on the source, and USAGE and CREATE"):
            people.sync(denied).run(day(1))
        with pytest.raises(LedgerUnreadable, match="needs SELECT on the source, and USAGE and CREATE"):
            open_outbox(people.ledger(denied), Stream()).drain(day(0))
    finally:
        denied.execute("RESET ROLE")
        denied.execute("DROP OWNED BY reader_of_nothing")
        denied.execute("DROP ROLE reader_of_nothing")
    assert people.tables() == before
    assert people.run(1)["entered"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        """UPDATE {ledger} SET "detail" = '{{' WHERE "sequence" = 2""",
        """UPDATE {ledger} SET "detail" = '{{}}' WHERE "event" = 'first'""",
        """UPDATE {ledger} SET "detail" = '[]' WHERE "event" = 'first'""",
        """UPDATE {ledger} SET "event" = 'frist' WHERE "event" = 'first'""",
        """UPDATE {ledger} SET "as_of" = 'today' WHERE "event" = 'first'""",
        """DELETE FROM {ledger} WHERE "event" = 'first'""",
        """DELETE FROM {ledger} WHERE "sequence" = 1""",
        """ALTER TABLE {ledger} RENAME COLUMN "detail" TO "details" """,
    ],
)
def test_a_damaged_ledger_is_unreadable_and_no_new_beginning(people, damage):
    people.put("u1")
    people.run(0)
    seal(people, 0)
    before = people.tables()
    people.warehouse.execute(damage.format(ledger=f"{people.schema}.ledger"))
    for attempt in (lambda: people.run(1), lambda: seal(people, 0)):
        with pytest.raises(LedgerUnreadable, match="ledger"):
            attempt()
    assert people.tables() == before


def test_a_state_table_that_somebody_dropped_is_an_error_and_no_exit_of_everybody(people):
    people.put("u1")
    people.run(0)
    people.warehouse.execute(f"DROP TABLE {people.schema}.{read_timeline(people.ledger()).change_sets[0].table}")
    with pytest.raises(WarehouseRefused):
        people.run(1)
    assert [e.as_of for e in read_timeline(people.ledger()).change_sets] == [day(0)]


def test_a_sync_of_strange_name_and_audience_has_tables_within_the_limits(warehouse):
    people = People(warehouse)
    source = replace(people.source, audience_id="a'\"; -- \\ %s \n\U0001f600", audience_name="x'")
    people.put("u1")
    ledger = Ledger(warehouse, people.schema, "Dag mit Üml\U0001f600ut'\"; %s." + "x" * 300)
    sync = people.sync(source=source, ledger=ledger)
    sync.run(day(0))
    people.put("u2")
    assert sync.run(day(1))["entered"] == 1
    assert {a for a, _ in read_membership(sync.ledger, day(1))} == {source.audience_id}
    assert all(len(name.encode()) <= 60 for name in people.tables())


def test_a_schema_may_have_any_name(warehouse):
    people = People(warehouse)
    ledger = Ledger(warehouse, 'my "own" state; --', "dag.diff")
    people.put("u1")
    sync = people.sync(ledger=ledger)
    sync.run(day(0))
    assert sync.run(day(1))["members"] == 1
    assert len(read_membership(ledger, day(1))) == 1
