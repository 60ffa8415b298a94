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
from typing import TYPE_CHECKING

from airflow_kinesis_audience.exceptions import AudienceError, DeliveryIncomplete
from airflow_kinesis_audience.messages import Limits, Outcome, Record, Status
from airflow_kinesis_audience.retries import RetryPolicy, Trouble
from airflow_kinesis_audience.tally import Tally, describe_failure
from airflow_kinesis_audience.window import Batch, Window

if TYPE_CHECKING:
    from airflow_kinesis_audience.pacing import Held
    from airflow_kinesis_audience.settled import Settled

LANES = 16
"""Requests on their way at once, at most: enough for an endpoint that answers within some tens of milliseconds."""

_BUSY_SHARE, _LOOK_SECONDS = 0.8, 0.005
"""Of so many seconds: a process that computes for less could do more, where all its requests are on their way."""

Put = Callable[[Sequence[Record]], list[Outcome]]
Submit = Callable[[list[Record]], Future[list[Outcome]]]


def deliver(
    feeds: Sequence[Iterable[Record]],
    put: Put,
    *,
    limits: Limits,
    settled: Settled,
    destination: str = "the destination",
    on_progress: Callable[[Tally], None],
    policy: RetryPolicy | None = None,
    lanes: int = LANES,
    window_records: int = 16_000,
    window_bytes: int = 32_000_000,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> Tally:
    """Put records until all are acknowledged or the policy gives up; what is not settled then is still to be put.

    :param feeds: of records, read lazily, from all at the same time; those already in ``settled`` are skipped. No
        two feeds have records of one lane.
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
    window = Window(feeds, limits=limits, most_records=window_records, most_bytes=window_bytes)
    delivery = _Delivery(window, settled, on_progress, policy or RetryPolicy(), clock, jitter)
    with ThreadPoolExecutor(lanes, thread_name_prefix="lane") as pool:
        try:
            delivery.drive(lambda batch: pool.submit(put, batch), lanes, sleep)
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
        self._flying: dict[Future[list[Outcome]], Batch] = {}
        self._failed: set[int] = set()
        self._troubles: dict[str, Trouble] = {}
        self._lanes_in_use = 2
        self._looked_at = time.perf_counter(), time.process_time()
        self._broken: BaseException | None = None
        self._started = clock()
        self._quiet_seconds = 0.0
        self._exhausted = False

    def drive(self, submit: Submit, lanes: int, sleep: Callable[[float], None]) -> None:
        """Pull, put and wait until nothing is left that may be put."""
        window = self._window
        while True:
            if any(future.done() for future in self._flying):
                self._land()
            if self._broken or self._quiet_seconds >= self._policy.stall_seconds:
                break
            now = self._clock()
            window.release(now)
            # One record given up is a failure already: what is in the window goes out, nothing new comes in.
            feed = None if self.tally.rejected else window.find_feed()
            lane_is_free = len(self._flying) < min(lanes, self._lanes_in_use)
            if lane_is_free and window.has_ready(now) and (feed is None or window.fills_a_batch(now)):
                batch = self._take_batch(now)
                self._flying[submit(batch.records)] = batch
            elif feed is not None:
                window.pull(feed, self._settled)
            elif self._flying or window.next_due is not None:
                self._wait(lane_is_free, sleep)
            else:
                break

    def land_all(self) -> None:
        """Await everything on its way, settle it, count what stays unacknowledged, and report."""
        wait(self._flying)
        for future in list(self._flying):
            self._record_outcomes(future)
        for key in self._window.lanes:
            first = self._window.first(key)
            if first is not None and first.ordinal in self._failed:
                self._give_up(first)
        self._report()

    def _take_batch(self, now: float) -> Batch:
        batch = self._window.take_batch(now)
        if self._failed:
            self.tally.retried += sum(record.ordinal in self._failed for record in batch.records)
        self.tally.requests += 1
        return batch

    def _wait(self, lane_is_free: bool, sleep: Callable[[float], None]) -> None:
        """Wait for an answer, for a lane's delay to be over, or for the stall."""
        before = self._clock()
        seconds = self._policy.stall_seconds - self._quiet_seconds
        if lane_is_free and (due := self._window.next_due) is not None:
            seconds = min(seconds, max(0.0, due - before))
        if self._flying:
            wait(self._flying, timeout=seconds, return_when=FIRST_COMPLETED)
        elif seconds:
            sleep(seconds)
        # Only waiting counts as quiet: a slow query for the next records is no stall of the destination.
        self._quiet_seconds += self._clock() - before
        if not lane_is_free:
            self._consider_another_lane()

    def _consider_another_lane(self) -> None:
        # More requests help where the endpoint takes its time, and hinder where this process is busy itself: its
        # threads take turns.
        (began, cpu_began), now = self._looked_at, (time.perf_counter(), time.process_time())
        seconds, busy = now[0] - began, now[1] - cpu_began
        if seconds >= _LOOK_SECONDS:
            self._looked_at = now
            self._lanes_in_use += busy < _BUSY_SHARE * seconds and not self._troubles

    def _land(self) -> None:
        for future in filter(Future.done, list(self._flying)):
            self._record_outcomes(future)
        self._report()

    def _report(self) -> None:
        self.tally.seconds = self._clock() - self._started
        self._on_progress(self.tally)

    def _record_outcomes(self, future: Future[list[Outcome]]) -> None:
        batch = self._flying.pop(future)
        records = batch.records
        if error := future.exception():
            self._broken = self._broken or error
            self._failed.update(record.ordinal for record in records)
            return
        outcomes = future.result()
        if len(outcomes) != len(records):
            outcomes = [Outcome(Status.UNKNOWN, "AnswerDoesNotMatch")] * len(records)
        taken, delivered = batch.held, Status.DELIVERED
        refused = [at for at, outcome in enumerate(outcomes) if outcome.status is not delivered]
        self._window.land(batch, outcomes, self._clock(), is_whole=not refused)
        # First what got through, because the failures of the same answer are judged by it.
        if refused:
            taken = [h for h, o in zip(taken, outcomes, strict=True) if o.status is delivered]
        self._settle(taken)
        for at in refused:
            self._take_failure(records[at], outcomes[at])

    def _settle(self, taken: Sequence[Held]) -> None:
        """Count acknowledged records, and let the next of their lanes go."""
        if not taken:
            return
        tally, records = self.tally, [held[0] for held in taken]
        ordinals = [record.ordinal for record in records]
        tally.delivered += len(taken)
        tally.changes_delivered += sum([record.changes for record in records])
        tally.messages_delivered += sum([record.messages for record in records])
        tally.bytes_delivered += sum([held[2] for held in taken])
        self._settled.add_all(ordinals)
        self._failed.difference_update(ordinals)
        self._quiet_seconds = 0.0
        others = self._window.remove(taken)
        if self._troubles:
            for key in {held[1] for held in taken}.difference(others):
                self._troubles.pop(key, None)
        for key in others:
            self._let_follow(key)

    def _let_follow(self, key: str) -> None:
        trouble = self._troubles.get(key)
        if trouble is None:
            self._window.make_ready(key)
            return
        trouble.attempts = 0
        trouble.failures //= 2
        self._hold(key, trouble)

    def _take_failure(self, record: Record, outcome: Outcome) -> None:
        self.tally.add_failure(outcome, throttled=outcome.status is Status.THROTTLED)
        self._failed.add(record.ordinal)
        key = record.order
        trouble = self._troubles.setdefault(key, Trouble())
        is_slow = outcome.status is Status.THROTTLED and self.tally.delivered > trouble.seen
        trouble.attempts += not is_slow
        trouble.seen = self.tally.delivered
        if outcome.status is Status.REJECTED or trouble.attempts >= self._policy.attempts:
            self._exhausted |= outcome.status is not Status.REJECTED
            self._give_up(record)
        elif is_slow and self._window.pacing.has_limits(outcome):
            # The shard's pace says when; a delay of the lane's own would leave the shard idle.
            self._window.make_ready(key)
        else:
            trouble.failures += 1
            self._hold(key, trouble)

    def _hold(self, key: str, trouble: Trouble) -> None:
        failures = trouble.failures
        delay = self._jitter() * self._policy.delay_bound(failures) if failures else 0.0
        self._window.hold(key, self._clock() + delay)

    def _give_up(self, record: Record) -> None:
        self.tally.rejected += 1
        self.tally.changes_rejected += record.changes
        self._troubles.pop(record.order, None)
        self._window.close(record.order)

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
