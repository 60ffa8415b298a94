"""What the rows of a change set, or of a first base, add up to: the counts of each audience.

Pure: rows in, counts out. Whether the rows were read out of a table or out of a statement that wrote none is all
the same here, so that a plan counts exactly as a run does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.guards import AudienceCounts
from airflow_kinesis_audience.membership import AUDIENCE
from airflow_kinesis_audience.source import read_wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_kinesis_audience.layout import Layout

_NOTHING: Sequence[Any] = (None, 0, 0, None)


def add_up(
    layout: Layout,
    found: Iterable[Sequence[Any]],
    *,
    before: Iterable[Sequence[Any]] | None,
    expected: str | None,
) -> list[AudienceCounts]:
    """Add up the counts per audience.

    :param found: audience id, action, rows, distinct users; where the action is ``audience`` also name, rows of
        the source, invalid rows, wrong identities.
    :param before: id, name, rows, invalid rows of the audiences before; none on a first run.
    :param expected: the audience that must be counted even if no row names it.
    """
    told: dict[str | None, Sequence[Any]] = {}
    actions: dict[str | None, dict[str, tuple[int, int]]] = {}
    for audience, action, rows, users, *known in found:
        if action == AUDIENCE:
            told[audience] = known
        else:
            actions.setdefault(audience, {})[action] = (rows, users)
    previous = {audience: rows - bad for audience, _, rows, bad in before or () if audience is not None}
    if expected is not None:
        told.setdefault(expected, _NOTHING)
    counts = []
    for audience in sorted({*told, *previous}, key=lambda a: (a is not None, a or "")):
        called, rows, bad, wrong = told.get(audience, _NOTHING)
        counts.append(
            AudienceCounts.of(
                audience,
                name=called,
                source=(rows, bad),
                wrong=read_wrong(layout, wrong),
                actions=actions.get(audience, {}),
                previous=None if before is None else previous.get(audience, 0),
            )
        )
    return counts
