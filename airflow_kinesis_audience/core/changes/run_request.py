"""What one run is asked for; see :class:`~airflow_kinesis_audience.core.changes.sync.Sync`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.guards import Permission
    from airflow_kinesis_audience.core.changes.insertion import Gap, Placement


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What a run is asked for.

    :param placement: where its change set belongs.
    :param permission: which breaches it may pass with.
    :param hold: keep what a guard stops, and with ``hold_audiences`` no more than the audiences that it stops.
    :param reuse_deleted: begin anew although the sync, or an audience of this id, was deleted.
    """

    placement: Placement
    permission: Permission
    hold: bool
    hold_audiences: bool
    reuse_deleted: bool

    @property
    def as_of(self) -> datetime:
        """The instant of its change set."""
        return self.placement.as_of

    @property
    def gap(self) -> Gap | None:
        """Where its change set is inserted; none if it comes after all others."""
        return self.placement.gap
