"""Puts records until each is acknowledged, and puts again what failed, nothing else.

Knows records, a ``put`` and a clock; neither formats, ledgers nor AWS. Never are two unacknowledged records of one
lane on their way: a record that fails holds back its own lane and no other. Every outcome is settled and
reported before anything more is put, so after a kill only what was in flight is unknown. Memory is bounded by the
window of records that are pulled and not yet acknowledged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.exceptions import AudienceError, DeliveryIncomplete
from airflow_kinesis_audience.messages import Limits, Outcome, Record, Status
from airflow_kinesis_audience.tally import Tally, describe_failure
from airflow_kinesis_audience.window import Window

if TYPE_CHECKING:
    from airflow_kinesis_audience.settled import Settled
    from airflow_kinesis_audience.window import Queue

Put = Callable[[Sequence[Record]], list[Outcome]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long to keep trying.

    :param attempts: failed puts of one record until it is given up. A throttled one counts only if nothing else
        got through since the record's last put: a slow stream is no reason to give up, a stuck one is.
    :param stall_seconds: give up when nothing was acknowledged for so long.
    :param first_delay_seconds: bound of a key's random delay after its first failure; each one doubles it.
    :param longest_delay_seconds: what the bound grows to at most.
    """

    attempts: int = 10
    stall_seconds: float = 300.0
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.stall_seconds <= 0:
            raise ValueError(f"attempts={self.attempts}, stall_seconds={self.stall_seconds}; both must be above 0")

    def delay_bound(self, failures: int) -> float:
        """Return the upper bound of a key's delay in seconds after that many failures."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(failures - 1, 64))


def deliver(
    records: Iterable[Record],
    put: Put,
    *,
    limits: Limits,
    settled: Settled,
    destination: str = "the destination",
    on_progress: Callable[[Tally], None],
    policy: RetryPolicy | None = None,
    lanes: int = 4,
    window_records: int = 2_000,
    window_bytes: int = 32_000_000,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> Tally:
    """Put records until all are acknowledged or the policy gives up; what is not settled then is still to be put.

    :param records: read lazily; those already in ``settled`` are skipped.
    :param put: one request, called from several threads; gives one outcome per record, in order.
    :param destination: what to call it in a sentence.
    :param settled: gains every record that is acknowledged.
    :param on_progress: called after outcomes came in and before anything more is put: the place for a checkpoint.
    :param lanes: requests on their way at once.
    :param window_records: most records pulled and unacknowledged at a time.
    :param window_bytes: bytes of such records from which on none is pulled.
    :param jitter: gives numbers from 0 to 1, by which the bound of a delay is multiplied.
    :returns: the tally; ``failure`` holds a domain error of ``put`` or :class:`DeliveryIncomplete`. Whatever else
        happens is raised, after everything on its way was awaited, settled and reported.
    """
    if min(lanes, window_records, window_bytes) < 1:
        raise ValueError(f"{lanes=}, {window_records=}, {window_bytes=}; all must be above 0")
    window = Window(limits=limits, most_records=window_records, most_bytes=window_bytes)
    delivery = _Delivery(window, settled, on_progress, policy or RetryPolicy(), clock, jitter)
    with ThreadPoolExecutor(lanes, thread_name_prefix="lane") as pool:
        try:
            delivery.drive(records, lambda batch: pool.submit(put, batch), lanes, sleep)
        except BaseException:
            delivery.land_all()
            raise
        delivery.conclude(limits, destination)
    return delivery.tally


class _Delivery:
    """The scheduling thread's side of one attempt."""

    def __init__(
        self,
        window: Window,
        settled: Settled,
        on_progress: Callable[[Tally], None],
        policy: RetryPolicy,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.tally = Tally()
        self._window, self._settled, self._on_progress = window, settled, on_progress
        self._policy, self._clock, self._jitter = policy, clock, jitter
        self._flying: dict[Future[list[Outcome]], list[Record]] = {}
        self._broken: BaseException | None = None
        self._started = clock()
        self._quiet_seconds = 0.0
        self._exhausted = False

    def drive(
        self,
        records: Iterable[Record],
        submit: Callable[[list[Record]], Future[list[Outcome]]],
        lanes: int,
        sleep: Callable[[float], None],
    ) -> None:
        """Pull, put and wait until nothing is left that may be put."""
        window, source, more = self._window, iter(records), True
        while True:
            if any(future.done() for future in self._flying):
                self._land()
            if self._broken or self._quiet_seconds >= self._policy.stall_seconds:
                break
            window.release(self._clock())
            # One record given up is a failure already: what is in the window goes out, nothing new comes in.
            may_pull = more and not self.tally.rejected and window.has_room
            lane_is_free = len(self._flying) < lanes
            if lane_is_free and window.has_ready and (window.fills_a_batch or not may_pull):
                batch = self._take_batch()
                self._flying[submit(batch)] = batch
            elif may_pull:
                record = next(source, None)
                if record is None:
                    more = False
                elif record.ordinal not in self._settled:
                    window.admit(record)
            elif self._flying or window.next_due is not None:
                self._wait(lane_is_free, sleep)
            else:
                break

    def land_all(self) -> None:
        """Await everything on its way, settle it, count what stays unacknowledged, and report."""
        wait(self._flying)
        for future in list(self._flying):
            self._record_outcomes(future)
        for key, queue in list(self._window.queues.items()):
            if queue.puts:
                self._give_up(key)
        self._report()

    def _take_batch(self) -> list[Record]:
        batch = self._window.take_batch()
        for record in batch:
            queue = self._window.queues[record.order]
            self.tally.retried += queue.puts > 0
            queue.puts += 1
        self.tally.requests += 1
        return batch

    def _wait(self, lane_is_free: bool, sleep: Callable[[float], None]) -> None:
        """Wait for an answer, for a key's delay to be over, or for the stall."""
        before = self._clock()
        seconds = self._policy.stall_seconds - self._quiet_seconds
        if lane_is_free and (due := self._window.next_due) is not None:
            seconds = min(seconds, max(0.0, due - before))
        if self._flying:
            wait(self._flying, timeout=seconds, return_when=FIRST_COMPLETED)
        else:
            sleep(seconds)
        # Only waiting counts as quiet: a slow query for the next records is no stall of the destination.
        self._quiet_seconds += self._clock() - before

    def _land(self) -> None:
        for future in filter(Future.done, list(self._flying)):
            self._record_outcomes(future)
        self._report()

    def _report(self) -> None:
        self.tally.seconds = self._clock() - self._started
        self._on_progress(self.tally)

    def _record_outcomes(self, future: Future[list[Outcome]]) -> None:
        batch = self._flying.pop(future)
        if error := future.exception():
            self._broken = self._broken or error
            return
        outcomes = future.result()
        if len(outcomes) != len(batch):
            outcomes = [Outcome(Status.UNKNOWN, "AnswerDoesNotMatch")] * len(batch)
        # First what got through, because the failures of the same answer are judged by it.
        for record, outcome in zip(batch, outcomes, strict=True):
            if outcome.status is Status.DELIVERED:
                self._settle(record)
        for record, outcome in zip(batch, outcomes, strict=True):
            if outcome.status is not Status.DELIVERED:
                self._take_failure(record, outcome)

    def _settle(self, record: Record) -> None:
        self._settled.add(record.ordinal)
        self.tally.delivered += 1
        self.tally.changes_delivered += record.changes
        self.tally.messages_delivered += record.messages
        self.tally.bytes_delivered += record.size
        self._quiet_seconds = 0.0
        key = record.order
        queue = self._window.queues[key]
        queue.failures //= 2
        self._window.remove_first(key)
        if queue.records:
            self._hold(key, queue)

    def _take_failure(self, record: Record, outcome: Outcome) -> None:
        self.tally.add_failure(outcome, throttled=outcome.status is Status.THROTTLED)
        key = record.order
        queue = self._window.queues[key]
        queue.failures += 1
        is_slow = outcome.status is Status.THROTTLED and self.tally.delivered > queue.seen
        queue.attempts += not is_slow
        queue.seen = self.tally.delivered
        if outcome.status is Status.REJECTED or queue.attempts >= self._policy.attempts:
            self._exhausted |= outcome.status is not Status.REJECTED
            self._give_up(key)
        else:
            self._hold(key, queue)

    def _hold(self, key: str, queue: Queue) -> None:
        delay = self._jitter() * self._policy.delay_bound(queue.failures) if queue.failures else 0.0
        self._window.hold(key, self._clock() + delay)

    def _give_up(self, key: str) -> None:
        record = self._window.queues[key].records[0]
        self.tally.rejected += 1
        self.tally.changes_rejected += record.changes
        self._window.close(key)

    def conclude(self, limits: Limits, destination: str) -> None:
        """Say what became of it, after an orderly stop where it broke off."""
        stalled = self._quiet_seconds >= self._policy.stall_seconds
        if self._broken or stalled:
            self.land_all()
        if isinstance(self._broken, AudienceError):
            self.tally.failure = self._broken
        elif self._broken:
            raise self._broken
        elif self.tally.rejected or stalled:
            why = f"{self._policy.attempts} attempts each" if self._exhausted else "a clear refusal"
            if stalled:
                why = f"nothing was acknowledged for {self._policy.stall_seconds:g} s"
            exhausted = stalled or self._exhausted
            self.tally.failure = DeliveryIncomplete(
                describe_failure(self.tally, limits, destination, why, exhausted=exhausted)
            )
