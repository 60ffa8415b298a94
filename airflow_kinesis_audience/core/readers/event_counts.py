"""What a table of events has: how many events, which rows are none and why, and which values cannot be sent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.source.flags import find_numbers, flags_of, has_numbers
from airflow_kinesis_audience.core.source.no_texts import check_texts, checked_texts, has_no_text
from airflow_kinesis_audience.core.sql.statements import column, render, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.core.source.event_layout import EventLayout
    from airflow_kinesis_audience.core.source.layout import Column
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse


@dataclass(frozen=True, kw_only=True, slots=True)
class EventCounts:
    """What a table of events has.

    :param invalid: by reason, the rows that are no event.
    :param placeholders: events that have in an identity a value that stands for none, by its label.
    :param numbers: columns that are taken for booleans and have other numbers.
    """

    events: int = 0
    slices: int = 0
    invalid: Mapping[str, int]
    numbers: Sequence[Column]
    placeholders: Mapping[str, int] = field(default_factory=dict)


def count_events(
    warehouse: Warehouse, schema: str, name: str, layout: EventLayout, keys: Mapping[str, str | None]
) -> EventCounts:
    """Count a table of events.

    :param keys: what :func:`keys_of_events` names.
    :raises WarehouseRefused: if a text has bytes that are no characters; a retry does not help.
    """
    filtered, flags = layout.columns.filtered, flags_of(layout.columns)
    texts = checked_texts(layout.columns, keys, warehouse.dialect)
    measures = [
        *(exp.Sum(this=column(c.filled)) for c in filtered),
        *map(has_numbers, flags),
        *(has_no_text(n, warehouse.dialect) for n in texts),
    ]
    query = (
        exp.select(column("problem"), exp.Count(this=exp.Star()), exp.Max(this=column("slice")), *measures)
        .from_(table(schema, name))
        .group_by(column("problem"))
    )
    found = warehouse.read_rows(render(query, warehouse.dialect))
    groups = [group[len(group) - len(texts) :] for group in found]
    check_texts(layout.columns, texts, groups, warehouse.dialect)
    counted = EventCounts(
        invalid={str(reason): int(rows) for reason, rows, *_ in found if reason is not None},
        numbers=find_numbers(layout.columns, (measured[len(filtered) :] for _, _, _, *measured in found)),
    )
    for reason, rows, last, *measured in found:
        if reason is None:
            none = {c.label: int(n) for c, n in zip(filtered, measured, strict=False) if n}
            counted = replace(counted, events=int(rows), slices=int(last) + 1, placeholders=none)
    return counted
