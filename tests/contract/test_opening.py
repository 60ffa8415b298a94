"""A warehouse that cannot be opened: which connection it is, where it leads, why, and whether a retry may help."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouse import open_warehouse
from airflow_kinesis_audience.hooks.warehouses.opening import opener

if TYPE_CHECKING:
    from tests.engines.mysql import Server as MariaDb
    from tests.postgres import Server

PASSWORD = "a-pass-phrase"


def failure(patch: pytest.MonkeyPatch, **fields: Any) -> AudienceError:
    """Open a warehouse by an Airflow connection, and give the error of its first statement."""
    patch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"host": "127.0.0.1", "password": PASSWORD, **fields}))
    with open_warehouse("shop") as warehouse, pytest.raises(AudienceError) as raised:
        warehouse.read_rows("SELECT 1")
    said = str(raised.value)
    assert f"warehouse connection 'shop' (127.0.0.1:{fields['port']}) cannot be opened: " in said
    assert PASSWORD not in said
    assert raised.value.__cause__ is None
    return raised.value


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"login": "nobody"}, 'role "nobody" does not exist'), ({"schema": "nowhere"}, '"nowhere" does not exist')],
)
def test_a_login_or_database_that_postgres_does_not_have_is_refused_in_its_words(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], said: str
) -> None:
    good = {"conn_type": "postgres", "port": postgres_server.port, "login": "postgres", "schema": "postgres"}
    error = failure(monkeypatch, **{**good, **wrong})
    assert type(error) is WarehouseRefused
    assert said in str(error)
    assert "Correct the connection's login, password, or database" in str(error)


def test_a_server_that_is_full_at_this_moment_is_tried_again(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server.execute("DROP ROLE IF EXISTS full_up")
    postgres_server.execute("CREATE ROLE full_up LOGIN CONNECTION LIMIT 0")
    given = {"conn_type": "postgres", "port": postgres_server.port, "login": "full_up", "schema": "postgres"}
    error = failure(monkeypatch, **given)
    assert type(error) is WarehouseUnavailable
    assert 'too many connections for role "full_up"' in str(error)


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_a_port_that_nobody_listens_on_is_tried_again(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    request.getfixturevalue(f"{kind}_server")
    # Reserved for tcpmux, which nobody runs.
    error = failure(monkeypatch, conn_type=kind, port=1, login="root")
    assert type(error) is WarehouseUnavailable
    assert "check its host and port" in str(error)


def test_a_password_or_database_that_mysql_does_not_take_is_refused_in_its_words(
    mysql_server: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    mysql_server.execute("CREATE OR REPLACE USER 'ann'@'%' IDENTIFIED BY 'another'")
    good = {"conn_type": "mysql", "port": mysql_server.port}
    for wrong, said in (
        ({"login": "ann"}, "Access denied for user 'ann'"),
        ({"login": "root", "password": "", "schema": "nowhere"}, "Unknown database 'nowhere'"),
    ):
        error = failure(monkeypatch, **good, **wrong)
        assert type(error) is WarehouseRefused
        assert said in str(error)


def test_what_a_driver_says_of_a_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Connection

    extra = json.dumps({"private_token": "hush-hush", "sslmode": "require"})
    given = Connection(conn_id="shop", conn_type="x", host="db", password=PASSWORD, extra=extra)

    def connect() -> None:
        raise OSError(f"no dsn: password={PASSWORD} token=hush-hush sslmode=require\nmore")

    with pytest.raises(WarehouseRefused) as raised:
        opener(connect, given)()
    said = "'shop' (db) cannot be opened: no dsn: password=*** token=*** sslmode=require (OSError)."
    assert said in str(raised.value)
