"""Every statement that is sent to an engine, as the product sends it: a file per engine and part of the work.

``python -m tests.golden_sql`` writes the files anew, and a test compares them. The work is done twice: on DuckDB
for real, where what each call gave is kept, and then in the words of another engine, where nothing runs and each
call gives what it gave on DuckDB. Of statements that differ in names and numbers alone the first is kept.
"""

from __future__ import annotations

import itertools
import re
import secrets
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import duckdb
from sqlglot import exp

from airflow_kinesis_audience.core.changes.approval import approve_audiences
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.outbox import attempt as attempt_module
from airflow_kinesis_audience.core.outbox.burying import recall
from airflow_kinesis_audience.core.outbox.deletion import close
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.sql.dialects import DIALECTS, Dialect
from airflow_kinesis_audience.core.state import ledger as ledger_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.history import delivered_sql, find_user, read_members
from airflow_kinesis_audience.hooks.warehouse import warehouse_class
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.contract.test_state_model import PROPERTIES, TYPES, VALUES, Crowd, user
from tests.engines import Place
from tests.warehouses import LET_ALL_THROUGH, QUICK, day, small_delivery

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

GOLDEN = Path(__file__).parent / "golden" / "sql"
ENGINES = ("snowflake", "redshift", "gcpbigquery", "trino", "athena", "clickhouse")
"""By connection type: those whose statements are written down."""

SCHEMA = "airflow_audience"
_INSTANTS = {"clickhouse": "DateTime64(6, 'UTC')"}


class Heard:
    """DuckDB with the traits of another engine that decide which statements there are; it keeps what it gave."""

    placeholder = "?"

    def __init__(self, warehouse: SqlWarehouse, like: Dialect) -> None:
        self._warehouse = warehouse
        duck = warehouse.dialect
        of_lists = duck.functions.of_lists if like.functions.of_lists else None
        is_text = "{column} = {column}" if like.functions.is_text else None
        self.dialect = replace(
            duck,
            enforces_keys=like.enforces_keys,
            types=replace(duck.types, has_lists=like.types.has_lists),
            functions=replace(duck.functions, signature=None, of_lists=of_lists, is_text=is_text),
        )
        self.given: list[Any] = []

    @property
    def origin(self) -> Heard:
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            try:
                found = getattr(self._warehouse, name)(*given, **named)
            except AudienceError as error:
                found = error
            self.given.append(list(found) if name == "read_batches" else found)
            return _give(self.given[-1])

        return call


class Told:
    """An engine on which nothing runs: it keeps what it is told, and gives what DuckDB gave."""

    def __init__(self, engine: str, given: Sequence[Any], types: Mapping[str, str]) -> None:
        self._door = warehouse_class(engine)
        self._given = iter(given)
        self._types = types
        self.dialect, self.placeholder = DIALECTS[engine], self._door.placeholder
        self.statements: list[str] = []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        self.statements.append(sql)
        return _give(next(self._given))

    read_rows = execute
    beside_others = nullcontext

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Any:
        return self.execute(sql)

    @property
    def origin(self) -> Told:
        return self

    def write_table_apart(self, name: str, query: str, **how: Any) -> None:
        self.write_table(name, query, **how)

    def write_table(self, name: str, query: str, **how: Any) -> None:
        self._door.write_table(_Kept(self), name, query, **how)  # type: ignore[arg-type]
        _give(next(self._given))

    def drop_table(self, name: str) -> None:
        self._door.drop_table(_Kept(self), name)  # type: ignore[arg-type]
        _give(next(self._given))

    def read_types(self, query: str) -> dict[str, str]:
        return {name: self._types[name] for name in _give(next(self._given))}

    def is_cheap_to_reread(self, query: str) -> bool:
        return bool(_give(next(self._given)))


class _Kept:
    """What a hook writes a table with: it keeps the statements."""

    def __init__(self, told: Told) -> None:
        self.dialect, self.execute = told.dialect, told.statements.append


