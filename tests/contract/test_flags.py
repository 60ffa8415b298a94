"""TINYINT(1) of MySQL is how it writes BOOLEAN, and where people keep small numbers: the values say which.

The state is in MariaDB itself, or in files that its rows are brought to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import SchemaChanged
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.state import open_files
from tests.warehouses import LET_ALL_THROUGH, Stream, day, open_outbox, read_changes, small_delivery

if TYPE_CHECKING:
    from tests.engines.mysql import Server

UPDATE = replace(LET_ALL_THROUGH, on_schema_change="update")
NOT_A_BOOLEAN = r"'flag' is a TINYINT\(1\).*numbers other than 0 and 1.*CAST\(flag AS SIGNED\) AS flag"


class Flags:
    """A table with such a column, and the sync over it."""

    def __init__(self, source: Any, ledger: Callable[[], Ledger]) -> None:
        self.source, self.ledger = source, ledger
        source.execute("CREATE TABLE t (uid BIGINT, flag TINYINT(1), came TIMESTAMP)")

    def write(self, *flags: int | None) -> None:
        self.source.execute("DELETE FROM t")
        for number, flag in enumerate(flags):
            shown = "NULL" if flag is None else str(flag)
            self.source.execute(f"INSERT INTO t VALUES ({number}, {shown}, '2026-01-01 12:00:00')")

    def mapped(self, flag: str = "flag") -> Source:
        query = f"SELECT uid, {flag} AS flag FROM t"
        return Source(query=query, user_id="uid", identities={}, audience_id="a", properties={"flag": "flag"})

    def run(self, number: int, flag: str = "flag", guards: Any = LET_ALL_THROUGH) -> dict[str, Any]:
        return Sync(self.ledger(), self.mapped(flag), guards=guards).run(day(number))

    def changes(self, number: int) -> dict[str, tuple[Any, Any]]:
        found = {}
        for read in read_changes(self.ledger(), day(number)):
            sides = zip(read.user_id, read.old_properties["flag"], read.new_properties["flag"], strict=True)
            found |= {user: (old, new) for user, old, new in sides}
        return found


@pytest.fixture(params=["in MariaDB", "in files"])
def flags(
    request: pytest.FixtureRequest, mysql_server: Server, mysql_database: str, tmp_path: Path
) -> Iterator[Flags]:
    with mysql_server.open(mysql_database) as source:
        if request.param == "in MariaDB":
            yield Flags(source, lambda: Ledger(source, "state", "dag.diff"))
            return
        files = open_files(str(tmp_path / "state"))
        state = DuckDbParquetWarehouse(files, source)
        yield Flags(
            source, lambda: Ledger(state, "state", "dag.diff", FileLedgerTable(files, "state", "dag.diff"))
        )
        state.close()


def test_other_numbers_than_0_and_1_are_sent_as_numbers(flags: Flags) -> None:
    flags.write(0, 1, 2, None)
    flags.run(0)
    flags.write(1, 5, 2, 0)
    assert flags.run(1)["updated"] == 3
    assert flags.changes(1) == {"0": (0, 1), "1": (1, 5), "3": (None, 0)}
    assert not any(isinstance(v, bool) for sides in flags.changes(1).values() for v in sides)
    flags.write(1, 1, 1, 1)
    assert flags.run(2)["updated"] == 3
    assert flags.changes(2)["1"] == (5, 1)
    assert flags.run(3, "CAST(flag AS SIGNED)")["updated"] == 0


def test_0_and_1_alone_are_false_and_true(flags: Flags) -> None:
    flags.write(0, 1, None)
    flags.run(0)
    flags.write(1, None, 0)
    assert flags.run(1)["updated"] == 3
    found = flags.changes(1)
    assert found == {"0": (False, True), "1": (True, None), "2": (None, False)}
    assert found["0"][1] is True


def test_other_numbers_that_turn_up_later_stop_the_run_until_the_query_says_what_they_are(flags: Flags) -> None:
    flags.write(0, 1)
    flags.run(0)
    flags.write(0, 1, -1)
    before = flags.ledger().read()
    for guards in (LET_ALL_THROUGH, UPDATE):
        with pytest.raises(SchemaChanged, match=NOT_A_BOOLEAN):
            flags.run(1, guards=guards)
    assert flags.ledger().read().timeline.newest == before.timeline.newest
    assert flags.run(1, "CAST(flag AS SIGNED)", UPDATE)["entered"] == 1
    assert flags.changes(1) == {"0": (None, 0), "1": (None, 1), "2": (None, -1)}


def test_a_plan_of_files_says_the_same(flags: Flags) -> None:
    flags.write(0, 1)
    flags.run(0)
    flags.write(0, 7)
    if flags.ledger().warehouse is flags.source:
        pytest.skip("a plan over one warehouse measures no values")
    with pytest.raises(SchemaChanged, match=NOT_A_BOOLEAN):
        make_plan(flags.ledger(), flags.mapped(), day(1))


def test_events_with_other_numbers_are_refused_and_not_forwarded_as_true(flags: Flags) -> None:
    flags.write(0, 1)
    stream = Stream()

    def run(flag: str) -> Any:
        source = EventSource(
            query=f"SELECT uid, {flag} AS flag, came, 'seen' AS name FROM t",
            event_id="uid",
            arrived_at="came",
            user_id="uid",
            identities={},
            fields={"flag": "data.custom_attributes.flag", "name": "data.event_name"},
        )
        delivery = small_delivery(message_format="mparticle_events", options={})
        return forward(open_outbox(flags.ledger(), stream, delivery), source, day(0), day(1), resend=True)

    run("flag")
    assert b'"flag":true' in b"".join(stream.messages)
    flags.write(0, 3)
    sent = len(stream.messages)
    with pytest.raises(ValueError, match=NOT_A_BOOLEAN):
        run("flag")
    assert len(stream.messages) == sent
    run("CAST(flag AS SIGNED)")
    assert b'"flag":3' in b"".join(stream.messages[sent:])
