"""The producer: puts records until each is acknowledged, and after a partial failure puts the failed ones again.

Delivery is at least once, and a repeated attempt is idempotent: what is acknowledged is never put again, and what
is put again has the same bytes. Two unacknowledged records of one ordering key are never in flight together, so a
failed record holds back its own key and no other. Every outcome is recorded and reported before anything more is
put: after a kill only what was in flight is unknown. It knows records, a destination and a clock; no formats,
ledgers or AWS.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import AudienceError, DeliveryIncomplete
from airflow_kinesis_audience.core.producer.backoff import KeyRetryState, RetryPolicy
from airflow_kinesis_audience.core.producer.in_flight import Batch, Bounds, InFlightWindow
from airflow_kinesis_audience.core.producer.records import Destination, Outcome, Record, Status
from airflow_kinesis_audience.core.producer.result import ProduceResult, describe_failure

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
    from airflow_kinesis_audience.core.producer.rate_limit import Pending

_BUSY_SHARE, _LOOK_SECONDS = 0.8, 0.005
"""Of so many seconds: a process that computes for less than this share has time for one more request in flight."""

Submit = Callable[[list[Record]], Future[list[Outcome]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Time and chance, so that a test can have its own.

    :param now: seconds that never go back.
    :param sleep: waits for some seconds.
    :param jitter: returns numbers from 0 to 1; the upper bound of a delay is multiplied by one of them.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random


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
    :returns: its ``failure`` holds a domain error of ``destination.put`` or :class:`DeliveryIncomplete`. Any other
        error is raised, after every request in flight has its answer, recorded and reported.
    """
    bounds, clock = bounds or Bounds(), clock or Clock()
    window = InFlightWindow(partition_groups, limits=destination.limits, bounds=bounds)
    scheduler = _Scheduler(window, acknowledged, on_progress, policy or RetryPolicy(), clock)
    with ThreadPoolExecutor(bounds.max_in_flight, thread_name_prefix="put") as pool:
        try:
            scheduler.run(lambda batch: pool.submit(destination.put, batch), bounds.max_in_flight)
        except BaseException:
            scheduler.await_all()
            raise
        scheduler.conclude(destination)
    return scheduler.result


class _Scheduler:
    """What the calling thread does in an attempt: pull, submit, record outcomes, retry; other threads put."""

    def __init__(
        self,
        window: InFlightWindow,
        acknowledged: AcknowledgedOrdinals,
        on_progress: Callable[[ProduceResult], None],
        policy: RetryPolicy,
        clock: Clock,
    ) -> None:
        self.result = ProduceResult()
        self._window, self._acknowledged, self._on_progress = window, acknowledged, on_progress
        self._policy, self._now, self._sleep, self._jitter = policy, clock.now, clock.sleep, clock.jitter
        self._in_flight: dict[Future[list[Outcome]], Batch] = {}
        self._failed: set[int] = set()
        self._retry_states: dict[str, KeyRetryState] = {}
        self._allowed_requests = 2
        self._looked_at = time.perf_counter(), time.process_time()
        self._error: BaseException | None = None
        self._started = self._now()
        self._quiet_seconds = 0.0
        self._exhausted = False

    def run(self, submit: Submit, max_in_flight: int) -> None:
        """Pull, put and wait until nothing is left that may be put."""
        window = self._window
        while True:
            if any(future.done() for future in self._in_flight):
                self._on_responses()
            if self._error or self._quiet_seconds >= self._policy.stall_seconds:
                break
            now = self._now()
            window.end_delays(now)
            # One record given up is a failure already: what is in the window goes out, nothing new comes in.
            group = None if self.result.failed else window.find_group()
            may_put = len(self._in_flight) < min(max_in_flight, self._allowed_requests)
            if may_put and window.has_ready(now) and (group is None or window.fills_a_batch(now)):
                batch = self._take_batch(now)
                self._in_flight[submit(batch.records)] = batch
            elif group is not None:
                window.pull(group, self._acknowledged)
            elif self._in_flight or window.next_due is not None:
                self._wait(may_put)
            else:
                break

    def await_all(self) -> None:
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
            self._consider_another_request()

    def _consider_another_request(self) -> None:
        # More requests help where the endpoint takes its time, and hinder where this process is busy itself: its
        # threads take turns.
        (began, cpu_began), now = self._looked_at, (time.perf_counter(), time.process_time())
        seconds, busy = now[0] - began, now[1] - cpu_began
        if seconds >= _LOOK_SECONDS:
            self._looked_at = now
            self._allowed_requests += busy < _BUSY_SHARE * seconds and not self._retry_states

    def _on_responses(self) -> None:
        for future in filter(Future.done, list(self._in_flight)):
            self._record_outcomes(future)
        self._report()

    def _report(self) -> None:
        self.result.seconds = self._now() - self._started
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
        failures = [at for at, outcome in enumerate(outcomes) if outcome.status is not delivered]
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
        ordinals = [record.ordinal for record in records]
        result.delivered += len(taken)
        result.changes_delivered += sum([record.changes for record in records])
        result.messages_delivered += sum([record.messages for record in records])
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
        self._retry_states.pop(record.effective_ordering_key, None)
        self._window.drop_key(record.effective_ordering_key)

    def conclude(self, destination: Destination) -> None:
        """Set the result's failure, or raise, after an orderly stop where it broke off."""
        stalled = self._quiet_seconds >= self._policy.stall_seconds
        if self._error or stalled:
            self.await_all()
        if isinstance(self._error, AudienceError):
            self.result.failure = self._error
        elif self._error:
            raise self._error
        elif self.result.failed or stalled:
            why = f"{self._policy.attempts} attempts each" if self._exhausted else "the error is permanent"
            if stalled:
                why = f"nothing was acknowledged for {self._policy.stall_seconds:g} s"
            exhausted = stalled or self._exhausted
            self.result.failure = DeliveryIncomplete(
                describe_failure(self.result, destination.limits, destination.name, why, exhausted=exhausted)
            )
