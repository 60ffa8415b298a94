"""Details of the rows of a sync's own log: a frozen struct per event.

A row's detail is a JSON object with a version, checked field by field when the row is read. Names in JSON stay as
they are for ever: where the field's word is another, ``name=`` says so. Rows without a version are of version 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct

from airflow_kinesis_audience.core.source.layout import TableLayout

SYNC_LOG = ""
"""Name of a sync's own log; a delivery's log has the delivery's id."""


class Event(StrEnum):
    """What a row is about. The first thirteen are written to a sync's own log, the others to a delivery's."""

    STARTED = "started"
    FIRST = "first"
    CHANGE_SET = "change_set"
    BASE = "base"
    SEALED = "sealed"
    HELD = "held"
    RETIRED = "retired"
    DROPPED = "dropped"
    CLOSED = "closed"
    EPOCH = "epoch"
    INSERTED = "inserted"
    FORGOTTEN = "forgotten"
    REPLACED = "replaced"

    ATTACHED = "attached"
    RENEWED = "renewed"
    SNAPSHOT = "snapshot"
    PROFILES = "profiles"
    SENDING = "sending"
    UNSENT = "unsent"
    CHECKPOINT = "checkpoint"
    REJECTED = "rejected"
    DELIVERED = "delivered"
    DETACHED = "detached"
    REMOVALS = "removals"


