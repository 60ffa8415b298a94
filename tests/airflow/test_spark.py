"""Both tasks through Airflow's own connection to a Spark Thrift server, to a stream and its reader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, Airflow, day, deployed

if TYPE_CHECKING:
    from tests.airflow.conftest import Stream
    from tests.engines.spark import Server

pytestmark = pytest.mark.slow


@pytest.mark.slow_engine
def test_what_is_in_spark_arrives_on_the_stream(airflow: Airflow, spark_server: Server, stream: Stream) -> None:
    extra = {"auth_mechanism": "NOSASL"}
    connection = {"conn_type": "hiveserver2", "host": "127.0.0.1", "port": spark_server.port, "extra": extra}
    diff = {**DIFF, "state_schema": "through_airflow"}
    publish = {"stream_name": stream.name}
    with deployed(airflow, json.dumps(connection), stream.connection, diff, publish) as dag:
        for number, ids in enumerate((["u1", "secret-u2"], ["secret-u2", "u3"]), 1):
            with spark_server.open() as warehouse:
                rows = ", ".join(f"('{u}', '{u}@x.example', 'Ankara')" for u in ids)
                names = "user_id, email, city"
                warehouse.execute(f"CREATE OR REPLACE VIEW members ({names}) AS SELECT * FROM VALUES {rows}")
            run = dag.run(day(number))
            assert run.state == "success", run.log
            assert "secret" not in run.log
            reader = AudienceConsumer()
            for record in stream.records():
                reader.apply(record)
            assert reader.members("gs72ns") == set(ids)
    assert [run["diff"].summary[n] for n in ("entered", "exited", "updated")] == [1, 1, 0]


def test_a_server_that_is_not_there_is_told_with_what_to_check(airflow: Airflow, stream: Stream) -> None:
    nowhere = {"conn_type": "hiveserver2", "host": "127.0.0.1", "port": 1, "extra": {"auth_mechanism": "NOSASL"}}
    with deployed(airflow, json.dumps(nowhere), stream.connection, DIFF, {"stream_name": stream.name}) as dag:
        run = dag.run(day(1))
    assert run["diff"].state == "failed"
    assert "warehouse connection 'warehouse' (127.0.0.1:1) cannot be opened: " in run.log
