"""What an audience's row says of the source's rows that are no members': the numbers in it, read once more.

Pure: :mod:`.source_rows` builds the text that is read here.
"""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.core.source.layout import TableLayout


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows of the source name nobody, by the author's word.

    :param excluded: whose users are excluded, for either reason, and for each: ``listed`` and ``unconsented``.
    :param outranked: whose users are in an audience that comes first.
    """

    excluded: int = 0
    listed: int = 0
    unconsented: int = 0
    outranked: int = 0

    @property
    def rows(self) -> int:
        """All of them: a row that is excluded is not outranked."""
        return self.excluded + self.outranked

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(*map(operator.add, astuple(self), astuple(other)))


NOBODY_LEFT_OUT = LeftOut()


@dataclass(frozen=True, kw_only=True, slots=True)
class InvalidCounts:
    """What an audience's row says of the source's rows that are no members'.

    :param wrong_rows: rows with a user that have any wrong identity, and ``wrong`` how many have each.
    :param nameless_rows: rows without a user id.
    :param kept_members: members who stay as they were, since all their rows have a wrong identity.
    :param no_values: how many rows with a user have in each identity a value that stands for none.
    :param nulls: how many rows have nothing in each mapped column; nothing where they were not counted.
    :param left_out: rows that name nobody by the author's word.
    """

    nameless_rows: int = 0
    wrong_rows: int = 0
    wrong: tuple[int, ...] = ()
    kept_members: int = 0
    no_values: tuple[int, ...] = ()
    nulls: tuple[int, ...] = ()
    left_out: LeftOut = NOBODY_LEFT_OUT

    def nulls_by_column(self, layout: TableLayout) -> Mapping[str, int]:
        """Give how many rows have nothing in a column, by its role and label."""
        return {f"{c.role} {c.label}": n for c, n in zip(layout.live, self.nulls, strict=False)}

    def placeholders(self, layout: TableLayout) -> Mapping[str, int]:
        """Give how many rows have in an identity a value that stands for none, by its label."""
        return {c.label: n for c, n in zip(layout.filtered, self.no_values, strict=True) if n}

    def sentences(self, layout: TableLayout) -> Mapping[str, int]:
        """Say what is wrong with how many rows."""
        return {
            f"have {c.label!r} values that {c.rule.violation}": n
            for c, n in zip(layout.checked, self.wrong, strict=True)
            if n
        }


def parse_invalid_counts(invalid_rows: int, counted: str | None) -> InvalidCounts:
    """Read what an audience's row says of rows that are no members'.

    :param invalid_rows: of that row.
    :param counted: its ``wrong_identities``, numbers of rows between commas: where they were counted, how many
        rows have nothing in each mapped column, and a number sign; where rows may be left out, the four numbers of
        :class:`LeftOut`, and a colon; where some values stand for no identity, how many rows have one, of each
        identity, and a semicolon; where identities are checked, how many have any wrong identity, and each; where
        rows were numbered a bar and the rows without a user id; and where members may stay as they were another
        bar and how many do.
    """
    empty, _, known = (counted or "").rpartition("#")
    aside, _, invalid = known.rpartition(":")
    no_values, _, others = invalid.rpartition(";")
    left_out = LeftOut(*map(int, aside.split(","))) if aside else NOBODY_LEFT_OUT
    wrong, *more = others.split("|")
    rows, *each = map(int, wrong.split(",")) if wrong else (0,)
    nameless, kept = (*map(int, more), *(invalid_rows - rows, 0)[len(more) :])
    return InvalidCounts(
        nameless_rows=nameless - left_out.rows,
        wrong_rows=rows,
        wrong=tuple(each),
        kept_members=kept,
        no_values=tuple(map(int, no_values.split(","))) if no_values else (),
        nulls=tuple(map(int, empty.split(","))) if empty else (),
        left_out=left_out,
    )
