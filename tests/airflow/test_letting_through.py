"""What a DAG run may pass with, what it may speak for, and the tasks that tell a stream all again or end it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, Airflow, Deployed, day, deployed, one_task_dag

if TYPE_CHECKING:
    from tests.airflow.conftest import Stream, Warehouse

pytestmark = pytest.mark.slow

GUARDED = {**DIFF, "max_exits": 1}
ALL = [(f"u{n}", f"u{n}@x.example", "Bonn") for n in range(4)]


def heard(records: Sequence[bytes]) -> AudienceConsumer:
    consumer = AudienceConsumer()
    for record in records:
        consumer.apply(record)
    return consumer


@contextlib.contextmanager
def alone(
    airflow: Airflow, warehouse: Warehouse, stream: Stream, operator: str, **arguments: Any
) -> Iterator[Deployed]:
    """Put a DAG of one maintenance task into the DAG folder."""
    given = {
        "warehouse_conn_id": "warehouse",
        "sync_id": "lapsed",
        "stream_name": stream.name,
        "message_format": "amplitude_cohort",
        "aws_conn_id": "aws",
        **arguments,
    }
    dag_id, text = one_task_dag(operator, "tell", given)
    connections = {"warehouse": warehouse.connection, "aws": stream.connection}
    with airflow.dag_file(dag_id, text) as file:
        yield Deployed(airflow, file, connections)


@pytest.mark.parametrize("let_through", [True, ["gs72ns"]], ids=["all", "by name"])
def test_a_run_may_be_let_through_once_by_its_configuration(
    airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream, let_through: object
) -> None:
    warehouse = duckdb_warehouse
    publish = {"stream_name": stream.name}
    with deployed(airflow, warehouse.connection, stream.connection, GUARDED, publish, retries=2) as dag:
        warehouse.members(ALL)
        assert dag.run(day(1)).state == "success"
        warehouse.members(ALL[:1])
        stopped = dag.run(day(2))
        assert (stopped.state, stopped["diff"].tries) == ("failed", 1)
        assert "3 of 4 members would exit (max_exits is 1)" in stopped.log
        assert '{"let_through": true}' in stopped.log
        assert warehouse.newest_edge() == "2026-03-01T00:00:00Z"
        assert heard(stream.records()).members("gs72ns") == {"u0", "u1", "u2", "u3"}

        other = dag.run(day(3), conf={"let_through": ["another"]})
        assert (other.state, warehouse.newest_edge()) == ("failed", "2026-03-01T00:00:00Z")

        passed = dag.run(day(4), conf={"let_through": let_through})
        assert passed.state == "success", passed.log
        assert passed["diff"].summary["let_through"] == [
            "audience 'gs72ns': 3 of 4 members would exit (max_exits is 1)"
        ]
        assert heard(stream.records()).members("gs72ns") == {"u0"}
        warehouse.members(ALL)
        assert dag.run(day(5)).state == "success"
        warehouse.members(ALL[:2])
        assert dag.run(day(6)).state == "failed", "the permission was the other run's"


def test_members_whom_an_update_would_remove_stay_until_a_run_lets_it_through(
    airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream
) -> None:
    warehouse = duckdb_warehouse
    by_email = {"message_format": "mparticle_audience", "format_options": {"forward_customer_ids": False}}
    publish = {"stream_name": stream.name, **by_email}
    with deployed(airflow, warehouse.connection, stream.connection, GUARDED, publish, retries=2) as dag:
        warehouse.members(ALL)
        assert dag.run(day(1)).state == "success"
        warehouse.members([(user, None, city) for user, _, city in ALL])
        stopped = dag.run(day(2))
        assert (stopped["diff"].state, stopped["diff"].summary["updated"]) == ("success", 4)
        assert (stopped["publish"].state, stopped["publish"].tries) == ("failed", 1)
        assert "4 of 4 members would exit (max_exits is 1): 4 of them are still in the source" in stopped.log
        assert [json.loads(r)["IsMember"] for r in stream.records()] == [True] * 4
        assert dag.run(day(3), conf={"let_through": ["another"]})["publish"].state == "failed"
        passed = dag.run(day(4), conf={"let_through": ["gs72ns"]})
        assert passed.state == "success", passed.log
        assert [json.loads(r)["IsMember"] for r in stream.records()] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("said", ["yes", 1, {"all": True}, [1]])
def test_a_permission_that_cannot_be_understood_is_no_permission(
    airflow: Airflow, duckdb_warehouse: Warehouse, said: object
) -> None:
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, GUARDED) as dag:
        run = dag.run(day(1), conf={"let_through": said})
    assert run.state == "failed"
    assert "expected true, or a list of audience ids" in run.log


def test_a_run_that_speaks_for_the_future_is_refused_before_it_covers_it(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, DIFF, retries=2) as dag:
        run = dag.run(datetime.now(UTC) + timedelta(days=400))
        assert (run.state, run["diff"].tries) == ("failed", 1)
        assert "which is in the future" in run.log
        assert dag.run(datetime.now(UTC) + timedelta(minutes=1)).state == "success"


def test_a_run_without_an_interval_speaks_for_the_moment_at_which_it_was_due(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, DIFF) as dag:
        assert dag.run(None, run_after=day(3, hour=5)).state == "success"
        assert duckdb_warehouse.newest_edge() == "2026-03-03T05:00:00Z"
        late = dag.run(None, run_after=day(3, hour=4))
        assert (late["diff"].state, "already covered" in late.log) == ("skipped", True)


def test_across_a_change_of_the_clocks_every_interval_has_an_end_of_its_own(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    """In Zurich 2025-10-26 has two half past twos, and 2026-03-29 has none."""
    zurich = "CronDataIntervalTimetable('30 2 * * *', timezone='Europe/Zurich')"
    days = [datetime(2025, 10, n, 12, tzinfo=UTC) for n in (25, 26, 27)]
    days += [datetime(2026, 3, n, 12, tzinfo=UTC) for n in (28, 29, 30)]
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, DIFF, schedule=zurich) as dag:
        seen = []
        for at in days:
            run = dag.run(at)
            assert run["diff"].state == "success", run.log
            seen.append(datetime.fromisoformat(run["diff"].summary["as_of"]))
    assert seen == sorted(set(seen)), "instants ascend, and no two runs share one"
    assert [at.date() for at in seen] == [at.date() for at in days]


def test_a_source_in_disorder_goes_through_without_what_is_invalid_where_its_author_says_so(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    duckdb_warehouse.members([*ALL, ("u1", "other@x.example", "Bonn"), (None, "n@x.example", "Bonn")])
    dropping = {**DIFF, "on_invalid_rows": "drop"}
    with deployed(airflow, duckdb_warehouse.connection, None, dropping) as dag:
        run = dag.run(day(1))
    assert (run["diff"].summary["members"], run["diff"].summary["dropped_rows"]) == (4, 2)
    assert "Dropped 2 invalid rows of the source (on_invalid_rows): 1 have" in run.log, run.log


def test_another_mapping_is_told_as_updates_where_its_author_says_so(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, DIFF) as dag:
        assert dag.run(day(1)).state == "success"
    other = {**DIFF, "properties": {"city": "town"}, **dag.adopted}
    with deployed(airflow, duckdb_warehouse.connection, None, other, retries=2) as dag:
        refused = dag.run(day(2))
        assert (refused.state, refused["diff"].tries) == ("failed", 1)
        assert "the mapping differs from the mapping" in refused.log
    with deployed(airflow, duckdb_warehouse.connection, None, {**other, "on_schema_change": "update"}) as dag:
        summary = dag.run(day(3))["diff"].summary
    assert [summary[n] for n in ("entered", "exited", "updated")] == [0, 0, 4]


def test_another_task_of_the_same_sync_fails_once_and_a_renamed_one_goes_on(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, DIFF) as first:
        assert first.run(day(1)).state == "success"
    duckdb_warehouse.members(ALL[1:])
    with deployed(
        airflow, duckdb_warehouse.connection, None, {**DIFF, "max_exit_ratio": None}, retries=2
    ) as other:
        refused = other.run(day(2))
        assert (refused.state, refused["diff"].tries) == ("failed", 1)
        assert f"is computed by the task {first.file.stem}.diff, last as of 2026-03-01" in refused.log
    own = {n: v for n, v in DIFF.items() if n != "sync_id"}
    with deployed(airflow, duckdb_warehouse.connection, None, own) as unnamed:
        assert unnamed.run(day(1)).state == "success"
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, None, {**own, **unnamed.adopted}) as renamed:
        summary = renamed.run(day(2))["diff"].summary
    assert summary["sync_id"] == f"{unnamed.file.stem}.diff"
    assert [summary[n] for n in ("entered", "exited", "members")] == [1, 0, 4]


def test_a_renamed_dag_puts_nothing_until_its_author_has_chosen(
    airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream
) -> None:
    own = {n: v for n, v in DIFF.items() if n != "sync_id"} | {"max_exit_ratio": None}
    publish = {"stream_name": stream.name}
    duckdb_warehouse.members(ALL)
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, own, publish) as former:
        assert former.run(day(1)).state == "success"
    duckdb_warehouse.members(ALL[1:])
    before = stream.records()
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, own, publish, retries=2) as renamed:
        stopped = renamed.run(day(2))
    assert (stopped["publish"].state, stopped["publish"].tries) == ("failed", 1)
    assert f"adopt_state_of='{former.file.stem}.diff' on the diff task" in stopped.log
    assert stream.records() == before
    adopting = {**own, **former.adopted}
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, adopting, publish) as dag:
        assert dag.run(day(2)).state == "success"
    assert heard(stream.records()).members("gs72ns") == {"u1", "u2", "u3"}
    given = {**publish, "on_other_sync": "ignore"}
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, own, given) as beside:
        assert beside.run(day(3))["publish"].summary["delivered"] == 3


def test_a_held_change_set_is_not_published(airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream) -> None:
    warehouse = duckdb_warehouse
    holding = {**GUARDED, "on_guard": "hold"}
    with deployed(airflow, warehouse.connection, stream.connection, holding, {"stream_name": stream.name}) as dag:
        warehouse.members(ALL)
        assert dag.run(day(1)).state == "success"
        warehouse.members(ALL[:1])
        run = dag.run(day(2))
    assert run["diff"].summary["held"] == ["audience 'gs72ns': 3 of 4 members would exit (max_exits is 1)"]
    assert "held for approval and was not approved" in run.log
    assert (run["publish"].state, warehouse.newest_edge()) == ("failed", "2026-03-01T00:00:00Z")


def test_a_stream_is_told_everything_again_and_then_that_the_audience_is_no_more(
    airflow: Airflow, warehouse: Warehouse, stream: Stream
) -> None:
    publish = {"stream_name": stream.name}
    relaxed = {**DIFF, "max_exit_ratio": None}
    with deployed(airflow, warehouse.connection, stream.connection, relaxed, publish) as dag:
        warehouse.members(ALL)
        assert dag.run(day(1)).state == "success"
        warehouse.members(ALL[1:])
        assert dag.run(day(2)).state == "success"
        before = len(stream.records())
        with alone(airflow, warehouse, stream, "AudienceResyncOperator") as again:
            run = again.run(day(3))
            assert run.state == "success", run.log
            assert run["tell"].summary["as_of"] == "2026-03-02T00:00:00Z"
            assert run["tell"].summary["delivered"] == 4
            messages = [json.loads(record) for record in stream.records()[before:]]
            assert {(u["user_id"], m["in_cohort"]) for m in messages for u in m["users"]} == {
                ("u0", False),
                ("u1", True),
                ("u2", True),
                ("u3", True),
            }
            [resync] = heard(stream.records()).resyncs()
            assert (resync.members, resync.exits, resync.complete) == (3, 1, True)
            assert again.run(day(4)).state == "success"
            assert len({r.members for r in heard(stream.records()).resyncs()}) == 1
            assert len(heard(stream.records()).resyncs()) == 2
        with alone(airflow, warehouse, stream, "AudienceDeleteOperator") as ending:
            run = ending.run(day(5))
            assert run.state == "success", run.log
            assert run["tell"].summary["delivered"] == 3
        assert heard(stream.records()).members("gs72ns") == frozenset()
        assert json.loads(stream.records()[-1])["lifecycle"] == {"event": "deleted"}
        refused = dag.run(day(6))
        assert refused.state == "failed"
        assert "was deleted as of 2026-03-05" in refused.log
    again = {**relaxed, "reuse_deleted": True, **dag.adopted}
    with deployed(airflow, warehouse.connection, stream.connection, again, publish) as dag:
        assert dag.run(day(7)).state == "success"
    assert heard(stream.records()).members("gs72ns") == {"u1", "u2", "u3"}
