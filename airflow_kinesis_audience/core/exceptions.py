"""What can go wrong, sorted by the one thing that a scheduler must know: whether a retry can help.

Operators turn ``retry_helps = False`` into ``AirflowFailException`` in one place (``operators/errors.py``).
A message says what was found, what was expected and what to do next, and never holds a user id, an
identity or a property value. What an author wrote wrong (an argument, a column name) is a ``ValueError``.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


class AudienceError(Exception):
    """Any failure of a sync or a delivery that is not a mistake in the DAG's code."""

    retry_helps: ClassVar[bool] = True
    held_by_guard: ClassVar[bool] = False

    @property
    def sentences(self) -> Sequence[str]:
        """What happened, a sentence each."""
        return (str(self),)


class LedgerUnreadable(AudienceError):
    """The ledger could not be read. That never means that nothing is there, so the run stops."""


class LedgerConflict(AudienceError):
    """Another run wrote to the same sync or delivery in the meantime; the next attempt sees its work."""


class ReplayUnfinished(AudienceError):
    """A replay to the destination is not finished, and changes come after it; a retry helps once it is."""


class WarehouseUnavailable(AudienceError):
    """The warehouse could not be reached, or is held by another process."""


class WarehouseRefused(AudienceError):
    """The warehouse answered, and will answer the same again: a wrong statement or a missing grant."""

    retry_helps = False


class DeliveryIncomplete(AudienceError):
    """Some records were not acknowledged within the bounds; the next attempt sends exactly those."""


class DestinationRefused(AudienceError):
    """The destination refuses every record: it is missing, or the login may not write to it."""

    retry_helps = False


class DeliveryChanged(AudienceError):
    """A half-delivered change set would no longer give the same bytes and ids."""

    retry_helps = False


class DestinationReplaced(AudienceError):
    """The destination is another stream under the name of the one that was sent to, and has nobody."""

    retry_helps = False


class FirstRunRefused(AudienceError):
    """A destination has never got anything, and the author wants to decide first."""

    retry_helps = False


class MessageTooLarge(AudienceError):
    """One member alone is larger than the destination takes in a record.

    :param size: bytes of the message, where it is one.
    """

    retry_helps = False

    def __init__(self, message: str, *, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


class GuardTripped(AudienceError):
    """A change set was stopped before it counted; nothing was sent and the baseline did not move.

    :param breaches: the bounds that it breaks, a sentence each.
    """

    retry_helps = False
    held_by_guard = True

    def __init__(self, message: str, breaches: Sequence[str]) -> None:
        super().__init__(message)
        self._breaches = tuple(breaches)

    @property
    def sentences(self) -> Sequence[str]:
        """The bounds that it breaks."""
        return self._breaches


class SchemaChanged(AudienceError):
    """The mapping or a column's type is no longer what the published membership was written with."""

    retry_helps = False
    held_by_guard = True


class StateTaken(AudienceError):
    """Another task, or another instance of a mapped one, keeps its state under this ``sync_id``."""

    retry_helps = False


class AudienceTaken(AudienceError):
    """Another sync delivers the same audience to the destination, perhaps this one before it was renamed."""

    retry_helps = False


class ReleaseRefused(AudienceError):
    """The change set that a person approved is not the one that is held any more."""

    retry_helps = False


class AudienceDeleted(AudienceError):
    """The sync, or an audience of this id, was deleted, and ``reuse_deleted`` is not set."""

    retry_helps = False


class LedgerBehind(AudienceError):
    """A destination has more than the ledger knows, which was restored from a backup or lost rows."""

    retry_helps = False


class HistoryGone(AudienceError):
    """A change set that is needed is not in the ledger, or is older than its retention."""

    retry_helps = False


class TaskEnded(BaseException):
    """Airflow, or whoever runs the process, ended the task; what was at work in the warehouse is cancelled.

    Not an ``AudienceError``, nor an ``Exception``: whoever passes over those goes on, and this ends all of it.
    """

    def __init__(self) -> None:
        super().__init__(
            "the task was ended from outside; what it had at work in the warehouse is cancelled, and its next try "
            "goes on from what is recorded"
        )


class RunSuperseded(AudienceError):
    """The run speaks for an instant that a later run has covered already; there is nothing to compute."""

    retry_helps = False


def describe_foreign_error(error: Exception) -> str:
    """Describe an error of an author's function by its kind and place; its own text may quote a value.

    Raise the result outside of the handler, so that the error is not chained.

    :param error: caught where the function is called, so that the function's own line is second in its traceback.
    """
    places = traceback.extract_tb(error.__traceback__)[1:2]
    named = " ".join([type(error).__name__, *(f"({Path(p.filename).name}, line {p.lineno})" for p in places)])
    return f"failed with {named}, on values that are not shown here; run it on its own"
