"""The whole state model on every engine: what a user relies on, feature by feature.

Each test is a row of the table in docs/warehouses.md, and each engine a column: the table is made of what these
tests found (``--write-features``), and the last test compares the two. Sources are tables that are replaced whole,
since an engine may have neither UPDATE nor DELETE.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlglot import exp

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    DeliveryIncomplete,
    GuardTripped,
    LedgerConflict,
    SchemaChanged,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.sql.statements import table
from airflow_kinesis_audience.core.state import commits
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, TableStarted
from airflow_kinesis_audience.history import create_delivered_view, find_user, read_members, why
from tests.contract.features import OUTCOMES, cells_of, read_cells, write_cells
from tests.engines import ENGINES, Place
from tests.warehouses import (
    LET_ALL_THROUGH,
    QUICK,
    DiesAt,
    Fate,
    Killed,
    Stream,
    day,
    fresh_schema,
    members_of,
    read_changes,
    read_timeline,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.ledger import Ledger

TYPES = {
    "audience": "TEXT",
    "title": "TEXT",
    "uid": "TEXT",
    "email": "TEXT",
    "city": "TEXT",
    "visits": "BIGINT",
    "spend": "DECIMAL(20, 4)",
    "score": "DOUBLE",
    "active": "BOOLEAN",
    "born": "DATE",
    "seen": "TIMESTAMPTZ",
}
PROPERTIES = ("active", "born", "city", "score", "seen", "spend", "visits")
VALUES: dict[str, Any] = {
    "city": 'Zürich, O\'Hare \\ "7" 😀',
    "visits": 2**53 + 1,
    "spend": Decimal("1234567890123456.7800"),
    "score": 0.1,
    "active": False,
    "born": date(1969, 7, 20),
    "seen": datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC),
}
Member = tuple[str, str]


@dataclass
class Crowd:
    """A source table that is written anew for each run, the sync over it, and a stream that is told.

    :param types: of its columns, as DuckDB calls them; ``expressions`` has columns that a plain value cannot make,
        and ``defined`` how the table's definition has those of a type that no expression has.
    """

    place: Place
    many: bool = False
    types: Mapping[str, str] = field(default_factory=lambda: dict(TYPES))
    properties: tuple[str, ...] = ("city",)
    rules: Mapping[str, IdentityRule] = field(default_factory=dict)
    guards: Guards = LET_ALL_THROUGH
    upkeep: Retention = field(default_factory=Retention)
    expressions: Mapping[str, str] = field(default_factory=dict)
    defined: Mapping[str, str] = field(default_factory=dict)
    schema: str = field(default_factory=fresh_schema)
    stream: Stream = field(default_factory=Stream)
    sync_id: str = "dag.diff"
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"crowd_{self.schema}"
        self.ledger = self.place.open_ledger(self.schema, self.sync_id)

    @property
    def table(self) -> exp.Table:
        return exp.table_(self.name, quoted=True)

    def write(self, *rows: Mapping[str, Any]) -> None:
        """Write the source table: what a row does not name is NULL."""
        warehouse = self.place.source
        name = self.table.sql(dialect=warehouse.dialect.name, identify=True)
        warehouse.drop_table(name)
        selects = [self._row(row) for row in rows] or [self._row({})]
        query = " UNION ALL ".join(selects)
        if not rows:
            query = f"SELECT * FROM ({query}) AS none WHERE 1 = 0"
        defined = [
            f"{exp.to_identifier(n, quoted=True).sql(dialect=warehouse.dialect.name)} {self.place.only_defined[t]}"
            for n, t in self.types.items()
            if t in self.place.only_defined
        ]
        if self.defined:
            # Of a query's ENUM, MariaDB would make a column that it takes for one of no length.
            texts = {n: self.place.type_of(t).sql(dialect=warehouse.dialect.name) for n, t in self.types.items()}
            columns = (f"{n} {definition}" for n, definition in {**texts, **self.defined}.items())
            warehouse.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
            warehouse.execute(f"INSERT INTO {name} {query}")
        elif defined:
            warehouse.execute(f"CREATE TABLE {name} ({', '.join(defined)}) AS {query}")
        else:
            warehouse.write_table(name, query)

    def _row(self, row: Mapping[str, Any]) -> str:
        dialect = self.place.source.dialect
        columns = [
            exp.cast(literal(row.get(n), dialect), self.place.type_of(t)).as_(n).sql(dialect=dialect.name)
            for n, t in self.types.items()
        ]
        columns += [f"{row.get(n) or sql} AS {n}" for n, sql in self.expressions.items()]
        return f"SELECT {', '.join(columns)}"

    def source(self, **changed: Any) -> Source:
        name = self.table.sql(dialect=self.place.source.dialect.name, identify=True)
        one = {"audience_id": "vips", "audience_name": "VIPs"}
        by_column = {"audience_id_column": "audience", "audience_name_column": "title"}
        given = {
            "query": f"SELECT * FROM {name}",
            "user_id": "uid",
            "identities": {"email": "Email"},
            "properties": {c: c for c in self.properties},
            "identity_rules": self.rules,
            **(by_column if self.many else one),
        }
        return Source(**{**given, **changed})

    def run(self, number: int, ledger: Ledger | None = None, **how: Any) -> dict[str, Any]:
        source = how.pop("source", None) or self.source()
        author = how.pop("author", None)
        sync = Sync(ledger or self.ledger, source, guards=self.guards, retention=self.upkeep, author=author)
        return sync.run(day(number), **how)

    def outbox(self, **changed: Any) -> Outbox:
        return Outbox(self.ledger, small_delivery(**changed), self.stream.put, policy=QUICK)

    def drain(self, number: int, **changed: Any) -> Any:
        outbox = self.outbox(**changed)
        outbox.drain(day(number))
        return outbox.report

    def changes(self, number: int) -> dict[Member, tuple[str, dict[str, Any], dict[str, Any]]]:
        """Read a change set: audience and user to action, new values and old ones."""
        found = {}
        for part in read_changes(self.ledger, day(number)):
            for row, key in enumerate(zip(part.audience_id, part.user_id, strict=True)):
                new = {n: c[row] for n, c in {**part.new_identities, **part.new_properties}.items()}
                old = {n: c[row] for n, c in {**part.old_identities, **part.old_properties}.items()}
                found[key] = (part.action[row], new, old)
        return found

    def members(self, number: int) -> set[Member]:
        return {(m.audience_id, m.user_id) for m in read_members(self.ledger, day(number))}

    def tables(self) -> int:
        """Count the tables that still count."""
        timeline = read_timeline(self.ledger)
        return sum(not e.dropped for e in timeline.change_sets) + len({b.table for b in timeline.bases})


def literal(value: Any, dialect: Dialect) -> exp.Expr:
    if value is None:
        return exp.null()
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    if isinstance(value, datetime):
        told = value if dialect.types.instant_offsets else value.astimezone(UTC).replace(tzinfo=None)
        return exp.Literal.string(told.isoformat(sep=" "))
    if isinstance(value, int):
        return exp.Literal.number(str(value))
    return exp.Literal.string(str(value))


def user(name: str, audience: str = "vips", **values: Any) -> dict[str, Any]:
    return {"uid": name, "audience": audience, "title": audience.upper(), **values}


FEATURES: dict[str, str] = {}
"""Test to what the documentation calls it, in the order of its table."""


def feature(title: str) -> Callable[[Any], Any]:
    def mark(test: Any) -> Any:
        FEATURES[test.__name__] = title
        return test

    return mark


@pytest.fixture(params=list(ENGINES))
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    with ENGINES[request.param].open_place(request, tmp_path) as place:
        yield place


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["place"])


@pytest.fixture
def three_rows_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 3)


@feature("who entered, exited or changed, with old and new values")
def test_what_differs_is_found(place):
    crowd = Crowd(place)
    crowd.write(user("stays", city="Bern"), user("moves", city="Bern"), user("leaves", email="l@example.com"))
    assert [crowd.run(0)[n] for n in ("entered", "exited", "updated", "members")] == [3, 0, 0, 3]
    crowd.write(user("stays", city="Bern"), user("moves", city="Rome"), user("new", email="n@example.com"))
    assert [crowd.run(1)[n] for n in ("entered", "exited", "updated", "members")] == [1, 1, 1, 3]
    nothing = {"Email": None, "city": None}
    assert crowd.changes(1) == {
        ("vips", "moves"): ("updated", {**nothing, "city": "Rome"}, {**nothing, "city": "Bern"}),
        ("vips", "leaves"): ("exited", nothing, {**nothing, "Email": "l@example.com"}),
        ("vips", "new"): ("entered", {**nothing, "Email": "n@example.com"}, nothing),
    }
    assert [crowd.run(2)[n] for n in ("entered", "exited", "updated")] == [0, 0, 0]


@feature("many audiences in one statement")
def test_many_audiences_are_kept_apart(place):
    crowd = Crowd(place, many=True)
    crowd.write(user("u", "a"), user("v", "a"), user("u", "b"))
    assert crowd.run(0)["audiences"] == {
        "a": {"entered": 2, "exited": 0, "updated": 0, "members": 2},
        "b": {"entered": 1, "exited": 0, "updated": 0, "members": 1},
    }
    crowd.write(user("u", "a"), user("u", "b"), user("w", "b"), user("u", "c", title="Cs"))
    crowd.run(1)
    assert {key: action for key, (action, *_) in crowd.changes(1).items()} == {
        ("a", "v"): "exited",
        ("b", "w"): "entered",
        ("c", "u"): "entered",
    }
    assert read_changes(crowd.ledger, day(1))[0].audience_names["c"] == "Cs"
    assert crowd.members(0) == {("a", "u"), ("a", "v"), ("b", "u")}
    assert crowd.members(1) == {("a", "u"), ("b", "u"), ("b", "w"), ("c", "u")}


@feature("values without loss: large integers, decimals, instants, NULL, any text")
def test_values_come_out_as_they_are(place):
    crowd = Crowd(place, properties=PROPERTIES)
    crowd.write(user("full", **VALUES), user("empty", city=""), user("null"))
    crowd.run(0)
    other = {
        "city": 'zürich, o\'hare \\ "7" 😀',
        "visits": -(2**63) + 1,
        "spend": Decimal("-0.0001"),
        "score": -1e300,
        "active": True,
        "born": date(2000, 2, 29),
        "seen": datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
    }
    crowd.write(user("full", **other), user("empty"), user("null", city=""))
    crowd.run(1)
    found = crowd.changes(1)
    action, new, old = found["vips", "full"]
    assert all(isinstance(values["spend"], str) for values in (new, old))
    assert (action, {**new, "spend": Decimal(new["spend"])}) == ("updated", {"Email": None, **other})
    assert {**old, "spend": Decimal(old["spend"])} == {"Email": None, **VALUES}, "zeros at its end do not count"
    assert (found["vips", "empty"][1]["city"], found["vips", "empty"][2]["city"]) == (None, "")
    assert (found["vips", "null"][1]["city"], found["vips", "null"][2]["city"]) == ("", None)
    crowd.write(user("full", **other), user("empty"), user("null", city=""))
    assert crowd.run(2)["updated"] == 0


@feature("users distinguished byte by byte, whatever the collation")
def test_users_are_told_apart_by_their_bytes(place):
    names = ["bob", "Bob", "böb", "bob ", " bob", "bo\tb", "o'b\\", "日本", "😀", "1", "01"]
    crowd = Crowd(place)
    crowd.write(*(user(name, city="x") for name in names))
    assert crowd.run(0)["members"] == len(names)
    crowd.write(*(user(name, city="X" if name == "bob" else "x") for name in names if name != "bob "))
    crowd.run(1)
    assert {key[1]: action for key, (action, *_) in crowd.changes(1).items()} == {
        "bob": "updated",
        "bob ": "exited",
    }
    assert {u for _, u in crowd.members(1)} == {*names} - {"bob "}
    [changes] = read_changes(crowd.ledger, day(1))
    digests = [hashlib.md5(name.encode()).hexdigest()[:3] for name in changes.user_id]  # noqa: S324
    assert list(changes.bucket) == digests, "a user's partition is the same on every engine"


@feature("guards: an empty source, a mass exit, and rows without a user or with a repeated one send nothing")
def test_guards_stop_what_is_not_to_be_believed(place):
    crowd = Crowd(place, guards=Guards())
    people = [user(f"u{n}", city="x") for n in range(120)]
    crowd.write(*people)
    crowd.run(0)
    for rows, said in (
        ([], "the source has no row"),
        (people[:50], "70 of 120 members would exit, 58%"),
        ([*people, user("")], "1 of 121 rows have no user id"),
        ([*people, user("u7", city="y")], "1 of 121 rows repeat a user id"),
    ):
        crowd.write(*rows)
        with pytest.raises(GuardTripped, match=said):
            crowd.run(1)
    crowd.write(*people[:50])
    assert crowd.run(1, permission=Permission(everything=True))["exited"] == 70
    crowd.guards = replace(LET_ALL_THROUGH, on_invalid_rows="drop")
    crowd.write(*people[:50], user("u7", city="y"), {"city": "nobody"})
    summary = crowd.run(2)
    assert (summary["dropped_rows"], summary["exited"], summary["entered"]) == (2, 0, 0)
    crowd.write(*people[:49], {"city": "nobody"}, {"city": "x"})
    with pytest.raises(GuardTripped, match="no user id, and could belong to 1 of 50 members"):
        crowd.run(3)
    wrong = Crowd(place, guards=crowd.guards, many=True, rules={"email": IdentityRule(hashed="sha256")})
    digest = "ab" * 32
    wrong.write(*(user(name, email=digest) for name in "abcd"))
    wrong.run(0)
    wrong.write(user("a", email="x"), user("b", email="x"), user("b"), user("c", email="x"), user("e", email="x"))
    counts = [wrong.run(1)[n] for n in ("entered", "exited", "updated", "members", "dropped_rows")]
    assert counts == [0, 1, 1, 3, 4], "who is in a row with a wrong identity is there"
    assert {u: action for (_, u), (action, *_) in wrong.changes(1).items()} == {"d": "exited", "b": "updated"}
    wrong.write(*(user(name, email=digest) for name in "ac"))
    assert [wrong.run(2)[n] for n in ("entered", "exited", "updated", "members")] == [0, 1, 0, 2]
    removed = Crowd(place, guards=Guards(max_exits=1))
    by_email = {"message_format": "mparticle_audience", "options": {"forward_customer_ids": False}}
    removed.write(*(user(name, email=f"{name}@x") for name in "abc"))
    removed.run(0)
    removed.drain(0, **by_email)
    removed.write(*(user(name) for name in "abc"))
    removed.run(1)
    for _ in range(2):
        with pytest.raises(
            GuardTripped, match=r"3 of 3 members would exit .* are still in the source, but an update"
        ):
            removed.drain(1, **by_email)
    assert len(removed.stream.messages) == 3
    held = Crowd(place, guards=Guards())
    held.write(*people)
    held.run(0)
    held.write(*people[:10])
    stopped = held.run(1, hold=True)
    approve(held.ledger, day(1), stopped["held_table"])
    assert len(held.members(1)) == 10


@feature("a changed mapping gives updates, never exits and entries")
def test_another_mapping_is_told_as_updates(place):
    crowd = Crowd(place, properties=("city",))
    crowd.write(user("a", city="Bern", visits=7), user("b"))
    crowd.run(0)
    crowd.properties = ("visits",)
    with pytest.raises(SchemaChanged, match="'city' was city"):
        crowd.run(1)
    crowd.guards = replace(LET_ALL_THROUGH, on_schema_change="update")
    assert [crowd.run(1)[n] for n in ("entered", "exited", "updated")] == [0, 0, 1]
    action, new, old = crowd.changes(1)["vips", "a"]
    assert (action, new["visits"], old["visits"], old["city"]) == ("updated", 7, None, "Bern")
    assert crowd.run(2)["updated"] == 0


@feature("state stays small: new bases, and old tables are dropped")
def test_state_is_folded_up_and_dropped(place):
    crowd = Crowd(place, upkeep=Retention(compaction_share=0.3, keep_history=timedelta(days=2)))
    true = {}
    for number in range(6):
        crowd.write(*(user(f"u{n}", city=f"c{number}") for n in range(number, number + 4)))
        crowd.run(number)
        true[number] = {("vips", f"u{n}") for n in range(number, number + 4)}
    timeline = read_timeline(crowd.ledger)
    assert len({b.as_of for b in timeline.bases}) >= 1
    assert any(e.dropped for e in timeline.change_sets), "what is older than the retention is gone"
    assert timeline.orphans == frozenset()
    for number in (4, 5):
        assert crowd.members(number) == true[number]


@feature("two runs at once: one continues, the other retries")
def test_of_two_writers_one_is_refused(place):
    crowd = Crowd(place)
    crowd.write(user("a"))
    crowd.run(0)
    others = [place.open_ledger(crowd.schema, crowd.sync_id) for _ in range(4)]
    last = max(ledger.read().timeline.sequence for ledger in others)
    ready, told = threading.Barrier(len(others)), []

    def append(ledger: Ledger) -> None:
        ready.wait()
        try:
            ledger.append(SYNC_LOG, TableStarted(table=f"t{id(ledger)}"), as_of=day(1))
            told.append("written")
        except (LedgerConflict, WarehouseUnavailable):
            told.append("refused")

    threads = [threading.Thread(target=append, args=(ledger,)) for ledger in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["refused"] * 3 + ["written"]
    assert read_timeline(crowd.ledger).sequence == last + 1


@feature("a killed run: nothing is lost, nothing is left behind")
def test_a_run_may_be_killed_at_any_statement(place, engine, monkeypatch):
    monkeypatch.setattr(commits, "LATEST_END", timedelta(0))
    step = 5 if ENGINES[engine].slow else 1
    crowd = Crowd(place, upkeep=Retention(compaction_share=0.0))
    for number in range(2):
        crowd.write(user("a", city=f"c{number}"), user(f"u{number}"))
        crowd.run(number)
    at, ended = 0, False
    while not ended:
        crowd.write(user("a", city=f"at {at}"), user(f"u{at}"))
        inner = place.open_ledger(crowd.schema, crowd.sync_id)
        killed = DiesAt(inner.warehouse, at, "after")
        try:
            crowd.run(2 + at, place.ledger_on(killed, inner))
            ended = True
        except Killed:
            try:
                crowd.run(2 + at)
            except LedgerConflict:  # it has written down what the killed one was about to
                crowd.run(2 + at)
        timeline = read_timeline(crowd.ledger)
        assert crowd.members(2 + at) == {("vips", "a"), ("vips", f"u{at}")}
        assert timeline.orphans <= {timeline.writer}
        at += step
    assert at > 5


@feature("delivery in slices, resumed where it stopped, with the same ids")
def test_a_delivery_goes_on_where_it_stopped(place, three_rows_a_slice):
    crowd = Crowd(place, many=True)
    crowd.write(*(user(f"u{n}", "ab"[n % 2], city="Bern") for n in range(16)))
    told = {"options": {"max_users": 2, "user_properties": True}}
    crowd.run(0)
    crowd.drain(0, **told)
    crowd.write(*(user(f"u{n}", "ab"[n % 2], city="Rome") for n in range(4, 20)))
    crowd.run(1)
    begun = len(crowd.stream.puts)
    crowd.stream.script = lambda n, batch: [Fate.TAKEN if n < begun + 3 else Fate.REJECTED] * len(batch)
    with pytest.raises(DeliveryIncomplete):
        crowd.drain(1, **told)
    crowd.stream.script = None
    crowd.drain(1, **told)
    assert members_of(crowd.stream.consume()) == {
        a: {f"u{n}" for n in range(4, 20) if "ab"[n % 2] == a} for a in "ab"
    }
    ids = [json.loads(m)["message_id"] for m in crowd.stream.messages]
    assert len(ids) == len(set(ids)), "nothing that was acknowledged went out twice"


@feature("a resync, and the deletion of an audience")
def test_all_is_told_again_and_the_end(place, three_rows_a_slice):
    crowd = Crowd(place, many=True)
    crowd.write(*(user(f"u{n}", "a") for n in range(7)), user("x", "b"))
    crowd.run(0)
    crowd.drain(0)
    crowd.write(*(user(f"u{n}", "a") for n in range(2, 9)))
    crowd.run(1)
    crowd.drain(1)
    told = crowd.stream
    crowd.stream = Stream()
    again = Outbox(crowd.ledger, small_delivery(resync="first"), crowd.stream.put, policy=QUICK)
    resync(again, small_delivery())
    now = {"a": {f"u{n}" for n in range(2, 9)}}
    assert members_of(crowd.stream.consume()) == members_of(told.consume()) == now
    assert {r.audience_id: (r.members, r.exits, r.complete) for r in crowd.stream.consume().resyncs()} == {
        "a": (7, 2, True),
        "b": (0, 1, True),
    }
    close(crowd.ledger, day(2), exits=True)
    announce_deletion(crowd.outbox())
    assert members_of(crowd.stream.consume()) == {}


@feature("looking back: who was a member, what was published of one user")
def test_one_user_is_found_again(place):
    crowd = Crowd(place)
    crowd.write(user("u"), user("v"))
    crowd.run(0)
    crowd.drain(0)
    crowd.write(user("v"))
    crowd.run(1)
    crowd.drain(1)
    found = find_user(crowd.ledger, "u")
    assert found.memberships == []
    [gone] = [h for h in found.changes if h.action == "exited"]
    ids = [json.loads(m)["message_id"] for m in crowd.stream.messages if b'"in_cohort":false' in m]
    assert [t.message_id for t in gone.deliveries] == ids
    assert crowd.members(0) == {("vips", "u"), ("vips", "v")}


def test_what_was_published_is_there_as_a_view(place):
    crowd = Crowd(place, many=True, properties=("city",))
    crowd.write(user("u", "a", city="Bern"), user("v", "a"))
    crowd.run(0)
    crowd.drain(0, options={"max_users": 2, "user_properties": True})
    crowd.write(user("u", "a", city="Rome"))
    crowd.run(1)
    crowd.drain(1, options={"max_users": 2, "user_properties": True})
    if place.source is not place.warehouse:
        with pytest.raises(ValueError, match="there is no view"):
            create_delivered_view(crowd.ledger)
        return
    name = create_delivered_view(crowd.ledger)
    view = table(crowd.ledger.schema, name).sql(dialect=place.warehouse.dialect.name, identify=True)
    rows = place.warehouse.read_rows(f"SELECT * FROM {view}")
    at = [instant_text(day(n)) for n in (0, 1)]
    assert sorted((r[5], r[0], r[1], r[2], r[3] or None, r[9]) for r in rows) == [
        (at[0], "u", "a", "entered", None, 1),
        (at[0], "v", "a", "entered", None, 1),
        (at[1], "u", "a", "updated", "city", 1),
        (at[1], "v", "a", "exited", None, 1),
    ]
    sent = {(s.as_of, s.user_id, s.delivered_at) for u in "uv" for s in why(crowd.ledger, u)}
    assert {(r[5], r[0], r[8]) for r in rows} == sent


@feature("identities normalized and hashed in the warehouse")
def test_identities_are_normalized_and_hashed(place):
    types = {**TYPES, "phone": "TEXT", "digest": "TEXT"}
    rules = {
        "email": IdentityRule(normalize="email", hash="sha256"),
        "phone": IdentityRule(normalize="phone", hash="md5"),
        "digest": IdentityRule(hashed="sha256"),
    }
    labels = {"email": "Email", "phone": "Phone", "digest": "Digest"}
    crowd = Crowd(place, types=types, rules=rules)
    given = hashlib.sha256(b"x").hexdigest()
    crowd.write()
    crowd.run(0, source=crowd.source(identities=labels))
    crowd.write(
        user("a", email=" \t Ann.Müller@Example.COM\u00a0", phone="+47 (22) 12-34.56", digest=given.upper()),
        user("b", email="  "),
    )
    crowd.run(1, source=crowd.source(identities=labels))
    found = {key[1]: new for key, (_, new, _) in crowd.changes(1).items()}
    assert found["a"] == {
        "Email": hashlib.sha256("ann.müller@example.com".encode()).hexdigest(),
        "Phone": hashlib.md5(b"+4722123456").hexdigest(),  # noqa: S324
        "Digest": given,
        "city": None,
    }
    assert found["b"]["Email"] is None
    crowd.guards = Guards(max_exit_ratio=None)
    crowd.write(
        user("a", email=hashlib.sha256(b"y").hexdigest()), user("b", phone="22 12 34 56"), user("c", digest="no")
    )
    with pytest.raises(GuardTripped) as stopped:
        crowd.run(2, source=crowd.source(identities=labels))
    for said in ("are probably hashed already", "international phone numbers", "are not sha256 digests"):
        assert said in str(stopped.value)


@feature("several identities of one type in a column")
def test_a_column_may_hold_several_identities(place, engine):
    listed = ENGINES[engine].lists
    if listed is None:
        pytest.skip(f"{ENGINES[engine].title} has no lists")

    def of(a: str, b: str) -> str:
        return listed.format(a=f"'{a}'", b=f"'{b}'")

    crowd = Crowd(place, expressions={"ids": of("x", "x")}, rules={"ids": IdentityRule(normalize="email")})
    source = crowd.source(identities={"ids": "Email"})
    crowd.write(user("a", ids=of("B@example.com", "a@example.com ")), user("b"))
    crowd.run(0, source=source)
    crowd.write(user("a", ids=of("a@example.com", "b@example.com")), user("b", ids=of("y", " ")))
    crowd.run(1, source=source)
    assert {k[1]: (v[1]["Email"], v[2]["Email"]) for k, v in crowd.changes(1).items()} == {"b": (["y"], ["x"])}


@feature("profiles with all memberships (Adobe)")
def test_profiles_are_gathered(place):
    crowd = Crowd(place, many=True)
    crowd.write(user("u", "a", city="Bern", email="u@example.com"), user("u", "b", city="Bern"), user("v", "a"))
    crowd.run(0)
    how: dict[str, Any] = {"message_format": "adobe_profile", "options": {}}
    crowd.drain(0, **how)
    crowd.write(user("u", "b", city="Bern"), user("v", "a"))
    crowd.run(1)
    before = len(crowd.stream.messages)
    crowd.drain(1, **how)
    assert before == 2
    assert len(crowd.stream.messages) == 3
    told = json.loads(crowd.stream.messages[-1])
    statuses = {
        audience: membership["status"]
        for audiences in told["segmentMembership"].values()
        for audience, membership in audiences.items()
    }
    assert statuses == {"a": "exited", "b": "realized"}


@feature("events of an interval, each forwarded once")
def test_events_are_forwarded_once(place):
    crowd = Crowd(
        place, types={"id": "TEXT", "uid": "TEXT", "email": "TEXT", "came": "TIMESTAMPTZ", "what": "TEXT"}
    )
    crowd.sync_id = "dag.events"
    crowd.ledger = place.open_ledger(crowd.schema, crowd.sync_id)
    rows = [
        {"id": f"e{n}", "uid": f"u{n % 3}", "came": day(0) + timedelta(hours=6 * n), "what": "click"}
        for n in range(12)
    ]
    crowd.write(*rows, rows[0])
    name = crowd.table.sql(dialect=place.source.dialect.name, identify=True)
    source = EventSource(
        query=f"SELECT * FROM {name}",
        event_id="id",
        arrived_at="came",
        user_id="uid",
        identities={"email": "Email"},
        fields={"what": "data.event_name"},
    )
    told: list[str] = []
    for start, end in ((0, 1), (0, 1), (1, 3)):
        delivery = small_delivery(message_format="mparticle_events", options={})
        outbox = Outbox(crowd.ledger, delivery, crowd.stream.put, policy=QUICK)
        forward(outbox, source, day(start), day(end), on_invalid_rows="drop")
    for message in map(json.loads, crowd.stream.messages):
        told += [event["data"]["timestamp_unixtime_ms"] for event in message["events"]]
    assert sorted(map(int, told)) == [int(row["came"].timestamp() * 1000) for row in rows]


@feature("errors that show no value of a row")
def test_errors_show_no_value(place):
    crowd = Crowd(place)
    crowd.write(user("secret-user-4711", city="secret-city-4711"))
    name = crowd.table.sql(dialect=place.source.dialect.name, identify=True)
    column = exp.column("uid", quoted=True)
    broken = exp.cast(column, "DECIMAL(10, 2)").sql(dialect=place.source.dialect.name)
    query = f"SELECT {broken} AS uid, email, city FROM {name}"
    with pytest.raises((AudienceError, ValueError)) as refused:
        crowd.run(0, source=crowd.source(query=query))
    assert "4711" not in str(refused.value)
    assert refused.value.__cause__ is None


@feature("names of any length and any letters")
def test_names_may_be_long_and_odd(place):
    odd = ['Größe "of" `it`; DROP', "a" * 40 + "1", "a" * 40 + "2"]
    if place.source.dialect.name in ("spark", "databricks", "bigquery"):
        odd[0] = "Größe of it"  # Parquet and these engines' tables take no other
    crowd = Crowd(place, types={**TYPES, **dict.fromkeys(odd, "TEXT")}, properties=tuple(odd))
    crowd.sync_id = "dag.with.dots and \"quotes\" and 'more' " + "x" * 100
    crowd.ledger = place.open_ledger(crowd.schema, crowd.sync_id)
    crowd.write(user("a"))
    crowd.run(0)
    for number, name in enumerate(odd, 1):
        crowd.write(user("a", **{name: "new"}))
        crowd.run(number)
        _, new, _ = crowd.changes(number)["vips", "a"]
        assert [n for n, value in new.items() if value == "new"] == [name]


def test_the_documented_table_is_what_was_found(request):
    found = cells_of(request.config.stash[OUTCOMES], FEATURES)
    if request.config.getoption("--write-features", default=False):
        write_cells(found, FEATURES)
    written = read_cells()
    assert {cell: written.get(cell) for cell in found} == found, "run this file with --write-features"
    assert {feature for feature, _ in written} == {*FEATURES.values()}
