"""States on disk that were left in the middle of something, and how to go on from them.

Each story has two halves: ``begin_...`` writes a state and leaves it, ``go_on_...`` continues from it. What the
first halves wrote at version 0.1 is kept in ``tests/golden/state-0.1``, with what the second halves gave there:
all that was put on the streams, and all answers. The test of it uses the second halves alone.

``python -m tests.state_stories write`` is how the folder was made. It is kept as a recipe: the folder must never
be made anew, so the command refuses to write where there is one.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import duckdb
import fsspec
import psycopg
import pytest

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import (
    AudienceDeleted,
    DestinationRefused,
    MessageTooLarge,
)
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.outbox import attempt as checkpoints_module
from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.delivery import Delivery  # noqa: TC001
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.producer.records import Limits, Record
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state import rows as slices_module
from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail, AttemptStarted
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.ledger_rows import Row
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.history import find_user, read_members
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.files.object_storage import ObjectStorage
from tests.engines import Place, place_of
from tests.postgres import find_programs, running_server
from tests.warehouses import (
    QUICK,
    Fate,
    Killed,
    Stream,
    Watched,
    day,
    insert_rows,
    open_duckdb,
    open_postgres,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.entries import Entry

GOLDEN = Path(__file__).parent / "golden" / "state-0.1"
ENGINES = ("postgres", "duckdb", "files")
SYNC = "dag.diff"

SLICE_ROWS = (slices_module, "SLICE_ROWS")
"""What says how many rows a slice has."""
CHECKPOINT_SHARE = (checkpoints_module, "CHECKPOINT_SHARE")
"""What says how often it is written down how far a delivery got: always, or once per change set."""

Members = Mapping[tuple[str, str], str | None]
"""Audience and user to a city: who is in the source."""

LET_THROUGH = Guards(max_exit_ratio=None, on_empty="exit_all")
DROPPING = Guards(max_exit_ratio=None, on_empty="exit_all", on_invalid_rows="drop")
UPDATING = Guards(max_exit_ratio=None, on_schema_change="update")
TIGHT = Guards(max_exits=1)
TIDY = Retention(compaction_share=0.0, keep_history=timedelta(days=1), history_view=True)
SMALL = Limits(records_per_request=2, record_bytes=1_000, request_bytes=100_000)
BIG = "x" * 1_200
WITH_PROPERTIES = {"max_users": 2, "user_properties": True}
HASHED = IdentityRule(normalize="email", hash="sha256")


@dataclass
class Stage:
    """A story's own schema in a place of an engine, its source table, and the streams that it puts on.

    :param name: of the story.
    :param own: answers that are this engine's own, or this state's.
    """

    place: Place
    name: str
    streams: dict[str, Stream] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    _ledgers: dict[str, Ledger] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        return f"story_{self.name}"

    @property
    def table(self) -> str:
        return f"people_of_{self.name}"

    def fill(self, members: Members, more: Sequence[Sequence[str | None]] = ()) -> None:
        """Let the source have these members, and rows that should be none."""
        rows: list[Sequence[str | None]] = [
            (audience, audience.upper(), user, f"{user}@example.com", city)
            for (audience, user), city in members.items()
        ]
        self._make("audience TEXT, title TEXT, uid TEXT, email TEXT, city TEXT", [*rows, *more])

    def _make(self, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        self.empty()
        self.place.source.execute(f"CREATE TABLE {self.table} ({columns})")
        insert_rows(self.place.source, self.table, rows)

    def fill_events(self, events: Iterable[tuple[str, str, datetime]]) -> None:
        """Let the source have these events: id, user, and when each arrived."""
        self._make("id TEXT, uid TEXT, came TIMESTAMPTZ", [(i, u, at.isoformat()) for i, u, at in events])

    def empty(self) -> None:
        self.place.source.execute(f"DROP TABLE IF EXISTS {self.table}")

    def source(self, *, many: bool = False, **changed: Any) -> Source:
        audience = {"audience_id_column": "audience", "audience_name_column": "title"}
        named = audience if many else {"audience_id": "vips", "audience_name": "VIPS"}
        settings: dict[str, Any] = {
            "query": f"SELECT * FROM {self.table}",
            "user_id": "uid",
            "identities": {"email": "email"},
            "properties": {"city": "city"},
            **named,
        }
        return Source(**{**settings, **changed})

    def ledger(self, sync_id: str = SYNC) -> Ledger:
        """Open the ledger of a sync as a new task does, which knows none of its rows."""
        if sync_id not in self._ledgers:
            self._ledgers[sync_id] = self.place.open_ledger(self.schema, sync_id)
        known = self._ledgers[sync_id]
        rows = known.rows if isinstance(known.rows, FileLedgerTable) else None
        return Ledger(known.warehouse, known.schema, known.sync_id, rows)

    def entries(self, sync_id: str) -> list[Entry]:
        ledger = self.ledger(sync_id)
        ledger.read()
        return ledger.entries()

    def stream(self, name: str) -> Stream:
        return self.streams.setdefault(name, Stream())

    def run(
        self,
        number: int,
        *,
        source: Source | None = None,
        guards: Guards = LET_THROUGH,
        retention: Retention | None = None,
        sync_id: str = SYNC,
        **how: Any,
    ) -> dict[str, Any]:
        """Run a sync as of a day; gives its summary."""
        ledger = self.ledger(sync_id)
        return Sync(ledger, source or self.source(), guards=guards, retention=retention).run(day(number), **how)

    def outbox(self, stream: str, delivery: Delivery, ledger: Ledger | None = None) -> Outbox:
        return Outbox(ledger or self.ledger(), delivery, self.stream(stream).put, policy=QUICK)

    def publish(
        self, number: int, delivery: Delivery, ledger: Ledger | None = None, *, stream: str = "", **how: Any
    ) -> dict[str, Any]:
        """Publish up to a day, to the stream that is named like the destination; gives the report."""
        outbox = self.outbox(stream or delivery.destination.rpartition("/")[2], delivery, ledger)
        outbox.drain(day(number), **how)
        return sums_of(outbox.report)

    @contextmanager
    def dying(self, stream: str, after: int, sync_id: str = SYNC) -> Iterator[Ledger]:
        """Give a ledger whose process ends in the put after so many more; it writes nothing afterwards."""
        ledger, puts = self.ledger(sync_id), self.stream(stream)
        watched = Watched(ledger.warehouse)  # type: ignore[arg-type]
        first = len(puts.puts) + after

        def die(number: int, batch: Sequence[Record]) -> Sequence[Fate]:
            if number < first:
                return [Fate.TAKEN] * len(batch)
            watched.dead = True
            raise Killed(taken=number == first)

        puts.script = die
        with pytest.raises(Killed), mock.patch.object(*CHECKPOINT_SHARE, math.inf):
            yield self.place.ledger_on(watched, ledger)
        assert watched.dead
        assert any(entry.event == "checkpoint" for entry in self.entries(sync_id)), "half-way"
        puts.script = None

    def history(self, users: Sequence[str], instants: Sequence[datetime], *, kept: bool = False) -> dict[str, Any]:
        """Ask who was a member when, and what became of users.

        :param kept: the times at which deliveries were written down are in the state, and answers of its own.
        """
        ledger = self.ledger()
        members = {str(at): sorted(map(list, read_members(ledger, at))) for at in instants}
        found, times = {}, []
        for user in users:
            history = find_user(ledger, user)
            changes = []
            for change in history.changes:
                named = {"as_of": change.as_of, "audience": change.audience_id, "action": change.action}
                for said in change.deliveries:
                    times.append(said.recorded_at)
                    of = {"destination": said.destination, "format": said.message_format, "state": said.state}
                    of |= {"message_id": said.message_id, "recorded": bool(said.recorded_at)}
                    changes.append({**named, "since": change.member_since, **of})
            found[user] = {"memberships": list(map(list, history.memberships)), "changes": changes}
        if kept:
            self.own["recorded at"] = times
        return {"members": members, "users": found}


Answers = dict[str, Any]
Truth = dict[str, Members]
"""Stream to what is true of the source at the end, for those who have read all of the stream."""


def sums_of(report: Any) -> dict[str, Any]:
    """Give what a report counts, but for what the clock and the threads decide."""
    counts = ("messages", "records", "bytes", "delivered", "rejected", "omitted", "excluded")
    more = ("change_sets", "concluded", "still_rejected", "rejected_users")
    return {**{name: getattr(report, name) for name in (*counts, *more)}, "retold": report.redelivered}


def crowd(users: Iterable[int], city: str = "Bern", audience: str = "vips") -> dict[tuple[str, str], str | None]:
    return {(audience, f"u{n}"): city for n in users}


def refused(error: type[Exception], call: Callable[[], Any]) -> str:
    """Give the name of the error that a call ends with; its sentence may be another in another version."""
    with pytest.raises(error) as raised:
        call()
    return raised.typename


@contextmanager
def small() -> Iterator[None]:
    """Cut small slices, and write one checkpoint of each change set, so that rows have the numbers of version 0.1.

    That version wrote the first one after the first response, however short the time.
    """
    write = DeliveryAttempt.write

    def write_and_hurry(self: DeliveryAttempt, kind: type[AttemptDetail], *, last: bool = False) -> None:
        write(self, kind, last=last)
        if kind is AttemptStarted:
            self._pause = 0.0

    hurried = mock.patch.object(DeliveryAttempt, "write", write_and_hurry)
    with hurried, mock.patch.object(*SLICE_ROWS, 7), mock.patch.object(*CHECKPOINT_SHARE, 1e-9):
        yield


# --- a line of time with all that can be on it, one destination up to date and one half-way ----------------------


def _line() -> tuple[Delivery, Delivery]:
    return small_delivery("done", options=WITH_PROPERTIES), small_delivery("half", options=WITH_PROPERTIES)


def _other_mapping(stage: Stage) -> Source:
    return stage.source(properties={"city": "town"}, identity_rules={"email": HASHED})


def begin_line(stage: Stage) -> Answers:
    done, half = _line()
    people = crowd(range(14))
    repeated = [("vips", "VIPS", "u0", "again@example.com", "Bern"), ("vips", "VIPS", None, None, None)]
    stage.fill(people, repeated)
    assert stage.run(0, guards=DROPPING, retention=TIDY)["dropped_rows"] == 2
    for number in range(4):
        if number:
            people = {k: v for k, v in people.items() if k[1] != f"u{number}"} | crowd([20 + number], "Rome")
            stage.fill(people)
            source = _other_mapping(stage) if number == 3 else stage.source()
            stage.run(number, guards=UPDATING, retention=TIDY, source=source)
        for delivery in (done, half):
            stage.publish(number, delivery)
    stage.fill(_line_at(4))
    everything = Permission(everything=True)
    how = {"source": _other_mapping(stage), "retention": TIDY}
    assert stage.run(4, guards=TIGHT, permission=everything, **how)["let_through"]
    stage.publish(4, done)
    with stage.dying("half", 3) as ledger:
        stage.publish(4, half, ledger)
    stage.fill(_line_at(5))
    stage.run(5, **how)
    stage.publish(5, done)
    return {}


def _line_at(number: int) -> Members:
    found = crowd(range(6, 14), "Oslo") | crowd([22, 23], "Rome") | crowd([30, 31], "Bern")
    if number > 4:
        found |= crowd([1, 32], "Paris")
        del found["vips", "u7"]
    if number > 5:
        found |= crowd([7, 8], "Lyon")
        del found["vips", "u30"]
    return found


def go_on_line(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    done, half = _line()
    asked = (("u1", "u7", "u8", "u21"), [day(4), day(5)])
    answers: Answers = {"history before": stage.history(*asked, kept=True)}
    answers["done"] = stage.publish(5, done)
    answers["half"] = stage.publish(5, half)
    stage.fill(_line_at(6))
    answers["run"] = stage.run(6, source=_other_mapping(stage), retention=TIDY)
    answers["run again"] = stage.run(6, source=_other_mapping(stage), retention=TIDY)
    answers["both"] = [stage.publish(6, delivery) for delivery in (done, half)]
    answers["again"] = stage.publish(6, done, resend=True)
    answers["history"] = stage.history(asked[0], [day(5), day(6), day(9)])
    stage.own["seen"] = _read_view(stage)
    return answers, {"done": _line_at(6), "half": _line_at(6)}


def _read_view(stage: Stage) -> list[list[str]]:
    """Read what people see who look at the history's view; files have none."""
    if stage.place.source is not stage.place.warehouse:
        return []
    find = (
        "SELECT table_name FROM information_schema.views WHERE table_schema = '{}' AND table_name LIKE 'history%'"
    )
    [(view,)] = stage.place.warehouse.read_rows(find.format(stage.schema))
    query = f'SELECT as_of, action, user_id FROM {stage.schema}."{view}" ORDER BY 1, 3, 2'
    return [list(row) for row in stage.place.warehouse.read_rows(query)]


