"""The way that the docs lead a new user, step by step as it is written, on real engines and an emulated stream.

Names in capitals, which are the reader's own, are filled in; nothing else of a block is changed.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from airflow_kinesis_audience.cli.commands import main
from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, Airflow, Deployed, day, deployed
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.airflow.conftest import DuckDb, Stream
    from tests.postgres import Server

LOGINS = ("audience", "airflow_audience_login")


@pytest.fixture
def shop(postgres_server: Server) -> Iterator[str]:
    """A database of the reader's, empty; gives its URI as superuser."""
    postgres_server.execute('CREATE DATABASE "shop"')
    yield postgres_server.dsn("shop")
    postgres_server.execute('DROP DATABASE "shop" WITH (FORCE)')
    for login in LOGINS:
        postgres_server.execute(f"DROP ROLE IF EXISTS {login}")


def execute(dsn: str, statements: str) -> list[tuple[str, ...]]:
    with psycopg.connect(dsn, autocommit=True) as database:
        cursor = database.execute(statements.encode())
        return cursor.fetchall() if cursor.description else []


def alike(printed: str) -> set[str]:
    """Give the lines, without what is another in every run."""
    runs_own = r"\d{4}-\S+Z|[0-9a-f]{8}…|shard \d+|\d+\.\d+ s|, [^,]+ ago|kinesis://\S+"
    return {re.sub(runs_own, "…", line).strip() for line in printed.splitlines()}


