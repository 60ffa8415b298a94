"""Weeks of a sync with everything going wrong that does: two destinations, hundreds of intervals, random faults.

The warehouse is a real engine and the streams are HTTP endpoints behind the real hooks and SDK. One request in ten
is throttled, wholly or in part, one in fifty fails with a 500, one in a hundred is taken and never answered;
connections are reset, answers are slow, a stream is split and merged, credentials expire, and the warehouse drops
its connection, before a statement or after it. A task that fails is tried again, as Airflow does. In the end each
destination's consumer must know exactly what the warehouse says, and whatever came twice must have a reason.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psycopg

from airflow_kinesis_audience.consumer import AudienceConsumer, read_message
from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseUnavailable
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.backoff import RetryPolicy
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.postgres import find_programs, running_server
from tests.scripted_kinesis import FAIL, TAKE, THROTTLE, Arrived, ScriptedKinesis, Whole, error
from tests.warehouses import People, Watched, day, members_of, open_duckdb, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

INTERVALS = 200
AUDIENCES = ("vips", "lapsed")
HASH_KEYS = 2**128
THROTTLED, FAILED, UNANSWERED, RESET, SLOW = 0.10, 0.02, 0.01, 0.02, 0.05
"""Shares of the requests."""
DROPPED = 0.004
"""Share of the statements at which the warehouse's connection is gone, before it and after it."""
PATIENCE = RetryPolicy(attempts=6, stall_seconds=10.0, first_delay_seconds=0.002, longest_delay_seconds=0.02)
READ_SECONDS = 0.4
MOST_ATTEMPTS = 40


@dataclass(frozen=True)
class Shard:
    """One shard, with a range of the hash ring, and those that it was made of."""

    number: int
    low: int
    high: int

    @property
    def name(self) -> str:
        return f"shardId-{self.number:012}"


class FaultyStream(ScriptedKinesis):
    """An endpoint that fails at random, and whose shards can be split and merged.

    It remembers of every record which attempt put it, and whether its sender can have heard of it.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(script=self._decide, silence_seconds=2 * READ_SECONDS)
        self._chance = random.Random(seed)
        self.shards = [Shard(n, HASH_KEYS * n // 4, HASH_KEYS * (n + 1) // 4) for n in range(4)]
        self._made = len(self.shards)
        self.faults: Counter[str] = Counter()
        self.attempt = 0
        self.expired = False
        self.attempts: dict[int, int] = {}
        self.unheard: set[int] = set()

    def _decide(self, request: int, records: Sequence[Arrived]) -> Any:
        self.attempts[request] = self.attempt
        if self.expired:
            self.faults["credentials expired"] += 1
            return error("ExpiredTokenException")
        chance = self._chance
        if chance.random() < SLOW:
            self.faults["slow answer"] += 1
            time.sleep(chance.uniform(0.02, 0.1))
        drawn = chance.random()
        for share, name, decide in (
            (THROTTLED, "throttled", self._throttle),
            (FAILED, "500", lambda _: Whole.SERVER_ERROR),
            (UNANSWERED, "taken and never answered", lambda _: Whole.TAKEN_AND_SILENT),
            (RESET, "reset", lambda _: chance.choice((Whole.RESET, Whole.TAKEN_AND_RESET))),
        ):
            if drawn < share:
                self.faults[name] += 1
                decision = decide(records)
                if isinstance(decision, Whole) and decision.name.startswith("TAKEN"):
                    self.unheard.add(request)
                return decision
            drawn -= share
        return TAKE

    def _throttle(self, records: Sequence[Arrived]) -> Any:
        if self._chance.random() < 0.3:
            return Whole.THROTTLED
        return [self._chance.choice((THROTTLE, THROTTLE, FAIL, TAKE)) for _ in records]

    def result(self, number: int, code: str) -> dict[str, str]:
        made = super().result(number, code)
        record = self.requests[-1][number]
        if code == TAKE and record.hash_key >= 0:
            shard = next(s for s in self.shards if s.low <= record.hash_key < s.high)
            made["ShardId"] = shard.name
        return made

    def split(self) -> None:
        """Put two shards in the place of the second one."""
        parent = self.shards.pop(1)
        middle = (parent.low + parent.high) // 2
        self.shards += [Shard(self._made, parent.low, middle), Shard(self._made + 1, middle, parent.high)]
        self._made += 2

    def merge(self) -> None:
        """Put one shard in the place of the two that were made last."""
        low, high = self.shards.pop(-2), self.shards.pop(-1)
        self.shards.append(Shard(self._made, low.low, high.high))
        self._made += 1


class DroppingWarehouse(Watched):
    """A warehouse whose connection is gone now and then: before a statement, or before its answer is there.

    :param drop: ends the connections of the engine, if it is a server.
    """

    def __init__(
        self, warehouse: SqlWarehouse, chance: random.Random, drops: Counter[str], drop: Callable[[], None] | None
    ) -> None:
        self._chance, self._drops, self._drop = chance, drops, drop
        super().__init__(warehouse, before=self._before, after=self._after)

    def _before(self, _: str) -> None:
        if self._chance.random() < DROPPED:
            self._drops["before a statement"] += 1
            if self._drop is None:
                raise WarehouseUnavailable("scripted")
            self._drop()

    def _after(self, _: str) -> None:
        if self._chance.random() < DROPPED:
            self._drops["after a statement"] += 1
            raise WarehouseUnavailable("scripted: the answer was lost")


@dataclass
class Soaked:
    """What came of it."""

    intervals: int
    engine: str
    faults: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    taken: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    out_of_order: int = 0
    missing: int = 0
    invented: int = 0
    members: int = 0
    changes: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every promise held."""
        return not (self.missing or self.invented or self.out_of_order or self.repeated[_NO_REASON])

    def describe(self) -> str:
        def told(counted: Counter[str]) -> str:
            return ", ".join(f"{n:,} {name}" for name, n in sorted(counted.items())) or "none"

        return "\n".join(
            [
                f"{self.intervals} intervals on {self.engine}, two audiences, a data stream and a delivery stream",
                f"  {self.changes:,} changes told, {self.members:,} memberships in the end",
                f"  {self.requests:,} requests; faults: {told(self.faults)}",
                f"  the warehouse's connection was gone: {told(self.drops)}",
                f"  attempts that failed and were tried again: {told(self.failures)}",
                f"  {self.taken:,} records on the wires, {self.repeated.total():,} of them once more: "
                f"{told(self.repeated)}",
                f"  records that follow a newer one of their user: {self.out_of_order}",
                f"  consumers miss {self.missing} members and believe in {self.invented} who are none",
                f"  {self.seconds:.0f} s: {'every promise held' if self.holds else 'A PROMISE WAS BROKEN'}",
            ]
        )


