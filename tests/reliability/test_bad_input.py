"""Whatever stands in a source, a name or an argument: it arrives exactly, or it is refused and nothing is sent.

A table beside the source shows that no text is ever taken for SQL. Both engines are asked; what a name or a value
is made of is drawn at random from what has broken programs before. The reading of the stream is strict JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import AudienceError, MessageTooLarge
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.records import Limits
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.formats import load_renderer
from tests.warehouses import (
    LET_ALL_THROUGH,
    QUICK,
    Stream,
    day,
    fresh_schema,
    insert_rows,
    members_of,
    read_timeline,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

INJECTIONS = (
    "'; DROP TABLE decoy; --",
    '"; DROP TABLE decoy; --',
    "x') ; DELETE FROM decoy; SELECT ('",
    "'' OR 1=1 --",
    "\\'; DROP TABLE decoy; --",
    "$$; DROP TABLE decoy; $$",
    "author's query",
    '"author\'s query"',
    "{table}",
    "{{ 7 * 7 }}",
    "%s %(x)s %",
    "? $1 :name @name",
    "/* ",
    "-- ",
    "a.b",
    'a"b',
    "`a`",
    "[a]",
)
UNICODE = (
    "‮right to left‬",
    "שלום",
    "\U0001d4b3😀",
    "e\u0301",
    "\u00e9",
    "ﬁ",
    "İ",
    "\u200b",
    " ",
    "\t\n\r",
    "\x01\x7f",
    "\ufeff",
)
NASTY = st.one_of(
    st.sampled_from((*INJECTIONS, *UNICODE)),
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
)
WITH_NUL_AND_SURROGATES = st.one_of(NASTY, st.sampled_from(("a\0b", "\0", "\ud800", "a\udfffb")))
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "amplitude_cohort": {"user_properties": True},
    "mparticle_audience": {"message_ids": True},
    "mparticle_events": {},
    "adobe_profile": {"message_ids": True},
}
FEW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@dataclass
class Case:
    """A source of a few members, and whatever its author called things."""

    warehouse: SqlWarehouse
    users: Sequence[str] = ("u1", "u2")
    audience_id: str = "vips"
    audience_name: str = "VIPs"
    user_column: str = "uid"
    columns: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    schema: str = field(default_factory=fresh_schema)
    sync_id: str = "dag.diff"
    message_format: str = "amplitude_cohort"
    stream: Stream = field(default_factory=Stream)

    def fill(self) -> None:
        names = [self.user_column, *self.columns]
        quoted = ", ".join(_quoted(name) + " TEXT" for name in names)
        self.warehouse.execute("DROP TABLE IF EXISTS source_of_all")
        self.warehouse.execute(f"CREATE TABLE source_of_all ({quoted})")
        rows = [(user, *(values[n] for values in self.columns.values())) for n, user in enumerate(self.users)]
        insert_rows(self.warehouse, "source_of_all", rows)

    def run(self) -> None:
        source = Source(
            query="SELECT * FROM source_of_all",
            user_id=self.user_column,
            identities={},
            properties={name: name for name in self.columns},
            audience_id=self.audience_id,
            audience_name=self.audience_name,
        )
        ledger = Ledger(self.warehouse, self.schema, self.sync_id)
        Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(0))
        options = OPTIONS[self.message_format]
        delivery = small_delivery(
            message_format=self.message_format,
            options=options,
            renderer=load_renderer(self.message_format, options),
            limits=Limits(records_per_request=500, record_bytes=1_000_000, request_bytes=5_000_000),
        )
        Outbox(ledger, delivery, self.stream.put, policy=QUICK).drain(day(0))

    def clear(self) -> None:
        self.warehouse.execute(f"DROP SCHEMA IF EXISTS {_quoted(self.schema)} CASCADE")

    def told(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Read, strictly, who is told to be where with which properties."""
        consumer = AudienceConsumer()
        for message in self.stream.messages:
            consumer.apply(json.loads(message, parse_constant=_no_constant))
        return {(a, u): consumer.properties(a, u) for a, users in members_of(consumer).items() for u in users}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@contextmanager
def decoy(warehouse: SqlWarehouse) -> Iterator[None]:
    """Stand beside, and be there still in the end."""
    warehouse.execute("CREATE TABLE IF NOT EXISTS decoy (n BIGINT)")
    warehouse.execute("DELETE FROM decoy")
    warehouse.execute("INSERT INTO decoy VALUES (7)")
    yield
    assert warehouse.read_rows("SELECT n FROM decoy") == [(7,)], "a text was taken for SQL"


