"""A sync that was renamed is noticed before its destination gets anything twice, and nobody stays for ever.

Other syncs on the same stream stop nothing, as long as they have other audiences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes import counts
from airflow_kinesis_audience.core.changes.authors import Author
from airflow_kinesis_audience.core.exceptions import AudienceTaken
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.state import ledger_compaction
from airflow_kinesis_audience.core.state.fold import fold_state
from tests.contract.test_state_model import Crowd, place, user
from tests.engines import ENGINES, Place
from tests.warehouses import Stream, day, small_delivery

__all__ = ["place"]

ON_MANY = ["duckdb", "duckdb without keys", "parquet", "postgres", "mysql"]
ANN, BOB, CEM = user("ann"), user("bob"), user("cem")
OLD, NEW = "shop.diff", "outlet.diff"


@dataclass
class Syncs:
    """Several syncs that have one state, one source and one stream."""

    place: Place
    many: bool = False
    stream: Stream = field(default_factory=Stream)
    known: dict[str, Crowd] = field(default_factory=dict)

    def of(self, sync_id: str) -> Crowd:
        if sync_id not in self.known:
            shared = {"schema": next(iter(self.known.values())).schema} if self.known else {}
            more = {"many": self.many, "stream": self.stream, "sync_id": sync_id, **shared}
            self.known[sync_id] = Crowd(self.place, **more)
        return self.known[sync_id]

    def run(self, sync_id: str, number: int, *members: Any, on_other_sync: Any = "fail", **how: Any) -> None:
        """Compute a change set, and publish it."""
        self.diff(sync_id, number, *members, **how)
        self.of(sync_id).outbox().drain(day(number), on_other_sync=on_other_sync)

    def diff(self, sync_id: str, number: int, *members: Any, task: str = "", **how: Any) -> None:
        crowd = self.of(sync_id)
        crowd.write(*members)
        crowd.run(number, author=Author(task=task or sync_id), **how)

    def publish(self, sync_id: str, number: int, **changed: Any) -> None:
        self.of(sync_id).drain(number, **changed)


@pytest.fixture
def syncs(place: Any) -> Syncs:
    return Syncs(place)


@pytest.fixture
def of_many(place: Any) -> Syncs:
    return Syncs(place, many=True)


@pytest.mark.parametrize("place", list(ENGINES), indirect=True)
def test_a_sync_that_was_renamed_stops_before_it_puts_anything_and_adopts_its_state(syncs):
    syncs.run(OLD, 0, ANN, BOB)
    syncs.diff(NEW, 1, BOB, CEM)
    put = len(syncs.stream.puts)
    said = (
        r"sync 'outlet\.diff' has sent nothing to kinesis://eu-west-1/a yet, and sync 'shop\.diff' already "
        r"delivers audience 'vips' there.*as of 2026-01-01.*adopt_state_of='shop\.diff' on the diff task.*"
        r'on_other_sync="ignore"'
    )
    for _ in range(2):
        with pytest.raises(AudienceTaken, match=said):
            syncs.publish(NEW, 1)
    assert len(syncs.stream.puts) == put
    assert not syncs.of(NEW).ledger.read().deliveries
    syncs.of(OLD).run(1, author=Author(task=NEW, adopts=OLD))
    syncs.publish(OLD, 1)
    assert syncs.stream.consume().members("vips") == {"bob", "cem"}


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_two_syncs_of_one_audience_on_purpose_say_so_once(syncs):
    syncs.run(OLD, 0, ANN)
    syncs.run(NEW, 1, BOB, on_other_sync="ignore")
    for number in (2, 3):
        syncs.run(OLD, number, ANN, CEM)
        syncs.run(NEW, number, BOB, ANN)
    assert syncs.stream.consume().members("vips") == {"ann", "bob", "cem"}


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_another_destination_account_or_format_is_another_delivery(syncs):
    syncs.run(OLD, 0, ANN)
    syncs.diff(NEW, 1, ANN)
    for other in ({"name": "b"}, {"connection": "other"}, {"message_format": "mparticle_audience", "options": {}}):
        syncs.publish(NEW, 1, **other)
    assert len(syncs.of(NEW).ledger.read().deliveries) == 3
    syncs.publish(OLD, 0, name="c")
    assert len(syncs.of(OLD).ledger.read().deliveries) == 2


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_syncs_of_other_audiences_share_a_stream(place, of_many):
    one = Crowd(place)
    of_many.known["one"] = one
    one.stream = of_many.stream
    one.write(ANN)
    one.run(0)
    one.drain(0)
    of_many.run(OLD, 1, user("ann", "a"), user("bob", "b"))
    of_many.run(NEW, 2, user("ann", "c"))
    of_many.diff("third.diff", 3, user("ann", "d"), user("cem", "b"))
    with pytest.raises(AudienceTaken, match=r"sync 'shop\.diff' already delivers audience 'b' there"):
        of_many.publish("third.diff", 3)
    of_many.diff("fourth.diff", 4, ANN)
    with pytest.raises(AudienceTaken, match=r"sync 'dag\.diff' already delivers audience 'vips' there"):
        of_many.publish("fourth.diff", 4)


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_where_audiences_are_many_their_tables_are_looked_at(of_many, monkeypatch):
    monkeypatch.setattr(counts, "FEW_AUDIENCES", 1)
    old = [user("ann", f"a{n}") for n in range(5)]
    of_many.run(OLD, 0, *old)
    of_many.run(OLD, 1, *old[1:])
    of_many.run("second.diff", 1, user("ann", "a0"), user("ann", "b0"))  # OLD has nobody in it any more
    of_many.diff(NEW, 2, *old[1:], user("bob", "b1"))
    with pytest.raises(
        AudienceTaken, match=r"'shop\.diff' already delivers audiences 'a1', 'a2', 'a3' and 1 more there"
    ):
        of_many.publish(NEW, 2)


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_a_sync_that_is_detached_deleted_or_has_nobody_does_not_count(syncs):
    syncs.run(OLD, 0, ANN)
    detach(syncs.of(OLD).ledger, [small_delivery().log])
    syncs.run("second.diff", 1, ANN)
    syncs.run("second.diff", 2)
    syncs.run("third.diff", 3, ANN)
    close(syncs.of("third.diff").ledger, day(4), exits=True)
    syncs.run("fourth.diff", 5, ANN, reuse_deleted=True)
    close(syncs.of("fourth.diff").ledger, day(6), exits=False)
    announce_deletion(syncs.of("fourth.diff").outbox())
    syncs.run("fifth.diff", 7, ANN, reuse_deleted=True)
    syncs.diff("sixth.diff", 8, ANN, reuse_deleted=True)
    with pytest.raises(AudienceTaken, match=r"sync 'fifth\.diff' already delivers"):
        syncs.publish("sixth.diff", 8)


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_a_sync_that_began_anew_after_its_deletion_counts(syncs):
    syncs.run(OLD, 0, ANN)
    close(syncs.of(OLD).ledger, day(1), exits=True)
    announce_deletion(syncs.of(OLD).outbox())
    syncs.run(OLD, 2, ANN, reuse_deleted=True)
    syncs.diff(NEW, 3, ANN, reuse_deleted=True)
    with pytest.raises(AudienceTaken, match=r"sync 'shop\.diff' already delivers"):
        syncs.publish(NEW, 3)


@pytest.mark.parametrize("place", ["duckdb", "parquet", "spark"], indirect=True)
def test_a_ledger_that_was_folded_or_compacted_is_asked_as_any_other(syncs, monkeypatch):
    monkeypatch.setattr(ledger_compaction, "MOST_FILES", 4)
    for number in range(2):
        syncs.run(OLD, number, ANN, user(f"more {number}"))
    ledger = syncs.of(OLD).ledger
    ledger.rows.write_fold(fold_state(ledger.read()), ledger.state.last_rows)
    syncs.diff(NEW, 4, ANN)
    with pytest.raises(
        AudienceTaken, match=r"sync 'shop\.diff' already delivers audience 'vips'.*as of 2026-01-02"
    ):
        syncs.publish(NEW, 4)


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
@pytest.mark.parametrize(
    ("sync_id", "task", "old_task", "advice"),
    [
        (
            "outlet.diff",
            "outlet.diff",
            "shop.diff",
            r"adopt_state_of='shop\.diff' and sync_id='crowd' on",
        ),
        ("crowd_2", "outlet.diff", "shop.diff", r"adopt_state_of='shop\.diff' and sync_id='crowd' on"),
        ("shop.diff", "shop.diff", "shop.diff", r"its state: set sync_id='crowd' on"),
        ("crowd_2", "outlet.diff", "crowd", r"adopt_state_of='crowd' and sync_id='crowd' on"),
    ],
)
def test_the_advice_has_the_arguments_that_go_on_with_the_state(syncs, sync_id, task, old_task, advice):
    syncs.run("crowd", 0, ANN, task=old_task)
    syncs.diff(sync_id, 1, ANN, task=task)
    with pytest.raises(AudienceTaken, match=advice):
        syncs.publish(sync_id, 1)
