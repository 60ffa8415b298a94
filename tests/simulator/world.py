"""A sync with two destinations, and those who work with it: an author, an Airflow, and people.

Another sync may be in the same ledger, with sources, streams and people of its own.

An Airflow that is never down itself starts attempts, waits for them, and starts the next one where one failed, was
killed, or was not heard of for too long and may be alive all the same.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.approval import approve, approve_audiences
from airflow_kinesis_audience.core.changes.guards import NO_PERMISSION, Guards, Permission
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import AudienceError, GuardTripped, LedgerBehind
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.detachment import choose_pins, detach
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.remembered import Remembered, find_news
from airflow_kinesis_audience.core.outbox.removals import find_stopped, release
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.retention import Retention
from tests.simulator import oracle
from tests.simulator.consumer import Members, read_cohort, read_profile, tell_members, tell_profiles
from tests.simulator.doubles import KeptRows, MemoryRows, Server, SimulatedWarehouse, Stream
from tests.simulator.files import Files
from tests.simulator.remembering import OTHER_SOURCE, SOURCE, RememberingDuckDb
from tests.simulator.scheduler import Killed, Process, Scheduler
from tests.simulator.source import People
from tests.warehouses import QUICK, day, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.state.ledger_rows import Row
    from tests.simulator.plan import Plan

SCHEMA, SYNC, OTHER_SYNC = "state", "dag.diff", "dag.other"
LABEL, OTHER_LABEL = "agrees", "consents"
_COPIED = re.compile(r"^COPY .*/(\w+)[.]parquet' ", re.DOTALL)
TRIES, RETRY_SECONDS, UNHEARD_SECONDS = 4, 30.0, 1_000.0


_POLICIES: Any = {"on_schema_change": "update", "on_invalid_rows": "drop"}


class World:
    """All that is there of one sync in one history.

    :param beside: the sync in whose ledger it is, too.
    """

    def __init__(self, inner: Any, scheduler: Scheduler, plan: Plan, beside: World | None = None) -> None:
        self.inner, self.scheduler, self.plan = inner, scheduler, plan
        self.sync_id, self.source = (SYNC, SOURCE) if beside is None else (OTHER_SYNC, OTHER_SOURCE)
        self.mark = "" if beside is None else f" of {self.sync_id}"
        self.chance = scheduler.chance
        self.server = Server(scheduler) if beside is None else beside.server
        self.server.on_write.append(self._note)
        self.kept = KeptRows() if beside is None else beside.kept
        self.brought: dict[Process, tuple[Members, frozenset[str]]] = {}
        self.released: dict[str, set[str]] = {"a": set(), "b": set()}
        """Change sets' tables that a person let through at a destination."""
        self.label = LABEL
        self.labels: dict[Process, str] = {}
        self.written: dict[str, Members] = {}
        self.nameless: dict[str, frozenset[str]] = {}
        self.streams = {"a": Stream(scheduler), "b": Stream(scheduler)}
        tell = partial(tell_profiles, consent=LABEL if plan.consent else None)
        told = oracle.Wire(read_profile, tell) if plan.profiles else oracle.Wire(read_cohort, tell_members)
        self.wires = {"a": oracle.Wire(read_cohort, tell_members), "b": told}
        self.forgotten = ""
        """The user that is to be forgotten; empty while nobody has asked for it."""
        self.remembered: dict[str, Remembered] = {}
        self.detached: set[str] = set()
        self.judged = dict.fromkeys(self.streams, 0)
        self.outcomes: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.unforeseen: list[BaseException] = []
        self.allowed: set[int] = set()
        """Instants whose breaches somebody let through."""
        self.calm = False
        self.rows_in_memory = isinstance(inner, RememberingDuckDb)
        if beside is None:
            self._begin()
        if not self.rows_in_memory:
            inner.execute(f"DROP TABLE IF EXISTS {self.source}")
            inner.execute(f"CREATE TABLE {self.source} (audience TEXT, title TEXT, uid TEXT, agrees TEXT)")
        self.people = People(inner, self.chance, plan, self.source)

    def _begin(self) -> None:
        if isinstance(self.inner, RememberingDuckDb | Files):
            self.inner.begin()
        else:
            self.inner.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            self.inner.execute(f"CREATE SCHEMA {SCHEMA}")

    def _bring(self) -> None:
        """Remember what the source holds as a process brings its rows elsewhere."""
        process = self.scheduler.current.process  # type: ignore[union-attr]
        self.brought[process] = self.people.members(self.labels[process]), self.people.nameless()

    def _note(self, sql: str) -> None:
        """Remember what the source held when a table was written out of it."""
        head, _, query = sql.partition(" AS ")
        current = self.scheduler.current
        if (copied := _COPIED.search(sql)) is not None:
            known = self.brought.get(current.process) if current and "brought_" in sql else None
            self.written[copied[1]], self.nameless[copied[1]] = known or ({}, frozenset())
        elif head.startswith("CREATE TABLE"):
            label = self.labels.get(current.process, self.label) if current else self.label
            name = head.rpartition(".")[2].strip('" ')
            self.written[name] = self.people.members(label) if self.source in query else {}
            self.nameless[name] = self.people.nameless()

    # -- one process's view

    def ledger(self) -> Ledger:
        if isinstance(self.inner, Files):
            return self.inner.open(self.server, SCHEMA, self.sync_id, self._bring)
        warehouse = SimulatedWarehouse(self.inner, self.server)
        rows = MemoryRows(self.kept, self.server, self.sync_id) if self.rows_in_memory else None
        return Ledger(warehouse, SCHEMA, self.sync_id, rows)

    def delivery(self, name: str, **changed: Any) -> Delivery:
        options: dict[str, Any] = {"max_users": 2, "user_properties": True}
        if name == "b" and self.plan.profiles:
            options = {"message_ids": True, "consent": LABEL if self.plan.consent else None}
            changed["message_format"] = "adobe_profile"
        return small_delivery(name, options=options, **changed)

    def outbox(self, delivery: Delivery, *, let_through: bool = False) -> Outbox:
        put = self.streams[delivery.destination[-1]].put
        permission = Permission(everything=True) if let_through else NO_PERMISSION
        return Outbox(self.ledger(), delivery, put, policy=QUICK, permission=permission)

    # -- tasks

    def diff(self, number: float, *, let_through: bool = False, on_covered: str = "skip") -> dict[str, Any]:
        current = self.scheduler.current
        assert current is not None
        self.labels[current.process] = self.label
        source = Source(
            query=f"SELECT * FROM {self.source}",
            user_id="uid",
            identities={},
            properties={"agrees": self.label},
            audience_id_column="audience",
            audience_name_column="title",
        )
        guards = Guards(max_exit_ratio=None, max_exits=self.plan.max_exits, **_POLICIES)
        retention = Retention(
            compaction_share=self.plan.compaction_share, keep_history=day(self.plan.keep_days) - day(0)
        )
        permission = Permission(everything=True) if let_through else NO_PERMISSION
        self.allowed |= {int(day(number).timestamp())} if let_through else set()
        sync = Sync(self.ledger(), source, guards=guards, retention=retention)
        hold = self.plan.hold and not let_through
        how = {"insert": on_covered == "insert", "correct": on_covered == "correct"}
        return sync.run(day(number), permission=permission, hold=hold, hold_audiences=self.plan.alone, **how)

    def publish(self, delivery: Delivery, number: float) -> None:
        outbox, name = self.outbox(delivery, let_through=self.calm), delivery.destination[-1]
        known = self.remembered.get(name)
        try:
            outbox.drain(day(number), remembered=known)
        except Exception:
            self._remember(name, outbox.log, known)
            raise
        self._remember(name, outbox.log, known)

    def _remember(self, name: str, log: DeliveryLog, known: Remembered | None) -> None:
        """Keep how far a delivery is where Airflow keeps it, unless that fails, which is no error."""
        if (news := find_news(log, known)) is not None:
            with contextlib.suppress(AudienceError):
                self.server.step("remember", lambda: self.remembered.__setitem__(name, news), writes=False)

    def resync(self, name: str, title: str) -> None:
        delivery = self.delivery(name, owner=f"resync {name}" if self.plan.named else "")
        outbox, known = self.outbox(replace(delivery, resync=title)), self.remembered.get(name)
        log = DeliveryLog(outbox.ledger, delivery)
        resync(outbox, delivery, remembered=known)
        self._remember(name, log, known)

    def forget(self) -> tuple[str, ...]:
        """Forget the user as far as it is possible; gives what is to be waited for."""
        return forget(self.ledger(), [self.forgotten], let_through=True).waits_for

    def detach(self, name: str, *, only_resyncs: bool = False) -> None:
        ledger = self.ledger()
        ledger.read()
        destination = self.delivery(name).destination
        if any(
            s.destination and s.destination.destination == destination for s in ledger.state.deliveries.values()
        ):
            pins = choose_pins(ledger, destination, only_resyncs=only_resyncs)
            detach(ledger, [pin.log for pin in pins])
            self.detached |= {name} if not only_resyncs else set()

    def delete(self, name: str, number: int) -> None:
        outbox = self.outbox(self.delivery(name))
        self.labels[self.scheduler.current.process] = self.label  # type: ignore[union-attr]
        self.allowed.add(int(day(number).timestamp()))
        close(outbox.ledger, day(number), exits=True, delivery=outbox.delivery)
        announce_deletion(outbox)

    def approve(self, summary: Mapping[str, Any], number: float) -> None:
        self.allowed.add(int(day(number).timestamp()))
        approve(self.ledger(), day(number), summary["held_table"])

    def approve_alone(self) -> None:
        """Approve what is held alone, as it is seen now."""
        ledger = self.ledger()
        timeline = ledger.read().timeline
        if (held := timeline.held_audiences) is not None and timeline.newest is not None:
            self.allowed.add(int(timeline.newest.as_of.timestamp()) + 1)
            approve_audiences(ledger, held.table, held.breaches)

    def release(self) -> None:
        """Let through what is stopped at the destinations, some time after it was seen."""
        seen = find_stopped(self.ledger().read())
        self.scheduler.sleep(self.chance.choice((0.0, 30.0, 1_000.0)))
        for stopped in seen:
            self.released[stopped.destination[-1]].add(stopped.table)
            release(self.ledger(), stopped.log, stopped.table)

    # -- Airflow

    def task(self, name: str, attempt: Callable[[], Any], tries: int = TRIES) -> tuple[bool, Any]:
        """Try until an attempt ends well, fails for good, or no try is left; gives its result."""
        scheduler = self.scheduler
        for number in range(tries):
            skew = self.chance.choice((-3_600.0, 7_200.0)) if "clock" in self.plan.acts else 0.0
            actor = scheduler.spawn(f"{name}{self.mark}", attempt, Process(f"{name} #{number}", skew=skew))
            if not scheduler.wait(lambda actor=actor: actor.done, UNHEARD_SECONDS):  # type: ignore[misc]
                self.reached["an attempt begins while one that was given up is alive"] += 1
            elif actor.error is None:
                self.outcomes[f"{name.partition(' ')[0]} done"] += 1
                return True, actor.result
            elif self._is_for_good(name, actor.error):
                return False, actor.error
            scheduler.sleep(RETRY_SECONDS)
        self.outcomes[f"{name.partition(' ')[0]} out of tries"] += 1
        return False, None

    def _is_for_good(self, name: str, error: BaseException) -> bool:
        self.outcomes[f"{name.partition(' ')[0]} {type(error).__name__}"] += 1
        self.scheduler.trace.append(f"{self.scheduler.now:9.3f} {name}: {error!r}")
        if not isinstance(error, (AudienceError, Killed)):
            self.unforeseen.append(error)
        return isinstance(error, AudienceError) and not error.retry_helps

    def side_by_side(self, acts: Mapping[str, Callable[[], Any]]) -> list[Any]:
        """Do several things at once, and wait for all; each is Airflow's, which never dies."""
        actors = [self.scheduler.spawn(name, act) for name, act in acts.items()]
        self.scheduler.wait(lambda: all(a.done for a in actors))
        for actor in actors:
            if actor.error is not None:
                raise actor.error
        return [a.result for a in actors]

    def publishing(self, number: float) -> dict[str, Callable[[], Any]]:
        """Name the publishing tasks of a run."""
        tasks: dict[str, Callable[[], Any]] = {}
        for name, parts in (("a", 1), ("b", self.plan.parts)):
            for part in range(parts):
                for copy in range(2 if "twice" in self.plan.acts and not self.calm else 1):
                    title = f"publish {name}{part} {number}{' again' * copy}"
                    owner = f"publish {name} {number}{' again' * copy}" if self.plan.named else ""
                    delivery = self.delivery(name, part=Part(part, parts), owner=owner)
                    tasks[title] = partial(self.task, title, partial(self.publish, delivery, number))
        return tasks

    def dag_run(self, number: float, **how: Any) -> bool:
        """Run the sync and its publishing tasks; gives whether all ended well."""
        done, summary = self.task(f"diff {number}", lambda: self.diff(number, **how))
        if done:
            # A correction is of a later instant than its run.
            number = (instant(summary["as_of"]) - day(0)) / timedelta(days=1)
        if done and summary.get("held"):
            self.reached["a change set is held"] += 1
            if self.chance.random() < 0.3:
                return False
            done, _ = self.task(f"approve {number}", lambda: self.approve(summary, number))
        if not done:
            return False
        if summary.get("held_audiences"):
            self.reached["an audience is held alone"] += 1
            if self.chance.random() < 0.4:
                self.task(f"approve_alone {number}", self.approve_alone)
        ended = self._publish_all(number)
        if "release" in self.plan.acts and any(isinstance(found, GuardTripped) for _, found in ended.values()):
            self.task(f"release {number}", self.release)
            ended = self._publish_all(number)
        behind = sorted({title[8] for title, (_, found) in ended.items() if isinstance(found, LedgerBehind)})
        for name in behind:
            self.task(f"resync {name}", lambda n=name: self.resync(n, f"after {number}"))  # type: ignore[misc]
        if behind:
            ended = self._publish_all(number)
        return all(well for well, _ in ended.values())

    def _publish_all(self, number: float) -> dict[str, tuple[bool, Any]]:
        tasks = self.publishing(number)
        ended = self.side_by_side({f"Airflow: {title}": act for title, act in tasks.items()})
        return dict(zip(tasks, ended, strict=True))

    # -- what the oracle reads

    def ledger_rows(self, kept: Iterable[Row] | None = None) -> list[oracle.LedgerRow]:
        """Read the sync's rows of the ledger, or those of a backup, each log's in their order."""
        if self.rows_in_memory or isinstance(self.inner, Files):
            rows = self.inner.rows() if isinstance(self.inner, Files) else self.kept.rows.values()
            rows = (r for r in (rows if kept is None else kept) if r.sync_id == self.sync_id)
            found = [(r.log, r.sequence, r.event, r.as_of, r.detail) for r in rows]
        elif "ledger" in self.tables(with_ledger=True):
            query = f'SELECT "log", "sequence", "event", "as_of", "detail" FROM {SCHEMA}."ledger"'
            own = f"{query} WHERE \"sync_id\" = '{self.sync_id}'"
            found = [tuple(r) for r in self.inner.read_rows(own)]  # type: ignore[misc]
        else:
            found = []
        return [oracle.LedgerRow(*row[:4], json.loads(row[4])) for row in sorted(found)]

    def tables(self, *, with_ledger: bool = False) -> set[str]:
        if isinstance(self.inner, RememberingDuckDb):
            return set(self.inner.names) - {SOURCE, OTHER_SOURCE}
        if isinstance(self.inner, Files):
            return self.inner.tables()
        query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}'"
        return {n for (n,) in self.inner.read_rows(query)} - (set() if with_ledger else {"ledger"})

    def tables_with(self, user: str) -> list[str]:
        """List the sync's tables in which a user is."""
        own = sorted(t for t in self.tables() if self.sync_id.replace(".", "_") in t)
        return [t for t in own if any(user in row for row in self._read_table(t))]

    def _read_table(self, name: str) -> Iterable[tuple[Any, ...]]:
        if isinstance(self.inner, Files):
            return self.inner.read_table(name)
        return self.inner.read_rows(f'SELECT * FROM "{SCHEMA}"."{name}"')  # type: ignore[no-any-return]

    def lose(self, table: str) -> None:
        """Drop a table behind the back of all who rely on it."""
        if isinstance(self.inner, Files):
            self.inner.lose(table)
        else:
            self.inner.execute(f'DROP TABLE IF EXISTS "{SCHEMA}"."{table}"')

    def log_of(self, name: str) -> str:
        return self.delivery(name).log
