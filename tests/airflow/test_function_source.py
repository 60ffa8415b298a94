"""Members from a function of the author's: the same diff, guards and state as of a query, in files."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import AudienceError, GuardTripped, SourceFailed, WarehouseRefused
from airflow_kinesis_audience.history import members_frame
from airflow_kinesis_audience.notebook import compute_changes
from airflow_kinesis_audience.operators import AudienceDiffOperator
from tests.airflow.running import Airflow, aws, day
from tests.scripted_kinesis import ScriptedKinesis

CANARY = "canary@example.org"
FEW = {"user_id": ["u1", "u2"], "email": ["a@x.org", None], "score": [0.25, 0.5]}
MAPPED: dict[str, Any] = {
    "sync_id": "churn",
    "audience_id": "churn",
    "identities": {"email": "Email"},
    "properties": ["score"],
}


def task(tmp_path: Path, source: str | Callable[..., Any], **more: Any) -> AudienceDiffOperator:
    given = {**MAPPED, "state_path": str(tmp_path / "state"), **more}
    return AudienceDiffOperator(task_id="diff", source=source, **given)


def run(of: AudienceDiffOperator, number: int) -> dict[str, Any]:
    with of.open_state("churn", day(number), tag=None) as ledger:
        return Sync(ledger, of.build_source(ledger.warehouse.origin.dialect), guards=of.build_guards()).run(
            day(number)
        )


def members(of: AudienceDiffOperator, number: int) -> list[tuple[Any, ...]]:
    with of.open_state("churn", day(number), tag=None) as ledger:
        ledger.read()
        frame = members_frame(ledger, day(number))
    columns = ([None if pd.isna(v) else v for v in frame[n]] for n in ("user_id", "Email", "score"))
    return sorted(zip(*columns, strict=True))


def of_frame(_: Any) -> pd.DataFrame:
    return pd.DataFrame(FEW)


def of_table(_: Any) -> pa.Table:
    return pa.table(FEW)


def of_chunks(_: Any) -> Iterator[Any]:
    yield pd.DataFrame(FEW).iloc[:1]
    yield pa.RecordBatch.from_pydict({n: values[1:] for n, values in FEW.items()}).select(
        ["score", "email", "user_id"]
    )


@pytest.mark.parametrize("source", [of_frame, of_table, of_chunks])
def test_what_a_function_gives_is_compared_as_the_rows_of_a_query(tmp_path: Path, source: Any) -> None:
    first = run(task(tmp_path, source), 1)
    assert (first["entered"], first["members"]) == (2, 2)
    assert members(task(tmp_path, source), 1) == [("u1", "a@x.org", 0.25), ("u2", None, 0.5)]
    later = {"user_id": ["u1", "u3"], "email": ["a@x.org", "c@x.org"], "score": [0.75, 1.0]}
    asked = []

    def source_later(as_of: Any) -> pd.DataFrame:
        asked.append(as_of)
        return pd.DataFrame(later)

    given = {**MAPPED, "state_path": str(tmp_path / "state")}
    frame = compute_changes("", as_of=day(2), source=source_later, **given)
    assert (frame.attrs["entered"], frame.attrs["exited"], frame.attrs["updated"]) == (1, 1, 1)
    second = run(task(tmp_path, source_later), 2)
    assert (second["entered"], second["exited"], second["updated"], second["members"]) == (1, 1, 1, 2)
    assert asked == [day(2), day(2)], "once per attempt, with the run's instant"
    assert members(task(tmp_path, source_later), 2) == [("u1", "a@x.org", 0.75), ("u3", "c@x.org", 1.0)]


def test_chunks_without_rows_or_values_do_not_decide_a_type(tmp_path: Path) -> None:
    def source(_: Any) -> Iterator[pd.DataFrame]:
        whole = pd.DataFrame(FEW)
        yield from (whole.iloc[:0], whole.iloc[1:], whole.iloc[:0], whole.iloc[:1])

    assert run(task(tmp_path, source), 1)["entered"] == 2
    assert members(task(tmp_path, source), 1) == [("u1", "a@x.org", 0.25), ("u2", None, 0.5)]


def test_guards_look_at_the_rows_of_a_function(tmp_path: Path) -> None:
    run(task(tmp_path, of_frame), 1)
    with pytest.raises(GuardTripped):
        run(task(tmp_path, lambda _: pd.DataFrame(FEW).iloc[:0]), 2)
    doubled = pd.concat([pd.DataFrame(FEW)] * 2)
    with pytest.raises(GuardTripped, match="repeat a user id"):
        run(task(tmp_path, lambda _: doubled), 2)


def fails(_: Any) -> Any:
    raise KeyError(CANARY)


def fails_late(_: Any) -> Any:
    yield pd.DataFrame(FEW)
    raise KeyError(CANARY)


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        (fails, SourceFailed, "failed with KeyError (test_function_source.py, line "),
        (fails_late, SourceFailed, "failed with KeyError (test_function_source.py, line "),
        (lambda _: {"user_id": [CANARY]}, WarehouseRefused, "gives a str that cannot be read"),
        (lambda _: [], WarehouseRefused, "gives no chunk"),
        (lambda _: pd.DataFrame({"user_id": [CANARY, 1]}), WarehouseRefused, "with one type per column"),
        (
            lambda _: [pd.DataFrame(FEW), pd.DataFrame({"user_id": [CANARY]})],
            WarehouseRefused,
            "gives chunks of different columns or types; expected those of the first chunk: user_id (",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_said_without_a_value(
    tmp_path: Path, source: Any, kind: type[AudienceError], said: str
) -> None:
    with pytest.raises(kind) as raised:
        run(task(tmp_path, source), 1)
    assert said in str(raised.value)
    assert CANARY not in "".join(traceback.format_exception(raised.value))
    assert kind.retry_helps is (kind is SourceFailed)
    assert not list((tmp_path / "state").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "no.such.function"}, "is not a function that can be imported here"),
        ({"source": of_frame, "sql": "SELECT 1"}, "set one of sql, table and source"),
        ({"source": of_frame, "state_path": None}, "set state_path to a URL"),
        ({"source": None, "sql": "SELECT 1"}, "set warehouse_conn_id"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(
    tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(task(tmp_path, **arguments), 1)


TEXT = """
from airflow.sdk import DAG, task
from airflow_kinesis_audience.operators import AudienceToKinesisOperator
import pandas as pd

with DAG("churning", schedule=None) as dag:

    @task.audience(
        state_path={state!r}, sync_id="churn", audience_id="churn", identities={{"email": "Email"}},
        properties=["score"],
    )
    def churn_risk(as_of):
        return pd.DataFrame({{"user_id": ["u1"], "email": ["a@x.org"], "score": [as_of.day / 4]}})

    AudienceToKinesisOperator(
        task_id="publish", change_set=churn_risk(), stream_name="changes", aws_conn_id="aws",
        message_format="amplitude_cohort",
    )
"""


@pytest.mark.slow
def test_a_decorated_function_is_a_task_whose_changes_are_delivered(airflow: Airflow, tmp_path: Path) -> None:
    with ScriptedKinesis() as kinesis:
        connections = {"aws": aws(kinesis.endpoint_url)}
        with airflow.dag_file("churning", TEXT.format(state=str(tmp_path / "state"))) as file:
            run = airflow.run(file, connections=connections, logical_date=day(1))
    assert run.state == "success", run.log[-4000:]
    assert run["churn_risk"].summary["entered"] == run["publish"].summary["delivered"] == 1