def exact_or_refused(case: Case) -> bool:
    """Run; tells whether it was refused, and makes sure that it was either that or exact."""
    with decoy(case.warehouse):
        case.fill()
        try:
            case.run()
        except (AudienceError, ValueError) as error:
            refusal: Exception | None = error
        else:
            refusal = None
        finally:
            case.clear()
    if refusal is not None:
        assert case.stream.puts == [], "something was sent before the refusal"
        assert not isinstance(refusal, UnicodeError), "a refusal is a sentence of ours"
        assert len(str(refusal)) > 30
        return True
    due = {
        (case.audience_id, user): {name: values[n] for name, values in case.columns.items()}
        for n, user in enumerate(case.users)
    }
    assert case.told() == due
    return False


@pytest.mark.slow
@settings(max_examples=25, **FEW)
@given(users=st.lists(NASTY, min_size=1, max_size=4, unique=True), values=st.lists(NASTY, min_size=4, max_size=4))
def test_user_ids_and_values_arrive_exactly_on_duckdb(
    duckdb_in_memory: SqlWarehouse, users: list[str], values: list[str]
) -> None:
    columns = {"city": values[: len(users)]}
    # Blank ids are nobody's; all others are somebody's.
    refused = exact_or_refused(Case(duckdb_in_memory, users=users, columns=columns))
    assert not refused or any(not user.strip() for user in users)


@pytest.mark.slow
@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
@settings(max_examples=15, **FEW)
@given(users=st.lists(NASTY, min_size=1, max_size=4, unique=True), values=st.lists(NASTY, min_size=4, max_size=4))
def test_user_ids_and_values_arrive_exactly_on_postgresql(
    warehouse: SqlWarehouse, users: list[str], values: list[str]
) -> None:
    refused = exact_or_refused(Case(warehouse, users=users, columns={"city": values[: len(users)]}))
    assert not refused or any(not user.strip() for user in users)


@pytest.mark.slow
@settings(max_examples=25, **FEW)
@given(audience=WITH_NUL_AND_SURROGATES, name=WITH_NUL_AND_SURROGATES, sync_id=WITH_NUL_AND_SURROGATES)
@example(audience="'; DROP TABLE decoy; --", name='"; DROP TABLE decoy; --', sync_id="'); DROP TABLE decoy; --")
def test_ids_and_names_of_audiences_and_syncs_are_exact_or_refused_on_duckdb(
    duckdb_in_memory: SqlWarehouse, audience: str, name: str, sync_id: str
) -> None:
    exact_or_refused(Case(duckdb_in_memory, audience_id=audience, audience_name=name, sync_id=sync_id))


@pytest.mark.slow
@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
@settings(max_examples=15, **FEW)
@given(audience=WITH_NUL_AND_SURROGATES, name=WITH_NUL_AND_SURROGATES, sync_id=WITH_NUL_AND_SURROGATES)
@example(audience="'; DROP TABLE decoy; --", name='"; DROP TABLE decoy; --', sync_id="'); DROP TABLE decoy; --")
@example(audience="a\0b", name="b", sync_id="c")
@example(audience="a", name="\ud800", sync_id="c")
def test_ids_and_names_of_audiences_and_syncs_are_exact_or_refused_on_postgresql(
    warehouse: SqlWarehouse, audience: str, name: str, sync_id: str
) -> None:
    exact_or_refused(Case(warehouse, audience_id=audience, audience_name=name, sync_id=sync_id))


@pytest.mark.slow
@settings(max_examples=25, **FEW)
@given(names=st.lists(NASTY, min_size=2, max_size=4, unique_by=str.lower), schema=NASTY)
@example(names=['a"; DROP TABLE decoy; --', "b'; DROP TABLE decoy; --"], schema='s"; DROP TABLE decoy; --')
@example(names=["author's query", "user_id"], schema="state")
@example(names=["position", "new_position", "action", "source"], schema="main")
def test_names_of_columns_and_schemas_are_names_and_nothing_else_on_duckdb(
    duckdb_in_memory: SqlWarehouse, names: list[str], schema: str
) -> None:
    columns = {name: ["x", None] for name in names[1:]}
    own = f"{schema} {fresh_schema()}"
    exact_or_refused(Case(duckdb_in_memory, user_column=names[0], columns=columns, schema=own))


