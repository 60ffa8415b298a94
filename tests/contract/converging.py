"""Anything that can happen to a sync and two destinations, and a model that says what must come of it.

The model is plain Python: it knows what the source held when a table was written, and believes that table to be
the truth from the moment at which the ledger has a row for it. The ledger is read with SQL of this file's own,
never through the code under test. After every publish that ends well a consumer gets the whole wire, shuffled and
with repetitions, and must know exactly the membership at its destination's cursor. One thread does the work and
nothing waits for a clock, so that a sequence that fails once fails always.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import random
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from airflow_kinesis_audience.consumer import AudienceConsumer, read_message
from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    DeliveryIncomplete,
    DestinationRefused,
    GuardTripped,
    HistoryGone,
    LedgerConflict,
    LedgerUnreadable,
    RunSuperseded,
    SchemaChanged,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.model.instants import epoch_seconds, instant
from airflow_kinesis_audience.core.outbox import sender as sender_module
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.removals import find_stopped, release
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.producer.clock import Clock
from airflow_kinesis_audience.core.producer.in_flight import Bounds
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.readers import read_ahead
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.ledger_rows import Row
from airflow_kinesis_audience.core.state.ledger_tables import PrimaryKeyLedgerTable
from airflow_kinesis_audience.core.state.retention import Retention
from tests.warehouses import (
    LET_ALL_THROUGH,
    QUICK,
    START,
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    fresh_schema,
    insert_rows,
    read_membership,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.producer.records import Record
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

Key = tuple[str, str]
"""An audience and who is in it: a user id, or an e-mail where a destination knows nothing else."""
Membership = dict[Key, tuple[str | None, str | None]]
"""Audience and user to e-mail and city."""
Known = Mapping[Key, Mapping[str, Any]]
"""What a destination knows or should know: its members and their properties."""


@dataclass(frozen=True)
class Truth:
    """What a recorded table must hold: who was in the source, and under which label their city is told.

    Beside it, how many exits its run let pass.
    """

    members: Membership
    label: str
    max_exits: int | None = None


AUDIENCES = ("a", "b")
USERS = ("u0", "u1", "u2", "u3", "u4")
CITIES = (None, "Bern", "Rome")
LABELS = ("city", "town")
SLICE_ROWS = 4
ONE_AT_A_TIME, NO_DELAY = Bounds(max_in_flight=1), Clock(jitter=lambda: 0.0)


class Diverged(AssertionError):
    """A promise is broken."""


class BrokenOff(Exception):
    """The stream failed in a way that nobody has foreseen."""


# --- two destinations, and how the other side reads -------------------------------------------------------------


class Told(NamedTuple):
    """What one message says of one member."""

    message_id: str
    time: int
    key: Key
    member: bool
    properties: Mapping[str, Any]


def read_by_email(document: bytes) -> list[Told]:
    found = json.loads(document)
    if "Lifecycle" in found:
        return []
    key, time = (found["AudienceId"], found["UserIdentities"]["Email"]), int(found["MembershipChangedTimestamp"])
    return [Told(found["MessageId"], time, key, found["IsMember"], {})]


def read_amplitude(document: bytes) -> list[Told]:
    reading = read_message(document)
    return [
        Told(reading.message_id, s.time, (s.audience_id, s.user_id), s.member, s.properties)
        for s in reading.statements
    ]


def consume_by_email(documents: Iterable[bytes]) -> Known:
    """Consume as a system does that knows e-mails: per audience and e-mail the newest time wins."""
    newest: dict[Key, tuple[int, bool]] = {}
    for told in itertools.chain.from_iterable(map(read_by_email, documents)):
        newest[told.key] = max(newest.get(told.key, (told.time, told.member)), (told.time, told.member))
    return {key: {} for key, (_, member) in newest.items() if member}


def consume_amplitude(documents: Iterable[bytes]) -> Known:
    consumer = AudienceConsumer()
    for document in documents:
        consumer.apply(document)
    return {(a, u): consumer.properties(a, u) for a in consumer.audiences() for u in consumer.members(a)}


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where to, and the other side: how it reads, what it comes to know, and what it should know."""

    delivery: Delivery
    read: Callable[[bytes], list[Told]]
    consume: Callable[[Iterable[bytes]], Known]
    known_of: Callable[[Truth], Known]
    stream: Stream = field(default_factory=Stream)


def open_destinations() -> dict[str, Destination]:
    """Make two destinations in two formats, one of which is told of users by their e-mail alone."""
    options = {"max_users": 2, "user_properties": True}
    by_email = {"forward_customer_ids": False, "message_ids": True}
    return {
        "users": Destination(
            delivery=small_delivery("users", options=options, partitions=2),
            read=read_amplitude,
            consume=consume_amplitude,
            known_of=lambda truth: {key: {truth.label: city} for key, (_, city) in truth.members.items()},
        ),
        "emails": Destination(
            delivery=small_delivery("emails", message_format="mparticle_audience", options=by_email, partitions=2),
            read=read_by_email,
            consume=consume_by_email,
            known_of=lambda truth: {(a, email): {} for (a, _), (email, _) in truth.members.items() if email},
        ),
    }


def removes_too_many(before: Truth, now: Truth, passed: bool) -> bool:
    """Say whether updates leave more members without an e-mail than the run let exit, with those who do."""
    for audience in AUDIENCES:
        members = {key: email for key, (email, _) in before.members.items() if key[0] == audience}
        exits = 0 if passed else len(members.keys() - now.members.keys())
        lost = sum(
            bool(email) and key in now.members and not now.members[key][0] for key, email in members.items()
        )
        if lost and now.max_exits is not None and exits + lost > now.max_exits:
            return True
    return False