_LOST = "because the answer was lost"
_UNWRITTEN = "because an attempt broke off before it was written down"
_NO_REASON = "WITHOUT A REASON"


@dataclass(frozen=True)
class Destination:
    """One of the two."""

    hook: StreamHook
    delivery: Delivery
    endpoint: FaultyStream


class Soak:
    """One run."""

    def __init__(
        self,
        open_warehouse: Callable[[], SqlWarehouse],
        destinations: Sequence[Destination],
        found: Soaked,
        *,
        seed: int,
        drop: Callable[[], None] | None,
    ) -> None:
        self._open, self._destinations, self._found, self._drop = open_warehouse, destinations, found, drop
        self._chance = random.Random(seed)
        # Who belongs is the same whatever goes wrong, and however many statements it takes.
        self._edits = random.Random(seed)
        self._own = open_warehouse()
        self.people = People(self._own, many=True)
        self._users = 0

    def run(self) -> None:
        kinesis = self._destinations[0].endpoint
        count = self._found.intervals
        for number in range(count):
            if number == count // 4:
                kinesis.split()
            if number == 3 * count // 4:
                kinesis.merge()
            for destination in self._destinations:
                destination.endpoint.expired = number == count // 2
            self._change(number)
            self._until_done(lambda warehouse, n=number: self._diff(warehouse, n))
            for destination in self._destinations:
                self._until_done(lambda warehouse, n=number, d=destination: self._publish(warehouse, d, n))
        self._compare()
        self._own.close()

    def _change(self, number: int) -> None:
        """Let users enter, change and leave."""
        with self._reopened() as own:
            self.people.warehouse = own
            for audience in AUDIENCES:
                chance, known = self._edits, sorted(self.people.members().get(audience, ()))
                new = [f"u{self._users + n}" for n in range(chance.randint(3, 15))]
                self._users += len(new)
                self.people.put(*new, audience=audience, title=audience, email=f"{number}@example.com")
                if len(known) > 20:
                    self.people.take(*chance.sample(known, chance.randint(2, 12)), audience=audience)
                for user in chance.sample(known, min(len(known), 2)):
                    self.people.change(user, city=f"city {number}", email=f"{user}.{number}@example.com")

    @contextmanager
    def _reopened(self) -> Iterator[SqlWarehouse]:
        warehouse = self._open()
        try:
            yield warehouse
        finally:
            warehouse.close()

    def _until_done(self, attempt: Callable[[Any], None]) -> None:
        for _ in range(MOST_ATTEMPTS):
            for destination in self._destinations:
                destination.endpoint.attempt += 1
            try:
                with self._reopened() as warehouse:
                    attempt(DroppingWarehouse(warehouse, self._chance, self._found.drops, self._drop))
                    return
            except AudienceError as failure:
                if not failure.retry_helps:
                    raise
                self._found.failures[type(failure).__name__] += 1
                # Whoever has lost its session gets a new one for the next attempt.
                for destination in self._destinations:
                    heard = destination.endpoint.faults["credentials expired"] > 0
                    destination.endpoint.expired &= not heard
        raise AssertionError(f"not done after {MOST_ATTEMPTS} attempts")

    def _diff(self, warehouse: Any, number: int) -> None:
        self.people.sync(warehouse).run(day(number))

    def _publish(self, warehouse: Any, destination: Destination, number: int) -> None:
        outbox = Outbox(self.people.ledger(warehouse), destination.delivery, destination.hook.put, policy=PATIENCE)
        try:
            outbox.drain(day(number))
        finally:
            self._found.changes += outbox.report.delivered

    def _compare(self) -> None:
        with self._reopened() as own:
            self.people.warehouse = own
            truth = {(a, u) for a, users in self.people.members().items() for u in users}
        found = self._found
        found.members = len(truth)
        for destination in self._destinations:
            endpoint, consumer = destination.endpoint, AudienceConsumer()
            documents = [arrived.data for arrived in endpoint.taken]
            self._chance.shuffle(documents)
            for document in documents:
                consumer.apply(document)
            known = {(a, u) for a, users in members_of(consumer).items() for u in users}
            found.missing += len(truth - known)
            found.invented += len(known - truth)
            found.requests += len(endpoint.requests)
            found.taken += len(endpoint.taken)
            found.faults += endpoint.faults
            self._explain(endpoint)

    def _explain(self, endpoint: FaultyStream) -> None:
        """Count what came again and why, and what came after something newer of its user."""
        before: dict[bytes, Arrived] = {}
        newest: dict[tuple[str, str], int] = {}
        for arrived in endpoint.taken:
            earlier = before.get(arrived.data)
            if earlier is not None:
                same_attempt = endpoint.attempts[earlier.request] == endpoint.attempts[arrived.request]
                why = _NO_REASON if same_attempt else _UNWRITTEN
                self._found.repeated[_LOST if earlier.request in endpoint.unheard else why] += 1
            before[arrived.data] = arrived
            for told in read_message(arrived.data).statements:
                key = told.audience_id, told.user_id
                self._found.out_of_order += told.time < newest.get(key, told.time)
                newest[key] = max(told.time, newest.get(key, told.time))