def test_a_reader_gets_from_a_table_to_a_stream_by_the_start_page(
    airflow: Airflow,
    shop: str,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, grants = blocks("sql", "docs/start.md")
    execute(shop, table.text)
    execute(shop, grants.text.replace("SECRET", "secret"))
    exported = "\n".join(b.text for b in blocks("console", "docs/start.md"))
    [uri] = re.findall(r"AIRFLOW_CONN_WAREHOUSE='([^']+)'", exported)
    where = re.sub(r"^.*@|/.*$", "", shop)
    uri = uri.replace("HOST:5432", where).replace("SECRET", "secret")
    real, local = map(json.loads, re.findall(r"AIRFLOW_CONN_AWS_DEFAULT='([^']+)'", exported))
    assert real["conn_type"] == local["conn_type"] == "aws"
    both = {**local, "extra": local["extra"] | json.loads(stream.connection)["extra"]}
    connections = {"warehouse": uri, "aws_default": json.dumps(both)}
    for name, value in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", value)
    [block] = blocks("python", "docs/start.md")
    text = block.text.replace('"audience-changes"', f'"{stream.name}"') + "\ndag = changes.dag\n"
    with airflow.dag_file("lapsed", text) as file:
        capsys.readouterr()
        assert main(["plan", str(file)]) == 0
        printed = capsys.readouterr().out.splitlines()
        shown, delivered, told_of = blocks("text", "docs/start.md")
        assert printed[0][:11] == shown.text[:11]
        assert printed[1:] == shown.text.splitlines()[1:]
        deployed = Deployed(airflow, file, connections)
        first = deployed.run(day(1))
        assert first.state == "success", first.log[-3_000:]
        [line] = alike(delivered.text)
        assert any(line in shape for shape in alike(first.log))
        capsys.readouterr()
        for command in (["tail", stream.name], ["status"]):
            assert main(command) == 0
        assert alike(capsys.readouterr().out.replace(stream.name, "audience-changes")) == alike(told_of.text)
        execute(shop, "UPDATE marts.lapsed SET city = 'Bodø' WHERE user_id = 'u-2'")
        execute(shop, "DELETE FROM marts.lapsed WHERE user_id = 'u-1'")
        second = deployed.run(day(2))
    assert second.state == "success", second.log[-3_000:]
    summary = second["diff"].summary
    assert (summary["entered"], summary["exited"], summary["updated"]) == (0, 1, 1)
    consumer = AudienceConsumer()
    for record in stream.records():
        consumer.apply(record)
    assert consumer.members("lapsed_90") == {"u-2", "u-3"}
    assert consumer.properties("lapsed_90", "u-2") == {"city": "Bodø"}
    for command in (["tail", stream.name], ["status"]):
        assert main(command) == 0
    assert "delivered everything, up to 2026-03-02T00:00:00Z" in capsys.readouterr().out
    *_, looking = blocks("sql", "docs/state.md")
    queries = [q for q in looking.text.split(";") if q.strip()]
    assert [len(execute(shop, query)) for query in queries] == [1, 1]


def test_the_grants_of_the_docs_are_enough(airflow: Airflow, shop: str) -> None:
    login = LOGINS[1]
    execute(shop, f"CREATE ROLE {login} LOGIN; CREATE SCHEMA marts; CREATE TABLE marts.lapsed (user_id text)")
    [grants] = [b for b in blocks("sql", "docs/state.md") if b.text.startswith("CREATE SCHEMA")]
    execute(shop, grants.text)
    diff = {"warehouse_conn_id": "warehouse", "table": "marts.lapsed", "audience_id": "a"}
    as_login = shop.replace("postgres@", f"{login}@")
    with deployed(airflow, as_login, None, diff) as dag:
        run = dag.run(day(1))
    assert run.state == "success", run.log[-3_000:]


def test_the_migration_from_another_system_sends_what_differs_and_nothing_twice(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    duckdb_warehouse.execute("CREATE SCHEMA marts")
    columns = "(user_id VARCHAR, email VARCHAR, city VARCHAR)"
    for name, users in {"lapsed_as_exported": ("u1", "u2"), "lapsed": ("u2", "u3")}.items():
        duckdb_warehouse.execute(f"CREATE TABLE marts.{name} {columns}")
        duckdb_warehouse.execute(f"INSERT INTO marts.{name} VALUES ($1, $2, $3)", [(u, u, "Oslo") for u in users])
    [block] = blocks("python", "docs/migration.md")
    text = block.text.replace('"audience-changes"', f'"{stream.name}"') + "\ndag = changes.dag\n"
    connections = {"warehouse": duckdb_warehouse.connection, "aws_default": stream.connection}
    [trigger] = [
        line for b in blocks("console", "docs/migration.md") for line in b.text.splitlines() if "--conf" in line
    ]
    conf = json.loads(re.findall(r"--conf '([^']+)'", trigger)[0])
    with airflow.dag_file("lapsed", text) as file:
        dag = Deployed(airflow, file, connections)
        handed_over = dag.run(day(1), conf=conf)
        assert handed_over.state == "success", handed_over.log[-3_000:]
        assert stream.records() == []
        run = dag.run(day(2))
    assert run.state == "success", run.log[-3_000:]
    messages = [json.loads(record) for record in stream.records()]
    assert {(m["in_cohort"], u["user_id"]) for m in messages for u in m["users"]} == {(True, "u3"), (False, "u1")}


def test_looking_back_as_the_docs_do(
    airflow: Airflow,
    duckdb_warehouse: DuckDb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stays = ("u-16", "eve@example.com", "Oslo")
    duckdb_warehouse.members([("u-17", "ada@example.com", "Oslo"), stays])
    diff = {**DIFF, "sync_id": "lapsed.diff", "history_view": True}
    with deployed(airflow, duckdb_warehouse.connection, None, diff) as dag:
        assert dag.run(day(1)).state == "success"
        duckdb_warehouse.members([("u-18", "bob@example.com", "Oslo"), stays])
        assert dag.run(day(2)).state == "success"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", duckdb_warehouse.connection)
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    capsys.readouterr()
    namespace: dict[str, object] = {}
    [block] = [b for b in blocks("python", "docs/lookback.md") if "find_user" in b.text]
    exec(block.text, namespace)  # noqa: S102
    assert "gs72ns u-17 2026-03-01T00:00:00Z" in capsys.readouterr().out.splitlines()
    assert [c.action for c in namespace["found"].changes] == ["entered", "exited"]  # type: ignore[attr-defined]
    [block] = [b for b in blocks("python", "docs/lookback.md") if "changes_frame" in b.text]
    exec(block.text, namespace)  # noqa: S102
    assert set(namespace["members"]["user_id"]) == {"u-16", "u-17"}  # type: ignore[index]
    found = namespace["changes"].set_index("user_id")["action"].to_dict()  # type: ignore[attr-defined]
    assert found == {"u-17": "exited", "u-18": "entered"}
    [query] = blocks("sql", "docs/lookback.md")
    listed = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'history_lapsed_diff_%'"
    [[view]] = duckdb_warehouse.execute(listed)
    rows = duckdb_warehouse.execute(re.sub(r"history_\w+", view, query.text))
    assert [row[2] for row in rows] == ["member", "exited"]
