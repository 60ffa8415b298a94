"""What a written table tells of each audience, before it counts: the numbers that guards look at.

It reads the table once, and of the membership before it what that says of its audiences. No row leaves here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.diff import select_audience_rows, select_found
from airflow_kinesis_audience.guards import AudienceCounts
from airflow_kinesis_audience.membership import AUDIENCE
from airflow_kinesis_audience.source import read_wrong
from airflow_kinesis_audience.sql import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_audience.layout import Layout
    from airflow_kinesis_audience.ledger import Ledger

_NOTHING: Sequence[Any] = (None, 0, 0, None)


def read_counts(
    ledger: Ledger, layout: Layout, name: str, *, before_in: str | None, audience_id: str | None
) -> list[AudienceCounts]:
    """Read what a base or a change set tells of each audience, of those that were there before as well.

    :param before_in: the table that tells of the audiences of the membership before, or none on a first run.
    :param audience_id: the one audience of the sync, or none where there are many.
    """
    read, dialect = ledger.warehouse.read_rows, ledger.warehouse.dialect
    found = read(render(select_found(ledger.schema, name), dialect))
    told: dict[str | None, Sequence[Any]] = {}
    actions: dict[str | None, dict[str, tuple[int, int]]] = {}
    for audience, action, rows, users, *known in found:
        if action == AUDIENCE:
            told[audience] = known
        else:
            actions.setdefault(audience, {})[action] = (rows, users)
    before: dict[str | None, int] = {}
    if before_in is not None:
        query = render(select_audience_rows(ledger.schema, before_in), dialect)
        before = {audience: rows - bad for audience, _, rows, bad in read(query) if audience is not None}
    if audience_id is not None:
        told.setdefault(audience_id, _NOTHING)
    counts = []
    for audience in sorted({*told, *before}, key=lambda a: (a is not None, a or "")):
        called, rows, bad, wrong = told.get(audience, _NOTHING)
        counts.append(
            AudienceCounts.of(
                audience,
                name=called,
                source=(rows, bad),
                wrong=read_wrong(layout, wrong),
                actions=actions.get(audience, {}),
                previous=None if before_in is None else before.get(audience, 0),
            )
        )
    return counts
