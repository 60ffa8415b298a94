"""Splits: shares of all users that are kept apart in audiences of their own, such as a hold-out.

On which side a user is depends on the key and the user id alone, so it is the same for ever, in every audience and
on every engine. Pure: nothing here builds SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DIGITS = 8
"""How many hexadecimal digits of a user's digest decide: steps of 100 / 16^8 per cent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Which shares of the users are kept apart.

    :param shares: name of a group to its share in per cent; all others stay in the audience itself.
    :param key: of the digest: with another one other users are in each group. Empty: the sync's name.
    """

    shares: Mapping[str, float]
    key: str = ""

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            if not isinstance(name, str) or not name.strip():
                raise ValueError(
                    f"split has a group without a name; name it, for example split={{'control': {share}}}"
                )
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 100:
                raise ValueError(f"split has {share!r} for {name!r}; expected a share in per cent, from 0 to 100")
        if sum(map(_exact, self.shares.values())) > 100:
            raise ValueError("the shares of split add up to more than 100 per cent; lower one of them")

    def bounds(self) -> Iterator[tuple[str, str]]:
        """Give each group and the digits below which a user is in it, if in none of the groups before it."""
        total = Decimal(0)
        for name, share in self.shares.items():
            total += _exact(share)
            steps = int(total * 16**DIGITS / 100)
            # A text after every one of as many digits.
            yield name, f"{steps:0{DIGITS}x}" if steps < 16**DIGITS else "g"


def _exact(share: float) -> Decimal:
    return Decimal(str(share))
