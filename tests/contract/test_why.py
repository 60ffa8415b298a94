"""What was sent about a user is what is on the stream, in SQL and in Python, whatever came in between.

The oracle reads the stream's messages with nothing of the package.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.cli.commands import main
from airflow_kinesis_audience.core.changes import sent as sent_module
from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.sql import statements as statements_module
from airflow_kinesis_audience.core.sql.names import delivered_view_name
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.history import create_delivered_view, delivered_sql, find_user, why
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.state import open_files
from tests.warehouses import Fate, Killed, People, Stream, day, open_duckdb, open_outbox, small_delivery

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {"max_users": 2, "user_properties": True}
Sent = tuple[str, str, bool, str, str]


def delivery(name: str = "a", **changed: Any) -> Any:
    return small_delivery(name, **{"options": OPTIONS, **changed})


def on_stream(stream: Stream, name: str = "a") -> set[Sent]:
    """List user, audience, whether the user is in, the instant, and the destination, of every message."""
    found = set()
    for message in map(json.loads, stream.messages):
        as_of = instant_text(day(0) + timedelta(seconds=int(message["computed_time"]) - int(day(0).timestamp())))
        for user in message.get("users", ()):
            of = (user["user_id"], message["cohort_id"], message["in_cohort"], as_of)
            found.add((*of, f"kinesis://eu-west-1/{name}"))
    return found


def in_sql(ledger: Ledger, sql: str | None = None) -> set[Sent]:
    rows = ledger.warehouse.read_rows(sql or delivered_sql(ledger))
    found = [(r[0], r[1], r[2] != "exited", r[5], r[6]) for r in rows]
    assert len(found) == len(set(found)), "a row is there twice"
    return set(found)


def in_python(ledger: Ledger, users: Sequence[str]) -> set[Sent]:
    return {
        (s.user_id, s.audience_id, s.action != "exited", s.as_of, s.destination)
        for user in users
        for s in why(ledger, user, message_ids=False)
        if s.state == "delivered"
    }


def of_view(people: People) -> str:
    return f'SELECT * FROM {people.schema}."{delivered_view_name("dag.diff")}"'


@pytest.fixture
def people(warehouse) -> People:
    return People(warehouse, many=True)


@pytest.mark.parametrize("at_once", [100, 2], ids=["together", "in groups"])
def test_what_is_listed_is_what_is_on_the_streams(people, monkeypatch, at_once):
    monkeypatch.setattr(statements_module, "_MOST_IN_A_ROW", at_once)
    monkeypatch.setattr(sent_module, "_TABLES_AT_ONCE", at_once)
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)
    users = [f"u{n}" for n in range(8)]
    streams = {name: Stream() for name in ("a", "late")}
    begins = {"a": 0, "late": dice.randrange(1, 4)}
    for number in range(7):
        for user in users:
            audience = dice.choice("ab")
            match dice.randrange(5):
                case 0:
                    people.take(user, audience=audience)
                case 1:
                    people.take(user, audience=audience)
                    people.put(user, audience=audience, title="T", email=f"{user}@x.org", city="Bern")
                case 2:
                    people.change(user, city=dice.choice(("Rome", "Oslo")))
        people.put(f"only{number}", audience="a", title="T")
        people.run(number, compaction_share=dice.choice((0.0, 9.0)))
        for name, stream in streams.items():
            if number >= begins[name] and dice.random() < 0.7:
                open_outbox(people.ledger(), stream, delivery(name)).drain(day(number))
    users += [f"only{n}" for n in range(7)]
    expected = {s for name, stream in streams.items() for s in on_stream(stream, name)}
    assert in_python(people.ledger(), users) == expected
    if expected:
        assert in_sql(people.ledger()) == expected


def publish_two_days(people: People, stream: Stream) -> None:
    people.put("u", "v", audience="a", title="A", city="Bern", email="u@example.org")
    people.run(0)
    open_outbox(people.ledger(), stream, delivery()).drain(day(0))
    people.change("u", city="Rome")
    people.run(1)
    open_outbox(people.ledger(), stream, replace(delivery(), owner="dag/publish/-1/run 2")).drain(day(1))


def test_a_change_is_listed_with_its_columns_its_run_its_message_and_its_attempts(people):
    def refuse(number: int, batch: Any) -> Any:
        if number == failing:
            raise Killed(taken=False)
        return [Fate.TAKEN] * len(batch)

    failing, stream = -1, Stream(refuse)
    publish_two_days(people, stream)
    people.change("u", city="Oslo", email="new@example.org")
    people.run(2)
    owned = replace(delivery(), owner="dag/publish/-1/run 3")
    failing = len(stream.puts)
    with pytest.raises(Killed):
        open_outbox(people.ledger(), stream, owned).drain(day(2))
    [under_way] = [s for s in why(people.ledger(), "u") if s.as_of == instant_text(day(2))]
    assert (under_way.state, under_way.delivered_at, under_way.attempt) == ("under way", None, 1)
    assert len(in_sql(people.ledger())) == 3, "nothing of what is under way is listed as delivered"
    open_outbox(people.ledger(), stream, owned).drain(day(2))
    first, second, third = why(people.ledger(), "u")
    assert (first.action, first.reason, first.run, first.attempt) == ("entered", None, None, 1)
    assert (second.action, second.reason, second.run) == ("updated", "city", "dag/publish/-1/run 2")
    assert (third.reason, third.run, third.attempt) == ("Email, city", "dag/publish/-1/run 3", 2)
    ids = [json.loads(m)["message_id"] for m in stream.messages if b'"u"' in m]
    assert [s.message_id for s in (first, second, third)] == ids
    rows = people.warehouse.read_rows(f"{delivered_sql(people.ledger())} ORDER BY as_of, user_id")
    assert [tuple(row) for row in rows if row[0] == "u"] == [
        (
            *("u", "a", s.action, s.reason, s.run, s.as_of, s.destination, s.message_format),
            *(s.delivered_at, s.attempt),
        )
        for s in (first, second, third)
    ]


def test_a_label_may_have_any_character(people):
    stream = Stream()
    people.source = replace(people.source, properties={"city": "100 % 'x' \\ ?"})
    publish_two_days(people, stream)
    assert [s.reason for s in why(people.ledger(), "u")] == [None, "100 % 'x' \\ ?"]
    assert {row[3] for row in people.warehouse.read_rows(delivered_sql(people.ledger()))} == {
        None,
        "100 % 'x' \\ ?",
    }


def test_who_was_too_large_is_not_listed_as_delivered(people):
    stream = Stream()
    people.put("u", audience="a", title="A")
    people.put("large", audience="a", title="A", city="x" * 20_000)
    people.run(0)
    open_outbox(people.ledger(), stream, delivery()).drain(day(0), on_rejected="skip")
    create_delivered_view(people.ledger())
    people.put("v", audience="a", title="A")
    people.put("larger", audience="a", title="A", city="y" * 20_000)
    people.run(1)
    open_outbox(people.ledger(), stream, delivery()).drain(day(1), on_rejected="skip")
    expected = on_stream(stream)
    assert {user for user, *_ in expected} == {"u", "v"}
    assert in_sql(people.ledger()) == expected
    assert {s.state for s in why(people.ledger(), "larger")} == {"rejected"}
    # A view of before does not know who was too large since, so it lists nobody of that change set.
    assert in_sql(people.ledger(), of_view(people)) == {s for s in expected if s[3] == instant_text(day(0))}


def test_what_several_tasks_send_together_is_listed_once_all_have(people):
    stream = Stream()
    users = [f"u{n}" for n in range(20)]
    people.put(*users, audience="a", title="A")
    people.run(0)
    shared = delivery(partitions=4)
    for part in (0, 1):
        open_outbox(people.ledger(), stream, replace(shared, part=Part(part, 2))).drain(day(0))
    for number in (1, 2):
        people.change("u1", city=f"c{number}")
        people.put(f"n{number}", audience="a", title="A")
        people.run(number)
    # Each takes both change sets in one go, so that the first is concluded with the second.
    for part in (0, 1):
        open_outbox(people.ledger(), stream, replace(shared, part=Part(part, 2))).drain(day(2))
    assert in_sql(people.ledger()) == on_stream(stream)
    assert in_python(people.ledger(), [*users, "n1", "n2"]) == on_stream(stream)


def test_a_destination_that_is_detached_and_a_resync_are_listed(people):
    stream, again = Stream(), Stream()
    publish_two_days(people, stream)
    people.take("v", audience="a")
    people.run(2)
    open_outbox(people.ledger(), stream, delivery()).drain(day(2))
    resync(open_outbox(people.ledger(), again, replace(delivery(), resync="again")), delivery())
    detach(people.ledger(), {delivery().log})
    people.put("w", audience="a", title="A")
    people.run(3)
    expected = on_stream(stream) | on_stream(again)
    assert ("v", "a", False, instant_text(day(2)), "kinesis://eu-west-1/a") in on_stream(again)
    assert in_python(people.ledger(), "uvw") == expected
    rows = people.warehouse.read_rows(delivered_sql(people.ledger()))
    assert {(r[0], r[1], r[2] != "exited", r[5], r[6]) for r in rows} == expected
    assert [s.message_id for s in why(people.ledger(), "v")][-1] in {
        json.loads(m)["message_id"] for m in again.messages
    }
    assert find_user(people.ledger(), "w").changes[0].deliveries == []


def test_a_view_that_is_maintained_is_right_after_tables_went(people):
    settings = {"history_view": True, "compaction_share": 0.0, "keep_history": timedelta(days=2)}
    stream = Stream()
    people.put("u", audience="a", title="A", city="Bern")
    for number in range(8):
        people.take("v", audience="a") if number % 2 else people.put("v", audience="a", title="A")
        people.change("u", city=f"c{number}")
        people.run(number, **settings)
        open_outbox(people.ledger(), stream, delivery()).drain(day(number))
        if number:
            found = in_sql(people.ledger(), of_view(people))
            kept = {row[3] for row in found}
            assert found == {s for s in on_stream(stream) if s[3] in kept}
            assert instant_text(day(number)) in kept, "what is delivered after a run shows without another one"
    assert len(people.tables()) <= 10


def test_a_view_that_nobody_maintains_keeps_no_table(people):
    stream = Stream()
    people.put("u", audience="a", title="A", city="Bern")
    for number in range(6):
        people.change("u", city=f"c{number}")
        people.run(number, compaction_share=0.0, keep_history=timedelta(days=1), history_view=number == 1)
        open_outbox(people.ledger(), stream, delivery()).drain(day(number))
        if number == 2:
            create_delivered_view(people.ledger())
    tables = {t for t in people.tables() if t.startswith(("base", "changes"))}
    state = people.ledger().read().timeline
    assert tables == state.standing
    create_delivered_view(people.ledger())
    assert in_sql(people.ledger(), of_view(people)) == in_sql(people.ledger())


def test_the_command_masks_the_user_and_prints_what_was_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, stream = open_files(str(tmp_path / "state")), Stream()
    with open_duckdb(tmp_path / "source.duckdb") as source:
        people = People(source, many=True)
        rows = FileLedgerTable(files, "airflow_audience", "dag.diff")
        ledger = Ledger(DuckDbParquetWarehouse(files, source), "airflow_audience", "dag.diff", rows)
        for number, city in enumerate(("Bern", "Rome")):
            people.clear()
            people.put("ada@example.org", audience="a", title="A", city=city)
            people.sync(ledger=ledger).run(day(number))
            open_outbox(ledger, stream, delivery()).drain(day(number))
    asked = ["why", "dag.diff", "ada@example.org", "--state-path", str(tmp_path / "state")]
    assert main([*asked, "--message-ids"]) == 0
    out = capsys.readouterr().out
    who, *lines = out.splitlines()
    assert who == f"u:{hashlib.sha256(b'ada@example.org').hexdigest()[:10]}:"
    assert "ada@example.org" not in out
    assert [line.split("  ")[1:4] for line in lines] == [
        [instant_text(day(0)), "a", "entered"],
        [instant_text(day(1)), "a", "updated (city)"],
    ]
    for line, message in zip(lines, map(json.loads, stream.messages), strict=True):
        assert line.endswith(f"message {message['message_id']}")
    assert main([*asked, "--json", "--show"]) == 0
    assert [s["reason"] for s in json.loads(capsys.readouterr().out)] == [None, "city"]
    monkeypatch.setattr("sys.stdin", io.StringIO("ada@example.org\n"))
    assert main(["why", "dag.diff", "-", *asked[3:], "--audience", "other"]) == 0
    assert capsys.readouterr().out == f"{who} nothing was sent that is kept\n"
    assert main(["why", "dag.diff", "--sql", *asked[3:]]) == 1
    assert "is kept as files" in capsys.readouterr().err
    assert main([*asked, "--sql"]) == 1
    assert "give either" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [delivered_sql, create_delivered_view])
def test_of_nothing_there_is_no_view(people, asked: Callable[[Ledger], str]):
    people.put("u", audience="a", title="A")
    people.run(0)
    with pytest.raises(HistoryGone, match="has delivered nothing"):
        asked(people.ledger())
    assert why(people.ledger(), "u") == []
