"""Whatever an author calls columns, each value goes out under its own label, and a digest where one was promised.

The names are drawn at random from what engines fold, cut, quote or keep for themselves. What is true is worked out
in plain Python from the rows that were written. The state is on the engine itself, and in files over two others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unicodedata import combining, normalize

import pytest
from hypothesis import HealthCheck, assume, example, given, note, reject, settings
from hypothesis import strategies as st
from sqlglot import exp

from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.source import layout as layout_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.state import open_files
from tests.engines import ENGINES, Place
from tests.warehouses import (
    LET_ALL_THROUGH,
    Stream,
    day,
    fresh_schema,
    open_outbox,
    open_postgres,
    read_changes,
    read_timeline,
    small_delivery,
)

SHA256 = IdentityRule(hash="sha256")
OFTEN_WRONG = (
    *(
        "action",
        "user_id",
        "audience_id",
        "position",
        "member_since",
        "fingerprint",
        "bucket",
        "updated",
        "left_at",
    ),
    *("new_x", "x", "old_x", "bad_x", "new_user_id", "element", "elements", "given", "source", "previous", "rank"),
    *(
        "author's query",
        "retired x",
        "SELECT",
        "order",
        "group by",
        "NULL",
        "*",
        "a.b",
        'a"b',
        '"a"',
        "a`b",
        "[a]",
    ),
    *("%s", "%%", "%(x)s", "{x}", "{{ x }}", "{", "?", ":n", "$1", "\\", "'", "--", "/*", ";", "x y", "a.b"),
    *("é", "É", "e\u0301", "ß", "SS", "İ", "\u0131", "\u017f", "K", "k", "\ufeffx", "שלום", "名", "n" * 59),
)
TWINS = st.sampled_from([str.upper, str.lower, str.title, str.swapcase])
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Cn"])


@st.composite
def column_names(draw: st.DrawFn) -> list[str]:
    """Draw names of columns, many of which differ by case alone."""
    plain = st.one_of(st.sampled_from(OFTEN_WRONG), st.text(LETTERS, min_size=1, max_size=10))
    found = draw(st.lists(plain, min_size=2, max_size=5))
    found += [draw(TWINS)(name) for name in found if draw(st.booleans())]
    # PostgreSQL cuts what is longer.
    fitting = dict.fromkeys(name for name in found if 0 < len(name.encode()) <= 60)
    return draw(st.permutations(list(fitting)))


def is_one_to_some_engine(names: Sequence[str]) -> bool:
    """Whether an engine that tells neither cases nor accents apart may hold two names for one."""
    bare = ("".join(c for c in normalize("NFKD", n.casefold()) if not combining(c)).rstrip() for n in names)
    return len(set(bare)) < len(names)


@contextmanager
def files_over(connect: Any, directory: Path) -> Iterator[Place]:
    """Keep the state in files, and read the author's tables from an engine that is not DuckDB."""
    files, opened = open_files(str(directory / "state")), ExitStack()

    def open_ledger(schema: str, sync_id: str) -> Ledger:
        warehouse = opened.enter_context(DuckDbParquetWarehouse(files, opened.enter_context(connect())))
        return Ledger(warehouse, schema, sync_id, FileLedgerTable(files, schema, sync_id))

    with opened:
        source = opened.enter_context(connect())
        yield Place(warehouse=open_ledger("none", "none").warehouse, source=source, open_ledger=open_ledger)


@contextmanager
def open_place(request: pytest.FixtureRequest, engine: str, directory: Path) -> Iterator[Place]:
    if engine == "files over postgres":
        dsn = request.getfixturevalue("postgres_database")
        context = files_over(lambda: open_postgres(dsn), directory)
    elif engine == "files over mysql":
        server, database = (request.getfixturevalue(f"mysql_{n}") for n in ("server", "database"))
        context = files_over(lambda: server.open(database), directory)
    else:
        context = ENGINES[engine].open_place(request, directory)
    with context as place:
        yield place