@pytest.mark.slow
@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
@settings(max_examples=15, **FEW)
@given(names=st.lists(NASTY, min_size=2, max_size=4, unique_by=str.lower), schema=NASTY)
@example(names=['a"; DROP TABLE decoy; --', "b'; DROP TABLE decoy; --"], schema='s"; DROP TABLE decoy; --')
@example(names=["é" * 40, "é" * 40 + "x", "%s"], schema="state")
def test_names_of_columns_and_schemas_are_names_and_nothing_else_on_postgresql(
    warehouse: SqlWarehouse, names: list[str], schema: str
) -> None:
    columns = {name: ["x", None] for name in names[1:]}
    own = f"{schema} {fresh_schema()}"
    if len({name.encode()[:63] for name in names}) < len(names):
        return  # the server itself takes two such names for one
    exact_or_refused(Case(warehouse, user_column=names[0], columns=columns, schema=own))


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("message_format", ["mparticle_audience", "mparticle_events", "adobe_profile"])
def test_no_format_takes_a_text_for_anything_else(
    duckdb_in_memory: SqlWarehouse, text: str, message_format: str
) -> None:
    case = Case(
        duckdb_in_memory, users=[text], audience_id=text, audience_name=text, message_format=message_format
    )
    with decoy(case.warehouse):
        case.fill()
        case.run()
    assert [(a, u) for a, u in case.told()] == [(text, text)]


EXTREMES: Mapping[str, Mapping[str, tuple[str, Any]]] = {
    "duckdb": {
        "not a number": ("'nan'::DOUBLE", None),
        "infinity": ("'-inf'::DOUBLE", None),
        "minus zero": ("-0.0::DOUBLE", 0.0),
        "the largest float": ("1.7976931348623157e308", 1.7976931348623157e308),
        "the smallest float": ("5e-324::DOUBLE", 5e-324),
        "a huge integer": ("170141183460469231731687303715884105727::HUGEINT", str(2**127 - 1)),
        "the smallest bigint": ("(-9223372036854775808)::BIGINT", str(-(2**63))),
        "2^53": ("9007199254740992", 2**53),
        "2^53 + 1": ("9007199254740993", str(2**53 + 1)),
        "a long decimal": ("1.2345678901234567890123456789::DECIMAL(38, 28)", "1.2345678901234567890123456789"),
        "the last day": ("'9999-12-31'::DATE", "9999-12-31"),
        "the first day": ("'0001-01-01'::DATE", "0001-01-01"),
        "the last instant": ("'9999-12-31T23:59:59.999999Z'::TIMESTAMPTZ", "9999-12-31T23:59:59.999999Z"),
        "an empty text": ("''", ""),
        "nothing": ("NULL::VARCHAR", None),
        "truth": ("true", True),
    },
    "postgres": {
        "not a number": ("'NaN'::float8", None),
        "infinity": ("'-Infinity'::float8", None),
        "a numeric that is none": ("'NaN'::numeric", None),
        "a huge integer": (f"{10**60}::numeric", str(10**60)),
        "the smallest bigint": ("(-9223372036854775808)::bigint", str(-(2**63))),
        "a long decimal": ("1.2345678901234567890123456789", "1.2345678901234567890123456789"),
        "the last day": ("'9999-12-31'::date", "9999-12-31"),
        "the last instant": ("'9999-12-31T23:59:59.999999Z'::timestamptz", "9999-12-31T23:59:59.999999Z"),
        "an empty text": ("''::text", ""),
        "nothing": ("NULL::text", None),
    },
}
BEYOND: Mapping[str, Mapping[str, str]] = {
    "duckdb": {
        "a day after the year 9999": "'290000-01-01'::DATE",
        "an instant after the year 9999": "'290000-01-01T00:00:00Z'::TIMESTAMPTZ",
        "a day before Christ": "'0044-03-15 (BC)'::DATE",
        "an infinite day": "'infinity'::DATE",
        "an instant without a zone": "'2026-01-01'::TIMESTAMP",
        "a list": "[1, 2]",
        "a blob": "'\\xAA'::BLOB",
        "an interval": "INTERVAL 1 DAY",
    },
    "postgres": {
        "an infinite day": "'infinity'::date",
        "a day before Christ": "'0044-03-15 BC'::date",
        "an instant after the year 9999": "'290000-01-01T00:00:00Z'::timestamptz",
        "an infinite instant": "'infinity'::timestamptz",
        "bytes": "'\\xAA'::bytea",
        "a range": "'[1,2)'::int4range",
    },
}


def run_value(warehouse: SqlWarehouse, expression: str) -> list[Any]:
    """Sync one member with one property, and read back what arrived of it."""
    case, stream = Case(warehouse), Stream()
    source = Source(
        query=f"SELECT 'u1' AS uid, {expression} AS v",
        user_id="uid",
        identities={},
        properties={"v": "v"},
        audience_id="vips",
    )
    ledger = Ledger(warehouse, case.schema, "dag.diff")
    try:
        Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(0))
        delivery = small_delivery(options={"user_properties": True})
        Outbox(ledger, delivery, stream.put, policy=QUICK).drain(day(0))
    except (AudienceError, ValueError):
        assert stream.puts == []
        raise
    finally:
        case.clear()
    [message] = stream.messages
    [user] = json.loads(message, parse_constant=_no_constant)["users"]
    return [user["user_properties"]["v"]]