def without_nothing(known: Known) -> Known:
    """Leave out properties that are nothing: what is not mapped any more is told as nothing once, or never was."""
    return {key: bare(told) for key, told in known.items()}


def bare(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}


# --- what goes wrong ---------------------------------------------------------------------------------------------


INTERRUPTIONS = (Killed, WarehouseUnavailable, LedgerUnreadable)


@dataclass(frozen=True)
class AtStatement:
    """The process dies, or the warehouse fails, before a numbered statement or after the next one that writes."""

    at: int
    side: str
    how: str

    def strike(self, watched: Watched) -> None:
        if self.how == "dies":
            watched.kill()
        raise WarehouseUnavailable("scripted")


@dataclass(frozen=True)
class AtPut:
    """The process dies, or the stream raises, in a numbered put, whose records were taken or not."""

    at: int
    how: str
    taken: bool

    def strike(self, watched: Watched, stream: Stream, batch: Sequence[Record]) -> None:
        if self.how == "dies":
            watched.dead = True
            raise Killed(taken=self.taken)
        if self.how == "refuses":
            raise DestinationRefused("scripted")
        stream.taken += batch if self.taken else []
        raise BrokenOff


@dataclass(frozen=True)
class Fates:
    """What becomes of the first records that are put; all others are taken."""

    fates: Sequence[Fate]


class Moments:
    """Steps in at one statement of an attempt.

    :param before: called with every statement.
    :param at: which statement, from 0.
    :param strike: what happens there, once.
    """

    def __init__(self, before: Callable[[str], None], at: int, side: str, strike: Callable[[], None]) -> None:
        self.struck = False
        self._note, self._at, self._side, self._strike = before, at, side, strike
        self._count = 0

    def before(self, sql: str) -> None:
        self._count += 1
        if self._side == "before":
            self._step_in()
        self._note(sql)

    def after(self, _: str) -> None:
        if self._side == "after":
            self._step_in()

    def _step_in(self) -> None:
        if not self.struck and self._count > self._at:
            self.struck = True
            self._strike()


class WholeRows(PrimaryKeyLedgerTable):
    """Reads checkpoints all, and not the last one alone: it means the same, in a third of DuckDB's time."""

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        where = f"{self._schema}.ledger WHERE sync_id = '{self._sync_id}' AND log <> 'folded'"
        found = self._warehouse.read_rows(f"SELECT {', '.join(Row._fields)} FROM {where}")
        return [row for row in (Row(*values) for values in found) if row.sequence > known.get(row.log, 0)]


class WholeLedger(Ledger):
    """A ledger over such rows."""

    def __init__(self, warehouse: Any, schema: str, sync_id: str) -> None:
        super().__init__(warehouse, schema, sync_id, WholeRows(warehouse, schema, sync_id))


Edits = Sequence[tuple[Key, "tuple[int | None, str | None] | None"]]
"""Who enters or changes, with the number of the e-mail and the city, and who leaves."""


@dataclass(frozen=True)
class Run:
    """A run so many days after the newest; 0 is that one again."""

    later: int

    def choose(self, world: World) -> int:
        return max(0, world.number + self.later)

    def happen(self, world: World) -> None:
        world.run(self.choose(world))

    def attempt(self, world: World, watched: Watched, number: int) -> None:
        world.number = number
        world.try_run(watched, number, world.guards)

    def may_raise(self, world: World, number: int) -> list[type[BaseException]]:
        return [LedgerConflict, GuardTripped, RunSuperseded]

    def check(self, world: World) -> None:
        """What a run records was compared already."""


@dataclass(frozen=True)
class Publish:
    """A publish to a destination, of the newest instant or one of so many before it."""

    name: str
    back: int

    def choose(self, world: World) -> int:
        return world.instant(self.back)

    def happen(self, world: World) -> None:
        if world.truth:
            world.publish(self.name, self.choose(world))

    def attempt(self, world: World, watched: Watched, number: int) -> None:
        world.try_publish(watched, self.name, number)

    def may_raise(self, world: World, number: int) -> list[type[BaseException]]:
        found = [HistoryGone] if world.may_be_gone(self.name, number) else []
        found += [GuardTripped] if world.find_stopped(self.name, number) is not None else []
        return [LedgerConflict, *found]

    def check(self, world: World) -> None:
        world.check(self.name)


# --- the model ---------------------------------------------------------------------------------------------------