def soak(intervals: int, *, engine: str, folder: Path, dsn: str | None = None, seed: int = 0) -> Soaked:
    """Run so many intervals on an engine, and say what came of it."""
    found, began = Soaked(intervals=intervals, engine=engine), time.monotonic()
    with ExitStack() as stack:
        endpoints = [stack.enter_context(FaultyStream(seed + n)) for n in range(2)]
        destinations = [
            _kinesis(_connected(stack, "kinesis", endpoints[0]), endpoints[0]),
            _firehose(_connected(stack, "firehose", endpoints[1]), endpoints[1]),
        ]

        def open_one() -> SqlWarehouse:
            return open_postgres(dsn) if dsn else open_duckdb(folder / "soak.duckdb")

        drop = (lambda: _end_connections(dsn)) if dsn else None
        Soak(open_one, destinations, found, seed=seed, drop=drop).run()
    found.seconds = time.monotonic() - began
    return found


def _end_connections(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def _connected(stack: ExitStack, name: str, endpoint: FaultyStream) -> str:
    """Make an Airflow connection to an endpoint, which is gone with the stack; gives its id."""
    told = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",
        "extra": {
            "endpoint_url": endpoint.endpoint_url,
            "region_name": "eu-west-1",
            "config_kwargs": {"read_timeout": READ_SECONDS},
        },
    }
    variable = f"AIRFLOW_CONN_SOAK_{name.upper()}"
    os.environ[variable] = json.dumps(told)
    stack.callback(os.environ.pop, variable, None)
    return f"soak_{name}"


def _kinesis(connection: str, endpoint: FaultyStream) -> Destination:
    hook = KinesisStreamHook("changes", aws_conn_id=connection)
    options = {"max_users": 2, "user_properties": True}
    return Destination(hook, _delivery(hook, connection, "amplitude_cohort", options), endpoint)


def _firehose(connection: str, endpoint: FaultyStream) -> Destination:
    hook = FirehoseStreamHook("changes", aws_conn_id=connection)
    return Destination(hook, _delivery(hook, connection, "mparticle_audience", {"message_ids": True}), endpoint)


def _delivery(hook: StreamHook, connection: str, message_format: str, options: dict[str, Any]) -> Delivery:
    return Delivery(
        destination=hook.destination,
        connection=connection,
        message_format=message_format,
        options=options,
        renderer=load_renderer(message_format, options),
        limits=replace(hook.limits, records_per_request=4),
        record_end=hook.record_end,
    )


def main() -> bool:
    """Run the long one on each engine that is here."""
    holds = True
    with TemporaryDirectory(prefix="audience-soak-") as folder:
        programs = find_programs()
        if programs is not None:
            with running_server(programs) as server:
                found = soak(INTERVALS, engine="PostgreSQL", folder=Path(folder), dsn=server.dsn())
            print(found.describe())
            holds &= found.holds
        found = soak(INTERVALS, engine="DuckDB", folder=Path(folder))
        print(found.describe())
    return holds and found.holds