# --- a first delivery that ended in the middle of its snapshot ---------------------------------------------------


def begin_snapshot(stage: Stage) -> Answers:
    stage.fill(crowd(range(24)))
    stage.run(0)
    with stage.dying("new", 4) as ledger:
        stage.publish(0, small_delivery("new"), ledger)
    return {}


def go_on_snapshot(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(3, 28))
    stage.fill(people)
    answers: Answers = {"history before": stage.history(["u5"], [day(0)], kept=True)}
    answers["run"] = stage.run(1)
    answers["new"] = stage.publish(1, small_delivery("new"))
    answers["late"] = stage.publish(1, small_delivery("late"), on_first_run="baseline")
    answers["history"] = stage.history(["u1", "u5", "u27"], [day(0), day(1)])
    return answers, {"new": people}


# --- profiles that are half sent ---------------------------------------------------------------------------------


def _profiles() -> Delivery:
    return small_delivery("profiles", message_format="adobe_profile", options={"message_ids": True})


def _profiles_of(stage: Stage) -> Source:
    return stage.source(many=True, properties={"city": "home.city"})


def begin_profiles(stage: Stage) -> Answers:
    stage.fill(crowd(range(9), audience="a") | crowd(range(5, 12), audience="b"))
    stage.run(0, source=_profiles_of(stage))
    stage.publish(0, _profiles())
    stage.fill(crowd(range(1, 10), "Rome", "a") | crowd(range(4, 12), "Rome", "b"))
    stage.run(1, source=_profiles_of(stage))
    with stage.dying("profiles", 3) as ledger:
        stage.publish(1, _profiles(), ledger)
    return {}