@dataclass
class Facts:
    """What the ledger's rows say, as instants in days.

    :param recorded: which table leads to which instant, in the order in which they were recorded.
    :param inserted: the instants that were inserted before others, and when each is compensated.
    :param held: which table waits to lead to which instant.
    :param passed: the tables that were let through.
    :param begun: what each delivery is in the middle of.
    :param released: which tables were let through to which delivery.
    """

    recorded: list[tuple[float, str]] = field(default_factory=list)
    inserted: dict[float, float] = field(default_factory=dict)
    held: tuple[float, str] | None = None
    sealed: set[float] = field(default_factory=set)
    attached: dict[str, float] = field(default_factory=dict)
    cursors: dict[str, float] = field(default_factory=dict)
    delivered: dict[str, set[float]] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    begun: dict[str, float | None] = field(default_factory=dict)
    released: set[tuple[str, str]] = field(default_factory=set)

    def add(self, log: str, event: str, number: float, detail: Mapping[str, Any]) -> None:
        """Add a row; those of a kind that is not named here change nothing of this."""
        if event == "inserted":
            self.inserted[number] = number_of(instant(detail["compensated_at"]))
            self.recorded += [(number, detail["table"]), (self.inserted[number], detail["compensation"]["table"])]
            self.sealed |= {number, self.inserted[number]}
            self.passed |= {detail["table"]} if detail.get("let_through") else set()
        if event in ("first", "change_set"):
            self.recorded.append((number, detail["table"]))
            self.held = None
            self.sealed -= {number}
            self.sealed |= {number} if detail.get("let_through") else set()
            self.passed |= {detail["table"]} if detail.get("let_through") else set()
        elif event == "held":
            self.held = (number, detail["table"])
        elif event == "dropped" and self.held and self.held[1] in detail["tables"]:
            self.held = None
        elif event == "sealed":
            self.sealed.add(number)
        else:
            self._add_delivery(log, event, number, detail)

    def _add_delivery(self, log: str, event: str, number: float, detail: Mapping[str, Any]) -> None:
        if event in ("sending", "checkpoint", "unsent", "delivered") and not detail.get("resend"):
            self.begun[log] = number if event in ("sending", "checkpoint") else None
        if event == "removals" and detail.get("released"):
            self.released.add((log, detail["table"]))
        if event == "attached":
            self.attached[log] = number
            self.delivered[log] = set()
        elif event == "detached":
            del self.attached[log]
        elif event == "delivered" and not detail.get("resend"):
            self.cursors[log] = max(number, self.cursors.get(log, number))
            self.delivered[log].add(number)


def number_of(at: datetime) -> float:
    """Count an instant in days, as :func:`day` takes them."""
    return (at - START) / timedelta(days=1)


def compensated(before: Truth, changed: Iterable[Key], following: Truth) -> Truth:
    """Lead those that an inserted table changes to what they are later; all others stay what they were."""
    members = {key: values for key, values in before.members.items() if key not in changed}
    members |= {key: following.members[key] for key in changed if key in following.members}
    return replace(following, members=members)


