"""One attempt at one change set: its records, and how far it got.

A change set's records are the same on every attempt, so that a number per record is all there is to remember.
What an earlier attempt had acknowledged is not put again, and chunks that are done are not even read.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.core.model.messages import Oversized
from airflow_kinesis_audience.core.outbox.report import Progress
from airflow_kinesis_audience.core.outbox.too_large import TooLargeMembers
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.result import ProduceResult
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
from airflow_kinesis_audience.core.readers.chunks import ChunkReader
from airflow_kinesis_audience.core.readers.partitions import WHOLE, Chunk, count_partition_groups, plan_chunks
from airflow_kinesis_audience.core.readers.profiles import ProfileSet
from airflow_kinesis_audience.core.state.delivery_details import (
    SENDING_SECONDS,
    AttemptCheckpoint,
    AttemptUnsent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_kinesis_audience.core.model.messages import Message
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.producer.records import Record
    from airflow_kinesis_audience.core.readers.events import EventSet
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail

    Content = ChangeSet | EventSet | ProfileSet

CHECKPOINT_SHARE = 0.05
"""Most of a delivery's time that is spent on writing checkpoints."""

RENEW_SECONDS = SENDING_SECONDS / 3
"""After which one is written all the same: the rest is for what is under way by then."""

_LEFT_OUT = ("omitted", "excluded", "too_large", "filtered")