def go_on_profiles(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(1, 8), "Rome", "a") | crowd(range(3, 13), "Oslo", "b")
    stage.fill(people)
    answers: Answers = {"run": stage.run(2, source=_profiles_of(stage))}
    answers["profiles"] = stage.publish(2, _profiles())
    answers["history"] = stage.history(["u0", "u3"], [day(1), day(2)])
    # A profile says what the first of its audiences does.
    first = {user: city for (_, user), city in sorted(people.items(), reverse=True)}
    return answers, {"profiles": {(audience, user): first[user] for audience, user in people}}


# --- a delivery in two parts, one done and one half-way; of many audiences ---------------------------------------


def _part(number: int) -> Delivery:
    return small_delivery("parts", options=WITH_PROPERTIES, part=Part(number, 2))


def begin_parts(stage: Stage) -> Answers:
    people = {k: v for audience in ("a", "b", "c") for k, v in crowd(range(12), audience=audience).items()}
    stage.fill(people)
    stage.run(0, source=stage.source(many=True))
    for number in range(2):
        stage.publish(0, _part(number))
    stage.fill(_parts_at(1))
    stage.run(1, source=stage.source(many=True))
    stage.publish(1, _part(0))
    with stage.dying("parts", 2) as ledger:
        stage.publish(1, _part(1), ledger)
    return {}