QUICK_PLACES = ("duckdb", "parquet", "postgres", "mysql", "files over postgres", "files over mysql")
SLOW_PLACES = ("spark", "snowflake", "redshift", "clickhouse")
PLACES = [*QUICK_PLACES, *(pytest.param(p, marks=pytest.mark.slow_engine) for p in SLOW_PLACES)]
TELL_CASES_APART = ("postgres", "files over postgres", "redshift", "clickhouse")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request, request.param, tmp_path) as opened:
        yield opened


on = pytest.mark.parametrize("place", PLACES, indirect=True)
on_all_that_tell_cases_apart = pytest.mark.parametrize(
    "place", [p for p in PLACES if (p if isinstance(p, str) else p.values[0]) in TELL_CASES_APART], indirect=True
)

Row = Mapping[str, str | None]


@dataclass
class Named:
    """A table of texts whose columns are called as an author pleases, and the sync over it.

    :param identities: column to identity type, and ``hashed`` those of them that go out as digests.
    :param properties: column to property name.
    """

    place: Place
    user_id: str = "user_id"
    audience_id: str | None = None
    identities: Mapping[str, str] = field(default_factory=dict)
    hashed: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    schema: str = field(default_factory=fresh_schema)

    def __post_init__(self) -> None:
        self.ledger = self.place.open_ledger(self.schema, "named")
        self.name = f"named_{self.schema}"

    @property
    def columns(self) -> tuple[str, ...]:
        own = (self.user_id, self.audience_id, *self.identities, *self.properties)
        return tuple(dict.fromkeys(c for c in own if c is not None))

    @property
    def table(self) -> str:
        return exp.table_(self.name, quoted=True).sql(dialect=self.place.source.dialect.name, identify=True)

    def write(self, *rows: Row) -> None:
        warehouse = self.place.source
        warehouse.drop_table(self.table)
        warehouse.write_table(self.table, " UNION ALL ".join(self._select(row) for row in rows))

    def _select(self, row: Row) -> str:
        values = {c: exp.null() if (v := row.get(c)) is None else exp.Literal.string(v) for c in self.columns}
        named = [
            exp.alias_(exp.cast(v, "TEXT"), exp.to_identifier(c, quoted=True), quoted=True)
            for c, v in values.items()
        ]
        return exp.select(*named).sql(dialect=self.place.source.dialect.name, identify=True)

    def source(self, **changed: Any) -> Source:
        one = {"audience_id": "vips"} if self.audience_id is None else {"audience_id_column": self.audience_id}
        return Source(
            **{
                "query": f"SELECT * FROM {self.table}",
                "user_id": self.user_id,
                "identities": self.identities,
                "identity_rules": dict.fromkeys(self.hashed, SHA256),
                "properties": self.properties,
                **one,
                **changed,
            }
        )

    def run(self, number: int, **changed: Any) -> dict[str, Any]:
        guards = changed.pop("guards", LET_ALL_THROUGH)
        return Sync(self.ledger, self.source(**changed), guards=guards).run(day(number))

    def member(self, row: Row) -> dict[str, str | None]:
        """Give what is to go out of a row, by label."""
        found = {label: row.get(c) for c, label in {**self.identities, **self.properties}.items()}
        for c in self.hashed:
            label = self.identities[c]
            value = found[label]
            found[label] = None if not value else hashlib.sha256(value.encode()).hexdigest()
        return found

    def found(self, number: int) -> dict[tuple[str, str, str], tuple[dict[str, Any], dict[str, Any]]]:
        """Read a change set: audience, user and action to the old and the new values by label."""
        found = {}
        for changes in read_changes(self.ledger, day(number)):
            new = {**changes.new_identities, **changes.new_properties}
            old = {**changes.old_identities, **changes.old_properties}
            keys = zip(changes.audience_id, changes.user_id, changes.action, strict=True)
            for at, key in enumerate(keys):
                found[key] = ({n: v[at] for n, v in old.items()}, {n: v[at] for n, v in new.items()})
        return found

    def states(self) -> list[str]:
        """List what the state calls the columns of the newest change set."""
        newest = read_timeline(self.ledger).newest
        assert newest is not None
        return [c.state for c in newest.layout.columns]