class World:
    """A source, its runs, its destinations, and what must be true of them.

    :param warehouse: where everything is, and ``another`` a second connection to it.
    :param outbox: the outbox to publish with, and ``ledger`` the ledger to read and write.
    """

    def __init__(
        self, warehouse: SqlWarehouse, another: SqlWarehouse, outbox: type[Outbox], ledger: type[Ledger]
    ) -> None:
        self.people = People(warehouse, many=True, schema=fresh_schema())
        self.warehouse, self.another = warehouse, another
        self.outbox, self._open_ledger = outbox, ledger
        self.guards, self.upkeep = LET_ALL_THROUGH, Retention()
        self.destinations = open_destinations()
        self.number = -1
        self.source: Membership = {}
        self.label = LABELS[0]
        self.in_disorder = False
        self.truth: dict[float, Truth] = {}
        self.steps: dict[float, tuple[Truth, Truth]] = {}
        """What each table led from when it was recorded, and where to."""
        self._compensations: dict[float, tuple[set[Key], float]] = {}
        """Whom each leads to what they are at which instant."""
        self.facts = Facts()
        self._written: dict[str, Truth] = {}
        self._stored: list[tuple[str | None, ...]] = []
        self._max_exits: int | None = None
        self._has_ledger = False
        self._chance = random.Random(0)
        self._resyncs = 0

    def require(self, holds: object, promise: str) -> None:
        if not holds:
            raise Diverged(promise)

    # -- the source

    def edit(self, edits: Edits) -> None:
        """Let users enter, leave and change; an e-mail is one of the user's own, so no two users share one."""
        for key, values in edits:
            self.source.pop(key, None)
            if values is not None:
                number, city = values
                self.source[key] = (None if number is None else f"{key[1]}-{number}@x", city)

    def _store(self) -> None:
        """Bring the source's table to what the source is."""
        rows = [(a, f"Audience {a}", u, *values) for (a, u), values in self.source.items()]
        if self.in_disorder:
            rows += rows[:2]
        if (nameless := self._nameless()) is not None:
            rows.append((nameless, f"Audience {nameless}", None, None, None))
        if self._stored != rows:
            self.people.clear()
            insert_rows(self.warehouse, self.people.table, rows)
            self._stored = rows

    def _nameless(self) -> str | None:
        """Give the audience that has a row without a user, if there is one."""
        return next((audience for audience, _ in self.source if self.in_disorder), None)

    def instant(self, back: int) -> float:
        """Return the newest instant that a run recorded, or one before it."""
        runs = sorted(n for n in self.truth if n not in self._compensations)
        return runs[-1 - back % len(runs)]

    # -- what is so

    def remember(self) -> list[int]:
        """Read the ledger's rows, and take what was written as the truth where it counts now.

        :returns: the instants that change sets were recorded for since the last time.
        """
        facts, before = self._read_facts(), len(self.facts.recorded)
        self.require(facts.recorded[:before] == self.facts.recorded, "the ledger is append-only")
        new = facts.recorded[before:]
        self.facts = facts
        for number, table in new:
            self.require(not self._was_put(number), "a change set of which anything was put is immutable")
            if number in facts.inserted.values():
                self._compensate(next(n for n, at in facts.inserted.items() if at == number), number)
                continue
            late = number in facts.inserted
            self.require(not self.truth or late or number >= max(self.truth), "the line of time only ascends")
            before = self.before(number)
            self.truth[number] = self._written[table]
            if before is not None:
                self.steps[number] = before, self.truth[number]
        return [number for number, _ in new]

    def before(self, number: float) -> Truth | None:
        """Return what is true just before an instant."""
        return self.truth.get(max((n for n in self.truth if n < number), default=-1))

    def following(self, number: float) -> float:
        """Return the next instant that a run recorded."""
        return min(n for n in self.truth if n > number and n not in self._compensations)

    def _compensate(self, inserted: float, number: float) -> None:
        """Take what an inserted table must come to for the truth of its compensation; and of those near it."""
        before, now = self.steps[inserted]
        keys = before.members.keys() | now.members.keys()
        changed = {key for key in keys if before.members.get(key) != now.members.get(key)}
        self._compensations[number] = changed, self.following(inserted)
        for at, (some, then) in sorted(self._compensations.items()):
            previous = self.before(at)
            assert previous is not None
            self.truth[at] = compensated(previous, some, self.truth[then])
        later = replace(self.truth[self.following(inserted)], max_exits=now.max_exits)
        self.steps[number] = now, compensated(now, changed, later)

    def _read_facts(self) -> Facts:
        schema, read, facts = self.people.schema, self.warehouse.read_rows, Facts()
        if not self._has_ledger:
            name = "information_schema.tables"
            self._has_ledger = bool(
                read(f"SELECT 1 FROM {name} WHERE table_schema = '{schema}' AND table_name = 'ledger'")
            )
        if self._has_ledger:
            rows = read(f"SELECT log, event, as_of, detail FROM {schema}.ledger ORDER BY log, sequence")
            for log, event, as_of, detail in rows:
                facts.add(log, event, number_of(instant(as_of)), json.loads(detail))
        return facts

    def _was_put(self, number: float) -> bool:
        time = int(epoch_seconds(day(number)))
        return any(
            told.time == time
            for d in self.destinations.values()
            for batch in d.stream.puts
            for record in batch
            for told in d.read(record.data)[:1]
        )

    def _puts(self) -> int:
        return sum(len(d.stream.puts) for d in self.destinations.values())

    def _note(self, sql: str) -> None:
        """Remember what the source holds when a table is written out of it."""
        head, create, _ = sql.partition(" AS ")
        if create and head.startswith("CREATE TABLE") and (made := re.search(r'"((base|changes)_\w+)"$', head)):
            self._written[made[1]] = Truth(dict(self.source), self.label, self._max_exits)

    def is_kept(self, number: float) -> bool:
        """Tell whether the retention promises that the membership at an instant can be read."""
        return day(number) >= day(max(self.truth)) - self.upkeep.keep_history

    # -- runs

    def run(
        self,
        number: int,
        mishap: AtStatement | None = None,
        guards: Guards | None = None,
        *,
        permitted: bool = False,
        hold: bool = False,
    ) -> None:
        """Run the sync as of a day, and compare what came of it with what must."""
        self.number = max(self.number, number)
        guards = guards or self.guards
        expected, records = self._foresee(number, guards)
        stopped = expected is GuardTripped
        if stopped and (permitted or hold):
            expected, records = None, int(permitted)
        how = {"permission": Permission(everything=permitted), "hold": hold}
        puts = self._puts()
        watched, moments = self._watch(self.warehouse, mishap)
        error = self._attempt(lambda: self.try_run(watched, number, guards, **how))
        recorded = self.remember()
        self.require(self._puts() == puts, "a diff puts nothing")
        self._allow(error, expected, *(INTERRUPTIONS if moments.struck else ()))
        self.require(error is not None or expected is None, f"{expected} was due")
        broken_off = error is not None and (expected is None or not isinstance(error, expected))
        due = [number] * records
        self.require(
            recorded == due or (broken_off and not recorded), f"recorded were {recorded}, and due were {due}"
        )
        if recorded and number % 2:  # the others are looked at in the end, as far as they are kept
            self._check_membership_at(number)

    def _foresee(self, number: int, guards: Guards) -> tuple[type[AudienceError] | None, int]:
        """Say how an undisturbed run ends, and how many change sets it records."""
        newest = max(self.truth, default=-1)
        if number < newest and number not in self.truth:
            return RunSuperseded, 0
        if number < newest or (number == newest and number in self.facts.sealed):
            return None, 0
        baseline = max((n for n in self.truth if n < number), default=None)
        if baseline is not None and self._trips(self.truth[baseline], guards):
            return GuardTripped, 0
        return None, 1

    def insert(
        self, number: float, mishap: AtStatement | None = None, *, how: str = "insert", **guarded: Any
    ) -> None:
        """Run for an instant between two that are recorded, or correct one before the newest."""
        guards = guarded.get("guards") or self.guards
        target = self._free_second(number) if how == "correct" else number
        before, following = self.before(target), self.truth[self.following(target)]
        assert before is not None
        labels = {t.label for t in (*self.truth.values(), Truth({}, self.label))}
        kept = self.is_kept(max(n for n in self.truth if n < target))
        stopped = self._trips(before, guards) and not guarded.get("permitted")
        same = how == "correct" and before.members == self.source and before.label == self.label
        compensated_at = number_of(day(min(n for n in self.truth if n > target)) - timedelta(seconds=1))
        puts, later = self._puts(), {n: self.truth[n] for n in self.truth if n > target}
        watched, moments = self._watch(self.warehouse, mishap)
        permission = Permission(everything=bool(guarded.get("permitted")))
        error = self._attempt(lambda: self.try_run(watched, number, guards, permission=permission, **{how: True}))
        recorded = self.remember()
        self.require(self._puts() == puts, "a diff puts nothing")
        refused = [*([SchemaChanged] if len(labels) > 1 else []), *([] if kept else [HistoryGone])]
        self._allow(
            error, *refused, *([GuardTripped] if stopped else []), *(INTERRUPTIONS if moments.struck else ())
        )
        self.require(error is not None or not stopped, "a tripped guard stops an insertion")
        due = [] if same else [target, compensated_at]
        self.require(recorded == due or (error is not None and not recorded), f"recorded were {recorded}")
        self.require(self.following(target) in later, "what comes after an insertion stays")
        self.require(self.truth[self.following(target)] == following, "what comes after an insertion stays")

    def _free_second(self, number: float) -> float:
        """Return the first second after an instant, and after those that correct it, that is not recorded."""
        found = number
        while found in self.truth:
            found = number_of(day(found) + timedelta(seconds=1))
        return found

    def find_missed(self) -> list[float]:
        """List the days between the first and the newest for which no run recorded anything."""
        return [n for n in range(int(max(self.truth, default=0))) if n > min(self.truth) and n not in self.truth]

    def _trips(self, before: Truth, guards: Guards) -> bool:
        for audience in AUDIENCES:
            previous, current = ({u for a, u in m if a == audience} for m in (before.members, self.source))
            if previous - current and audience == self._nameless():
                return True  # who is missing may be the one without an id
            empty = previous and not current and guards.on_empty == "fail"
            if empty or (guards.max_exits is not None and len(previous - current) > guards.max_exits):
                return True
        return False

    def try_run(self, watched: Watched, number: float, guards: Guards, **how: Any) -> None:
        self._store()
        self._max_exits = guards.max_exits
        guards = replace(guards, on_invalid_rows="drop", on_schema_change="update")
        source = replace(self.people.source, properties={"city": self.label})
        Sync(self.ledger(watched), source, guards=guards, retention=self.upkeep).run(day(number), **how)

    def approve(self, mishap: AtStatement | None = None) -> None:
        """Let what is held through: the very table counts, whatever the source has become."""
        assert self.facts.held is not None
        number, table = self.facts.held
        watched, moments = self._watch(self.warehouse, mishap)
        error = self._attempt(lambda: approve(self.ledger(watched), day(number), table))
        recorded = self.remember()
        self._allow(error, *(INTERRUPTIONS if moments.struck else ()))
        self.require(recorded == [number] or (error is not None and not recorded), "what was held counts now")
        if error is not None:
            self._attempt(lambda: approve(self.ledger(self.warehouse), day(number), table))
            self.remember()
        self.require(number in self.truth and self.facts.recorded[-1] == (number, table), "what was seen counts")
        self._check_membership_at(max(self.truth))

    def ledger(self, warehouse: Any) -> Ledger:
        return self._open_ledger(warehouse, self.people.schema, "dag.diff")

    def _check_membership_at(self, number: float) -> None:
        found = read_membership(self.ledger(self.warehouse), day(number))
        same = {key: row[1:3] for key, row in found.items()} == self.truth[number].members
        self.require(same, f"the state's membership as of {number} is what the source held")

    # -- publishes

    def publish(
        self, name: str, number: float, mishap: AtStatement | AtPut | Fates | None = None, *, resend: bool = False
    ) -> None:
        """Publish up to a day, and compare what the consumer knows then with what it must."""
        gone, stopped = self.may_be_gone(name, number, resend=resend), self.find_stopped(name, number)
        watched, moments = self._watch(self.warehouse, mishap if isinstance(mishap, AtStatement) else None)
        stream = self.destinations[name].stream
        stream.script = self._script(mishap, watched, stream, len(stream.puts))
        error = self._attempt(lambda: self.try_publish(watched, name, number, resend=resend))
        stream.script = None
        self.require(not self.remember(), "a publish records no change set")
        if isinstance(error, GuardTripped):
            self.require(stopped is not None, "a publish is stopped only where updates remove too many")
            self._let_through(name, number)
            return self.publish(name, number)
        self._allow(error, *([HistoryGone] if gone else []), *self._mishaps(mishap, moments))
        if error is None:
            self.require(stopped is None, "updates that remove too many are stopped")
            self.require(self.cursor(name) >= number, "a publish that ends well has delivered up to its instant")
            self.check(name)
        return None

    def find_stopped(self, name: str, number: float) -> float | None:
        """Return the first instant up to a day that is stopped at a destination until it is let through."""
        log, attached = self.destinations[name].delivery.log, self.attached(name)
        tables = dict(self.facts.recorded)
        for at in self.find_unsent(name, number) if name == "emails" and attached is not None else ():
            if self.facts.begun.get(log) != at:
                passed = tables[at] in self.facts.passed
                if (log, tables[at]) not in self.facts.released and removes_too_many(*self.steps[at], passed):
                    return at
        return None

    def find_unsent(self, name: str, number: float) -> list[float]:
        """List what a destination gets next: first what was inserted before what it has, the newest first.

        Of what was inserted it gets nothing that is older than itself.
        """
        log, cursor = self.destinations[name].delivery.log, self.cursor(name)
        known, reached = self.facts.delivered.get(log, set()), max(self.attached(name) or 0, cursor)
        inserted = [*self.facts.inserted, *self.facts.inserted.values()] if cursor >= 0 else []
        late = [n for n in inserted if (self.attached(name) or 0) < n <= reached and n not in known]
        return [*sorted(late, reverse=True), *(n for n in sorted(self.truth) if reached < n <= number)]

    def _let_through(self, name: str, number: float) -> None:
        """Let a change set through that is stopped: by a person's approval, or by a permission of a run."""
        ledger, at = self.ledger(self.warehouse), self.find_stopped(name, number)
        found = [s for s in find_stopped(ledger.read()) if s.log == self.destinations[name].delivery.log]
        self.require([s.as_of for s in found] == [day(at or 0)], "what is stopped is known")
        release(ledger, found[0].log, found[0].table)
        self.remember()

    def _script(
        self, mishap: AtStatement | AtPut | Fates | None, watched: Watched, stream: Stream, first: int
    ) -> Callable[[int, Sequence[Record]], list[Fate]]:
        fates = iter(mishap.fates if isinstance(mishap, Fates) else ())

        def script(at: int, batch: Sequence[Record]) -> list[Fate]:
            if isinstance(mishap, AtPut) and at - first == mishap.at:
                mishap.strike(watched, stream, batch)
            return [next(fates, Fate.TAKEN) for _ in batch]

        return script

    def _mishaps(
        self, mishap: AtStatement | AtPut | Fates | None, moments: Moments
    ) -> tuple[type[BaseException], ...]:
        """Say which errors a mishap explains."""
        if moments.struck:
            return INTERRUPTIONS
        if isinstance(mishap, AtPut):
            return (Killed, BrokenOff, DestinationRefused)
        return (DeliveryIncomplete,) if isinstance(mishap, Fates) else ()

    def may_be_gone(self, name: str, number: float, *, resend: bool = False) -> bool:
        attached = self.attached(name)
        if attached is None:
            return not self.is_kept(number)
        return resend and (number < attached or not self.is_kept(number - 1))

    def try_publish(self, watched: Watched, name: str, number: float, *, resend: bool = False) -> None:
        destination = self.destinations[name]
        put = destination.stream.put
        outbox = self.outbox(self.ledger(watched), destination.delivery, put, policy=QUICK)
        outbox.drain(day(number), resend=resend)

    def attached(self, name: str) -> float | None:
        """Return the day at which a destination was attached."""
        return self.facts.attached.get(self.destinations[name].delivery.log)

    def cursor(self, name: str) -> float:
        """Return the day up to which a destination has everything, or -1."""
        return self.facts.cursors.get(self.destinations[name].delivery.log, -1)

    def check(self, name: str) -> None:
        """Compare what a destination's consumer makes of the wire with the membership at the cursor."""
        destination = self.destinations[name]
        contents: dict[str, bytes] = {}
        for document in destination.stream.messages:
            for told in destination.read(document):
                same = contents.setdefault(told.message_id, document) == document
                self.require(same, "no message id has two contents")
                self._check_told(destination, told)
        self.check_consumer(name, self.cursor(name))

    def _check_told(self, destination: Destination, told: Told) -> None:
        truth = self.truth.get((told.time - int(epoch_seconds(START))) / 86_400)
        self.require(truth is not None, "whatever is told speaks for an instant that was recorded")
        known = destination.known_of(truth or Truth({}, LABELS[0]))
        if told.member:
            same = told.key in known and bare(known[told.key]) == bare(told.properties)
            self.require(same, "who is told to come was a member then")
        else:
            self.require(told.key not in known, "who is told to go was no member then")

    def check_consumer(self, name: str, number: float) -> None:
        """Compare what was told up to a day, in any order and in part twice, with the truth of that day."""
        destination, until = self.destinations[name], int(epoch_seconds(day(number)))
        told = [(m, destination.read(m)) for m in destination.stream.messages]
        messages = [m for m, statements in told if all(s.time <= until for s in statements)]
        messages += self._chance.choices(messages, k=len(messages) // 2) if messages else []
        self._chance.shuffle(messages)
        known = without_nothing(destination.consume(messages))
        due = without_nothing(destination.known_of(self.truth[number]))
        self.require(
            known == due,
            f"{name} knows the membership as of {number}: of {len(due)} {len(due.keys() - known.keys())} are "
            f"missing, {len(known.keys() - due.keys())} too many, and others have other properties",
        )

    def resync(self, name: str, mishap: AtStatement | AtPut | Fates | None = None) -> None:
        """Tell a destination everything again: that alone is all that is true, and all that is over."""
        destination, stream = self.destinations[name], self.destinations[name].stream
        cursor, first, taken = self.cursor(name), len(stream.puts), len(stream.taken)
        self._resyncs += 1
        delivery = replace(destination.delivery, resync=f"resync {self._resyncs}")
        watched, moments = self._watch(self.warehouse, mishap if isinstance(mishap, AtStatement) else None)
        stream.script = self._script(mishap, watched, stream, first)

        def attempt(warehouse: Any) -> None:
            resync(self.outbox(self.ledger(warehouse), delivery, stream.put, policy=QUICK), destination.delivery)

        error = self._attempt(lambda: attempt(watched))
        stream.script = None
        self._allow(error, *self._mishaps(mishap, moments))
        if error is not None:
            self._allow(self._attempt(lambda: attempt(self.warehouse)))
        self.require(not self.remember(), "a resync records no change set")
        self.require(self.cursor(name) == cursor, "a resync moves no cursor")
        alone = [record.data for record in stream.taken[taken:]]
        told = [statement for message in alone for statement in destination.read(message)]
        self.require({s.time for s in told} <= {int(epoch_seconds(day(cursor)))}, "it speaks for the cursor")
        truth = self.truth[cursor]
        known = without_nothing(destination.consume(alone))
        self.require(known == without_nothing(destination.known_of(truth)), "all that is true is told again")
        if name == "users":
            late = {*self.facts.inserted, *self.facts.inserted.values()}
            past = {number: t.members.keys() for number, t in self.truth.items() if number <= cursor}
            # Who was a member at an inserted instant alone is not in a base that was written before.
            kept = {key for number, keys in past.items() if number not in late for key in keys}
            exits = {s.key for s in told if not s.member}
            self.require(kept - truth.members.keys() <= exits, "no removal is forgotten")
            self.require(exits <= set().union(*past.values()) - truth.members.keys(), "no removal is invented")
        self.check(name)

    # -- two at once

    def overlap(self, outer: Run | Publish, inner: Run | Publish, at: int, side: str, edits: Edits) -> None:
        """Let one attempt happen as a whole in the middle of another; the outer one may have to give way."""
        number = outer.choose(self)
        watched, ended = Watched(self.warehouse), []

        def meanwhile() -> None:
            self.remember()
            self.edit(edits)
            self._store()
            self.warehouse, self.another = self.another, self.warehouse
            inner.happen(self)
            self.warehouse, self.another = self.another, self.warehouse
            ended.append(True)

        moments = Moments(self._note, at, side, meanwhile)
        watched.before, watched.after = moments.before, moments.after
        allowed = outer.may_raise(self, number)
        error = self._attempt(lambda: outer.attempt(self, watched, number))
        self.require(moments.struck == bool(ended), f"whoever begins later goes on, without {error!r}")
        self.remember()
        self._allow(error, *allowed, *outer.may_raise(self, number))
        self._check_membership_at(max(self.truth))
        if error is None:
            outer.check(self)

    # -- the end

    def conclude(self) -> None:
        """Run once more and publish, with nothing in the way: everybody knows exactly what is so."""
        self.run(self.number + 1, guards=LET_ALL_THROUGH, permitted=True)
        newest = max(self.truth)
        self.require(self.truth[newest].members == self.source, "the last run publishes the source")
        for name in [n for n in self.destinations if self.attached(n) is not None] or self.destinations:
            self.publish(name, newest)
            self.require(self.cursor(name) == newest, "everything is delivered")
            for number in self.truth:
                if number >= self.attached(name):
                    self.check_consumer(name, number)
        for number in filter(self.is_kept, sorted(self.truth)[:-1]):
            self._check_membership_at(number)

    def drop(self) -> None:
        self.warehouse.execute(f"DROP SCHEMA IF EXISTS {self.people.schema} CASCADE")
        self.warehouse.execute(f"DROP TABLE {self.people.table}")

    # -- attempts

    def _watch(self, warehouse: SqlWarehouse, mishap: AtStatement | None) -> tuple[Watched, Moments]:
        watched = Watched(warehouse)
        at, side = (mishap.at, mishap.side) if mishap else (0, "never")
        moments = Moments(self._note, at, side, lambda: mishap.strike(watched) if mishap else None)
        watched.before, watched.after = moments.before, moments.after
        return watched, moments

    def _attempt(self, what: Callable[[], None]) -> BaseException | None:
        try:
            what()
        except (AudienceError, BrokenOff, Killed) as error:
            return error
        return None

    def _allow(self, error: BaseException | None, *kinds: type[BaseException] | None) -> None:
        if error is not None and not isinstance(error, tuple(k for k in kinds if k)):
            raise error


# --- the machine -------------------------------------------------------------------------------------------------

KEYS = st.tuples(st.sampled_from(AUDIENCES), st.sampled_from(USERS))
VALUES = st.tuples(st.sampled_from((0, 1, 2, None)), st.sampled_from(CITIES))
# two of three edits bring somebody or something new
MAYBE = st.tuples(st.integers(0, 2), VALUES).map(lambda drawn: drawn[1] if drawn[0] else None)
EDITS = st.lists(st.tuples(KEYS, MAYBE), min_size=1, max_size=6)
SIDES = st.sampled_from(("before", "after"))
AT_STATEMENT = st.builds(AtStatement, st.integers(0, 24), SIDES, st.sampled_from(("dies", "breaks")))
AT_PUT = st.builds(AtPut, st.integers(0, 4), st.sampled_from(("dies", "raises", "refuses")), st.booleans())
FATES = st.builds(Fates, st.lists(st.sampled_from(Fate), min_size=1, max_size=8))
NAMES = st.sampled_from(("users", "emails"))
BACK = st.sampled_from((0, 0, 0, 1, 2, 4))
LATER = st.sampled_from((0, 1, 1, 2))
HOW_TO_RUN: Sequence[Mapping[str, Any]] = ({}, {"guards": LET_ALL_THROUGH}, {"permitted": True}, {"hold": True})
HOW_TO_INSERT = HOW_TO_RUN[:3]
ACTS = st.one_of(st.builds(Run, LATER), st.builds(Publish, NAMES, BACK))


def step(**arguments: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a rule of a method; after one that failed, the end of the sequence is not looked at."""

    def make(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def guarded(self: Converging, **given: Any) -> None:
            self.whole = False
            method(self, **given)
            self.whole = True

        made: Callable[..., None] = rule(**arguments)(guarded)
        return made

    return make


class Converging(RuleBasedStateMachine):
    """What may happen, in any order; a rule is a method of the world and the arguments to call it with."""

    warehouses: ClassVar[tuple[SqlWarehouse, SqlWarehouse]]
    """Where everything is, and a second connection to it."""
    outbox: ClassVar[type[Outbox]] = Outbox
    ledger: ClassVar[type[Ledger]] = WholeLedger
    mistakes: ClassVar[Sequence[tuple[object, str, object]]] = ()
    """What to put in the place of the real thing: object, attribute, value."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = True
        self._patches = contextlib.ExitStack()
        numbers = random.Random(0)
        replaced = [
            (rows_module, "SLICE_ROWS", SLICE_ROWS),
            (read_ahead, "AHEAD", 0),
            (sender_module, "produce", functools.partial(produce, bounds=ONE_AT_A_TIME, clock=NO_DELAY)),
            (uuid, "uuid4", lambda: uuid.UUID(int=numbers.getrandbits(128), version=4)),
        ]
        for where, name, value in (*replaced, *self.mistakes):
            self._patches.enter_context(mock.patch.object(where, name, value))
        self.world = World(*self.warehouses, self.outbox, self.ledger)

    def teardown(self) -> None:
        try:
            if self.whole:
                self.world.conclude()
        finally:
            self.world.drop()
            self._patches.close()

    @initialize(
        max_exits=st.sampled_from((None, None, 1, 2)),
        on_empty=st.sampled_from(("fail", "exit_all")),
        compaction_share=st.sampled_from((0.0, 0.1, 0.3)),
        days_kept=st.sampled_from((0, 1, 3)),
        edits=EDITS,
        first=st.one_of(st.none(), AT_STATEMENT, st.tuples(st.integers(0, 12), SIDES)),
    )
    def begin(
        self,
        max_exits: int | None,
        on_empty: str,
        compaction_share: float,
        days_kept: int,
        edits: Edits,
        first: AtStatement | tuple[int, str] | None,
    ) -> None:
        """Run for the first time, undisturbed in the end: from here on there is something to publish."""
        self.world.guards = Guards(max_exit_ratio=None, max_exits=max_exits, on_empty=on_empty)
        self.world.upkeep = Retention(compaction_share=compaction_share, keep_history=timedelta(days=days_kept))
        self.world.edit(edits)
        if isinstance(first, AtStatement):
            self.world.run(0, first)
        elif first is not None:
            self.world.overlap(Run(0), Run(0), *first, edits=[])
        self.world.run(0)

    @step(edits=EDITS)
    def edit(self, edits: Edits) -> None:
        self.world.edit(edits)

    @step(audiences=st.sampled_from((AUDIENCES, *((a,) for a in AUDIENCES))))
    def empty(self, audiences: Sequence[str]) -> None:
        self.world.edit([(key, None) for key in self.world.source if key[0] in audiences])

    @step(later=LATER, edits=EDITS, how=st.sampled_from(HOW_TO_RUN))
    def run(self, later: int, edits: Edits, how: Mapping[str, Any]) -> None:
        self.world.edit(edits)
        self.world.run(max(0, self.world.number + later), **how)

    @step(later=LATER, mishap=AT_STATEMENT, how=st.sampled_from(HOW_TO_RUN), tried_again=st.booleans())
    def run_that_breaks_off(
        self, later: int, mishap: AtStatement, how: Mapping[str, Any], tried_again: bool
    ) -> None:
        number = max(0, self.world.number + later)
        self.world.run(number, mishap, **how)
        if tried_again:
            self.world.run(number, **how)

    @step(mishap=st.one_of(st.none(), AT_STATEMENT), edits=EDITS)
    def approve(self, mishap: AtStatement | None, edits: Edits) -> None:
        if self.world.facts.held is not None:
            self.world.edit(edits)
            self.world.approve(mishap)

    @step()
    def map_anew(self) -> None:
        self.world.label = LABELS[1 - LABELS.index(self.world.label)]

    @step()
    def fall_into_disorder_or_out_of_it(self) -> None:
        self.world.in_disorder = not self.world.in_disorder

    @step(name=NAMES, mishap=st.one_of(st.none(), AT_STATEMENT, AT_PUT, FATES))
    def tell_again(self, name: str, mishap: AtStatement | AtPut | Fates | None) -> None:
        if self.world.cursor(name) >= 0:
            self.world.resync(name, mishap)

    @step(back=st.integers(0, 5))
    def run_of_an_earlier_day(self, back: int) -> None:
        self.world.run(max(0, self.world.number - back))

    @step(
        back=st.integers(0, 3),
        edits=EDITS,
        how=st.sampled_from(HOW_TO_INSERT),
        mishap=st.one_of(st.none(), st.none(), AT_STATEMENT),
    )
    def insert_a_missed_day(
        self, back: int, edits: Edits, how: Mapping[str, Any], mishap: AtStatement | None
    ) -> None:
        if not self.world.find_missed():
            self.world.run(self.world.number + 2)
        self.world.edit(edits)
        if missed := self.world.find_missed():
            self.world.insert(missed[-1 - back % len(missed)], mishap, **how)

    @step(back=st.integers(1, 3), edits=st.one_of(st.just([]), EDITS), how=st.sampled_from(HOW_TO_INSERT))
    def correct_an_earlier_day(self, back: int, edits: Edits, how: Mapping[str, Any]) -> None:
        days = [n for n in sorted(self.world.truth) if n == int(n)][:-1]
        if days:
            self.world.edit(edits)
            self.world.insert(days[-back % len(days)], how="correct", **how)

    @step()
    def backfill_backwards(self) -> None:
        for number in (self.world.number + 2, self.world.number + 1):
            self.world.run(number)

    @step(name=NAMES, back=BACK)
    def publish(self, name: str, back: int) -> None:
        self.world.publish(name, self.world.instant(back))

    @step(name=NAMES, back=BACK, mishap=st.one_of(AT_STATEMENT, AT_PUT, FATES), tried_again=st.booleans())
    def publish_that_goes_wrong(
        self, name: str, back: int, mishap: AtStatement | AtPut | Fates, tried_again: bool
    ) -> None:
        number = self.world.instant(back)
        self.world.publish(name, number, mishap)
        if tried_again:
            self.world.publish(name, number)

    @step(name=NAMES, back=BACK, mishap=st.one_of(st.none(), AT_STATEMENT, AT_PUT, FATES))
    def send_again(self, name: str, back: int, mishap: AtStatement | AtPut | Fates | None) -> None:
        self.world.publish(name, self.world.instant(back), mishap, resend=True)

    @step(outer=ACTS, inner=ACTS, at=st.integers(0, 16), side=SIDES, edits=st.one_of(st.just([]), EDITS))
    def two_at_once(self, outer: Run | Publish, inner: Run | Publish, at: int, side: str, edits: Edits) -> None:
        self.world.overlap(outer, inner, at, side, edits)