class _Nowhere:
    """Where the author's tables are said to be; they are not written."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def write_table_apart(self, name: str, query: str, **how: Any) -> None:
        self.write_table(name, query, **how)

    def write_table(self, name: str, query: str, **how: Any) -> None:
        pass

    def drop_table(self, name: str) -> None:
        pass


def _give(found: Any) -> Any:
    if isinstance(found, AudienceError):
        raise found
    return found


def write_down(engine: str) -> dict[str, str]:
    """Do the work and write down what is sent to an engine: name of a part to its statements."""
    database = duckdb.connect(":memory:", config={"threads": 1})
    with DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]) as source, _always_the_same():
        heard = Heard(DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]), DIALECTS[engine])
        for _ in _do(heard, source, DIALECTS[engine].types.has_lists):
            pass
    database.close()
    parts: dict[str, str] = {}
    shapes: set[str] = set()
    with _always_the_same():
        told = Told(engine, heard.given, _types_of(engine))
        for part in _do(told, _Nowhere(told.dialect), told.dialect.types.has_lists):
            kept = [s for s in told.statements if not (_shape(s) in shapes or shapes.add(_shape(s)))]
            parts[part] = "".join(f"{statement};\n" for statement in kept)
            told.statements.clear()
    return {part: text for part, text in parts.items() if text}


def _shape(statement: str) -> str:
    """Give a statement without numbers and the names of tables, and with one edge where it has many."""
    plain = re.sub(r"'(?:[^'\\]|\\.|'')*'", "''", statement)
    return re.sub(r"\w*\d\w*", "0", plain)


def _types_of(engine: str) -> dict[str, str]:
    name = DIALECTS[engine].name
    known = {**TYPES, **_MORE, **_EVENTS, **_EXCLUSION}
    types = {n: exp.DataType.build(t).sql(dialect=name) for n, t in known.items()}
    for n, t in {**TYPES, **_EVENTS}.items():
        if t == "TIMESTAMPTZ" and engine in _INSTANTS:
            types[n] = _INSTANTS[engine]
    return types


@contextmanager
def _always_the_same() -> Iterator[None]:
    """Let nothing depend on chance or on the clock."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2026, 1, 31, tzinfo=tz)

    numbers = itertools.count()
    with (
        patch.object(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers) << 64)),
        patch.object(secrets, "token_hex", lambda size: "0f" * size),
        patch.object(ledger_module, "datetime", Clock),
        patch.object(attempt_module, "CHECKPOINT_SHARE", 1e-9),  # no checkpoint, however slow the machine
    ):
        yield


_MORE = {"phone": "TEXT", "digest": "TEXT", "several": "ARRAY<TEXT>"}
_EVENTS = {"id": "TEXT", "came": "TIMESTAMPTZ", "happened": "TIMESTAMPTZ", "what": "TEXT"}
_EXCLUSION = {"consent": "BOOLEAN", "gone": "TEXT"}
_RULES = {
    "email": IdentityRule(normalize="email", hash="sha256"),
    "phone": IdentityRule(normalize="phone", hash="md5"),
    "digest": IdentityRule(hashed="sha256"),
    "several": IdentityRule(normalize="email", hash="sha256"),
}
_LABELS = {"email": "Email", "phone": "Phone", "digest": "Digest", "several": "Other"}


def _do(warehouse: Any, source: Any, lists: bool) -> Iterator[str]:
    """Do everything that sends statements; gives the name of each part when it is done."""
    place = Place(
        warehouse=warehouse,
        source=source,
        open_ledger=lambda schema, sync_id: Ledger(warehouse, schema, sync_id),
    )
    yield from _many(place, lists)
    yield from _one(place)
    yield from _events(place)
    yield from _held(place)
    yield from _forgotten(place)
    yield from _excluded(place)


def _many(place: Place, lists: bool) -> Iterator[str]:
    named = [n for n in _LABELS if lists or n != "several"]
    crowd = Crowd(
        place,
        many=True,
        properties=PROPERTIES,
        rules={n: _RULES[n] for n in named},
        sync_id="many.diff",
        schema=SCHEMA,
    )
    crowd.types = {**TYPES, **{n: t for n, t in _MORE.items() if n in named}}
    crowd.name = "crowd"
    crowd.guards = replace(LET_ALL_THROUGH, on_invalid_rows="drop", on_schema_change="update")
    identities = {n: _LABELS[n] for n in named}
    crowd.write(user("u", "a", **VALUES), user("v", "b"))
    crowd.run(0, source=crowd.source(identities=identities))
    yield "first_run"
    crowd.write(user("u", "a", **VALUES), user("u", "a"), user("w", "b"))
    crowd.run(1, source=crowd.source(identities=identities))
    yield "change_set"
    crowd.drain(1, options={})
    yield "delivery"
    find_user(crowd.ledger, "u")
    crowd.ledger.warehouse.read_rows(delivered_sql(crowd.ledger))
    list(read_members(crowd.ledger, day(1)))
    yield "looking_back"
    crowd.properties = ("city",)
    crowd.upkeep = Retention(keep_exits=timedelta(days=30))
    crowd.run(2, source=crowd.source(identities={"email": "Email"}))
    yield "another_mapping"