def twins(place: Place) -> Named:
    return Named(
        place,
        user_id="USER_ID",
        identities={"EMAIL": "Email", "email": "Other", "user_id": "CustomerId"},
        hashed=["EMAIL"],
        properties={"Plan": "bought", "plan": "planned"},
    )


ANNA = {
    "USER_ID": "u1",
    "user_id": "c1",
    "EMAIL": "anna@secret.example",
    "email": "other@x.example",
    "Plan": "gold",
    "plan": "silver",
}


@on_all_that_tell_cases_apart
def test_columns_that_differ_by_case_alone_keep_their_values_apart(place: Place) -> None:
    named = twins(place)
    moved = {**ANNA, "plan": "platinum"}
    named.write(ANNA)
    named.run(0)
    named.write(moved, {**ANNA, "USER_ID": "u2"})
    assert (named.run(1)["updated"], named.run(2)["updated"]) == (1, 0)
    nothing = dict.fromkeys(named.member(ANNA))
    assert named.found(1) == {
        ("vips", "u1", "updated"): (named.member(ANNA), named.member(moved)),
        ("vips", "u2", "entered"): (nothing, named.member(ANNA)),
    }
    named.write({**moved, "EMAIL": "bea@secret.example"})
    plan = make_plan(named.ledger, named.source(), day(3))
    [shown] = [s for s in plan.sample if s.action == "updated"]
    assert {n for n, (old, new) in shown.values.items() if old != new} == {"Email"}


@on_all_that_tell_cases_apart
@pytest.mark.parametrize("message_format", ["mparticle_audience", "adobe_profile"])
@pytest.mark.parametrize("hashed", ["EMAIL", "email"])
def test_a_digest_goes_out_where_one_was_promised_though_a_column_differs_by_case_alone(
    place: Place, message_format: str, hashed: str
) -> None:
    stream = Stream()
    named = replace(twins(place), identities={"EMAIL": "Email", "email": "Other"}, hashed=[hashed])
    delivery = small_delivery(message_format=message_format, options={})
    for number in range(3):
        named.write({**ANNA, "plan": f"{number}"}, {**ANNA, "USER_ID": f"{number}"})
        named.run(number)
        open_outbox(named.ledger, stream, delivery).drain(day(number))
    text, [raw] = b"".join(stream.messages).decode(), {"EMAIL", "email"} - {hashed}
    assert ANNA[hashed] not in text
    assert ANNA[raw] in text
    assert hashlib.sha256(ANNA[hashed].encode()).hexdigest() in text


@on_all_that_tell_cases_apart
def test_a_column_may_be_mapped_in_the_place_of_one_that_differs_by_case_alone(place: Place) -> None:
    named = Named(place, identities={"EMAIL": "Email", "email": "Other"}, hashed=["EMAIL"])
    row = {"user_id": "u1", "EMAIL": "anna@secret.example", "email": "other@x.example"}
    named.write(row)
    named.run(0)
    before = named.member(row)
    swapped = replace(named, identities={"email": "Email", "EMAIL": "Other"}, hashed=["EMAIL"])
    any_mapping = replace(LET_ALL_THROUGH, on_schema_change="update")
    assert swapped.run(1, guards=any_mapping)["updated"] == 1
    [(old, new)] = swapped.found(1).values()
    assert new == swapped.member(row)
    assert old["Email"] in (None, before["Email"])
    assert swapped.run(2)["updated"] == 0
    assert len({name.casefold() for name in swapped.states()}) == len(swapped.states()) == 2


