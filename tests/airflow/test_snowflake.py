"""Both tasks through Airflow's own SnowflakeHook, whose connector speaks TLS to Snowflake's stand-in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, ROOT, Airflow, day, deployed
from tests.engines.environments import packages
from tests.engines.snowflake import SESSION, open_fakesnow, running_fakesnow, write_certificate

if TYPE_CHECKING:
    from tests.airflow.conftest import Stream

pytestmark = pytest.mark.slow


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """Serve the stand-in over TLS; gives the certificate and the port."""
    certificate, key = write_certificate(tmp_path)
    with running_fakesnow(certificate, key) as port:
        yield certificate, port


def test_what_is_in_snowflake_arrives_on_the_stream(
    airflow_db: Path, stream: Stream, tls: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, port = tls
    trusted = {"REQUESTS_CA_BUNDLE": str(certificate), "SSL_CERT_FILE": str(certificate)}
    for name, value in trusted.items():
        monkeypatch.setenv(name, value)
    people = open_fakesnow(port, "ANALYTICS", protocol="https")
    people.execute("CREATE TABLE members (user_id TEXT, email TEXT, city TEXT)")
    extra = {"account": "fake", "database": "ANALYTICS", "host": "127.0.0.1", "port": port}
    extra |= {"insecure_mode": True, "session_parameters": SESSION}
    login = {"conn_type": "snowflake", "login": "test", "password": "test", "schema": "PUBLIC"}
    connection = json.dumps({**login, "extra": extra})
    environment = {**trusted, "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages("snowflake"))])}
    publish = {"stream_name": stream.name, "format_options": {"user_properties": True}}
    consumer = AudienceConsumer()
    with (
        Airflow(airflow_db, environment) as airflow,
        deployed(airflow, connection, stream.connection, DIFF, publish) as dag,
    ):
        people.execute("INSERT INTO members VALUES ('u1', 'a@x.example', 'Oslo'), ('u2', 'b@x.example', 'Bonn')")
        first = dag.run(day(1))
        assert first.state == "success", first.log
        people.execute("DELETE FROM members WHERE user_id = 'u1'")
        second = dag.run(day(2))
        assert second.state == "success", second.log
    people.close()
    for record in stream.records():
        consumer.apply(record)
    assert consumer.members("gs72ns") == {"u2"}
    assert consumer.properties("gs72ns", "u2") == {"city": "Bonn"}
    assert [first["diff"].summary["entered"], second["diff"].summary["exited"]] == [2, 1]
