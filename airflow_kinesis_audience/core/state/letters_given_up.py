"""What a row of a delivery's log says of dead letters that were given up."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class LettersGivenUp(Struct, frozen=True, kw_only=True):
    """Dead letters that were given up, until a run has reported them.

    :param entered: those of members that the destination lacks; ``updated``, of which it has former values;
        ``exited``, of users who it still has.
    :param users: the beginnings of the SHA-256 of some of their ids.
    :param largest: bytes of the largest message.
    :param reported_in: the instant of the run that has reported them, and ``part`` the number of its task.
    """

    entered: int = 0
    updated: int = 0
    exited: int = 0
    users: tuple[str, ...] = ()
    largest: int = 0
    reported_in: datetime | None = None
    part: int = 0

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.entered + self.updated + self.exited