class Detail(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    """What a row says besides its event and its instant.

    :param before: digest of the last row of the log before it that is no checkpoint; empty in the first row, and
        in rows of a time when rows had none.
    """

    version: Literal[1] = 1
    before: str = ""


COUNTED = ("entered", "exited", "updated", "members")
"""What is counted of an audience."""


class Counts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changed in one audience, and how many members it has then.

    :param source_rows: rows of the source, of those ``dropped`` ones that were left out, and ``nulls`` by role and
        label of a mapped column how many have nothing in it; counted for guards that learn, otherwise 0 and empty.
    """

    entered: int
    exited: int
    updated: int
    members: int
    source_rows: int = 0
    dropped: int = 0
    nulls: Mapping[str, int] = {}


class TotalCounts(Counts, frozen=True, kw_only=True):
    """The same of all audiences together."""

    changes: int


class GuardBounds(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bounds of the guards by which a change set was looked at; none is no bound."""

    max_exit_ratio: float | None = None
    max_exit_ratio_per_day: float | None = None
    max_exits: int | None = None
    max_change_ratio: float | None = None
    min_members: int | None = None


class ChangeSetAuthor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which task computed a change set.

    :param task: ``dag_id.task_id``.
    :param map_index: of an instance of a mapped task; -1 of one that is alone.
    :param query: digest of the author's query, rendered.
    """

    task: str
    map_index: int = -1
    query: str = ""


class HeldAudiences(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Audiences that a guard stopped, without which a change set counts; a person may approve each.

    :param table: has what was found of them.
    :param breaches: by audience id what stopped it, a sentence each.
    :param together: those of them that exclude each other, of which none is approved without the others.
    """

    table: str
    breaches: Mapping[str, tuple[str, ...]]
    together: tuple[str, ...] = ()


class ApprovedAudiences(Struct, frozen=True, kw_only=True):
    """Audiences that were held, and that a person approved.

    :param table: has what was found of them.
    """

    table: str
    audiences: tuple[str, ...]


class TableStarted(Detail, frozen=True, kw_only=True, tag=Event.STARTED.value):
    """A table of this name is about to be written."""

    table: str


class ChangeSetDetail(Detail, frozen=True, kw_only=True):
    """A change set, or the base of a first run, whose table is written.

    :param rows: changes in it; of a first base, members.
    :param slice_rows: rows of a slice, fixed when the table was written.
    :param dropped_rows: rows of the source that were left out as invalid.
    :param excluded: rows of the source whose users are in no audience, by the author's word.
    :param excluded_by: how many rows each argument excludes; a row may be excluded by both. Empty where none is
        set, or of a time when they were not counted apart.
    :param outranked: rows of the source whose users are in an audience that comes first.
    :param placeholders: rows whose value of an identity stands for none, by the identity's label.
    :param audiences: counts per audience, where there are few.
    :param let_through: which guards it passed with a permission, a sentence each.
    :param bounds: of the guards; none in rows of a time when they were not kept.
    :param corrects: the instant whose membership was computed once more, after it was published.
    :param author: which task computed it; none where nobody said, or of a time when it was not kept.
    :param names: of the audiences, by their ids, where there are few; otherwise they are read out of the tables.
    :param held_audiences: those without which it counts; their membership is what was published of them.
    :param approves: the audiences that alone are in it, held before.
    :param forgets: the table of the tombstones whose users exit, and nobody else.
    """

    table: str
    previous_as_of: datetime | None
    rows: int
    slice_rows: int
    layout: TableLayout
    counts: TotalCounts
    dropped_rows: int = 0
    excluded: int = 0
    excluded_by: Mapping[str, int] = {}
    outranked: int = 0
    placeholders: Mapping[str, int] = {}
    audiences: Mapping[str, Counts] | None = None
    let_through: tuple[str, ...] = ()
    bounds: GuardBounds | None = None
    corrects: datetime | None = None
    author: ChangeSetAuthor | None = None
    names: Mapping[str, str] | None = None
    held_audiences: HeldAudiences | None = None
    approves: ApprovedAudiences | None = None
    forgets: str = ""


def carried_over(newest: ChangeSetDetail) -> dict[str, Any]:
    """Give what a change set that reads no source takes from the one before, with which the next run compares."""
    return {n: getattr(newest, n) for n in ("excluded", "excluded_by", "outranked")}


class FirstBase(ChangeSetDetail, frozen=True, kw_only=True, tag=Event.FIRST.value):
    """The base with which a timeline begins.

    :param epoch: a text that no other state has; empty of a time when there was none.
    """

    epoch: str = ""


class ChangeSetCommitted(ChangeSetDetail, frozen=True, kw_only=True, tag=Event.CHANGE_SET.value):
    """A change set exists from here on."""


class ChangeSetInserted(ChangeSetDetail, frozen=True, kw_only=True, tag=Event.INSERTED.value):
    """A change set exists from here on, and a later one did before; that one and all after it stay as they are.

    :param compensation: a second change set, between the two: it leads the users of this one to what they are in
        the later membership.
    :param compensated_at: its instant.
    """

    compensation: ChangeSetCommitted
    compensated_at: datetime


class ChangeSetHeld(ChangeSetDetail, frozen=True, kw_only=True, tag=Event.HELD.value):
    """A change set that a guard stopped and a person may approve; until then it does not exist.

    :param breaches: what stopped it, a sentence each.
    """

    breaches: tuple[str, ...] = ()


class BaseWritten(Detail, frozen=True, kw_only=True, tag=Event.BASE.value):
    """A base that compaction wrote; its layout is that of its change set, unless it has one of its own.

    :param left_since: the earliest exit that it remembers; none if it has no exit, or nobody looked.
    """

    table: str
    layout: TableLayout | None = None
    left_since: datetime | None = None


class ChangeSetSealed(Detail, frozen=True, kw_only=True, tag=Event.SEALED.value):
    """A delivery has begun to rely on this change set: it is immutable from here on."""


class TablesRetired(Detail, frozen=True, kw_only=True, tag=Event.RETIRED.value):
    """Nothing relies on these tables from here on, and they are about to be dropped.

    :param unfinished: of a task that was killed: the server may still finish one that was dropped already.
    """

    tables: tuple[str, ...]
    unfinished: bool = False


class TablesDropped(Detail, frozen=True, kw_only=True, tag=Event.DROPPED.value):
    """These tables are gone."""

    tables: tuple[str, ...]


class UsersForgotten(Detail, frozen=True, kw_only=True, tag=Event.FORGOTTEN.value):
    """No run lets these users be members again, and their rows are to go.

    :param table: of the digests of their ids, the tombstones; empty if there are none any more.
    :param salt: what stands before an id that is digested.
    :param users: how many they are.
    :param erased: their rows are gone from all tables.
    """

    table: str
    salt: str
    users: int
    erased: bool = False


class TablesReplaced(Detail, frozen=True, kw_only=True, tag=Event.REPLACED.value):
    """These tables have others in their places: the same rows without those of users who are forgotten.

    :param tables: name of each to that of the other, and ``rows`` how many rows that one lacks.
    """

    tables: Mapping[str, str]
    rows: Mapping[str, int]


class EpochBegun(Detail, frozen=True, kw_only=True, tag=Event.EPOCH.value):
    """Change sets from here on have ids of their own: the ledger may have lost others of the same instants."""

    epoch: str


class SyncClosed(Detail, frozen=True, kw_only=True, tag=Event.CLOSED.value):
    """The sync's audiences are deleted: no change set is computed any more.

    :param exits: a last change set follows, in which everybody exits.
    :param audiences: id to name.
    """

    exits: bool
    audiences: Mapping[str, str]
