"""All errors of a sync or a delivery; each class has whether a retry helps.

Operators turn ``retry_helps = False`` into ``AirflowFailException`` in one place (``operators/errors.py``). A
message has what was found, what was expected and what to do, and never a user id, an identity or a property
value. A mistake in a DAG (an argument, a column name) is a ``ValueError``.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


class AudienceError(Exception):
    """Any error of a sync or a delivery that is not a mistake in the DAG."""

    retry_helps: ClassVar[bool] = True
    held_by_guard: ClassVar[bool] = False

    @property
    def sentences(self) -> Sequence[str]:
        """What happened, a sentence each."""
        return (str(self),)


class LedgerUnreadable(AudienceError):
    """The ledger could not be read. It is never treated as empty, so the run stops."""


class LedgerConflict(AudienceError):
    """Another run wrote to the same sync or delivery in the meantime; the next attempt sees its work."""


class ReplayUnfinished(AudienceError):
    """A replay to the destination is not finished, and later changes wait for it; a retry helps after it."""


class ForgettingUnfinished(AudienceError):
    """Users are being forgotten, and destinations have not received their exits; a retry helps after that."""


class WarehouseUnavailable(AudienceError):
    """The warehouse could not be reached, or another process locks it."""


class SourceFailed(AudienceError):
    """The author's function that gives the rows failed; a retry may help."""


class WarehouseRefused(AudienceError):
    """The warehouse rejected the statement and will reject it again: a wrong statement or a missing grant."""

    retry_helps = False


class DeliveryIncomplete(AudienceError):
    """Some records were not acknowledged within the limits; the next attempt puts only those."""


class DestinationThrottled(DeliveryIncomplete):
    """The destination accepts too little at this moment, and nothing else is wrong; a pause helps."""


class DestinationRefused(AudienceError):
    """The destination rejects every record: it is missing, or the login is not allowed to put."""

    retry_helps = False


class DeliveryChanged(AudienceError):
    """A partly delivered change set would no longer have the same bytes and ids."""

    retry_helps = False


class DestinationReplaced(AudienceError):
    """The destination is a new stream under the name of the old one, and has no members."""

    retry_helps = False


class FirstRunRefused(AudienceError):
    """A destination has never received anything, and ``on_first_run`` is ``fail``."""

    retry_helps = False


class MessageTooLarge(AudienceError):
    """The message of one member is larger than a record may be.

    :param size: bytes of the message, if it is one message.
    """

    retry_helps = False

    def __init__(self, message: str, *, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


class GuardTripped(AudienceError):
    """A change set was stopped before it counted; nothing was sent and the baseline did not move.

    :param breaches: the limits that it exceeds, a sentence each.
    """

    retry_helps = False
    held_by_guard = True

    def __init__(self, message: str, breaches: Sequence[str]) -> None:
        super().__init__(message)
        self._breaches = tuple(breaches)

    @property
    def sentences(self) -> Sequence[str]:
        """The limits that it exceeds."""
        return self._breaches


class SchemaChanged(AudienceError):
    """The mapping or a column's type differs from the published membership's."""

    retry_helps = False
    held_by_guard = True


class StateTaken(AudienceError):
    """Another task, or another instance of a mapped one, keeps its state under this ``sync_id``."""

    retry_helps = False


class AudienceTaken(AudienceError):
    """Another sync delivers the same audience to the destination; it can be this one before it was renamed."""

    retry_helps = False


class ReleaseRefused(AudienceError):
    """The change set that a person approved is no longer the one that is held."""

    retry_helps = False


class AudienceDeleted(AudienceError):
    """The sync, or an audience of this id, was deleted, and ``reuse_deleted`` is not set."""

    retry_helps = False


class LedgerBehind(AudienceError):
    """A destination has more than the ledger, which was restored from a backup or lost rows."""

    retry_helps = False


class HistoryGone(AudienceError):
    """A change set that is needed is not in the ledger, or is no longer kept."""

    retry_helps = False


class CheckFailed(AudienceError):
    """Tasks of a DAG cannot run.

    :param found: why, a sentence each.
    """

    retry_helps = False

    def __init__(self, message: str, found: Sequence[str]) -> None:
        super().__init__(message)
        self._found = tuple(found)

    @property
    def sentences(self) -> Sequence[str]:
        """What failed."""
        return self._found


class TaskEnded(BaseException):
    """Airflow, or whoever runs the process, ended the task; what was at work in the warehouse is cancelled.

    Not an ``AudienceError``, nor an ``Exception``: whoever passes over those goes on, and this ends all of it.
    """

    def __init__(self) -> None:
        super().__init__(
            "the task was ended from outside. Its statement in the warehouse is cancelled, and the next attempt "
            "continues from what is recorded"
        )


class RunSuperseded(AudienceError):
    """A later run has already covered the run's instant; there is nothing to compute."""

    retry_helps = False


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra of this package, quoted for any shell.

    The package is on no index yet, so that pip finds it in a clone alone.
    """
    return f"in a clone of the package's repository: pip install '.[{extra}]'"


def describe_foreign_error(error: Exception) -> str:
    """Describe an error of an author's function by its kind and place; its own text may quote a value.

    Raise the result outside of the handler, so that the error is not chained.

    :param error: caught where the function is called, so that the function's own line is second in its traceback.
    """
    places = traceback.extract_tb(error.__traceback__)[1:2]
    named = " ".join([type(error).__name__, *(f"({Path(p.filename).name}, line {p.lineno})" for p in places)])
    return f"failed with {named}, on values that are not shown here; run it separately"
