"""The arguments of the operators: flat or as values, in default_args, mapped, and in a serialized DAG."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG, CronPartitionTimetable

from airflow_kinesis_audience.core.exceptions import RunSuperseded
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS
from airflow_kinesis_audience.operators import (
    AudienceDeleteOperator,
    AudienceDiffOperator,
    AudienceReplayOperator,
    AudienceResyncOperator,
    AudienceToKinesisOperator,
    EventsToKinesisOperator,
    Guards,
    Identity,
    audience_sync,
)
from airflow_kinesis_audience.operators.errors import airflow_outcome
from airflow_kinesis_audience.operators.run_context import fail_if_recorded, run_as_of
from tests.airflow.running import DIFF, Airflow, day, deployed

FLAT = {
    "identities": {"email": "Email", "phone": "Phone", "digest": "Other", "city": "City"},
    "normalize_identities": {"email": "email", "phone": "phone"},
    "hash_identities": {"email": "sha256"},
    "hashed_identities": {"digest": "md5"},
}
VALUES = {
    "identities": {
        "email": Identity("Email", hash="sha256", normalize="email"),
        "phone": Identity("Phone", normalize="phone"),
        "digest": Identity("Other", hashed="md5"),
        "city": "City",
    }
}
BOUNDS = {
    "max_exit_ratio": 0.2,
    "max_exit_ratio_per_day": 0.3,
    "max_exits": 3,
    "max_change_ratio": 0.4,
    "min_members": 5,
}
POLICIES = {"on_empty": "exit_all", "on_invalid_rows": "drop", "on_schema_change": "update"}


def diff(**arguments: Any) -> AudienceDiffOperator:
    given = {"warehouse_conn_id": "warehouse", "table": "members", "audience_id": "a", **arguments}
    return AudienceDiffOperator(task_id="diff", **given)


def events(**arguments: Any) -> EventsToKinesisOperator:
    given = {"warehouse_conn_id": "warehouse", "table": "clicks", "stream_name": "s", **arguments}
    return EventsToKinesisOperator(task_id="events", **given)


def test_identities_as_values_are_the_same_source_as_flat_arguments() -> None:
    assert diff(**VALUES).build_source() == diff(**FLAT).build_source()
    assert diff(**VALUES).build_source() != diff(identities=FLAT["identities"]).build_source()
    assert events(**VALUES).build_source(None) == events(**FLAT).build_source(None)  # type: ignore[arg-type]


def test_a_hash_brings_its_normalization_in_both_forms() -> None:
    value = diff(identities={"email": Identity("Email", hash="sha256")})
    flat = diff(identities={"email": "Email"}, hash_identities={"email": "sha256"})
    assert value.build_source() == flat.build_source()
    assert value.build_source().identity_rules["email"].normalize == "email"


def test_a_value_and_flat_arguments_can_share_a_column_where_they_do_not_say_the_same_rule_twice() -> None:
    shared = diff(identities={"email": Identity("Email", hash="md5")}, normalize_identities={"email": "trim"})
    flat = diff(
        identities={"email": "Email"}, hash_identities={"email": "md5"}, normalize_identities={"email": "trim"}
    )
    assert shared.build_source() == flat.build_source()


@pytest.mark.parametrize(
    ("rule", "argument", "value"),
    [
        ("normalize", "normalize_identities", "email"),
        ("hash", "hash_identities", "sha256"),
        ("hashed", "hashed_identities", "sha256"),
    ],
)
def test_a_rule_that_is_given_in_both_forms_is_an_error(rule: str, argument: str, value: str) -> None:
    both = {"identities": {"email": Identity("Email", **{rule: value})}, argument: {"email": value}}
    sentence = f"{argument} names 'email', whose Identity also has {rule}=; set one of them"
    with pytest.raises(ValueError, match=sentence):
        diff(**both).build_source()
    with pytest.raises(ValueError, match=sentence):
        events(**both).build_source(None)  # type: ignore[arg-type]


def test_a_rule_of_a_value_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="hash of an identity is 'sha1'; expected md5 or sha256"):
        diff(identities={"email": Identity("Email", hash="sha1")}).build_source()


def test_guards_as_a_value_are_the_same_bounds_as_flat_arguments() -> None:
    assert diff(guards=Guards(**BOUNDS, **POLICIES)).build_guards() == diff(**BOUNDS, **POLICIES).build_guards()
    assert diff(guards=Guards()).build_guards() == diff().build_guards()


@pytest.mark.parametrize(("bound", "value"), [*BOUNDS.items(), *POLICIES.items(), ("max_exit_ratio", None)])
def test_guards_that_are_given_in_both_forms_are_an_error(bound: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"both guards and {bound} are set; put all limits into guards"):
        diff(guards=Guards(), **{bound: value}).build_guards()


def test_guards_of_another_type_are_an_error() -> None:
    with pytest.raises(ValueError, match="guards is a dict; expected a Guards"):
        diff(guards={"max_exits": 3}).build_guards()


class Run:
    """As much of a run as the arguments ask for."""

    conf, run_type = None, "manual"
    run_after = day(1)


class TaskInstance:
    try_number = 1

    def __init__(self, map_index: int = -1) -> None:
        self.map_index = map_index
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def test_both_forms_fail_the_task_for_good_and_the_reason_is_in_xcom() -> None:
    ti = TaskInstance()
    context: Any = {"dag_run": Run(), "ti": ti}
    with pytest.raises(AirflowFailException, match="both guards and max_exits are set"):
        diff(guards=Guards(), max_exits=3).execute(context)
    assert ti.pushed["state"]["state"] == "failed"


def test_a_run_that_is_skipped_has_the_reason_in_xcom() -> None:
    ti = TaskInstance()
    context: Any = {"ti": ti}
    with pytest.raises(AirflowSkipException), airflow_outcome(context, {"sync_id": "s"}):
        raise RunSuperseded("a later run has already covered it")
    known = {"sync_id": "s", "state": "skipped", "sentences": ["a later run has already covered it"]}
    assert ti.pushed["state"] == known


def test_a_run_that_finds_the_change_set_of_another_run_fails_and_a_repeated_one_finds_its_own() -> None:
    ti = TaskInstance()
    context: Any = {"ti": ti}
    found = {"recorded": True, "as_of": "2026-01-01T00:00:00Z"}
    with pytest.raises(ValueError, match=r'2026-01-01T00:00:00Z, and another run .* on_covered="correct"'):
        fail_if_recorded(context, found, fails=True)
    fail_if_recorded(context, found, fails=False)
    fail_if_recorded(context, {"as_of": "2026-01-01T00:00:00Z"}, fails=True)
    ti.try_number = 2
    fail_if_recorded(context, found, fails=True)


def instances(**given: Any) -> list[Any]:
    """Give the instances of a mapped diff task."""
    with DAG("plans", schedule=None) as dag:
        AudienceDiffOperator.partial(
            task_id="diff", warehouse_conn_id="w", table="a", **given["partial"]
        ).expand_kwargs(given["over"])
    mapped: Any = dag.get_task("diff")
    return [mapped.unmap(one) for one in given["over"]]


@pytest.mark.parametrize(
    ("partial", "over", "shared"),
    [
        ({"sync_id": "one"}, [{"audience_id": "a"}, {"audience_id": "b"}], True),
        ({}, [{"audience_id": a, "sync_id": a} for a in "ab"], False),
        ({"sync_id": "{{ task.audience_id }}"}, [{"audience_id": "a"}, {"audience_id": "b"}], False),
        ({"sync_id": "one", "audience_id": "a"}, [{"as_of": "2026-01-01T00:00:00Z"}], False),
        ({"sync_id": "one", "as_of": "2026-01-01T00:00:00Z"}, [{"audience_id": "a"}], True),
    ],
)
def test_one_sync_id_of_all_instances_of_a_mapped_task_is_refused(partial: Any, over: Any, shared: bool) -> None:
    for number, task in enumerate(instances(partial=partial, over=over)):
        context: Any = {"ti": TaskInstance(map_index=number)}
        if shared:
            with pytest.raises(ValueError, match="mapped and all its instances have the sync_id 'one': each"):
                task.own_sync_id(context)
        else:
            assert task.own_sync_id(context) == task.sync_id
        assert task.own_sync_id({"ti": TaskInstance()}) == task.sync_id  # type: ignore[typeddict-item]


def test_a_mapped_task_without_a_sync_id_fails_before_anything_is_read_and_says_what_to_add() -> None:
    with DAG("plans", schedule=None):
        tasks = [diff(), events()]
    for task in tasks:
        ti = TaskInstance(map_index=0)
        sentence = rf"the task is mapped and has no sync_id.*\"sync_id\": \"plans\.{task.task_id}\.gold\""
        with pytest.raises(AirflowFailException, match=sentence):
            task.execute({"dag_run": Run(), "ti": ti})  # type: ignore[typeddict-item]
        assert ti.pushed["state"]["state"] == "failed"
        assert task.own_sync_id({"ti": TaskInstance()}) == f"plans.{task.task_id}"  # type: ignore[typeddict-item]


def test_the_task_group_takes_values_too() -> None:
    with DAG("values", schedule=None) as dag:
        audience_sync(
            warehouse_conn_id="warehouse", table="members", audience_id="a", guards=Guards(max_exits=3), **VALUES,
            stream_name="s", message_format="amplitude_cohort",
        )  # fmt: skip
    task: Any = dag.get_task("audience.diff")
    assert task.build_guards().max_exits == 3
    assert task.build_source().identity_rules == diff(**FLAT).build_source().identity_rules


@pytest.mark.parametrize("kept", [400, "400", timedelta(seconds=-1)])
def test_how_long_dead_letters_are_kept_is_a_time(kept: Any) -> None:
    with DAG("kept", schedule=None):
        where = {"stream_name": "s", "message_format": "amplitude_cohort"}
        publish = AudienceToKinesisOperator(task_id="publish", change_set={}, keep_dead_letters=kept, **where)
    with pytest.raises(ValueError, match=r"keep_dead_letters is .*; expected a timedelta of zero or more"):
        publish._begin({})


def test_default_args_reach_the_arguments_that_operators_share() -> None:
    given = {
        "warehouse_conn_id": "w",
        "state_schema": "s",
        "state_path": "/p",
        "max_exits": 3,
        "on_rejected": "skip",
    }
    with DAG("defaults", schedule=None, default_args=given) as dag:
        task = AudienceDiffOperator(task_id="diff", table="members", audience_id="a")
        where = {"stream_name": "s", "message_format": "amplitude_cohort"}
        publish = AudienceToKinesisOperator(task_id="publish", change_set=task.output, **where)
        again = AudienceResyncOperator(task_id="resync", sync_id="a", **where)
        before = AudienceReplayOperator(task_id="replay", sync_id="a", since="2026-01-01T00:00:00Z", **where)
        end = AudienceDeleteOperator(task_id="delete", sync_id="a", **where)
        forward = EventsToKinesisOperator(task_id="events", table="clicks", stream_name="s")
    assert (task.max_exits, publish.on_rejected, before.on_rejected, len(dag.tasks)) == (3, "skip", "skip", 6)
    for found in (task, again, before, end, forward):
        assert (found.warehouse_conn_id, found.state_schema, found.state_path) == ("w", "s", "/p")


@pytest.mark.parametrize("operator", [AudienceResyncOperator, AudienceReplayOperator, AudienceDeleteOperator])
def test_what_has_no_default_is_asked_for_when_the_dag_is_parsed(operator: Any) -> None:
    needed = {"warehouse_conn_id": "w", "sync_id": "a", "message_format": "amplitude_cohort"}
    needed |= {"since": "2026-01-01T00:00:00Z"} if operator is AudienceReplayOperator else {}
    for name in needed:
        given = {n: v for n, v in needed.items() if n != name}
        with pytest.raises(TypeError, match=f"missing keyword argument '{name}'"):
            operator(task_id="t", stream_name="s", **given)


def test_a_mapped_task_takes_shared_arguments_and_values_and_its_dag_can_be_serialized() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("mapped", schedule=None) as dag:
        AudienceDiffOperator.partial(
            task_id="diff", warehouse_conn_id="w", state_schema="s", guards=Guards(max_exits=3), **VALUES
        ).expand_kwargs([{"table": "a", "audience_id": "a"}, {"table": "b", "audience_id": "b"}])
        AudienceDiffOperator(
            task_id="one", warehouse_conn_id="w", table="a", audience_id="a", guards=Guards(), **VALUES
        )
    DagSerialization.to_dict(dag)
    mapped: Any = dag.get_task("diff")
    task = mapped.unmap({"table": "a", "audience_id": "a"})
    assert (task.warehouse_conn_id, task.build_guards().max_exits) == ("w", 3)


OF_A_RUN = ("state_schema", "statement_seconds")


@pytest.mark.slow
def test_a_run_with_values_finds_and_stops_what_one_with_flat_arguments_does(
    airflow: Airflow, duckdb_warehouse
) -> None:
    forms = {
        "flat": {"hash_identities": {"email": "sha256"}, "max_exits": 0, "on_invalid_rows": "drop"},
        "values": {
            "identities": {"email": Identity("Email", hash="sha256")},
            "guards": Guards(max_exits=0, on_invalid_rows="drop"),
        },
    }
    found = []
    for form, arguments in forms.items():
        duckdb_warehouse.members([("u1", "a@x.example", "Bonn"), ("u2", "B@x.example ", "Cork"), (None, "c", "c")])
        wanted = {**DIFF, "sync_id": "one", "state_schema": f"state_{form}", **arguments}
        with deployed(airflow, duckdb_warehouse.connection, None, wanted) as dag:
            first = dag.run(day(1))
            duckdb_warehouse.members([("u1", "a@x.example", "Bonn")])
            second = dag.run(day(2))
        assert (first.state, second.state) == ("success", "failed"), first.log
        summary = {n: v for n, v in first["diff"].summary.items() if n not in OF_A_RUN}
        tables = f"SELECT table_name FROM duckdb_tables() WHERE schema_name = 'state_{form}'"
        [[base]] = duckdb_warehouse.execute(f"{tables} AND table_name LIKE 'base%'")
        emails = "COLUMNS('^(user_id|new_email.*)$')"
        rows = duckdb_warehouse.execute(f'SELECT {emails} FROM "state_{form}"."{base}" ORDER BY user_id')
        found.append((summary, second["diff"].xcom["state"], rows))
    assert found[0] == found[1]
    assert found[0][0]["dropped_rows"] == 1
    assert all(len(email) == 64 for _, email in found[0][2] if email)


def publish(**arguments: Any) -> AudienceToKinesisOperator:
    given = {"change_set": {}, "stream_name": "s", "message_format": "adobe_profile", **arguments}
    return AudienceToKinesisOperator(task_id="publish", **given)


def test_what_an_audience_means_that_comes_later_reaches_the_delivery() -> None:
    stream: Any = SimpleNamespace(destination="kinesis://eu-west-1/s", limits=KINESIS_LIMITS, record_end=b"")
    assert publish().build_delivery(stream).on_unknown_audience == "fail"
    assert publish(on_unknown_audience="wait").build_delivery(stream).on_unknown_audience == "wait"
    with pytest.raises(ValueError, match="on_unknown_audience is 'skip'; expected fail or wait"):
        publish(on_unknown_audience="skip").build_delivery(stream)


def test_what_another_sync_of_the_audience_means_is_one_of_two_words() -> None:
    context: Any = None
    with pytest.raises(ValueError, match="on_other_sync is 'adopt'; expected fail or ignore"):
        publish(on_other_sync="adopt")._begin(context)
    with pytest.raises(ValueError, match="change_set is not the result"):
        publish(on_other_sync="ignore")._begin(context)


def test_a_part_that_is_no_whole_number_is_refused_and_not_cut_off() -> None:
    stream: Any = SimpleNamespace(destination="kinesis://eu-west-1/s", limits=KINESIS_LIMITS, record_end=b"")
    for part, parts in ((1.5, 4), (1, 4.5), ("one", 4), (True, 4)):
        task = publish(message_format="amplitude_cohort", part=part, parts=parts)
        with pytest.raises(ValueError, match="expected whole numbers"):
            task._deliver_as(task.build_delivery(stream), {})  # type: ignore[typeddict-item]


def as_airflow_3_2_gives_it(key: str, **how: Any) -> Any:
    """Make the context of a run of a partition: the run has the key, and nothing has its date."""
    timetable = CronPartitionTimetable("0 0 1 * *", **{"timezone": "UTC", **how})
    return {"dag": SimpleNamespace(timetable=timetable), "dag_run": SimpleNamespace(partition_key=key)}


def test_the_date_of_a_partition_is_found_in_its_key_where_airflow_gives_no_date() -> None:
    march = "2024-03-01T00:00:00"
    assert run_as_of(as_airflow_3_2_gives_it(march)).isoformat() == "2024-03-01T00:00:00+00:00"
    assert run_as_of(as_airflow_3_2_gives_it(march, run_offset=-1)).isoformat() == "2024-04-01T00:00:00+00:00"
    assert (
        run_as_of(as_airflow_3_2_gives_it("202403", key_format="%Y%m")).isoformat() == "2024-03-01T00:00:00+00:00"
    )
    for refused in (
        as_airflow_3_2_gives_it("gold"),
        # There the key is a time of UTC in one version, and of the zone in another.
        as_airflow_3_2_gives_it(march, timezone="America/New_York"),
    ):
        with pytest.raises(ValueError, match=r"is not an instant.*set as_of"):
            run_as_of(refused)
