"""What the rows of a change set, or of a first base, add up to: the counts of each audience.

Pure: rows in, counts out. Whether the rows were read out of a table or out of a statement that wrote none is all
the same here, so that a plan counts exactly as a run does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.guards import AudienceCounts
from airflow_kinesis_audience.source import read_wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_kinesis_audience.layout import Layout


def add_up(
    layout: Layout,
    *,
    told: Sequence[Sequence[Any]],
    counted: Iterable[Sequence[Any]],
    before: Iterable[Sequence[Any]] | None,
    expected: str | None,
) -> list[AudienceCounts]:
    """Add up the counts per audience.

    :param told: what is told of the audiences: id, name, rows, invalid rows, wrong identities.
    :param counted: audience id, action, rows, distinct users.
    :param before: the first four of ``told``, of the membership before; none on a first run.
    :param expected: the audience that must be counted even if no row names it.
    """
    source = {a: (rows, invalid) for a, _, rows, invalid, _ in told}
    wrong = {a: read_wrong(layout, counts) for a, *_, counts in told}
    names = {a: name for a, name, *_ in told}
    actions: dict[str | None, dict[str, tuple[int, int]]] = {}
    for audience_id, action, rows, users in counted:
        actions.setdefault(audience_id, {})[action] = (rows, users)
    previous: dict[str | None, int] = {a: rows - bad for a, _, rows, bad in before or () if a is not None}
    if expected is not None:
        source.setdefault(expected, (0, 0))
    return [
        AudienceCounts.of(
            audience_id,
            name=names.get(audience_id),
            source=source.get(audience_id, (0, 0)),
            wrong=wrong.get(audience_id, (0, {})),
            actions=actions.get(audience_id, {}),
            previous=None if before is None else previous.get(audience_id, 0),
        )
        for audience_id in dict.fromkeys([*source, *previous])
    ]
