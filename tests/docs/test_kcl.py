"""The KCL application of the docs: each record is applied at least once, whatever the database does.

It runs in a process of its own on the real ``amazon_kclpy``, against a real PostgreSQL; the test plays the daemon.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from airflow_kinesis_audience.conformance import FORMATS, check_consumer
from tests.docs.messages import KINDS, arriving, cohort_message, encode, reference
from tests.docs.multilang_daemon import Daemon, ProcessorEnded
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Server

PAGE = "docs/consumer-kcl.md"
SHORT = {"persist(lambda: apply(records))": "persist(lambda: apply(records), seconds=1)"}

Started = Callable[..., Daemon]


@pytest.fixture
def members(postgres_database: str) -> psycopg.Connection[Any]:
    """Return a session of the database that has the tables of the page."""
    database = psycopg.connect(postgres_database, autocommit=True)
    database.execute(blocks("sql", "docs/consumer-kcl.md")[0].text.encode())
    return database


@pytest.fixture
def start(postgres_database: str, tmp_path: Path) -> Started:
    def started(records: list[bytes], options: str = "", changed: Mapping[str, str] | None = None) -> Daemon:
        script = blocks("python", "docs/consumer-kcl.md")[0].text
        for old, new in (changed or {}).items():
            assert old in script
            script = script.replace(old, new)
        where = f"{postgres_database}?options={options}" if options else postgres_database
        return Daemon(script, records, {"MEMBERS_DATABASE": where}, tmp_path)

    return started


def found(members: psycopg.Connection[Any]) -> dict[str, dict[str, Any]]:
    rows = members.execute("SELECT audience_id, user_id, properties, identities FROM audience_members_now")
    state: dict[str, dict[str, Any]] = {}
    for audience, user, properties, identities in rows:
        state.setdefault(audience, {})[user] = [properties, identities]
    return state


def after_first_error(daemon: Daemon, then: Callable[[], object]) -> None:
    """Do something as soon as the application has logged an error, however slow the machine is."""

    def wait() -> None:
        while not daemon.errors:
            time.sleep(0.05)
        then()

    threading.Thread(target=wait, daemon=True).start()


def aside(members: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return members.execute(
        "SELECT place, message_id, parts, reason FROM audience_set_aside ORDER BY place"
    ).fetchall()


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_what_the_reference_says(members: Any, start: Started, kind: str) -> None:
    records = arriving(kind)
    daemon = start(records)
    daemon.run()
    assert found(members) == reference(records)
    assert (daemon.remembered, daemon.starts, aside(members)) == (len(records), 1, [])


@pytest.mark.parametrize("message_format", FORMATS)
def test_it_conforms(members: Any, start: Started, message_format: str) -> None:
    def consume(messages: Sequence[bytes]) -> Mapping[str, Any]:
        start([*messages]).run()
        assert aside(members) == []
        kinds = ("properties", "identities")
        return {
            a: {u: dict(zip(kinds, values, strict=True)) for u, values in users.items()}
            for a, users in found(members).items()
        }

    report = check_consumer(consume, message_format, histories=5)
    assert report.passed, report


@pytest.mark.parametrize("end", ["shardEnded", "shutdownRequested", "leaseLost"])
def test_it_takes_every_end_of_a_shard(members: Any, start: Started, end: str) -> None:
    daemon = start(arriving("amplitude_cohort"))
    daemon.run(end=end)
    assert (daemon.remembered, daemon.starts, daemon.errors) == (len(daemon.records), 1, "")


def test_a_batch_that_waited_too_long_for_a_lock_is_applied_later(members: Any, start: Started) -> None:
    records = arriving("amplitude_cohort")
    members.autocommit = False
    members.execute("LOCK TABLE audience_members")
    daemon = start(records, "-c%20lock_timeout%3D100")
    after_first_error(daemon, members.commit)
    daemon.run()
    assert "LockNotAvailable" in daemon.errors
    assert found(members) == reference(records)
    assert (daemon.remembered, daemon.starts) == (len(records), 1)


def test_after_its_session_was_ended_it_goes_on_in_a_new_one(members: Any, start: Started) -> None:
    records = arriving("amplitude_cohort")
    members.execute("""
        CREATE SEQUENCE faults;
        CREATE FUNCTION ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('faults') IN (5, 90, 91) THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER ended BEFORE INSERT ON audience_members FOR EACH ROW EXECUTE FUNCTION ended();
    """)
    daemon = start(records)
    daemon.run()
    # It depends on what libpq reads first: the server's farewell or the closed connection.
    assert len(re.findall("failed with (OperationalError|AdminShutdown)", daemon.errors)) == 3
    assert found(members) == reference(records)
    assert (daemon.remembered, daemon.starts) == (len(records), 1)


def test_what_may_pass_is_tried_again_and_never_set_aside(members: Any, start: Started) -> None:
    # serialization, deadlock, lock, cancelled, disk full, memory, a read-only standby, I/O, internal, no grant
    states = ["40001", "40P01", "55P03", "57014", "53100", "53200", "25006", "58030", "XX000", "42501"]
    records = arriving("amplitude_cohort")
    members.execute(f"""
        CREATE SEQUENCE faults;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            n bigint := nextval('faults');
            states text[] := '{{{",".join(states)}}}';
        BEGIN
            IF n % 25 = 0 AND n / 25 <= {len(states)} THEN
                RAISE EXCEPTION 'u-secret' USING ERRCODE = states[n / 25];
            END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON audience_members FOR EACH ROW EXECUTE FUNCTION fail();
    """)
    daemon = start(records)
    daemon.run(at_once=10)
    assert found(members) == reference(records)
    assert (daemon.remembered, daemon.starts, aside(members)) == (len(records), 1, [])
    names = [psycopg.errors.lookup(state).__name__ for state in states]
    assert re.findall(r"failed with (\w+)", daemon.errors) == names
    assert "secret" not in daemon.errors


def test_where_the_database_does_not_come_back_it_ends_and_remembers_nothing(members: Any, start: Started) -> None:
    records = arriving("amplitude_cohort")
    members.execute("ALTER TABLE audience_members RENAME TO elsewhere")
    daemon = start(records, changed=SHORT)
    with pytest.raises(ProcessorEnded):
        daemon.run(lives=2)
    assert (daemon.remembered, daemon.ended_with) == (0, [1, 1])
    assert "UndefinedTable" in daemon.errors
    members.execute("ALTER TABLE elsewhere RENAME TO audience_members")
    daemon.run()
    assert found(members) == reference(records)
    assert daemon.remembered == len(records)


def test_a_database_that_is_not_there_at_the_start_is_waited_for(
    members: Any, start: Started, postgres_database: str, postgres_server: Server
) -> None:
    name = postgres_database.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    allowed = f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"
    records = arriving("mparticle_audience")
    daemon = start(records)
    after_first_error(daemon, lambda: postgres_server.execute(allowed))
    daemon.run()
    assert "OperationalError" in daemon.errors
    assert found(members) == reference(records)


def test_a_crash_before_the_checkpoint_applies_the_batch_once_more(members: Any, start: Started) -> None:
    records = arriving("amplitude_cohort")
    crash = (
        "os.environ['SEEN'] = os.environ.get('SEEN', '') + '.'; len(os.environ['SEEN']) == 2 and os._exit(9)  #"
    )
    daemon = start(records, changed={"# After the commit": crash})
    daemon.run(lives=100)
    assert 9 in daemon.ended_with
    assert found(members) == reference(records)
    assert daemon.remembered == len(records)


@pytest.mark.parametrize(
    "error", ["ThrottlingException", "ShutdownException", "KinesisClientLibDependencyException"]
)
def test_a_checkpoint_that_is_refused_loses_nothing(members: Any, start: Started, error: str) -> None:
    records = arriving("amplitude_cohort")
    daemon = start(records)
    daemon.refusals = [error, error]
    daemon.run()
    assert found(members) == reference(records)
    assert (daemon.remembered, daemon.starts) == (len(records), 1)


POISON = {
    "nul-in-property": (("u-bad", {"note": "a\0secret"}), "UntranslatableCharacter"),
    "nul-in-user": (("u-\0secret", {}), "DataError"),
    "half-a-pair-in-user": (("u-\ud800secret", {}), "UnicodeEncodeError"),
    "half-a-pair-in-property": (("u-bad", {"note": "\udc00secret"}), "InvalidTextRepresentation"),
    "nan": (("u-bad", {"secret": float("nan")}), "InvalidTextRepresentation"),
    "infinity": (("u-bad", {"secret": float("inf")}), "InvalidTextRepresentation"),
    "long-key": ((f"u-{''.join(chr(300 + n * 7 % 9000) for n in range(4000))}", {}), "ProgramLimitExceeded"),
}


def test_what_the_tables_can_never_hold_is_set_aside_and_all_else_applied(members: Any, start: Started) -> None:
    sent = [cohort_message("before", time=99, users=["u-before"])]
    for n, (bad, _) in enumerate(POISON.values()):
        sent.append(cohort_message(f"m{n}", users=[f"u-first-{n}", bad, f"u-last-{n}"]))
    sent.append(cohort_message("after", users=["u-after"]))
    records = [encode(message) for message in sent]
    daemon = start(records * 2)
    daemon.run(at_once=4)
    whole = {f"u-{where}-{n}" for n in range(len(POISON)) for where in ("first", "last")}
    assert set(found(members)["a"]) == {"u-before", "u-after"} | whole
    expected = [
        (f"shardId-000000000000:{place}:0", f"m{n}", [1], reason)
        for n, (_, reason) in enumerate(POISON.values())
        for place in (n + 1, n + 1 + len(records))
    ]
    assert aside(members) == sorted(expected)
    kept = {m for (m,) in members.execute("SELECT message FROM audience_set_aside")}
    assert kept == set(records[1:-1])
    assert (daemon.remembered, daemon.starts) == (2 * len(records), 1)
    assert "secret" not in daemon.errors
    for place, message_id, _, reason in expected:
        assert f"message {message_id} at {place} was skipped: {reason}" in daemon.errors


def test_values_that_look_dangerous_and_are_not_are_applied(members: Any, start: Started) -> None:
    values = {
        "big": 10**60,
        "small": 1e-300,
        "emoji": "😀",
        "empty": "",
        "list": ["", []],
        "": "x",
        "long": "x" * 500_000,
    }
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    users = ["", "😀", "ABCDEF00-0000-4000-8000-00000000000A", ("u-1", {**values, "deep": nested})]
    records = [encode(cohort_message(users=users))]
    start(records).run()
    assert found(members) == reference(records)


def test_what_is_no_message_is_set_aside(members: Any, start: Started) -> None:
    wrong = [b"", b"secret", b"\xff", b'{"secret": 1}', b"[" * 100_000, b'{"events": [1], "message_id": "x"}']
    records = [m for one in wrong for m in (one, encode(cohort_message(users=["u-1"])))]
    daemon = start(records)
    daemon.run(at_once=1)
    assert [where for where, *_ in aside(members)] == sorted(
        f"shardId-000000000000:{n}:0" for n in range(0, 12, 2)
    )
    assert set(found(members)["a"]) == {"u-1"}
    assert (daemon.remembered, daemon.starts) == (12, 1)
    assert "secret" not in daemon.errors


def test_who_left_does_not_stay_because_of_a_value_that_does_not_fit(members: Any, start: Started) -> None:
    gone = cohort_message("m2", time=101, member=False, users=[("u-1", {"note": "\0"}), "u-2"])
    daemon = start([encode(cohort_message(users=["u-1", "u-2"])), encode(gone)])
    daemon.run()
    assert found(members) == {}
    assert [parts for _, _, parts, _ in aside(members)] == [[0]]


def test_two_shards_that_write_the_same_users_end_right(members: Any, start: Started, tmp_path: Path) -> None:
    records = arriving("amplitude_cohort")
    daemons = []
    for n in range(2):
        (tmp_path / str(n)).mkdir()
        one = start(records[n::2])
        one._file = tmp_path / str(n) / "consumer.py"
        one._file.write_text((tmp_path / "consumer.py").read_text())
        one._log = tmp_path / str(n) / "stderr.txt"
        daemons.append(threading.Thread(target=one.run))
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.join()
    assert found(members) == reference(records)


def test_what_was_set_aside_can_be_applied_later(members: Any, start: Started) -> None:
    users = [("u-1", {"n": 1}), ("u-2", {"note": "\0"})]
    start([encode(cohort_message(users=users))]).run()
    definition = "SELECT pg_get_viewdef('audience_members_now')"
    [view] = members.execute(definition).fetchone()  # type: ignore[misc]
    members.execute("DROP VIEW audience_members_now")
    members.execute("ALTER TABLE audience_members ALTER COLUMN properties TYPE json USING properties::json")
    members.execute(f"CREATE VIEW audience_members_now AS {view}".encode())
    again = [bytes(message) for (message,) in members.execute("SELECT message FROM audience_set_aside")]
    start(again).run()
    assert members.execute("SELECT count(*) FROM audience_members_now").fetchone() == (2,)
