"""No user id, identity or property value leaves by another way than the stream, whatever goes wrong.

Every value of the source holds a word that is found nowhere else. What runs leave behind, whether they succeed or
fail, is searched for it, with every logger at DEBUG: all that is printed, the tasks' log files, and the metadata
database, with its XComs and rendered templates. The word may be written as it is, in hexadecimal or in base64.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.running import DIFF, Airflow, Run, aws, day, deployed, one_task_dag
from tests.scripted_kinesis import FAIL, TAKE, Arrived, ScriptedKinesis, Whole

if TYPE_CHECKING:
    from tests.airflow.conftest import Warehouse

pytestmark = pytest.mark.slow

WORD = "nightingale"
MEMBERS = [(f"{WORD}-{n}", f"{WORD}{n}@x.example", f"{WORD} {n}") for n in range(20)]
PUBLISH = {"stream_name": "changes", "format_options": {"user_properties": True, "max_users": 2}}
TO_FIREHOSE = {
    "delivery_stream_name": "changes",
    "message_format": "mparticle_audience",
    "format_options": {"message_ids": True},
}
AGGREGATED = {
    "stream_name": "changes",
    "message_format": "mparticle_audience",
    "aggregate": True,
    "format_options": {},
}
HASHED = {"hash_identities": {"email": "sha256"}}
both = pytest.mark.parametrize("publish", [PUBLISH, TO_FIREHOSE], ids=["kinesis", "firehose"])


def _forms(word: str) -> list[str]:
    """List how a word may be written: plainly, in hexadecimal, and in base64 at any of its three offsets."""
    encoded = word.encode()
    forms = [word, encoded.hex()]
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + encoded)
        # Without the characters that depend on what stands before and after.
        forms.append(whole[4 if offset else 0 : -4].decode())
    return [form.lower() for form in forms]


FORMS = _forms(WORD)


def places_with_the_word(texts: Mapping[str, str]) -> list[str]:
    """List where the word is, with what stands around it."""
    found = []
    for place, text in texts.items():
        lowered = text.lower()
        at = next((lowered.find(form) for form in FORMS if form in lowered), None)
        if at is not None:
            found.append(f"{place}: ...{text[max(0, at - 300) : at + 100]}...")
    return found


class Watched:
    """An Airflow of which everything that it writes is searched, once.

    :param supervised: whether tasks run as on a worker, or in one process as in ``airflow dags test``.
    """

    def __init__(self, airflow: Airflow, home: Path, *, supervised: bool) -> None:
        self.airflow, self.home, self.supervised = airflow, home, supervised
        self._searched: set[tuple[str, str]] = set()
        self._adopted: dict[str, str] = {}
        self.new_texts()

    def run(
        self,
        warehouse: Warehouse,
        kinesis: ScriptedKinesis,
        *,
        number: int = 1,
        diff: Mapping[str, Any] | None = None,
        publish: Mapping[str, Any] | None = None,
    ) -> Run:
        with deployed(
            self.airflow,
            warehouse.connection,
            aws(kinesis.endpoint_url),
            {**DIFF, **self._adopted, **(diff or {})},
            publish or PUBLISH,
        ) as dag:
            run = dag.run(day(number), supervised=self.supervised)
            if run["diff"].state == "success":
                self._adopted = dag.adopted
            return run

    def new_texts(self) -> dict[str, str]:
        """Return all lines that were written outside the warehouse and the stream since the last call."""
        places = {str(path): path.read_text() for path in (self.home / "logs").rglob("*.log")}
        with sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True) as metadata:
            places["metadata database"] = "\n".join(metadata.iterdump())
        places["output"] = self.airflow.output()
        new = {}
        for place, text in places.items():
            lines = {(place, line) for line in text.splitlines()} - self._searched
            self._searched |= lines
            new[place] = "\n".join(line for _, line in lines)
        return new

    def assert_says_nothing(self) -> dict[str, str]:
        """Look for the word in all that was written since the last call; gives that for further looks."""
        texts = self.new_texts()
        assert not places_with_the_word(texts)
        # Some versions of Airflow hide what begins like a token, as base64 of JSON does: luck is not enough.
        assert not any("OperationModel(name=PutRecord" in text for text in texts.values())
        # What was searched is what the tasks wrote, down to the last detail.
        metadata = texts.pop("metadata database")
        assert "rendered_task_instance_fields" in metadata
        assert any("debug" in text and "AudienceDiffOperator" in text for text in texts.values())
        return texts


@pytest.fixture(scope="module")
def watched(request: pytest.FixtureRequest, airflow_db: Path) -> Iterator[Watched]:
    """Open an Airflow whose tasks run as on a worker, or as :data:`both_ways` says."""
    supervised = getattr(request, "param", "on a worker") == "on a worker"
    with Airflow(airflow_db, {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}) as airflow:
        yield Watched(airflow, airflow_db, supervised=supervised)


both_ways = pytest.mark.parametrize("watched", ["on a worker", "in one process"], indirect=True, scope="module")


@pytest.fixture
def kinesis() -> Iterator[ScriptedKinesis]:
    with ScriptedKinesis() as kinesis:
        yield kinesis


def test_the_word_is_found_however_it_is_written() -> None:
    for before in ("", "a", "ab", "abc"):
        text = f"{before}{WORD} and more".encode()
        for written in (text.decode(), text.hex(), base64.b64encode(text).decode(), WORD.upper()):
            assert places_with_the_word({"here": written})
    assert not places_with_the_word({"here": "a lark " * 100})


@both_ways
@pytest.mark.parametrize(
    ("warehouse", "publish", "diff"),
    [
        ("duckdb", PUBLISH, {}),
        ("postgres", TO_FIREHOSE, HASHED),
        ("postgres", AGGREGATED, {}),
    ],
    ids=["kinesis", "firehose and hashed", "aggregated"],
    indirect=["warehouse"],
)
def test_a_run_that_succeeds_says_nothing_private(
    watched: Watched,
    warehouse: Warehouse,
    kinesis: ScriptedKinesis,
    publish: Mapping[str, Any],
    diff: Mapping[str, Any],
) -> None:
    warehouse.members(MEMBERS)
    first = watched.run(warehouse, kinesis, publish=publish, diff=diff)
    warehouse.members([(user, f"new {email}", city) for user, email, city in MEMBERS[3:]])
    second = watched.run(warehouse, kinesis, number=2, publish=publish, diff=diff)
    assert (first.state, second.state) == ("success", "success"), second.log
    watched.assert_says_nothing()
    assert any(WORD.encode() in record.data for record in kinesis.taken), "nothing private was there to be said"
    assert not any(WORD in record.partition_key for record in kinesis.taken)
    emails = [f"{WORD}{n}@x.example".encode() for n in range(20)]
    raw = any(email in record.data for record in kinesis.taken for email in emails)
    assert raw == ("message_format" in publish and not diff), (
        "an address is sent where it is meant to be, else never"
    )


def test_a_resync_and_a_deletion_say_nothing_private(
    watched: Watched, duckdb_warehouse: Warehouse, kinesis: ScriptedKinesis
) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert watched.run(duckdb_warehouse, kinesis, publish=TO_FIREHOSE).state == "success"
    connections = {"warehouse": duckdb_warehouse.connection, "aws": aws(kinesis.endpoint_url)}
    arguments = {"warehouse_conn_id": "warehouse", "sync_id": "lapsed", "aws_conn_id": "aws", **TO_FIREHOSE}
    for number, operator in enumerate(("AudienceResyncOperator", "AudienceDeleteOperator"), start=2):
        dag_id, text = one_task_dag(operator, "tell", arguments)
        with watched.airflow.dag_file(dag_id, text) as file:
            run = watched.airflow.run(
                file, connections=connections, logical_date=day(number), supervised=watched.supervised
            )
        assert run.state == "success", run.log
    watched.assert_says_nothing()


def test_users_who_are_forgotten_are_named_nowhere_and_are_nowhere(
    watched: Watched, duckdb_warehouse: Warehouse, kinesis: ScriptedKinesis
) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert watched.run(duckdb_warehouse, kinesis, publish=TO_FIREHOSE).state == "success"
    wanted = "SELECT user_id FROM members ORDER BY user_id LIMIT 5"
    arguments = {
        **{"warehouse_conn_id": "warehouse", "sql": wanted, "mode": "poke"},
        **{"poke_interval": 0.1, "timeout": 0.2, "soft_fail": True},
    }
    states = []
    for number in (2, 4):
        dag_id, text = one_task_dag("AudienceForgetOperator", "forget", arguments)
        with watched.airflow.dag_file(dag_id, text) as file:
            run = watched.airflow.run(
                file,
                connections={"warehouse": duckdb_warehouse.connection},
                logical_date=day(number),
                supervised=watched.supervised,
            )
        states.append(run.tasks["forget"].state)
        if number == 2:
            assert watched.run(duckdb_warehouse, kinesis, number=3, publish=TO_FIREHOSE).state == "success"
    assert states == ["skipped", "success"]
    watched.assert_says_nothing()
    tables = duckdb_warehouse.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'airflow_audience'"
    )
    assert len(tables) > 3
    kept = str([duckdb_warehouse.execute(f'SELECT * FROM airflow_audience."{name}"') for (name,) in tables])
    forgotten = sorted(MEMBERS)[:5]
    assert not any(f"{value}'" in kept for user, email, _ in forgotten for value in (user, email))
    assert all(f"{email}'" in kept for _, email, _ in sorted(MEMBERS)[5:]), "nobody else is touched"
    exits = [record.data for record in kinesis.taken if b'"remove"' in record.data or b"exit" in record.data]
    assert all(any(email.encode() in data for data in exits) for _, email, _ in forgotten)


def test_an_identity_that_is_not_what_was_promised_is_not_named(
    watched: Watched, duckdb_warehouse: Warehouse, kinesis: ScriptedKinesis
) -> None:
    duckdb_warehouse.members(MEMBERS)
    diff = {"hashed_identities": {"email": "sha256"}}
    run = watched.run(duckdb_warehouse, kinesis, diff=diff, publish=TO_FIREHOSE)
    assert run["diff"].state == "failed"
    sentence = "20 of 20 rows have 'Email' values that are not sha256 digests"
    assert any(sentence in text for text in watched.assert_says_nothing().values())


RAISES = (
    "CREATE FUNCTION check_member(city VARCHAR) RETURNS VARCHAR LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'no such city: %', city; END $$"
)
BAD_SOURCES: Mapping[str, str] = {
    "a user id that is no number": "SELECT CAST(user_id AS INTEGER) AS user_id, email, city FROM members",
    "an e-mail that is no number": "SELECT user_id, CAST(email AS INTEGER) AS email, city FROM members",
    "a city that is no instant": "SELECT user_id, email, CAST(city AS TIMESTAMPTZ) AS city FROM members",
    "a city that is no interval": "SELECT user_id, email FROM members WHERE CAST(city AS INTERVAL) IS NULL",
    "more than one row": "SELECT user_id, email, (SELECT city FROM members) AS city FROM members",
    "a user id twice": "SELECT * FROM members UNION ALL SELECT * FROM members",
    "a null user id": "SELECT NULL AS user_id, email, city FROM members",
    "a missing column": "SELECT user_id, email FROM members",
    "an unclosed quote": "SELECT user_id, email, city || ' FROM members",
}


@both_ways
@pytest.mark.parametrize("bad", BAD_SOURCES)
def test_a_diff_that_fails_says_nothing_private(
    watched: Watched, warehouse: Warehouse, kinesis: ScriptedKinesis, bad: str
) -> None:
    warehouse.members(MEMBERS)
    assert watched.run(warehouse, kinesis, diff={"sql": BAD_SOURCES[bad]})["diff"].state == "failed"
    watched.assert_says_nothing()


@pytest.mark.parametrize(
    "function", ["check_member(city)", "to_tsquery(city)", "CAST(SPLIT_PART(city, ' ', 1) AS regclass)"]
)
def test_what_a_function_of_the_warehouse_says_is_not_repeated(
    watched: Watched, postgres_warehouse: Warehouse, kinesis: ScriptedKinesis, function: str
) -> None:
    postgres_warehouse.members(MEMBERS)
    postgres_warehouse.execute(RAISES)
    query = f"SELECT user_id, email, CAST({function} AS VARCHAR) AS city FROM members"
    assert watched.run(postgres_warehouse, kinesis, diff={"sql": query})["diff"].state == "failed"
    watched.assert_says_nothing()


def after_one_request(decision: Whole | str) -> Any:
    """Script a stream that takes one request, and then decides so for ever."""

    def script(request: int, records: Sequence[Arrived]) -> Whole | str:
        return TAKE if request == 0 else decision

    return script


@both
@pytest.mark.parametrize("decision", [Whole.DENIED, Whole.MISSING], ids=lambda d: d.name)
def test_a_delivery_that_is_refused_says_nothing_private(
    watched: Watched,
    duckdb_warehouse: Warehouse,
    kinesis: ScriptedKinesis,
    decision: Whole,
    publish: Mapping[str, Any],
) -> None:
    duckdb_warehouse.members(MEMBERS)
    kinesis.script = (lambda *_: decision) if publish is TO_FIREHOSE else after_one_request(decision)
    run = watched.run(duckdb_warehouse, kinesis, publish=publish)
    assert run["publish"].state == "failed", run.log
    watched.assert_says_nothing()


def test_a_delivery_that_is_given_up_says_nothing_private(
    watched: Watched, duckdb_warehouse: Warehouse, kinesis: ScriptedKinesis
) -> None:
    duckdb_warehouse.members(MEMBERS)
    kinesis.script = lambda *_: FAIL
    assert watched.run(duckdb_warehouse, kinesis)["publish"].state == "failed"
    watched.assert_says_nothing()


@both
def test_a_member_that_fits_into_no_record_is_not_named(
    watched: Watched, duckdb_warehouse: Warehouse, kinesis: ScriptedKinesis, publish: Mapping[str, Any]
) -> None:
    duckdb_warehouse.members([*MEMBERS, (f"{WORD}-big", WORD * 120_000, WORD * 120_000)])
    run = watched.run(duckdb_warehouse, kinesis, publish=publish)
    assert run["publish"].state == "failed"
    watched.assert_says_nothing()