@on_all_that_tell_cases_apart
def test_events_keep_apart_columns_that_differ_by_case_alone(place: Place) -> None:
    named = Named(
        place,
        user_id="uid",
        identities={"EMAIL": "email", "email": "other"},
        hashed=["EMAIL"],
        properties={
            "Data": "data.custom_attributes.one",
            "data": "data.custom_attributes.two",
            "name": "data.event_name",
        },
    )
    named.write(
        {
            "uid": "u1",
            "EMAIL": "anna@secret.example",
            "email": "other@x.example",
            "Data": "one",
            "data": "two",
            "name": "seen",
        }
    )
    as_instant = exp.cast(exp.Literal.string("2026-01-01T12:00:00+00:00"), "TIMESTAMPTZ")
    came = as_instant.sql(dialect=place.source.dialect.name)
    source = EventSource(
        query=f"SELECT t.*, 'e1' AS id, {came} AS came FROM {named.table} AS t",
        event_id="id",
        arrived_at="came",
        user_id="uid",
        identities=named.identities,
        identity_rules={"EMAIL": SHA256},
        fields=named.properties,
    )
    stream = Stream()
    delivery = small_delivery(message_format="mparticle_events", options={})
    forward(open_outbox(place.open_ledger(named.schema, "events"), stream, delivery), source, day(0), day(1))
    [message] = stream.messages
    said = json.loads(message)
    assert b"secret" not in message
    [event] = said["events"]
    assert event["data"]["custom_attributes"] == {"one": "one", "two": "two"}
    identities = {i["identity_type"]: i["identity"] for i in said["user_identities"]}
    digest = hashlib.sha256(b"anna@secret.example").hexdigest()
    assert (identities["email"], identities["other"]) == (digest, "other@x.example")


