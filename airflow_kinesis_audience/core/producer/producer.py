"""The producer: puts records until each is acknowledged, and after a partial failure puts the failed ones again.

Delivery is at least once, and a repeated attempt is idempotent: what is acknowledged is never put again, and what
is put again has the same bytes. Two unacknowledged records of one ordering key are never in flight together, so a
failed record holds back its own key and no other. Every outcome is recorded and reported before anything more is
put: after a kill only what was in flight is unknown. The thread that calls only waits, so that a signal, which
Python hands to the main thread, breaks off no put and no bookkeeping. It knows records, a destination and a clock;
no formats, ledgers or AWS.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from operator import attrgetter
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import AudienceError, DeliveryIncomplete, DestinationThrottled
from airflow_kinesis_audience.core.producer.aside import run_aside
from airflow_kinesis_audience.core.producer.backoff import KeyRetryState, Pace, RetryPolicy
from airflow_kinesis_audience.core.producer.clock import Clock
from airflow_kinesis_audience.core.producer.concurrency import Concurrency
from airflow_kinesis_audience.core.producer.in_flight import Batch, Bounds, InFlightWindow
from airflow_kinesis_audience.core.producer.records import Destination, Outcome, Put, Record, Status
from airflow_kinesis_audience.core.producer.result import ProduceResult, describe_failure

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
    from airflow_kinesis_audience.core.producer.rate_limit import Pending

_ordinal, _changes, _messages, _status = map(attrgetter, ("ordinal", "changes", "messages", "status"))


def produce(
    partition_groups: Sequence[Iterable[Record]],
    destination: Destination,
    *,
    acknowledged: AcknowledgedOrdinals,
    on_progress: Callable[[ProduceResult], None],
    policy: RetryPolicy | None = None,
    bounds: Bounds | None = None,
    clock: Clock | None = None,
) -> ProduceResult:
    """Put records until all are acknowledged or the policy gives up; what is not acknowledged is still to be put.

    :param partition_groups: records, read lazily, from all groups at the same time; those already in
        ``acknowledged`` are skipped. No two groups have records of one ordering key.
    :param acknowledged: gains every record that is acknowledged.
    :param on_progress: called after outcomes came in and before anything more is put: the place for a checkpoint.
    :returns: its ``failure`` holds a domain error of ``destination.put`` or :class:`DeliveryIncomplete`; that is a
        :class:`DestinationThrottled` if throttling alone is the reason. Any other error is raised, after every
        request in flight has its answer, recorded and reported.
    """
    bounds, clock = bounds or Bounds(), clock or Clock()
    window = InFlightWindow(partition_groups, limits=destination.limits, bounds=bounds)
    concurrency = Concurrency(bounds.max_in_flight)
    scheduler = _Scheduler(window, acknowledged, on_progress, policy or RetryPolicy(), clock, concurrency)
    with ThreadPoolExecutor(bounds.max_in_flight, thread_name_prefix="put") as pool:
        run_aside(lambda: scheduler.attempt(destination, pool), scheduler.end)
    return scheduler.result


class _Scheduler:
    """What one thread does in an attempt: pull, put, record outcomes, retry.

    While answers come at once, it puts itself: threads would only take turns. Where they do not, other threads
    put, and their number grows as long as this process has little to do.
    """

    def __init__(
        self,
        window: InFlightWindow,
        acknowledged: AcknowledgedOrdinals,
        on_progress: Callable[[ProduceResult], None],
        policy: RetryPolicy,
        clock: Clock,
        concurrency: Concurrency,
    ) -> None:
        self.result = ProduceResult()
        self._window, self._acknowledged, self._on_progress = window, acknowledged, on_progress
        self._policy, self._now, self._jitter = policy, clock.now, clock.jitter
        self._ended = threading.Event()
        self._sleep = clock.sleep or self._ended.wait
        self._concurrency = concurrency
        self._in_flight: dict[Future[list[Outcome]], Batch] = {}
        self._failed: set[int] = set()
        self._retry_states: dict[str, KeyRetryState] = {}
        self._error: BaseException | None = None
        self._started = self._now()
        self._quiet_seconds = 0.0
        self._pace = Pace(self._policy.slow_seconds, self._started)
        self._exhausted = False
        self._only_throttled = True

    def end(self) -> None:
        """Have the attempt end before anything more is put; called by another thread."""
        self._ended.set()

    def attempt(self, destination: Destination, pool: ThreadPoolExecutor) -> None:
        """Put what there is, and set the result."""
        try:
            self._run(destination.put, pool)
        except BaseException:
            self._await_all()
            raise
        self._conclude(destination)

    def _run(self, put: Put, pool: ThreadPoolExecutor) -> None:
        """Pull, put and wait until nothing is left that may be put."""
        window, concurrency = self._window, self._concurrency
        while not self._ended.is_set():
            if any(future.done() for future in self._in_flight):
                self._on_responses()
            if self._error or self._is_stalled or self._is_slow:
                break
            now = self._now()
            window.end_delays(now)
            # One record given up is a failure already: what is in the window goes out, nothing new comes in.
            group = None if self.result.failed else window.find_group()
            may_put = len(self._in_flight) < concurrency.requests
            if may_put and window.has_ready(now) and (group is None or window.fills_a_batch(now)):
                batch = self._take_batch(now)
                submit = pool.submit if concurrency.has_threads else self._put
                self._in_flight[submit(put, batch.records)] = batch
            elif group is not None:
                window.pull(group, self._acknowledged)
            elif self._in_flight or window.next_due is not None:
                self._wait(may_put)
            else:
                break

    @property
    def _is_stalled(self) -> bool:
        return self._quiet_seconds >= self._policy.stall_seconds

    @property
    def _is_slow(self) -> bool:
        """Whether next to nothing is accepted of what there still is."""
        return self._pace.is_too_slow and bool(self._window.ordering_keys)

    def _put(self, put: Put, records: list[Record]) -> Future[list[Outcome]]:
        """Put in this thread, which counts as waiting, too."""
        answer: Future[list[Outcome]] = Future()
        before, began, computed = self._now(), time.perf_counter(), time.thread_time()
        try:
            answer.set_result(put(records))
        except BaseException as error:
            answer.set_exception(error)
        self._concurrency.on_own_put(time.perf_counter() - began, time.thread_time() - computed)
        self._quiet_seconds += self._now() - before
        return answer

    def _await_all(self) -> None:
        """Await every response in flight, record its outcomes, count what stays unacknowledged, and report."""
        wait(self._in_flight)
        for future in list(self._in_flight):
            self._record_outcomes(future)
        for key in self._window.ordering_keys:
            first = self._window.first(key)
            if first is not None and first.ordinal in self._failed:
                self._give_up(first)
        self._report()

    def _take_batch(self, now: float) -> Batch:
        batch = self._window.take_batch(now)
        if self._failed:
            self.result.retried += sum(record.ordinal in self._failed for record in batch.records)
        self.result.requests += 1
        return batch

    def _wait(self, may_put: bool) -> None:
        """Wait for a response, for the end of a delay, or until nothing was acknowledged for too long."""
        before = self._now()
        seconds = self._policy.stall_seconds - self._quiet_seconds
        if may_put and (due := self._window.next_due) is not None:
            seconds = min(seconds, max(0.0, due - before))
        if self._in_flight:
            wait(self._in_flight, timeout=seconds, return_when=FIRST_COMPLETED)
        elif seconds:
            self._sleep(seconds)
        # Only waiting counts as quiet: a slow query for the next records is no stall of the destination.
        self._quiet_seconds += self._now() - before
        if not may_put:
            self._concurrency.consider(may_grow=not self._retry_states)

    def _on_responses(self) -> None:
        for future in filter(Future.done, list(self._in_flight)):
            self._record_outcomes(future)
        self._report()

    def _report(self) -> None:
        result, now = self.result, self._now()
        result.seconds = now - self._started
        self._pace.consider(result.delivered, result.throttles.total(), now)
        self._on_progress(self.result)

    def _record_outcomes(self, future: Future[list[Outcome]]) -> None:
        batch = self._in_flight.pop(future)
        records = batch.records
        if error := future.exception():
            self._error = self._error or error
            self._failed.update(record.ordinal for record in records)
            return
        outcomes = future.result()
        if len(outcomes) != len(records):
            outcomes = [Outcome(Status.UNKNOWN, "AnswerDoesNotMatch")] * len(records)
        taken, delivered = batch.pending, Status.DELIVERED
        # Nearly always there are none.
        is_whole = set(map(_status, outcomes)) <= {delivered}
        failures = [] if is_whole else [at for at, o in enumerate(outcomes) if o.status is not delivered]
        self._window.on_response(batch, outcomes, self._now(), all_delivered=not failures)
        # First what got through, because the failures of the same response are judged by it.
        if failures:
            taken = [p for p, o in zip(taken, outcomes, strict=True) if o.status is delivered]
        self._acknowledge(taken)
        for at in failures:
            self._on_failure(records[at], outcomes[at])

    def _acknowledge(self, taken: Sequence[Pending]) -> None:
        """Count acknowledged records, and let the next of their ordering keys be put."""
        if not taken:
            return
        result, records = self.result, [pending[0] for pending in taken]
        ordinals = list(map(_ordinal, records))
        result.delivered += len(taken)
        result.changes_delivered += sum(map(_changes, records))
        result.messages_delivered += sum(map(_messages, records))
        result.bytes_delivered += sum([pending[2] for pending in taken])
        self._acknowledged.add_all(ordinals)
        self._failed.difference_update(ordinals)
        self._quiet_seconds = 0.0
        others = self._window.remove(taken)
        if self._retry_states:
            for key in {pending[1] for pending in taken}.difference(others):
                self._retry_states.pop(key, None)
        for key in others:
            self._let_follow(key)

    def _let_follow(self, key: str) -> None:
        retry_state = self._retry_states.get(key)
        if retry_state is None:
            self._window.make_ready(key)
            return
        retry_state.attempts = 0
        retry_state.failures //= 2
        self._delay(key, retry_state)

    def _on_failure(self, record: Record, outcome: Outcome) -> None:
        self.result.add_failure(outcome, throttled=outcome.status is Status.THROTTLED)
        self._failed.add(record.ordinal)
        key = record.effective_ordering_key
        retry_state = self._retry_states.setdefault(key, KeyRetryState())
        is_slow = outcome.status is Status.THROTTLED and self.result.delivered > retry_state.seen
        retry_state.attempts += not is_slow
        retry_state.is_throttled = outcome.status is Status.THROTTLED
        retry_state.seen = self.result.delivered
        if outcome.status is Status.REJECTED or retry_state.attempts >= self._policy.attempts:
            self._exhausted |= outcome.status is not Status.REJECTED
            self._give_up(record)
        elif is_slow and self._window.rate_limiter.limits_rate_of(outcome):
            # The shard's token bucket sets the time; a delay of the key's own would leave the shard idle.
            self._window.make_ready(key)
        else:
            retry_state.failures += 1
            self._delay(key, retry_state)

    def _delay(self, key: str, retry_state: KeyRetryState) -> None:
        failures = retry_state.failures
        delay = self._jitter() * self._policy.delay_bound(failures) if failures else 0.0
        self._window.delay_key(key, self._now() + delay)

    def _give_up(self, record: Record) -> None:
        self.result.failed += 1
        self.result.changes_failed += record.changes
        state = self._retry_states.pop(record.effective_ordering_key, None)
        self._only_throttled &= state is not None and state.is_throttled
        self._window.drop_key(record.effective_ordering_key)

    def _conclude(self, destination: Destination) -> None:
        """Set the result's failure, or raise, after an orderly stop where it broke off."""
        stalled, slow = self._is_stalled, self._is_slow
        if self._error or stalled or slow or self._ended.is_set():
            self._await_all()
        if isinstance(self._error, AudienceError):
            self.result.failure = self._error
        elif self._error:
            raise self._error
        elif self.result.failed or stalled or slow:
            why = f"{self._policy.attempts} attempts each" if self._exhausted else "the error is permanent"
            if stalled or slow:
                seconds = self._policy.stall_seconds if stalled else self._policy.slow_seconds
                why = f"{'nothing' if stalled else 'next to nothing'} was acknowledged for {seconds:g} s"
            self._exhausted |= stalled or slow
            found = self.result, destination.limits, destination.name, why
            if self._only_throttled and (slow or self.result.failed):
                self.result.failure = DestinationThrottled(describe_failure(*found, exhausted=self._exhausted))
            else:
                self.result.failure = DeliveryIncomplete(describe_failure(*found, exhausted=self._exhausted))
