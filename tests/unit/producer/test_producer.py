"""The promises of the producer, against a destination with a scripted outcome per record.

The clock and the sleep are made of numbers, so that hours of waiting cost nothing; the threads that put are real.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused, DestinationThrottled
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.backoff import RetryPolicy
from airflow_kinesis_audience.core.producer.clock import Clock
from airflow_kinesis_audience.core.producer.in_flight import Bounds
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination, Limits, Outcome, Record, Status

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.result import ProduceResult

TAKEN = Outcome(Status.DELIVERED)
SLOW = Outcome(Status.THROTTLED, "ProvisionedThroughputExceededException")
LOST = Outcome(Status.UNKNOWN, "InternalFailure")
REFUSED = Outcome(Status.REJECTED, "NeverThis")
LIMITS = Limits(
    records_per_request=5, record_bytes=200, request_bytes=400, rate="it takes two a minute", remedy="buy another"
)


def record(ordinal: int, key: str = "k", *, size: int = 10) -> Record:
    return Record(ordinal, ordinal.to_bytes(4, "big").ljust(size, b"."), key, ordinal, ordinal % 3 + 1)


def spread(count: int, keys: int) -> list[Record]:
    return [record(n, f"k{n % keys}") for n in range(count)]


@dataclass
class FakeDestination:
    """Keeps every put and answers by a rule: from record and how often it was put before, to its outcome."""

    rule: Callable[[Record, int], Outcome] = lambda _record, _before: TAKEN
    puts: list[list[Record]] = field(default_factory=list)
    taken: list[Record] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._times: Counter[int] = Counter()
        self._in_flight: Counter[str] = Counter()

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        with self._lock:
            self.puts.append(list(batch))
            self._in_flight.update(r.partition_key for r in batch)
            self.overlaps += [key for key, count in self._in_flight.items() if count > 1]
        time.sleep(0)
        with self._lock:
            outcomes = [self.rule(r, self._times[r.ordinal]) for r in batch]
            self._times.update(r.ordinal for r in batch)
            self.taken += [r for r, outcome in zip(batch, outcomes, strict=True) if outcome == TAKEN]
            self._in_flight.subtract(r.partition_key for r in batch)
        return outcomes

    @property
    def times_put(self) -> Counter[int]:
        return Counter(r.ordinal for batch in self.puts for r in batch)


class FakeClock:
    """Stands still, except while somebody sleeps; its jitter is the upper bound unless a test gives another."""

    def __init__(self, *, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self.jitter = jitter

    def as_clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep, jitter=self.jitter)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0, "this would be a busy wait"
        self.slept.append(seconds)
        self.now += seconds


def run(
    records: Iterable[Record],
    put: Callable[[Sequence[Record]], list[Outcome]],
    /,
    *,
    acknowledged: AcknowledgedOrdinals | None = None,
    on_progress: Callable[[ProduceResult], None] = lambda _: None,
    limits: Limits = LIMITS,
    policy: RetryPolicy | None = None,
    clock: FakeClock | None = None,
    **bounds: int,
) -> ProduceResult:
    return produce(
        [records],
        Destination(put=put, limits=limits),
        acknowledged=AcknowledgedOrdinals() if acknowledged is None else acknowledged,
        on_progress=on_progress,
        policy=policy,
        bounds=Bounds(**bounds),
        clock=(clock or FakeClock()).as_clock(),
    )


def by_key(records: Iterable[Record]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for r in records:
        found.setdefault(r.partition_key, []).append(r.ordinal)
    return found


FATES = st.sampled_from([TAKEN, TAKEN, SLOW, LOST])
RECORDS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(4, 190)), max_size=60)


@given(
    RECORDS,
    st.lists(FATES, min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 30),
    st.sets(st.integers(0, 60)),
)
def test_whatever_fails_each_record_arrives_in_the_order_of_its_key(
    shapes: list[tuple[str, int]], fates: list[Outcome], max_in_flight: int, window: int, done: set[int]
) -> None:
    records = [record(n, key, size=size) for n, (key, size) in enumerate(shapes)]
    acknowledged = AcknowledgedOrdinals()
    for ordinal in done:
        acknowledged.add(ordinal)
    # Every record gets through in the end, so that giving up is not tested here.
    destination = FakeDestination(
        lambda r, before: TAKEN if before > 6 else fates[(r.ordinal * 7 + before) % len(fates)]
    )
    result = run(records, destination.put, acknowledged=acknowledged, max_in_flight=max_in_flight, records=window)

    missing = [r for r in records if r.ordinal not in done]
    assert result.failure is None
    assert by_key(destination.taken) == by_key(missing)
    assert len(destination.taken) == len(missing) == result.delivered
    assert result.changes_delivered == sum(r.changes for r in missing)
    assert result.bytes_delivered == sum(r.size for r in missing)
    assert all(r.ordinal in acknowledged for r in records)
    assert destination.overlaps == []
    assert result.requests == len(destination.puts)
    assert result.retried == sum(destination.times_put.values()) - len(missing) == result.codes.total()
    for batch in destination.puts:
        assert len({r.partition_key for r in batch}) == len(batch) <= LIMITS.records_per_request
        assert len(batch) == 1 or sum(r.size for r in batch) <= LIMITS.request_bytes


@given(RECORDS, st.integers(1, 4), st.integers(0, 60), st.sampled_from([REFUSED, LOST, SLOW]))
def test_the_next_attempt_puts_exactly_what_is_missing(
    shapes: list[tuple[str, int]], max_in_flight: int, bad: int, outcome: Outcome
) -> None:
    records = [record(n, key, size=size) for n, (key, size) in enumerate(shapes)]
    acknowledged = AcknowledgedOrdinals()
    first = FakeDestination(lambda r, _before: outcome if r.ordinal == bad else TAKEN)
    result = run(records, first.put, acknowledged=acknowledged, max_in_flight=max_in_flight, records=20)
    assert (result.failure is not None) == (bad < len(records)) == (result.failed == 1)
    assert all((r in first.taken) == (r.ordinal in acknowledged) for r in records)

    second = FakeDestination()
    assert (
        run(
            records,
            second.put,
            acknowledged=AcknowledgedOrdinals.of(acknowledged.ranges),
            max_in_flight=max_in_flight,
        ).failure
        is None
    )
    assert by_key(first.taken + second.taken) == by_key(records)
    assert sorted(r.ordinal for r in first.taken + second.taken) == [r.ordinal for r in records]


def test_a_failed_record_holds_back_only_its_own_key() -> None:
    clock = FakeClock()
    put_at: dict[int, float] = {}

    def rule(r: Record, before: int) -> Outcome:
        put_at[r.ordinal] = clock.now
        return SLOW if r.ordinal == 0 and before < 3 else TAKEN

    destination = FakeDestination(rule)
    run(spread(30, 3), destination.put, clock=clock)
    others = [r.ordinal for r in destination.taken if r.partition_key != "k0"]
    assert all(put_at[n] == 1_000.0 for n in others)
    assert min(put_at[n] for n in range(0, 30, 3)) > 1_000.0


def test_only_the_failed_records_of_a_batch_are_put_again() -> None:
    destination = FakeDestination(lambda r, before: LOST if r.ordinal in (1, 3) and before < 2 else TAKEN)
    run(spread(5, 5), destination.put)
    assert destination.times_put == {0: 1, 1: 3, 2: 1, 3: 3, 4: 1}


def test_progress_is_reported_before_anything_more_is_put() -> None:
    destination = FakeDestination(lambda r, before: SLOW if r.ordinal % 4 == 0 and before == 0 else TAKEN)
    acknowledged = AcknowledgedOrdinals()
    answered: list[int] = []
    unreported: list[int] = []

    def put(batch: Sequence[Record]) -> list[Outcome]:
        if answered:
            unreported.append(len(answered))
        outcomes = destination.put(batch)
        answered.append(1)
        return outcomes

    def on_progress(result: ProduceResult) -> None:
        assert len(acknowledged) == result.delivered == len(destination.taken)
        answered.clear()

    # With one request in flight the next put follows every answer: only the report may lie between them.
    run(spread(40, 8), put, acknowledged=acknowledged, on_progress=on_progress, max_in_flight=1)
    assert unreported == []
    assert len(acknowledged) == 40


def test_records_are_pulled_only_while_the_window_has_room() -> None:
    pulled = 0
    most = 0
    destination = FakeDestination()
    acknowledged = AcknowledgedOrdinals()

    def source() -> Iterator[Record]:
        nonlocal pulled, most
        for r in spread(300, 7):
            pulled += 1
            most = max(most, pulled - len(acknowledged))
            yield r

    def put_far_away(batch: Sequence[Record]) -> list[Outcome]:
        time.sleep(0.02)
        return destination.put(batch)

    run(source(), put_far_away, acknowledged=acknowledged, records=12)
    assert most == 12


def test_the_window_is_bounded_in_bytes_too() -> None:
    pulled: list[Record] = []
    most = 0
    acknowledged = AcknowledgedOrdinals()

    def source() -> Iterator[Record]:
        nonlocal most
        for n in range(100):
            pulled.append(record(n, f"k{n % 9}", size=100))
            yield pulled[-1]
            most = max(most, sum(r.size for r in pulled if r.ordinal not in acknowledged))

    run(source(), FakeDestination().put, acknowledged=acknowledged, bytes=500)
    assert most <= 500 + pulled[0].size


def test_a_record_larger_than_the_window_passes_alone() -> None:
    destination = FakeDestination()
    result = run([record(0, size=5_000), record(1)], destination.put, bytes=100)
    assert result.failure is None
    assert [[r.ordinal for r in batch] for batch in destination.puts] == [[0], [1]]


def test_batches_are_as_full_as_the_keys_allow() -> None:
    destination = FakeDestination()
    run(spread(50, 50), destination.put)
    assert [len(batch) for batch in destination.puts] == [5] * 10


def in_flight_far_away(count: int, max_in_flight: int, *, seconds: float) -> list[int]:
    """Deliver to an endpoint that answers after a while; give how many requests were in flight at each put."""
    in_flight: set[int] = set()
    seen: list[int] = []

    def put(batch: Sequence[Record]) -> list[Outcome]:
        in_flight.add(batch[0].ordinal)
        seen.append(len(in_flight))
        time.sleep(seconds)
        in_flight.remove(batch[0].ordinal)
        return [TAKEN] * len(batch)

    assert run(spread(count, count), put, max_in_flight=max_in_flight).delivered == count
    return seen


def test_an_endpoint_far_away_is_put_as_much_as_keeps_the_process_busy() -> None:
    seen = in_flight_far_away(60, 8, seconds=0.2)
    assert seen[:2] == [1, 1]
    assert max(seen) == 8


def test_an_endpoint_that_answers_at_once_is_put_by_the_thread_that_decides() -> None:
    threads: set[str] = set()

    def put(batch: Sequence[Record]) -> list[Outcome]:
        threads.add(threading.current_thread().name)
        return [TAKEN] * len(batch)

    assert run(spread(2_000, 2_000), put, max_in_flight=5).delivered == 2_000
    assert threads == {"put"}


def test_a_throttled_key_waits_longer_each_time_and_never_beyond_the_bound() -> None:
    clock = FakeClock()
    policy = RetryPolicy(attempts=9, first_delay_seconds=1.0, longest_delay_seconds=20.0)
    run([record(0)], lambda _batch: [SLOW], policy=policy, clock=clock)
    assert clock.slept == [1, 2, 4, 8, 16, 20, 20, 20]


def test_the_next_record_of_a_key_that_was_throttled_is_delayed_too() -> None:
    clock = FakeClock()
    destination = FakeDestination(lambda r, before: SLOW if r.ordinal == 0 and before < 4 else TAKEN)
    policy = RetryPolicy(first_delay_seconds=1.0)
    run([record(n) for n in range(4)], destination.put, policy=policy, clock=clock)
    assert clock.slept == [1, 2, 4, 8, 2, 1]


def test_a_slow_stream_is_no_reason_to_give_up() -> None:
    clock = FakeClock(jitter=random.Random(7).random)
    last = [0.0]

    def one_a_second(_record: Record, _before: int) -> Outcome:
        if clock.now - last[0] < 1.0:
            return SLOW
        last[0] = clock.now
        return TAKEN

    destination = FakeDestination(one_a_second)
    result = run(spread(256, 64), destination.put, clock=clock, max_in_flight=1)
    assert result.failure is None
    # This is what makes it a test: for some record its turn came later than the number of attempts.
    assert max(destination.times_put.values()) > RetryPolicy().attempts


@pytest.mark.parametrize("outcome", [SLOW, LOST])
def test_a_record_is_given_up_after_so_many_attempts(outcome: Outcome) -> None:
    destination = FakeDestination(lambda r, _before: outcome if r.ordinal == 4 else TAKEN)
    result = run(spread(20, 4), destination.put, policy=RetryPolicy(attempts=3))
    assert isinstance(result.failure, DeliveryIncomplete)
    assert destination.times_put[4] >= 3
    assert by_key(destination.taken)["k0"] == [0]
    assert set(range(20)) - {r.ordinal for r in destination.taken} == {4, 8, 12, 16}
    assert (result.failed, result.changes_failed) == (1, record(4).changes)


def test_an_unknown_outcome_counts_whatever_else_gets_through() -> None:
    destination = FakeDestination(lambda r, _before: LOST if r.partition_key == "k0" else TAKEN)
    run(spread(400, 2), destination.put, policy=RetryPolicy(attempts=3, first_delay_seconds=0.0))
    assert destination.times_put[0] == 3


def test_a_refused_record_is_put_once_and_closes_its_key() -> None:
    destination = FakeDestination(lambda r, _before: REFUSED if r.ordinal == 0 else TAKEN)
    result = run(spread(9, 3), destination.put)
    assert isinstance(result.failure, DeliveryIncomplete)
    assert destination.times_put[0] == 1
    assert by_key(destination.taken) == {"k1": [1, 4, 7], "k2": [2, 5, 8]}


def test_after_a_record_is_given_up_nothing_new_is_pulled() -> None:
    pulled: list[int] = []

    def source() -> Iterator[Record]:
        for r in spread(10_000, 4):
            pulled.append(r.ordinal)
            yield r

    destination = FakeDestination(lambda r, _before: REFUSED if r.ordinal == 0 else TAKEN)
    result = run(source(), destination.put, records=8)
    assert len(pulled) < 100
    assert result.delivered == len([n for n in pulled if n % 4])


def test_the_failure_says_how_many_why_and_what_to_do() -> None:
    result = run(spread(6, 3), FakeDestination(lambda r, _b: SLOW if r.ordinal == 1 else TAKEN).put)
    said = str(result.failure)
    for part in (
        "Retry Limit Exceeded at the destination (10 attempts each)",
        "1 records with 2 changes",
        SLOW.code,
        f"{result.codes[SLOW.code]} times: it takes two a minute: buy another",
        "next attempt",
    ):
        assert part in said
    assert "k1" not in said


def test_the_shards_that_throttled_are_named_the_busiest_first() -> None:
    def shard_of(record: Record) -> str:
        return f"shardId-{min(record.ordinal, 4):012}"

    slow = [Outcome(Status.THROTTLED, "TooMuch", shard_of(record)) for record in spread(9, 9)]
    together = replace(LIMITS, records_per_request=9)
    put = FakeDestination(lambda r, _b: slow[r.ordinal]).put
    said = str(run(spread(9, 9), put, limits=together, policy=RetryPolicy(attempts=1)).failure)
    assert "5 of them of shardId-000000000004, 1 of them of shardId-00000000000" in said
    assert "and 2 more: it takes two a minute" in said


def test_a_clear_refusal_is_no_exhausted_retry() -> None:
    refused = Outcome(Status.REJECTED, "NotLikeThis")
    result = run(spread(2, 2), FakeDestination(lambda _r, _b: refused).put)
    assert str(result.failure).startswith("Refused at the destination (the error is permanent): 2 records")
    assert "look up this code" in str(result.failure)


def test_it_gives_up_when_nothing_was_acknowledged_for_so_long() -> None:
    clock = FakeClock()

    def put(batch: Sequence[Record]) -> list[Outcome]:
        clock.now += 40
        return [LOST] * len(batch)

    policy = RetryPolicy(attempts=1_000, stall_seconds=100.0)
    result = run(spread(3, 3), put, policy=policy, clock=clock, max_in_flight=1)
    assert isinstance(result.failure, DeliveryIncomplete)
    assert "nothing was acknowledged for 100 s" in str(result.failure)
    assert (result.delivered, result.failed, result.changes_failed) == (0, 3, 6)


@pytest.mark.parametrize(
    ("last", "kind"),
    [(SLOW, DestinationThrottled), (LOST, DeliveryIncomplete), (REFUSED, DeliveryIncomplete)],
    ids=["throttled", "unknown", "rejected"],
)
def test_a_failure_is_throttling_if_nothing_else_is_wrong(last: Outcome, kind: type[Exception]) -> None:
    def rule(r: Record, before: int) -> Outcome:
        if r.ordinal == 0 and before >= 5:
            return last
        return LOST if before == 2 else SLOW

    result = run(spread(6, 6), FakeDestination(rule).put)
    assert type(result.failure) is kind
    assert result.delivered == 0


def accepting(clock: FakeClock, share: float) -> Callable[[Record, int], Outcome]:
    """Accept this share of what is put, which takes a second each."""
    puts = itertools.count(1)

    def rule(_record: Record, _before: int) -> Outcome:
        clock.now += 1
        number = next(puts)
        return TAKEN if int(number * share) > int((number - 1) * share) else SLOW

    return rule


@pytest.mark.parametrize(("share", "is_slow"), [(0.05, True), (0.2, False)])
def test_a_destination_that_accepts_next_to_nothing_ends_an_attempt_if_it_is_to(
    share: float, is_slow: bool
) -> None:
    clock = FakeClock(jitter=random.Random(7).random)
    destination, acknowledged = FakeDestination(accepting(clock, share)), AcknowledgedOrdinals()
    policy = RetryPolicy(slow_seconds=60)
    how = {"policy": policy, "clock": clock, "max_in_flight": 1, "acknowledged": acknowledged}
    result = run(spread(100, 20), destination.put, **how)
    assert isinstance(result.failure, DestinationThrottled) is is_slow
    assert sorted(acknowledged) == sorted(r.ordinal for r in destination.taken)
    if is_slow:
        assert "next to nothing was acknowledged for 60 s" in str(result.failure)
        assert 60 <= clock.now - 1_000 < 120
        assert 0 < result.delivered < 10
    else:
        assert result.failure is None


def test_a_destination_that_accepts_next_to_nothing_is_waited_for_by_default() -> None:
    clock = FakeClock(jitter=random.Random(7).random)
    destination = FakeDestination(accepting(clock, 0.05))
    policy = RetryPolicy(attempts=1_000)
    assert run(spread(40, 20), destination.put, clock=clock, max_in_flight=1, policy=policy).failure is None


def test_a_slow_query_for_the_next_records_is_no_stall() -> None:
    clock = FakeClock()

    def source() -> Iterator[Record]:
        for r in spread(20, 4):
            clock.now += 1_000
            yield r

    assert run(source(), FakeDestination().put, clock=clock).failure is None


def test_an_answer_of_the_wrong_length_acknowledges_nothing() -> None:
    answers = iter([[TAKEN] * 2, [TAKEN] * 4])
    destination = FakeDestination()

    def put(batch: Sequence[Record]) -> list[Outcome]:
        short = next(answers, None)
        return destination.put(batch) if short is None else short

    result = run(spread(3, 3), put)
    assert result.failure is None
    assert result.codes["AnswerDoesNotMatch"] >= 3
    assert len(destination.taken) == 3


class Broken(RuntimeError):
    """Raised in the middle of it all."""


@pytest.mark.parametrize("error", [DestinationRefused("no such stream"), Broken("a bug")])
def test_an_error_of_put_stops_and_keeps_what_was_on_its_way(error: Exception) -> None:
    destination = FakeDestination()
    acknowledged = AcknowledgedOrdinals()
    both_are_out = threading.Barrier(2)
    reported: list[int] = []
    results: list[ProduceResult] = []

    def put(batch: Sequence[Record]) -> list[Outcome]:
        time.sleep(0.05)  # so slow that several are in flight
        if batch[0].ordinal < 20:
            return destination.put(batch)
        both_are_out.wait(timeout=20)
        if batch[0].ordinal == 20:
            raise error
        time.sleep(0.1)
        return destination.put(batch)

    def on_progress(result: ProduceResult) -> None:
        reported.append(result.delivered)
        results.append(result)

    def attempt() -> ProduceResult:
        return run(spread(40, 10), put, acknowledged=acknowledged, on_progress=on_progress, max_in_flight=2)

    if isinstance(error, DestinationRefused):
        assert attempt().failure is error
    else:
        with pytest.raises(Broken):
            attempt()
    assert len(destination.puts) == 5
    assert reported[-1] == len(acknowledged) == 25
    assert results[-1].failed == 5


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
def test_an_interruption_of_the_source_keeps_what_was_on_its_way(error: type[BaseException]) -> None:
    destination = FakeDestination()
    acknowledged = AcknowledgedOrdinals()
    reported: list[int] = []
    is_out = threading.Event()

    def put(batch: Sequence[Record]) -> list[Outcome]:
        is_out.set()
        time.sleep(0.1)
        return destination.put(batch)

    def source() -> Iterator[Record]:
        yield from spread(5, 5)
        is_out.wait(timeout=20)
        raise error

    with pytest.raises(error):
        run(source(), put, acknowledged=acknowledged, on_progress=lambda result: reported.append(result.delivered))
    assert reported[-1] == len(acknowledged) == len(destination.taken) == 5


def test_an_interruption_while_it_waits_keeps_what_was_delivered() -> None:
    acknowledged = AcknowledgedOrdinals()
    reported: list[int] = []

    class Interrupted(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    destination = FakeDestination(lambda r, _before: SLOW if r.ordinal == 0 else TAKEN)
    with pytest.raises(KeyboardInterrupt):
        run(
            spread(9, 3),
            destination.put,
            acknowledged=acknowledged,
            clock=Interrupted(),
            on_progress=lambda result: reported.append(result.delivered),
        )
    assert reported[-1] == len(acknowledged) == 6


class Terminated(BaseException):
    """What a scheduler's signal turns into."""