class DeliveryAttempt:
    """One attempt at one change set, or at a part of it.

    :param content: what is sent.
    :param resumed: the last row of an earlier attempt, or none.
    :param append: appends a row to the delivery's log; with ``last``, the task stops there.
    :param watch: called after every response.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        delivery: Delivery,
        content: Content,
        resumed: AttemptDetail | None,
        *,
        append: Callable[[AttemptDetail, bool], object],
        watch: Callable[[Progress], None],
    ) -> None:
        self._warehouse = warehouse
        self._delivery = delivery
        self.content = content
        self._append = append
        self._watch = watch
        self._resumed = resumed is not None
        self._before = resumed.delivered if resumed else 0
        self._left_out = Counter({n: getattr(resumed, n) if resumed else 0 for n in _LEFT_OUT})
        self._open: dict[Chunk, Counter[str]] = {}
        self._written_at = time.monotonic(), time.time()
        self._pause = RENEW_SECONDS
        self._reader: ChunkReader | None = None
        self.acknowledged = AcknowledgedOrdinals.of(resumed.acknowledged) if resumed else AcknowledgedOrdinals()
        self.too_large = TooLargeMembers.of(resumed.too_large_members if resumed else None)
        self.delivered = self._before
        self.total = content.rows - (content.erased if isinstance(content, ChangeSet) else 0)
        self.result = ProduceResult()

    @property
    def left_out(self) -> dict[str, int]:
        """What is not sent, as far as it was rendered.

        Changes that the format cannot express (``omitted``), that no record can hold (``too_large``), or that the
        author's function leaves out (``filtered``), and profiles that must not be sent (``excluded``).
        """
        return {n: sum((c[n] for c in self._open.values()), self._left_out[n]) for n in _LEFT_OUT}

    @property
    def missing(self) -> int:
        """Changes that are neither acknowledged nor left out."""
        left_out = self.left_out
        return self.total - self.delivered - sum(left_out[n] for n in _LEFT_OUT if n != "excluded")

    def partition_groups(self) -> list[Iterator[Record]]:
        """Render the records of each partition group, but for chunks that are done."""
        delivery = self._delivery
        reader = self.content.reader(self._warehouse)
        planned = plan_chunks(
            reader.counts, slices=self.content.slices, partitions=delivery.partitions, part=delivery.part
        )
        if delivery.part != WHOLE or isinstance(self.content, ProfileSet):
            self.total = sum(chunk.changes for chunks in planned for chunk in chunks)
        self._reader = ChunkReader(
            reader,
            planned,
            partitions=delivery.partitions,
            part=delivery.part,
            is_done=self._is_done,
            one_message_per_row=delivery.renderer.traits.one_message_per_row,
            beside_others=self._warehouse.beside_others,
        )
        return [self._render_group(chunks, self._reader.read) for chunks in planned]

    def close(self) -> None:
        """Read no more; nothing is left at work that reads."""
        if self._reader is not None:
            self._reader.close()

    def _is_done(self, chunk: Chunk) -> bool:
        return self.acknowledged.covers(chunk.start, chunk.stop)

    def _render_group(self, chunks: Iterable[Chunk], read: Callable[[Chunk], Iterator[Any]]) -> Iterator[Record]:
        for chunk in chunks:
            if not self._is_done(chunk):
                yield from self._render_chunk(chunk, read)

    def _render_chunk(self, chunk: Chunk, read: Callable[[Chunk], Iterator[Any]]) -> Iterator[Record]:
        envelope = self._delivery.envelope(self.content.sync_id, self.content.instants)
        renderer = self._delivery.renderer
        counted: Counter[str] = Counter()

        def render() -> Iterator[Message]:
            for changes in read(chunk):
                self._show_life(RENEW_SECONDS)
                filtered = changes.change_count - renderer.let_through(changes).change_count
                counted["filtered"] += filtered
                counted["omitted"] += changes.change_count - filtered
                counted["excluded"] += renderer.count_excluded(changes)
                for found in renderer(changes, envelope):
                    if isinstance(found, Oversized):
                        self.too_large.add(found)
                        counted["omitted"] -= found.changes
                        counted["too_large"] += found.changes
                    else:
                        yield found

        end = chunk.start
        for record in self._delivery.records(render(), chunk.start):
            counted["omitted"] -= record.changes
            end = record.ordinal + 1
            yield record
        self._open[chunk] = counted
        # There are no more: what is left of the numbers is done, so that the chunk is, once its records are.
        self.acknowledged.add_range(end, chunk.stop)

    def checkpoint(self, result: ProduceResult) -> None:
        """Count what is acknowledged, before anything more is put, and write a checkpoint.

        Not after every response where the ledger is slow: rows take a small share of the time, from the first one
        on. After a kill only what was acknowledged since the last one is put again. When nothing is missing, the
        row that says so comes next.
        """
        self.result = result
        self.delivered = self._before + result.changes_delivered
        missing = self.missing
        if missing:
            self._show_life(self._pause)
        done = self.total - missing
        self._watch(Progress(as_of=self.content.as_of, done=done, total=self.total, result=result))

    def _show_life(self, seconds: float) -> None:
        """Write a checkpoint if the last row is so old: nobody else goes on with the delivery while this one does.

        :raises LedgerConflict: if somebody else has, so that nothing more is put.
        """
        began, began_by_wall = self._written_at
        # A machine that sleeps stops the one clock, and somebody sets the other back.
        if max(time.monotonic() - began, time.time() - began_by_wall) >= seconds:
            self.write(AttemptCheckpoint)

    def stop(self) -> None:
        """Write down how far an attempt got that failed, and that its task is not at work any more.

        If nothing can have been taken, the row says so: the next attempt may then have other options.
        """
        refused = isinstance(self.result.failure, DestinationRefused) and not self.result.codes
        untouched = not self.result.requests or (refused and not self.result.delivered)
        self.write(AttemptUnsent if untouched and not self._resumed else AttemptCheckpoint, last=True)

    def write(self, kind: type[AttemptDetail], *, last: bool = False) -> None:
        """Append a row of how far the change set got; a resume reads the last one."""
        self._written_at = began, _ = time.monotonic(), time.time()
        left_out = self._left_out
        for chunk in [c for c in self._open if self.acknowledged.covers(c.start, c.stop)]:
            left_out += self._open.pop(chunk)
        self._append(
            kind(
                render_config=self._delivery.render_config,
                table=self.content.table,
                partition_groups=count_partition_groups(self._delivery.partitions),
                delivered=self.delivered,
                acknowledged=self.acknowledged.ranges,
                too_large_members=self.too_large.detail,
                omitted=left_out["omitted"],
                excluded=left_out["excluded"],
                filtered=left_out["filtered"],
                too_large=left_out["too_large"],
            ),
            last,
        )
        self._pause = min((time.monotonic() - began) / CHECKPOINT_SHARE, RENEW_SECONDS)
