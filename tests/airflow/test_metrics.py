"""What tasks count, as it arrives at a StatsD server: the names, the numbers of the summaries, and no user."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.operators.reporting import metrics
from tests.airflow.running import DIFF, Airflow, aws, day, deployed
from tests.scripted_kinesis import TAKE, Busy, ScriptedKinesis, Whole

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb, Stream

pytestmark = pytest.mark.slow

ANNA, BORA, CEM = (
    ("u1", "anna@x.example", "Ankara"),
    ("u2", "bora@x.example", "Bonn"),
    ("u3", "c@x.example", "Cork"),
)
_PACKET = re.compile(r"(?P<name>[\w.]+)(?P<tags>(,\w+=[^,:|]+)*):(?P<value>[-+.\de]+)\|(?P<kind>\w+)")

Told = dict[str, tuple[float, str, dict[str, str]]]
"""Metric to its value, its kind and its tags."""


class StatsD:
    """A server that keeps what it receives; a context manager."""

    def __enter__(self) -> StatsD:
        self._packets: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", ("127.0.0.1", self.port))
        self._listener.join()
        self._socket.close()

    def _listen(self) -> None:
        while (packet := self._socket.recv(65_536)) != b"end":
            self._packets += packet.decode().splitlines()

    def take(self) -> list[str]:
        """Give all packets since the last time."""
        taken, self._packets = self._packets, []
        return taken

    def take_ours(self) -> Told:
        """Give our metrics since the last time; each must have come once."""
        found: Told = {}
        for packet in self.take():
            if match := _PACKET.fullmatch(packet.removeprefix("airflow.")):
                name, tags = match["name"], dict(pair.split("=", 1) for pair in match["tags"].split(",")[1:])
                if name.startswith("audience."):
                    assert name not in found, packet
                    ours = {tag: tags[tag] for tag in ("sync", "destination") if tag in tags}
                    found[name.removeprefix("audience.")] = (float(match["value"]), match["kind"], ours)
        return found

    def take_sums(self) -> dict[str, list[float]]:
        """Give the values of our metrics since the last time, by name."""
        found: dict[str, list[float]] = {}
        for packet in self.take():
            match = _PACKET.fullmatch(packet.removeprefix("airflow."))
            if match and match["name"].startswith("audience."):
                found.setdefault(match["name"].removeprefix("audience."), []).append(float(match["value"]))
        return found


@pytest.fixture(scope="module")
def statsd() -> Iterator[StatsD]:
    with StatsD() as server:
        yield server


@pytest.fixture(scope="module")
def counting(airflow_db: Path, statsd: StatsD) -> Iterator[Airflow]:
    settings = {"ON": "True", "HOST": "127.0.0.1", "PORT": str(statsd.port), "INFLUXDB_ENABLED": "True"}
    with Airflow(
        airflow_db, {f"AIRFLOW__METRICS__STATSD_{name}": value for name, value in settings.items()}
    ) as airflow:
        yield airflow


def test_what_was_found_and_delivered_is_counted_as_the_summaries_say(
    counting: Airflow, statsd: StatsD, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    diff = {**DIFF, "sync_id": "lapsed: 90|days"}
    publish = {"stream_name": stream.name}
    with deployed(counting, duckdb_warehouse.connection, stream.connection, diff, publish) as dag:
        duckdb_warehouse.members([ANNA, BORA])
        dag.run(day(1))
        statsd.take()
        duckdb_warehouse.members([("u1", "new@x.example", "Ankara"), CEM])
        run = dag.run(day(2), supervised=True)
    counted_by_name = statsd.take_ours()
    sync = {"sync": "lapsed_90_days"}
    assert {n: counted_by_name.pop(n) for n in ("entered", "exited", "updated", "members", "excluded")} == {
        "entered": (1, "c", sync),
        "exited": (1, "c", sync),
        "updated": (1, "c", sync),
        "members": (2, "g", sync),
        "excluded": (0, "g", sync),
    }
    summary = run["publish"].summary
    both = {**sync, "destination": f"kinesis_//us-east-1/{stream.name}"}
    lag, kind, tags = counted_by_name.pop("lag")
    assert lag > 86_400 * 200  # the run speaks for a day in March
    assert (kind, tags) == ("g", both)
    counted = ("messages", "records", "bytes", "delivered", "rejected", "redelivered", "given_up", "retried")
    expected = {name: (summary[name], "c", both) for name in counted}
    expected |= {name: (summary[name], "g", both) for name in ("seconds", "still_rejected")}
    assert counted_by_name == expected


def test_what_a_guard_stopped_and_what_failed_is_counted(
    counting: Airflow, statsd: StatsD, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members([ANNA, BORA, CEM])
    diff = {**DIFF, "max_exits": 1}
    with (
        ScriptedKinesis(lambda _number, _records: TAKE) as kinesis,
        deployed(
            counting, duckdb_warehouse.connection, aws(kinesis.endpoint_url), diff, {"stream_name": "s"}
        ) as dag,
    ):
        dag.run(day(1))
        duckdb_warehouse.members([ANNA, BORA])
        kinesis.script = lambda _number, _records: Whole.DENIED
        statsd.take()
        dag.run(day(2), supervised=True)
        failed = statsd.take_ours()
        duckdb_warehouse.members([("u4", "", "")])
        dag.run(day(3), supervised=True)
    assert failed["failed"] == (1, "c", {"sync": "lapsed", "destination": "kinesis_//us-east-1/s"})
    assert (failed["delivered"][0], failed["rejected"][0]) == (0, 1)
    assert "lag" not in failed
    assert statsd.take_ours() == {"held": (1, "c", {"sync": "lapsed"})}


def test_what_is_given_up_is_counted_in_the_run_that_reports_it_and_is_in_its_event(
    counting: Airflow, statsd: StatsD, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members([ANNA, ("u3", "cem@x.example", "x" * 1_100_000)])
    publish = {"stream_name": "s", "format_options": {"user_properties": True}, "on_rejected": "skip"}
    publish |= {"keep_dead_letters": timedelta(0)}
    with (
        ScriptedKinesis() as kinesis,
        deployed(counting, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag,
    ):
        statsd.take()
        first, found = dag.run(day(1)), statsd.take_sums()
        second, after = dag.run(day(2)), statsd.take_sums()
    assert (sum(found["given_up"]), sum(after["given_up"])) == (1, 0)
    assert [run["publish"].summary["given_up"] for run in (first, second)] == [1, 0]
    assert first["publish"].events[0]["extra"]["given_up"] == 1


def test_what_is_too_large_still_is_gauged_as_it_is_known_where_a_task_fails(
    counting: Airflow, statsd: StatsD, duckdb_warehouse: DuckDb
) -> None:
    large = ("u2", "b@x.example", "x" * 1_100_000)
    duckdb_warehouse.members([ANNA, large])
    publish = {"stream_name": "s", "format_options": {"user_properties": True}, "on_rejected": "skip"}
    with (
        ScriptedKinesis() as kinesis,
        deployed(counting, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag,
    ):
        statsd.take()
        dag.run(day(1))
        assert statsd.take_ours()["still_rejected"][0] == 1
        duckdb_warehouse.members([ANNA, large, CEM])
        kinesis.script = lambda _number, _records: Whole.DENIED
        run = dag.run(day(2))
        assert run["publish"].xcom["delivery"]["still_rejected"] == 1
        assert statsd.take_ours()["still_rejected"][0] == 1


def test_what_is_counted_before_a_pause_and_after_it_adds_up_to_the_summary(
    counting: Airflow, statsd: StatsD, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members([(f"u{number}", "", "") for number in range(40)])
    publish = {"stream_name": "s", "format_options": {"max_users": 2}, "deferrable": True}
    with (
        ScriptedKinesis(Busy(3)) as kinesis,
        deployed(counting, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag,
    ):
        statsd.take()
        run = dag.run(day(1), short_pauses=True)
    assert run.state == "success", run.log
    assert "without a worker slot, and then continues" in run.log
    summary, packets = run["publish"].summary, statsd.take_sums()
    counted = ("messages", "records", "bytes", "delivered", "rejected", "redelivered", "given_up", "retried")
    assert {name: sum(packets[name]) for name in counted} == {name: summary[name] for name in counted}
    assert (summary["delivered"], summary["rejected"]) == (40, 0)
    assert len(packets["delivered"]) > 1, "a part is counted when it ends"
    assert (packets["seconds"], packets["still_rejected"]) == ([summary["seconds"]], [0])
    assert "failed" not in packets


def test_no_metric_names_a_user(
    counting: Airflow, statsd: StatsD, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    duckdb_warehouse.members([ANNA, BORA])
    statsd.take()
    with deployed(
        counting, duckdb_warehouse.connection, stream.connection, DIFF, {"stream_name": stream.name}
    ) as dag:
        assert dag.run(day(1), supervised=True).state == "success"
    packets = "\n".join(statsd.take())
    assert "audience.entered" in packets
    assert not [word for words in (ANNA, BORA) for word in words[1:] if word.lower() in packets.lower()]


def test_a_back_end_that_fails_does_not_fail_a_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("u1")

    monkeypatch.setattr(metrics.Stats, "incr", broken, raising=False)
    known: Mapping[str, str] = {"sync_id": "lapsed"}
    metrics.count_stop(known, "held")
    assert "audience.held could not be emitted (OSError)" in caplog.text
    assert "u1" not in caplog.text