def test_a_signal_in_the_middle_of_a_put_waits_for_its_answer() -> None:
    destination = FakeDestination()
    acknowledged = AcknowledgedOrdinals()
    reported: list[int] = []
    answered: list[bool] = []

    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    def put(batch: Sequence[Record]) -> list[Outcome]:
        time.sleep(0.1)  # until the scheduling thread waits
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        time.sleep(0.1)
        answered.append(True)
        return destination.put(batch)

    before = signal.signal(signal.SIGUSR1, terminate)
    try:
        with pytest.raises(Terminated):
            run(
                spread(50, 5),
                put,
                acknowledged=acknowledged,
                on_progress=lambda result: reported.append(result.delivered),
                max_in_flight=1,
            )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answered == [True]
    assert reported == [5]
    assert len(acknowledged) == 5


@pytest.mark.parametrize("put_seconds", [0.0, 0.004], ids=["answers at once", "slow answers"])
def test_a_signal_at_any_moment_leaves_no_acknowledged_record_uncounted(put_seconds: float) -> None:
    """Also one that comes while outcomes are recorded."""

    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    chance = random.Random(7)
    try:
        for _ in range(40):
            acknowledged, taken, reported = AcknowledgedOrdinals(), [], [0]
            seconds, is_out = chance.uniform(0.0, 0.02), threading.Event()

            def put(batch: Sequence[Record], taken: list[int] = taken, is_out: Any = is_out) -> list[Outcome]:
                is_out.set()
                time.sleep(put_seconds)
                taken.append(len(batch))
                return [TAKEN] * len(batch)

            def end(seconds: float = seconds, is_out: Any = is_out) -> None:
                is_out.wait()
                time.sleep(seconds)
                os.kill(os.getpid(), signal.SIGTERM)

            ending = threading.Thread(target=end)
            ending.start()
            with pytest.raises(Terminated):
                run(
                    (record(n, f"k{n}") for n in itertools.count()),
                    put,
                    acknowledged=acknowledged,
                    on_progress=lambda result, reported=reported: reported.append(result.delivered),
                    limits=replace(LIMITS, records_per_request=100),
                )
            ending.join()
            assert sum(taken) == len(acknowledged) == reported[-1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_ends_a_wait_for_a_delayed_key() -> None:
    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGUSR1, terminate)
    main = threading.main_thread().ident or 0
    ending = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGUSR1))
    policy = RetryPolicy(first_delay_seconds=60.0, longest_delay_seconds=60.0)
    try:
        ending.start()
        with pytest.raises(Terminated):
            produce(
                [spread(1, 1)],
                Destination(put=lambda batch: [SLOW] * len(batch), limits=LIMITS),
                acknowledged=AcknowledgedOrdinals(),
                on_progress=lambda _: None,
                policy=policy,
                clock=Clock(jitter=lambda: 1.0),
            )
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_checkpoint_that_cannot_be_written_stops_the_delivery() -> None:
    destination = FakeDestination()

    def on_progress(_tally: ProduceResult) -> None:
        raise Broken("the ledger is gone")

    with pytest.raises(Broken):
        run(spread(100, 10), destination.put, on_progress=on_progress, max_in_flight=2)
    assert len(destination.puts) <= 2


def test_nothing_to_deliver_is_a_success() -> None:
    result = run([], FakeDestination().put)
    assert (result.failure, result.requests, result.delivered) == (None, 0, 0)


@pytest.mark.parametrize("bad", [{"max_in_flight": 0}, {"records": 0}, {"bytes": 0}])
def test_a_bound_of_nothing_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        run([], FakeDestination().put, **bad)


def test_a_policy_without_an_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        RetryPolicy(attempts=0)