def _one(place: Place) -> Iterator[str]:
    upkeep = Retention(compaction_share=0.0, keep_history=timedelta(days=1), history_view=True)
    crowd = Crowd(place, sync_id="one.diff", upkeep=upkeep, schema=SCHEMA)
    crowd.name = "crowd"
    for number, city in enumerate(("Bern", "Rome", "Oslo", "Lima")):
        crowd.write(user("u", city=city), user(f"u{number}"))
        crowd.run(number)
    yield "one_audience"
    crowd.drain(3, message_format="adobe_profile", options={})
    crowd.write(user("u", city="Bonn"))
    crowd.run(4)
    crowd.drain(4, message_format="adobe_profile", options={})
    crowd.drain(4)
    yield "profiles"
    resync(Outbox(crowd.ledger, small_delivery(resync="again"), crowd.stream.put, policy=QUICK), small_delivery())
    yield "resync"
    close(crowd.ledger, day(5), exits=True)
    yield "deletion"


def _events(place: Place) -> Iterator[str]:
    crowd = Crowd(place, sync_id="events", types={**TYPES, **_EVENTS}, schema=SCHEMA)
    crowd.name = "events"
    crowd.write({"id": "e", "uid": "u", "came": datetime(2026, 1, 1, 1, tzinfo=UTC), "what": "click"})
    source = EventSource(
        query=crowd.source().query,
        event_id="id",
        arrived_at="came",
        user_id="uid",
        identities={"email": "Email"},
        identity_rules={"email": _RULES["email"]},
        fields={"what": "data.event_name"},
    )
    delivery = small_delivery(message_format="mparticle_events", options={})
    forward(Outbox(crowd.ledger, delivery, crowd.stream.put, policy=QUICK), source, day(0), day(1))
    yield "events"


def _held(place: Place) -> Iterator[str]:
    crowd = Crowd(place, many=True, sync_id="held.diff", guards=Guards(), schema=SCHEMA)
    crowd.name = "crowd"
    crowd.write(user("u", "a"), user("v", "b"), user("v", "b"))
    numbers = itertools.count(1)
    # Two tables of one instant need names of their own.
    with patch.object(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers) << 104)):
        for number, gone in enumerate("ba"):
            crowd.run(number, hold=True, hold_audiences=True)
            held = crowd.ledger.state.timeline.held_audiences
            assert held is not None
            assert list(held.breaches) == [gone]
            approve_audiences(crowd.ledger, held.table, gone)
            crowd.write(user("v", "b"))
    yield "held_audiences"


def _forgotten(place: Place) -> Iterator[str]:
    crowd = Crowd(place, many=True, sync_id="forgotten.diff", schema=SCHEMA)
    crowd.name = "crowd"
    numbers = itertools.count(1)
    with patch.object(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers) << 104)):
        for number, city in enumerate(("Bern", "Rome")):
            crowd.write(user("u", "a", city=city), user("v", "b"))
            crowd.run(number)
            crowd.drain(number, name="f")
        found = forget(crowd.ledger, ["u"])
        assert found.exits_at is not None
        Outbox(crowd.ledger, small_delivery("f"), crowd.stream.put, policy=QUICK).drain(found.exits_at)
        assert not forget(crowd.ledger, ["u"]).waits_for
        crowd.run(2)
        assert recall(crowd.ledger, ["u"]) == 1
    yield "forgotten"


def _excluded(place: Place) -> Iterator[str]:
    crowd = Crowd(place, types={**TYPES, "consent": "BOOLEAN"}, many=True, sync_id="excluded.diff", schema=SCHEMA)
    crowd.name = "crowd"
    crowd.write(user("u", "a", consent=True), user("v", "a", consent=False), user("u", "b", consent=True))
    listed = "SELECT 'u' AS gone"
    crowd.run(0, source=crowd.source(exclude_query=listed))
    crowd.run(1, source=crowd.source(exclude_query=listed, consent_column="consent"))
    yield "excluded"
    crowd.run(2, source=crowd.source(exclusive_by=("b", "a")))
    yield "exclusive"


def main() -> None:
    """Write all files anew."""
    for engine in ENGINES:
        folder = GOLDEN / engine
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part, text in write_down(engine).items():
            (folder / f"{part}.sql").write_bytes(text.encode())


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