@pytest.mark.parametrize(("engine", "what"), [(e, w) for e, found in EXTREMES.items() for w in found])
def test_an_extreme_value_arrives_exactly(request: pytest.FixtureRequest, engine: str, what: str) -> None:
    warehouse = opened(request, engine)
    expression, due = EXTREMES[engine][what]
    [arrived] = run_value(warehouse, expression)
    assert arrived == due
    assert type(arrived) is type(due)


@pytest.mark.parametrize(("engine", "what"), [(e, w) for e, found in BEYOND.items() for w in found])
def test_a_value_beyond_what_json_can_say_is_refused_with_nothing_sent(
    request: pytest.FixtureRequest, engine: str, what: str
) -> None:
    with pytest.raises((AudienceError, ValueError)) as refused:
        run_value(opened(request, engine), BEYOND[engine][what])
    assert len(str(refused.value)) > 30
    assert "44" not in str(refused.value)


def opened(request: pytest.FixtureRequest, engine: str) -> SqlWarehouse:
    if engine == "duckdb":
        found: SqlWarehouse = request.getfixturevalue("duckdb_in_memory")
        return found
    from tests.warehouses import open_postgres

    warehouse = open_postgres(request.getfixturevalue("postgres_database"))
    request.addfinalizer(warehouse.close)
    return warehouse


@pytest.mark.parametrize(("engine", "what"), [("duckdb", "an infinite day"), ("postgres", "an infinite instant")])
def test_a_value_that_cannot_be_told_stops_the_diff_and_not_half_a_delivery(
    request: pytest.FixtureRequest, engine: str, what: str
) -> None:
    warehouse = opened(request, engine)
    source = Source(
        query=f"SELECT 'u1' AS uid, {BEYOND[engine][what]} AS v",
        user_id="uid",
        identities={},
        properties={"v": "v"},
        audience_id="vips",
    )
    ledger = Ledger(warehouse, fresh_schema(), "dag.diff")
    with pytest.raises(ValueError, match="'v' has values outside the years 1 to 9999"):
        Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(0))
    assert read_timeline(ledger).newest is None


def test_long_values_make_slices_of_fewer_rows(duckdb_in_memory: SqlWarehouse) -> None:
    columns = {"city": ["x" * 2_000_000, "y"]}
    case = Case(duckdb_in_memory, columns=columns)
    case.fill()
    with pytest.raises(MessageTooLarge):
        case.run()
    edge = read_timeline(Ledger(duckdb_in_memory, case.schema, case.sync_id)).newest
    assert edge is not None
    assert edge.detail.slice_rows == 19  # of 20,000,000 characters, at a million a row and a few more


@pytest.mark.slow
@pytest.mark.parametrize("count", [400, 10_000])
def test_any_number_of_columns_is_delivered_or_refused(duckdb_in_memory: SqlWarehouse, count: int) -> None:
    columns = {f"c{n}": ["x", None] for n in range(count)}
    case = Case(duckdb_in_memory, columns=columns, message_format="mparticle_audience")
    with decoy(case.warehouse):
        names = ", ".join(f'"c{n}" TEXT' for n in range(count))
        case.warehouse.execute(f"CREATE TABLE source_of_all (uid TEXT, {names})")
        case.warehouse.execute("INSERT INTO source_of_all (uid, c0) VALUES ('u1', 'x'), ('u2', NULL)")
        if count == 400:
            case.run()
            assert set(case.told()) == {("vips", "u1"), ("vips", "u2")}
            return
        with pytest.raises(AudienceError, match=r"(cannot run|rejected) the statement") as refused:
            case.run()
    assert not refused.value.retry_helps
    assert case.stream.puts == []


@given(
    st.one_of(
        st.floats(),
        st.integers(-(2**200), 2**200),
        st.decimals(),
        st.dates(),
        st.datetimes(timezones=st.just(UTC)),
        st.text(),
        st.booleans(),
        st.none(),
    )
)
def test_any_value_is_rendered_without_loss_or_refused(value: Any) -> None:
    from airflow_kinesis_audience.formats.json_values import render_column

    try:
        [fragment] = render_column("property v", [value])
    except ValueError:
        assert isinstance(value, str), "only text that is none is refused"
        return
    read = json.loads(fragment, parse_constant=_no_constant)
    match value:
        case bool() | str() | None:
            assert read == value
        case float():
            assert read is None if not math.isfinite(value) else read == value
        case int():
            assert int(read) == value
            assert isinstance(read, str) == (abs(value) > 2**53)
        case Decimal():
            assert read is None if not value.is_finite() else Decimal(read) == value
        case datetime():
            assert datetime.fromisoformat(read) == value
        case date():
            assert date.fromisoformat(read) == value
