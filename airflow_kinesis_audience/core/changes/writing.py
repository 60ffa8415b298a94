"""Writes the table of a change set, or of a first base, and counts what is in it.

Whether it counts, and whether it may, is decided elsewhere; a table that does not is dropped by whoever wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.changes import value_bounds
from airflow_kinesis_audience.core.changes.change_set import select_changes
from airflow_kinesis_audience.core.changes.counts import count_audiences
from airflow_kinesis_audience.core.changes.holding import count_without, select_without
from airflow_kinesis_audience.core.changes.insertion import select_compensation
from airflow_kinesis_audience.core.changes.source_rows import select_first_base
from airflow_kinesis_audience.core.sql.statements import render, table, write_table
from airflow_kinesis_audience.core.state import rows as state_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.changes.guards import Breach
    from airflow_kinesis_audience.core.changes.insertion import Gap
    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.state.commits import TableCommitter
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a run is about to do: from which membership, in which layout, into which table.

    :param breaches: of the sync as a whole, such as what of the mapping is another.
    :param counts_nulls: count of each mapped column the rows of the source that have nothing in it.
    """

    previous: RecordedChangeSet | None
    layout: TableLayout
    read: exp.Select
    query: str | None
    reads_twice: bool
    table: str
    breaches: list[Breach]
    counts_nulls: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was found in a written table.

    :param names: of the audiences, also of those that were there before alone, by their ids.
    """

    counts: Sequence[AudienceCounts]
    names: Mapping[str, str]
    slice_rows: int
    numbers: Sequence[Column] = ()
    invalid: Sequence[Breach] = ()


class TableWriter:
    """Writes the tables of a sync's change sets.

    :param expected: the audience that is counted even if no row names it.
    """

    def __init__(self, committer: TableCommitter, *, expected: str | None) -> None:
        self._committer = committer
        self._ledger = committer.ledger
        self._warehouse = committer.ledger.warehouse
        self._expected = expected

    def write(self, step: Step, as_of: datetime, *, deduplicate: bool) -> None:
        """Write what differs from the membership before, or all members where there is none.

        :param deduplicate: leave out all but the first row of each user.
        """
        schema, timeline = self._ledger.schema, self._committer.timeline
        # Rows that were numbered are dear to number again.
        how = {
            "deduplicate": deduplicate,
            "materialize": deduplicate or not step.reads_twice,
            "nulls": step.counts_nulls,
        }
        if step.previous is None:
            statement = select_first_base(step.read, step.layout, as_of, **how)
        else:
            tables = timeline.tables(schema, step.previous.as_of, step.layout)
            statement = select_changes(step.read, tables, as_of, self._warehouse.dialect, **how)
        write_table(
            self._warehouse,
            table(schema, step.table),
            statement,
            source_query=step.query,
            sliced_by="position" if step.previous is not None else "",
            has_audience_rows=True,
            # Whoever continues after it writes it first, and not once more with numbers.
            apart=not deduplicate,
        )

    def write_without(
        self, step: Step, written: Written, as_of: datetime, held: Collection[str]
    ) -> tuple[Step, Written]:
        """Write what counts of a written table without the audiences that are held; gives what belongs to that."""
        before_in = self._committer.timeline.audiences_table(step.previous) if step.previous else None
        name = self._committer.announce("base" if step.previous is None else "changes", as_of)
        with self._committer.unless_fenced(name, as_of):
            write_table(
                self._warehouse,
                table(self._ledger.schema, name),
                select_without(self._ledger.schema, step.table, step.layout, held, before_in=before_in),
                sliced_by="position" if step.previous is not None else "",
                has_audience_rows=True,
            )
        return replace(step, table=name), replace(written, counts=count_without(written.counts, held))

    def write_compensation(self, inserted: Step, gap: Gap) -> str:
        """Write the compensation of an inserted change set; gives its table's name."""
        following = self._committer.timeline.tables(self._ledger.schema, gap.following.as_of, inserted.layout)
        name = self._committer.announce("changes", gap.compensated_at)
        with self._committer.unless_fenced(name, gap.compensated_at):
            write_table(
                self._warehouse,
                table(self._ledger.schema, name),
                select_compensation(inserted.table, following, inserted.layout, gap.compensated_at),
                sliced_by="position",
                has_audience_rows=True,
            )
        return name

    def count(self, step: Step) -> Written:
        """Count a table's rows and what was before, in one statement."""
        before_in = self._committer.timeline.audiences_table(step.previous) if step.previous else None
        known = step.layout, self._warehouse.dialect
        measures = value_bounds.measure_values(*known, both_sides=step.previous is not None)
        query = state_rows.select_found(self._ledger.schema, step.table, *measures, before_in=before_in)
        found = self._warehouse.read_rows(render(query, self._warehouse.dialect))
        # Of the audiences before: id, name, rows, invalid rows.
        before = [(r[0], r[4], *r[2:4]) for r in found if r[1] == state_rows.BEFORE]
        found = [row for row in found if row[1] != state_rows.BEFORE]
        named = [*before, *((r[0], r[4]) for r in found if r[1] == state_rows.AUDIENCE)]
        counts = count_audiences(
            step.layout,
            (row[: -len(measures)] for row in found),
            before=None if before_in is None else before,
            expected=self._expected,
        )
        values = [row[-len(measures) :] for row in found]
        return Written(
            counts=counts,
            names={a: called or a for a, called, *_ in named if a is not None},
            slice_rows=value_bounds.choose_slice_rows(*known, values, most_rows=state_rows.SLICE_ROWS),
            numbers=value_bounds.find_measured_numbers(step.layout, values),
        )
