"""Members whose message is larger than a record may be: which rows of a change set they are, and their digests.

A format gives :class:`~airflow_kinesis_audience.core.model.messages.Oversized` in the place of such messages, and
goes on. The members are known by their positions in the change set, which are the same on every attempt, and named
by a digest: no user id is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import MessageTooLarge
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.state.delivery_details import TooLarge

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.messages import Oversized
    from airflow_kinesis_audience.core.state.delivery_details import DeadLettersTable

MOST_TOO_LARGE = 100_000
"""So many members of a change set may be too large; more are the mapping's fault and not theirs."""

_MOST_NAMED = 20


class TooLargeMembers:
    """The rows of what is sent that are too large, as far as they were found.

    :param positions: of the rows.
    :param users: digests of some of the users, sorted.
    :param largest: bytes of the largest message.
    """

    def __init__(
        self, positions: AcknowledgedOrdinals | None = None, *, users: Iterable[str] = (), largest: int = 0
    ) -> None:
        self.positions = positions or AcknowledgedOrdinals()
        self.users = sorted(set(users))[:_MOST_NAMED]
        self.largest = largest

    def __len__(self) -> int:
        return len(self.positions)

    def add(self, found: Oversized) -> None:
        """Keep one; once more changes nothing.

        :raises MessageTooLarge: if they are too many.
        """
        self.positions.add(found.position)
        self.users = sorted({*self.users, found.user})[:_MOST_NAMED]
        self.largest = max(self.largest, found.size)
        if len(self.positions) > MOST_TOO_LARGE:
            raise MessageTooLarge(
                f"more than {MOST_TOO_LARGE:,} members of one change set make messages larger than a record may "
                f"be, the largest {self.largest:,} bytes: send fewer properties or identities"
            )

    @property
    def detail(self) -> TooLarge | None:
        """What a row of the ledger keeps of them: numbers and digests; none if there are none."""
        if not self:
            return None
        return TooLarge(positions=self.positions.ranges, users=tuple(self.users), largest=self.largest)

    @classmethod
    def of(cls, detail: TooLarge | None) -> TooLargeMembers:
        """Make of what :attr:`detail` gave."""
        if detail is None:
            return cls()
        positions = AcknowledgedOrdinals.of(detail.positions)
        return cls(positions, users=detail.users, largest=detail.largest)


@dataclass(frozen=True, kw_only=True, slots=True)
class TooLargeSummary:
    """How many members are too large, and what may be shown of them.

    :param table: the dead-letter table, if they are kept in one.
    """

    rows: int = 0
    users: Sequence[str] = ()
    largest: int = 0
    table: str = ""

    @classmethod
    def of(cls, known: DeadLettersTable) -> TooLargeSummary:
        """Summarize a table of dead letters."""
        return cls(rows=known.open, users=known.users, largest=known.largest, table=known.table)

    def and_those(self, rows: int, members: TooLargeMembers) -> TooLargeSummary:
        """Add members that are kept in no table."""
        users, largest = join_names((self, members))
        return TooLargeSummary(rows=self.rows + rows, users=users, largest=largest)

    def error(self, schema: str, limit_bytes: int) -> MessageTooLarge:
        """Make the error of a delivery that is complete but for them."""
        more = f" and {self.rows - len(self.users):,} more" if self.rows > len(self.users) else ""
        kept = ""
        if self.table:
            kept = f" They are in the table {self.table} of schema {schema}, and every run retries them."
        return MessageTooLarge(
            f"{self.rows:,} changes were not delivered, because their messages are too large for a record: the "
            f"limit is {limit_bytes:,} bytes and the largest has {self.largest:,}. All others were delivered. The "
            f"SHA-256 of the user ids begins with {'…, '.join(self.users)}….{more}{kept} Shorten the values in "
            'the source, send fewer properties or identities, or set on_rejected="skip" to let the task succeed'
        )


def join_names(
    found: Iterable[TooLargeSummary | TooLargeMembers | TooLarge | DeadLettersTable],
) -> tuple[tuple[str, ...], int]:
    """Join what may be shown of several: digests of some users, and the bytes of the largest message."""
    names = list(found)
    return name_some(user for n in names for user in n.users), max((n.largest for n in names), default=0)


def name_some(digests: Iterable[str]) -> tuple[str, ...]:
    """Choose the digests of users that may be shown: the same ones on every attempt."""
    return tuple(sorted(set(digests))[:_MOST_NAMED])