def of_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the state's columns as version 0.1 did: after the source's."""
    made = layout_module.layout_of

    def layout_of(source: Source, types: Mapping[str, str], *more: Any, **how: Any) -> Any:
        found = made(source, types, *more, **how)
        return replace(found, columns=tuple(replace(c, state=c.source) for c in found.columns))

    monkeypatch.setattr("airflow_kinesis_audience.core.changes.baseline.layout_of", layout_of)


@on
def test_a_state_whose_columns_are_called_as_the_sources_goes_on_as_it_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Named(place, identities={"email": "Email"}, hashed=["email"], properties={"my plan": "plan"})
    rows = [{"user_id": f"u{n}", "email": f"{n}@x.example", "my plan": "gold"} for n in range(3)]
    with monkeypatch.context() as before:
        of_0_1(before)
        named.write(*rows)
        named.run(0)
    assert named.states() == ["email", "my plan"]
    named.write(*rows[1:], {**rows[0], "my plan": "silver"})
    assert named.run(1)["updated"] == 1
    assert named.states() == ["email", "my plan"]
    assert len(read_timeline(named.ledger).bases) == 1, "nothing is written anew"
    more = replace(named, properties={"my plan": "plan", "MORE": "more"})
    more.write(*rows[1:], {**rows[0], "my plan": "silver", "MORE": "more"})
    assert more.run(2, guards=replace(LET_ALL_THROUGH, on_schema_change="update"))["updated"] == 1
    assert [("email" in s, "MORE" in s) for s in more.states()] == [(True, False), (False, False), (False, False)]


@on_all_that_tell_cases_apart
def test_a_state_that_kept_twins_under_the_sources_names_goes_on_under_names_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = twins(place)
    with monkeypatch.context() as before:
        of_0_1(before)
        named.write(ANNA)
        named.run(0)
    # What was wrong there, if the engine took one for the other, is an update now, and right.
    named.run(1)
    named.write({**ANNA, "plan": "platinum"})
    assert named.run(2)["updated"] == 1
    [(old, new)] = named.found(2).values()
    assert (old, new) == (named.member(ANNA), named.member({**ANNA, "plan": "platinum"}))
    assert not {*named.states()} & {*named.columns}


MARK = "\ufeff"


@on
@pytest.mark.parametrize("first", ["audience_id", MARK + "audience_id"])
def test_a_byte_order_mark_is_part_of_a_value_and_of_a_name_wherever_it_stands(place: Place, first: str) -> None:
    named = Named(place, audience_id=first, properties={"city": MARK + "city"})
    rows = [
        {first: f"{mark}a", "user_id": f"{sign}u{n}", "city": f"{sign}Bonn"}
        for n, (mark, sign) in enumerate([(MARK, ""), (MARK, MARK), ("", MARK), (MARK, "")])
    ]
    named.write(*rows)
    named.run(0)
    named.write(*[{**row, "city": "Cork"} for row in rows[::-1]])
    assert named.run(1)["updated"] == 4
    due = {(str(row[first]), str(row["user_id"]), "updated"): row["city"] for row in rows}
    assert {key: old[MARK + "city"] for key, (old, _) in named.found(1).items()} == due


FEW = settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
VALUES = st.sampled_from([None, "Bonn", "bonn", "x@y.example", "it's", 'say "7"', "%s {x} \\", "\ufeff", " "])


@st.composite
def changing_tables(draw: st.DrawFn) -> tuple[list[str], int, list[list[Row]]]:
    """Draw columns, how many of them are identities, and what a table holds as of three days."""
    names = draw(column_names())
    row = st.fixed_dictionaries(dict.fromkeys(names, VALUES))
    days = draw(st.lists(st.lists(row, min_size=1, max_size=4), min_size=3, max_size=3))
    for rows in days:
        for number, one in enumerate(rows):
            one[names[0]] = f"u{number}"
    return names, draw(st.integers(0, len(names) - 1)), days


@pytest.mark.slow
@on
@FEW
@given(drawn=changing_tables(), swapped=st.booleans())
@example(
    drawn=(["author's query", "a", "A"], 1, [[{"author's query": "u", "a": "1", "A": v}] for v in "123"]),
    swapped=True,
)
def test_each_value_goes_out_under_its_own_label_whatever_columns_are_called(
    place: Place, drawn: tuple[list[str], int, list[list[Row]]], swapped: bool
) -> None:
    (user_id, *others), identities, days = drawn
    assume(others)
    # Where a mapping may name a column in any letters, one that is not there is the other.
    assume(not (place.source.dialect.folds_column_case and is_one_to_some_engine(drawn[0])))
    # MariaDB leaves out the spaces before a name that a query gives.
    assume(not (place.source.dialect.name == "mysql" and any(n.startswith(" ") for n in drawn[0])))
    note(f"columns: {drawn[0]!r}")
    mapped = [f"type {n}" for n in range(identities)], others[identities:]
    named = Named(
        place,
        user_id=user_id,
        identities=dict(zip(others[:identities], mapped[0], strict=True)),
        hashed=others[: identities // 2],
        properties=dict(zip(others[identities:], mapped[1], strict=True)),
    )
    later = named
    if swapped:
        later = replace(named, properties=dict(zip(others[identities:], mapped[1][::-1], strict=True)))
    any_mapping = replace(LET_ALL_THROUGH, on_schema_change="update")
    sent: dict[str, dict[str, str | None]] = {}
    for number, (rows, sync) in enumerate(zip(days, (named, named, later), strict=True)):
        try:
            named.write(*rows)
        except (AudienceError, UnicodeError):
            reject()  # no author has a table like that on this engine
        twins = number == 0 and is_one_to_some_engine(sync.columns)
        try:
            Sync(named.ledger, sync.source(), guards=any_mapping).run(day(number))
        except (ValueError, WarehouseRefused):
            if twins:
                return  # the engine takes them for one
            raise
        due = {str(row[user_id]): sync.member(row) for row in rows}
        if number:
            check(named.found(number), sent, due, exact=sync is named)
        sent = due


def check(
    found: Mapping[tuple[str, str, str], tuple[dict[str, Any], dict[str, Any]]],
    sent: Mapping[str, Mapping[str, str | None]],
    due: Mapping[str, Mapping[str, str | None]],
    *,
    exact: bool,
) -> None:
    """Compare a change set with what two days differ in.

    :param exact: the mapping is the same on both days, so that old values are of the same columns.
    """
    changed = {u for u in {*sent, *due} if sent.get(u) != due.get(u)}
    by_user = {user: (action, old, new) for (_, user, action), (old, new) in found.items()}
    assert {*by_user} == changed if exact else {*by_user} >= changed
    for user, (action, old, new) in by_user.items():
        expected = "entered" if user not in sent else "updated" if user in due else "exited"
        nothing = dict.fromkeys(new)
        assert (action, new) == (expected, due.get(user, nothing))
        assert not exact or old == sent.get(user, nothing)
