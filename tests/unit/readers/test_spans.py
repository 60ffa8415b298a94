"""What one statement reads, however far an earlier attempt got: each chunk that is left once, and nothing else."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.readers.partitions import MOST_PARTITION_GROUPS, WHOLE, Chunk, plan_chunks
from airflow_kinesis_audience.core.readers.spans import plan_spans

ROWS = 20_000


def planned_of(drawn: random.Random) -> list[list[Chunk]]:
    slices = drawn.choice([1, 3, 40])
    share = drawn.choice([0.05, 0.5, 1.0])
    counts = {
        (number, f"{digit:x}"): drawn.choice([1, 40, 1_250, 9_000])
        for number in range(slices)
        for digit in range(16)
        if drawn.random() < share
    }
    return plan_chunks(counts, slices=slices, partitions=drawn.choice([1, 4, 16]), part=WHOLE)


@given(seed=st.integers(0, 2**32))
def test_each_chunk_that_is_left_is_read_once_and_nothing_else(seed: int) -> None:
    drawn = random.Random(seed)
    planned = planned_of(drawn)
    share = drawn.choice([0.0, 0.02, 0.5, 0.98])
    every = [chunk for chunks in planned for chunk in chunks]
    done = {chunk for chunk in every if drawn.random() < share}
    spans = plan_spans(planned, rows=ROWS, slices=None, is_done=done.__contains__)
    read: Counter[Chunk] = Counter()
    for span in spans:
        digits = span.digits(len(planned))
        each = MOST_PARTITION_GROUPS // len(planned)
        inside = [c for c in every if c.slice in span.slices and c.group * each in digits]
        assert sum(c.changes for c in inside) <= ROWS or len(inside) == 1
        read.update(inside)
    assert read == Counter(set(every) - done)