def _parts_at(number: int) -> Members:
    return (
        crowd(range(4, 20), audience="a")
        | crowd(range(number, 12), "Rome", audience="b")
        | crowd(range(12 + number), audience="c")
    )


def go_on_parts(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    answers: Answers = {"second": stage.publish(1, _part(1))}
    stage.fill(_parts_at(2))
    answers["run"] = stage.run(2, source=stage.source(many=True))
    answers["both"] = [stage.publish(2, _part(number)) for number in (1, 0)]
    answers["whole"] = stage.publish(2, replace(_part(0), part=Part()))
    answers["history"] = stage.history(["u1", "u13"], [day(0), day(1), day(2)])
    return answers, {"parts": _parts_at(2)}


# --- members that were too large, and stand in a table -----------------------------------------------------------


def _rejects(limits: Limits = SMALL) -> Delivery:
    return small_delivery("rejects", options=WITH_PROPERTIES, limits=limits)


def begin_rejects(stage: Stage) -> Answers:
    stage.fill(crowd(range(8)) | {("vips", "large"): BIG, ("vips", "leaves"): BIG})
    stage.run(0)
    stage.publish(0, _rejects(), on_rejected="skip")
    stage.fill(crowd(range(9), "Rome") | {("vips", "large"): BIG, ("vips", "leaves"): BIG, ("vips", "new"): BIG})
    stage.run(1)
    assert stage.publish(1, _rejects(), on_rejected="skip")["still_rejected"] == 3
    return {}


def go_on_rejects(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(2, 9), "Rome") | {("vips", "large"): BIG, ("vips", "new"): BIG}
    stage.fill(people)
    answers: Answers = {"run": stage.run(2)}
    answers["history before"] = stage.history(["large", "u3"], [], kept=True)
    answers["still"] = refused(MessageTooLarge, lambda: stage.publish(2, _rejects()))
    larger = replace(SMALL, record_bytes=10_000)
    answers["larger"] = stage.publish(2, _rejects(larger))
    answers["then"] = stage.publish(2, _rejects(larger))
    answers["history"] = stage.history(["large", "leaves"], [])
    return answers, {"rejects": people}


# --- a resync that is half-way -----------------------------------------------------------------------------------


def _redeliver(stage: Stage, ledger: Ledger | None = None) -> str:
    delivery = small_delivery("resync")
    return str(resync(stage.outbox("resync", replace(delivery, resync="once more"), ledger), delivery))


def begin_resync(stage: Stage) -> Answers:
    for number, first in enumerate((0, 3)):
        stage.fill(crowd(range(first, 14), audience="a") | crowd(range(6), audience="b"))
        stage.run(number, source=stage.source(many=True))
        stage.publish(number, small_delivery("resync"))
    with stage.dying("resync", 5) as ledger:
        _redeliver(stage, ledger)
    return {}


def go_on_resync(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(5, 15), audience="a") | crowd(range(1, 6), audience="b")
    stage.fill(people)
    answers: Answers = {"run": stage.run(2, source=stage.source(many=True))}
    answers["as of"] = _redeliver(stage)
    answers["publish"] = stage.publish(2, small_delivery("resync"))
    answers["history"] = stage.history(["u0", "u4"], [day(2)])
    return answers, {"resync": people}


# --- a change set that waits for approval ------------------------------------------------------------------------


def begin_held(stage: Stage) -> Answers:
    stage.fill(crowd(range(8)))
    stage.run(0)
    stage.publish(0, small_delivery("held"))
    stage.fill(crowd(range(3, 9)))
    return {"table": stage.run(1, guards=TIGHT, hold=True)["held_table"]}


def go_on_held(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(3, 12), "Rome")
    stage.fill(people)
    answers: Answers = {"release": approve(stage.ledger(), day(1), notes["table"])}
    answers["first"] = stage.publish(1, small_delivery("held"))
    answers["run"] = stage.run(2, guards=TIGHT)
    answers["second"] = stage.publish(2, small_delivery("held"))
    answers["history"] = stage.history(["u0", "u8"], [day(0), day(1), day(2)])
    return answers, {"held": people}


# --- a sync that was closed, and one destination does not know it yet; another sync beside it --------------------

OTHER = "other.diff"


def _beside(stage: Stage, number: int, **how: Any) -> dict[str, Any]:
    return stage.run(number, sync_id=OTHER, source=stage.source(many=True), **how)


def begin_closed(stage: Stage) -> Answers:
    stage.fill(crowd(range(7), audience="a") | crowd(range(3), audience="b"))
    stage.run(0, source=stage.source(many=True))
    for name in ("first", "second"):
        stage.publish(0, small_delivery(name))
    stage.fill(crowd(range(2, 9), audience="c"))
    _beside(stage, 0)
    stage.publish(0, small_delivery("beside"), stage.ledger(OTHER))
    stage.fill(crowd(range(1, 8), audience="a") | crowd(range(3), audience="b"))
    stage.run(1, source=stage.source(many=True))
    ledger = stage.ledger()
    close(ledger, day(2), exits=True)
    announce_deletion(stage.outbox("first", small_delivery("first"), ledger))
    return {}


def go_on_closed(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    stage.fill(crowd(range(7), audience="a"))
    anew = {"source": stage.source(many=True), "reuse_deleted": True}
    answers: Answers = {
        "run": refused(AudienceDeleted, lambda: stage.run(3, source=stage.source(many=True))),
        "too early": refused(AudienceDeleted, lambda: stage.run(3, **anew)),
        "publish": refused(AudienceDeleted, lambda: stage.publish(1, small_delivery("first"))),
        "close": close(stage.ledger(), day(5), exits=True),
    }
    goodbye = stage.outbox("second", small_delivery("second"))
    announce_deletion(goodbye)
    answers["goodbye"] = sums_of(goodbye.report)
    people = crowd(range(2, 10), audience="c")
    stage.fill(people | crowd([1], audience="a"))
    answers["beside"] = refused(AudienceDeleted, lambda: _beside(stage, 3))
    answers["beside, anew"] = _beside(stage, 3, reuse_deleted=True)
    answers["sent"] = stage.publish(3, small_delivery("beside"), stage.ledger(OTHER))
    truth = {"beside": people | crowd([1], audience="a")}
    people = crowd(range(4), audience="a")
    stage.fill(people)
    answers["anew"] = stage.run(4, **anew)
    answers["anew, sent"] = stage.publish(4, small_delivery("second"))
    return answers, {**truth, "first": {}, "second": people}


# --- events, half of whose interval is sent ----------------------------------------------------------------------


def _forward(
    stage: Stage, start: int | None, end: int, ledger: Ledger | None = None, **how: Any
) -> dict[str, Any]:
    options = {"batch": False}
    delivery = small_delivery("events", message_format="mparticle_events", options=options)
    source = EventSource(
        query=f"SELECT * FROM {stage.table}",
        event_id="id",
        arrived_at="came",
        user_id="uid",
        fields={"id": "data.event_name"},
    )
    outbox = stage.outbox("events", delivery, ledger or stage.ledger("events"))
    summary = forward(outbox, source, None if start is None else day(start), day(end), **how)
    return {"summary": summary, "report": sums_of(outbox.report)}


def _events(days: int) -> dict[str, tuple[str, datetime]]:
    return {f"e{n}": (f"u{n % 9}", day(0) + timedelta(hours=2 * n)) for n in range(12 * days)}


def _fill_events(stage: Stage, days: int) -> None:
    stage.fill_events((name, user, at) for name, (user, at) in _events(days).items())


def begin_events(stage: Stage) -> Answers:
    _fill_events(stage, 2)
    _forward(stage, 0, 1)
    with stage.dying("events", 3, "events") as ledger:
        _forward(stage, 1, 2, ledger)
    return {}


def go_on_events(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    _fill_events(stage, 4)
    answers: Answers = {"third day": _forward(stage, 2, 3)}
    answers["all"] = _forward(stage, 0, 4)
    answers["nothing"] = _forward(stage, None, 4)
    answers["again"] = _forward(stage, 3, 4, resend=True)
    return answers, {"events": {("events", name): user for name, (user, _) in _events(4).items()}}


# --- an attempt of which nothing can have been taken -------------------------------------------------------------


def begin_unsent(stage: Stage) -> Answers:
    def refuse(number: int, batch: Sequence[Record]) -> Sequence[Fate]:
        raise DestinationRefused("no permission")

    stage.fill(crowd(range(9)))
    stage.run(0)
    stage.stream("unsent").script = refuse
    refused(DestinationRefused, lambda: stage.publish(0, small_delivery("unsent")))
    stage.stream("unsent").script = None
    return {}


def go_on_unsent(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(1, 11))
    stage.fill(people)
    other = small_delivery("unsent", options={"max_users": 5})
    answers: Answers = {"first": stage.publish(0, other), "run": stage.run(1), "second": stage.publish(1, other)}
    answers["history"] = stage.history(["u0", "u5"], [day(0), day(1)])
    return answers, {"unsent": people}


# --- a log that is long enough to be folded up where its rows are files ------------------------------------------

RUNS = 17


def _long_at(number: int) -> Members:
    return crowd(range(number, number + 4))


def begin_long(stage: Stage) -> Answers:
    for number in range(RUNS):
        stage.fill(_long_at(number))
        stage.run(number, retention=replace(TIDY, keep_history=timedelta(0), history_view=False))
        stage.publish(number, small_delivery("long"))
    return {}


def go_on_long(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    stage.fill(_long_at(RUNS))
    answers: Answers = {"run": stage.run(RUNS), "publish": stage.publish(RUNS, small_delivery("long"))}
    answers["history"] = stage.history(["u16", "u20"], [day(RUNS)])
    return answers, {"long": _long_at(RUNS)}


# --- a row that was claimed and not written, where no key keeps two writers apart --------------------------------


def begin_claimed(stage: Stage) -> Answers:
    """End where a row is claimed that says that all is delivered: the fourth, after seal, start and checkpoint."""
    stage.fill(crowd(range(5)))
    stage.run(0)
    stage.publish(0, small_delivery("claimed"))
    stage.fill(crowd(range(1, 7)))
    stage.run(1)
    ledger = stage.ledger()
    watched = Watched(ledger.warehouse)  # type: ignore[arg-type]
    claims: list[str] = []

    def count(sql: str) -> None:
        claims.extend([sql] * (sql.startswith("CREATE VIEW") and "claim_" in sql))
        if len(claims) == 4:
            watched.kill()

    watched.after = count
    with pytest.raises(Killed):
        stage.publish(1, small_delivery("claimed"), stage.place.ledger_on(watched, ledger))
    return {}


def go_on_claimed(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    people = crowd(range(2, 8))
    stage.fill(people)
    answers: Answers = {"then": stage.publish(1, small_delivery("claimed"))}
    answers["run"] = stage.run(2)
    answers["second"] = stage.publish(2, small_delivery("claimed"))
    answers["history"] = stage.history(["u0", "u6"], [day(1), day(2)])
    return answers, {"claimed": people}


@dataclass(frozen=True, kw_only=True)
class Story:
    """Both halves of a story; the second gets the notes that the first has left.

    :param engines: that it was begun on.
    :param keys: whether the engine says that it keeps two rows of one key apart.
    """

    begin: Callable[[Stage], Answers]
    go_on: Callable[[Stage, Answers], tuple[Answers, Truth]]
    engines: Sequence[str] = ENGINES
    keys: bool = True


STORIES: Mapping[str, Story] = {
    "line": Story(begin=begin_line, go_on=go_on_line),
    "snapshot": Story(begin=begin_snapshot, go_on=go_on_snapshot),
    "profiles": Story(begin=begin_profiles, go_on=go_on_profiles),
    "parts": Story(begin=begin_parts, go_on=go_on_parts),
    "rejects": Story(begin=begin_rejects, go_on=go_on_rejects),
    "resync": Story(begin=begin_resync, go_on=go_on_resync),
    "held": Story(begin=begin_held, go_on=go_on_held),
    "closed": Story(begin=begin_closed, go_on=go_on_closed),
    "events": Story(begin=begin_events, go_on=go_on_events),
    "unsent": Story(begin=begin_unsent, go_on=go_on_unsent),
    "long": Story(begin=begin_long, go_on=go_on_long, engines=("files",)),
    "claimed": Story(begin=begin_claimed, go_on=go_on_claimed, engines=("duckdb",), keys=False),
}


# --- from the folder to an engine, and what went on there --------------------------------------------------------

Line = tuple[str, str, str]
"""A record as the folder has it: its bytes as text, its partition key, and its hash key in decimal."""


def line_of(record: Record) -> Line:
    return record.data.decode(), record.partition_key, str(record.hash_key)


def lines_of(stage: Stage) -> dict[str, list[Line]]:
    """Give what each stream has taken, in an order that no thread decides."""
    return {name: sorted(map(line_of, stream.taken)) for name, stream in sorted(stage.streams.items())}


@contextmanager
def open_stage(engine: str, name: str, directory: Path, dsn: str) -> Iterator[Stage]:
    """Open a story's place of an engine, on what is there already.

    :param directory: of DuckDB's file, and of the files.
    :param dsn: of PostgreSQL.
    """
    if engine == "files":
        opened = _open_files(directory)
    elif engine == "postgres":
        opened = place_of(lambda: open_postgres(dsn))
    else:
        opened = place_of(lambda: _open_duckdb(directory / "warehouse.duckdb", keys=STORIES[name].keys))
    with opened as place:
        yield Stage(place, name)


def _open_duckdb(path: Path, *, keys: bool) -> Any:
    warehouse = open_duckdb(path)
    warehouse.dialect = replace(warehouse.dialect, enforces_keys=keys)
    return warehouse


@contextmanager
def _open_files(directory: Path) -> Iterator[Place]:
    files = ObjectStorage(fsspec.filesystem("file"), str(directory / "state"))

    with ExitStack() as stack:

        def open_ledger(schema: str, sync_id: str) -> Ledger:
            warehouse = stack.enter_context(
                DuckDbParquetWarehouse(files, open_duckdb(directory / "source.duckdb"))
            )
            return Ledger(warehouse, schema, sync_id, FileLedgerTable(files, schema, sync_id))

        source = stack.enter_context(open_duckdb(directory / "source.duckdb"))
        nowhere = open_ledger("none", "none").warehouse
        yield Place(warehouse=nowhere, source=source, open_ledger=open_ledger)  # type: ignore[arg-type]


def load(engine: str, name: str, directory: Path, dsn: str, golden: Path = GOLDEN) -> None:
    """Bring a story's state from the folder to an engine, where :func:`open_stage` finds it."""
    if engine == "files":
        shutil.copytree(golden / "files" / f"story_{name}", directory / "state" / f"story_{name}")
        return
    statements = (golden / engine / f"{name}.sql").read_text(encoding="utf-8")
    if engine == "postgres":
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statements.encode())
    else:
        with duckdb.connect(str(directory / "warehouse.duckdb")) as connection:
            connection.execute(statements)


def go_on(stage: Stage, notes: Answers) -> tuple[Answers, Truth]:
    """Go on with a story; answers are as JSON gives them back."""
    with small():
        answers, truth = STORIES[stage.name].go_on(stage, notes)
    return json.loads(json.dumps(answers)), truth


def append_raw(stage: Stage, sync_id: str, log: str, event: str, detail: str, as_of: datetime) -> None:
    """Append a row to a log as another version might: an event and a detail that this one need not know."""
    ledger = stage.ledger(sync_id)
    numbers = [int(row.sequence) for row in ledger.rows.read({}) if row.log == log]
    ledger.rows.append(
        Row(
            sync_id=sync_id,
            log=log,
            sequence=max(numbers, default=0) + 1,
            event=event,
            as_of=f"{as_of:%Y-%m-%dT%H:%M:%SZ}",
            detail=detail,
            recorded_at="2026-01-01T00:00:00.000+00:00",
            token=uuid.uuid4().hex,
        )
    )


# --- the recipe --------------------------------------------------------------------------------------------------


class Pool:
    """Records, each once, known by their lines in a file."""

    def __init__(self) -> None:
        self.numbers: dict[Line, int] = {}

    def number(self, lines: Mapping[str, Sequence[Line]]) -> dict[str, list[int]]:
        return {
            n: [self.numbers.setdefault(x, len(self.numbers) + 1) for x in found] for n, found in lines.items()
        }


def write(golden: Path = GOLDEN) -> None:
    """Begin every story on every engine, keep its state, and go on from what was kept."""
    if golden.exists():
        sys.exit(f"{golden} is there, and must never be written anew")
    programs = find_programs()
    assert programs is not None
    pool = Pool()
    answers: dict[str, Any] = {}
    with running_server(programs) as server, tempfile.TemporaryDirectory() as home:
        databases = (f"made_{n}" for n in range(1_000))

        def fresh() -> tuple[Path, str]:
            server.execute(f"CREATE DATABASE {(name := next(databases))}")
            return Path(tempfile.mkdtemp(dir=home)), server.dsn(name)

        for engine in ENGINES:
            expected = {}
            for name in (name for name, story in STORIES.items() if engine in story.engines):
                expected[name], found = _write_story(engine, name, fresh, pool, golden, programs)
                same = answers.setdefault(name, found)
                expected[name]["answers"] = {key: value for key, value in found.items() if value != same[key]}
            (golden / f"{engine}.json").write_text(_by_line(expected), encoding="utf-8")
    (golden / "answers.json").write_text(_by_line(answers), encoding="utf-8")
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in pool.numbers)
    (golden / "records.ndjson").write_text(lines, encoding="utf-8")


def _by_line(stories: Mapping[str, Mapping[str, Any]]) -> str:
    """Write JSON with a line for each of what a story has."""
    written = {
        name: ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in has.items())
        for name, has in stories.items()
    }
    return "{\n" + ",\n".join(f" {json.dumps(n)}: {{\n{lines}\n }}" for n, lines in written.items()) + "\n}\n"


def _write_story(
    engine: str, name: str, fresh: Callable[[], tuple[Path, str]], pool: Pool, golden: Path, programs: Path
) -> tuple[dict[str, Any], Answers]:
    directory, dsn = fresh()
    with open_stage(engine, name, directory, dsn) as stage, small():
        notes = json.loads(json.dumps(STORIES[name].begin(stage)))
        stage.empty()
        before = lines_of(stage)
    _keep(engine, name, directory, dsn, golden, programs)
    found = []
    for _ in range(2):
        directory, dsn = fresh()
        load(engine, name, directory, dsn, golden)
        with open_stage(engine, name, directory, dsn) as stage:
            answers, _ = go_on(stage, notes)
            found.append((answers, stage.own, pool.number(lines_of(stage))))
    assert found[0] == found[1], f"{name} on {engine} does not always go on in one way"
    answers, own, after = found[0]
    return {"notes": notes, "before": pool.number(before), "after": after, "own": own}, answers


def _keep(engine: str, name: str, directory: Path, dsn: str, golden: Path, programs: Path) -> None:
    """Keep a story's state in the folder, without what another version of the engine would not understand."""
    if engine == "files":
        shutil.copytree(directory / "state", golden / "files", dirs_exist_ok=True)
        return
    if engine == "postgres":
        how = ["--inserts", "--rows-per-insert=50", "--no-owner", "--no-privileges", f"--schema=story_{name}"]
        dump = subprocess.run([programs / "pg_dump", *how, dsn], check=True, capture_output=True, text=True).stdout
        unneeded = ("--", "SET ", "\\", "SELECT pg_catalog.set_config")
        lines = [line for line in dump.splitlines() if line.strip() and not line.startswith(unneeded)]
    else:
        with duckdb.connect(str(directory / "warehouse.duckdb")) as connection:
            lines = list(_dump_duckdb(connection, f"story_{name}"))
    target = golden / engine / f"{name}.sql"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _dump_duckdb(connection: duckdb.DuckDBPyConnection, schema: str) -> Iterator[str]:
    def ask(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    yield f"CREATE SCHEMA {schema};"
    where = f"WHERE schema_name = '{schema}'"
    for name, made in ask(f"SELECT table_name, sql FROM duckdb_tables() {where} ORDER BY table_name"):
        yield made
        rows = ask(f'SELECT * FROM {schema}."{name}" ORDER BY rowid')
        values = ",\n".join(f"({', '.join(map(_literal, row))})" for row in rows)
        yield f'INSERT INTO {schema}."{name}" VALUES\n{values};'
    for (made,) in ask(f"SELECT sql FROM duckdb_indexes() {where} ORDER BY index_name"):
        yield made
    for (made,) in ask(f"SELECT sql FROM duckdb_views() {where} ORDER BY view_name"):
        yield made


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return f"'{value.isoformat()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    assert isinstance(value, int), value
    return str(value)


if __name__ == "__main__":
    if sys.argv[1:] != ["write"]:
        sys.exit("python -m tests.state_stories write")
    write()
