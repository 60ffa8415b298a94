"""The task that detaches a destination: on a real file of DuckDB, through Airflow's connection."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_kinesis_audience.core.exceptions import LedgerConflict
from airflow_kinesis_audience.core.outbox import detachment
from airflow_kinesis_audience.core.state.status import find_pins
from airflow_kinesis_audience.operators import AudienceDetachOperator, AudienceDiffOperator
from tests.warehouses import People, Stream, day, open_duckdb, open_outbox, small_delivery

if TYPE_CHECKING:
    from pathlib import Path

USED, UNUSED = small_delivery("used"), small_delivery("unused")


class TaskInstance:
    dag_id, task_id, map_index = "dag", "diff", -1
    run_id, try_number = "a run", 1

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps([key, value])


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    """Three runs, of which one destination has all, and the other the first."""
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    people = People(open_duckdb(path))
    for number in range(3):
        people.put(f"u{number}", email="secret@x.example")
        people.run(number)
        open_outbox(people.ledger(), Stream(), USED).drain(day(number))
        if not number:
            open_outbox(people.ledger(), Stream(), UNUSED).drain(day(0))
    return people


def detach(people: People, **more: Any) -> dict[str, Any]:
    # DuckDB lets one configuration at a time have a file open
    people.warehouse.close()
    given = {"sync_id": people.ledger().sync_id, "state_schema": people.schema, "destination": UNUSED.destination}
    task = AudienceDetachOperator(task_id="detach", warehouse_conn_id="warehouse", **{**given, **more})
    summary = task.execute({"ti": TaskInstance()})
    json.dumps(summary)
    return summary


class Events:
    """Takes asset events as Airflow does, for whatever alias."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def __getitem__(self, _: object) -> Events:
        return self

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        self.taken.append(json.loads(json.dumps({"asset": asset.name, **extra})))


def diff(people: People, number: int) -> dict[str, Any]:
    """Run the diff task of a day; gives its event."""
    people.warehouse.close()
    where = {"warehouse_conn_id": "warehouse", "state_schema": people.schema, "sync_id": people.ledger().sync_id}
    mapped = {"user_id_column": "uid", "identities": {"email": "Email"}, "properties": ["city"]}
    audience = {"audience_id": "vips", "audience_name": "VIPs"}
    task = AudienceDiffOperator(
        task_id="diff", table=people.table, as_of=day(number), **where, **mapped, **audience
    )
    events, dag_run = Events(), SimpleNamespace(run_type="manual", conf={})
    task.execute({"ti": TaskInstance(), "dag_run": dag_run, "outlet_events": events})
    [event] = events.taken
    return event


def pinning(people: People) -> set[str]:
    return {pin.destination for pin in find_pins(people.ledger().read())}


def test_the_event_of_a_change_set_says_which_destination_keeps_history_that_it_may_never_get(
    people: People,
) -> None:
    [sentence] = diff(people, 3)["pinned"]
    assert sentence.startswith(f"{UNUSED.destination} (amplitude_cohort) keeps ")
    assert sentence.endswith("all history since 2026-01-01T00:00:00Z: 3 change sets that it has not received")
    open_outbox(people.ledger(), Stream(), USED).drain(day(3))
    detach(people)
    assert "pinned" not in diff(people, 4)


def test_what_is_named_is_detached_with_a_sentence_and_nothing_else(people: People) -> None:
    [sentence] = detach(people)["detached"]
    assert sentence.startswith(f"{UNUSED.destination} (amplitude_cohort) keeps ")
    assert sentence.endswith("all history since 2026-01-01T00:00:00Z: 2 change sets that it has not received")
    assert pinning(people) == {USED.destination}


def test_a_run_that_is_cleared_finds_it_detached_and_a_name_that_is_mistyped_fails_for_good(
    people: People,
) -> None:
    detach(people)
    assert detach(people)["detached"] == []
    with pytest.raises(AirflowFailException, match=f"has never delivered to 'kinesis://x/y'.*{USED.destination}"):
        detach(people, destination="kinesis://x/y")
    assert pinning(people) == {USED.destination}


@pytest.mark.parametrize("chosen", [{"message_format": "adobe_profile"}, {"only_resyncs": True}])
def test_what_is_not_chosen_stays(people: People, chosen: dict[str, Any]) -> None:
    assert detach(people, **chosen)["detached"] == []
    assert pinning(people) == {USED.destination, UNUSED.destination}


def test_a_conflict_is_left_to_the_next_try(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    def conflict(*_: object) -> None:
        raise LedgerConflict("another task is at work")

    monkeypatch.setattr(detachment, "detach", conflict)
    with pytest.raises(LedgerConflict):
        detach(people)
