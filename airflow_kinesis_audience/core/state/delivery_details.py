"""Details of the rows of a delivery's log: a frozen struct per event, as :mod:`.sync_details` has them for a sync.

A log begins with ``attached``; the last attempt's row is where a resume starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedRanges
from airflow_kinesis_audience.core.source.event_layout import EventLayout
from airflow_kinesis_audience.core.source.layout import TableLayout
from airflow_kinesis_audience.core.state.letters_given_up import LettersGivenUp
from airflow_kinesis_audience.core.state.sync_details import ChangeSetAuthor, Detail, Event

SENDING_SECONDS = 120.0
"""So long a task that sends may write no row until another one goes on in its place."""

WRITING_SECONDS = 600.0
"""So long for one that writes a table, and can write no row meanwhile."""


class PartOf(Struct, frozen=True, kw_only=True):
    """Which part of which delivery a log is about, where several tasks share one.

    :param attachment: the number of the row that had attached the destination; none in rows of old versions.
    """

    number: int
    of: int
    delivery: str
    attachment: int | None = None


class DeliveryDetail(Detail, frozen=True, kw_only=True):
    """What every row of a delivery's log may say.

    :param part: where the log is that of a part.
    :param resend: the row is about sending once more what is delivered, and moves no cursor.
    :param stream: which stream is reached under the destination's name, as far as the login may look: its ARN and
        when it was created. The last row that says so holds.
    :param owner: the task that is at work until the next row; empty where none is, or nobody knows.
    """

    part: PartOf | None = None
    resend: bool = False
    stream: str = ""
    owner: str = ""

    @property
    def lease_seconds(self) -> float:
        """For how long after this row its task is at work, if no other row follows; 0 if it is not."""
        return 0.0


class DestinationAttached(DeliveryDetail, frozen=True, kw_only=True, tag=Event.ATTACHED.value):
    """A destination begins here.

    :param on_first_run: it knows nobody (``enter_all``) or everybody (``baseline``), or the delivery is another
        one than of change sets.
    :param snapshot: the table that is about to be written, of the change set in which everybody enters.
    :param until: of a replay, the instant of the last change set in it.
    """

    on_first_run: str
    destination: str
    connection: str | None
    message_format: str
    snapshot: str = ""
    until: datetime | None = None

    @property
    def lease_seconds(self) -> float:
        """See :class:`DeliveryDetail`."""
        return WRITING_SECONDS if self.snapshot else 0.0


class DestinationRenewed(DeliveryDetail, frozen=True, kw_only=True, tag=Event.RENEWED.value):
    """The destination is another stream from here on, as the row says, and has or is to have what is delivered.

    What is half sent is sent anew: the half went to the stream before.
    """


class SnapshotTable(DeliveryDetail, frozen=True, kw_only=True, tag=Event.SNAPSHOT.value):
    """A table for this destination alone: the change set in which everybody enters, or the events of an interval.

    :param table: none once it is dropped.
    :param written: it is complete.
    :param start: of the interval, as the following are of events alone.
    :param wanted_end: where the interval should have ended, if the warehouse's clock was not there yet: what
        arrives from ``end`` on is of the next run. A row without a table may say that much alone.
    :param placeholders: events whose value of an identity stands for none, by the identity's label.
    :param author: which task forwards them; none of a time when it was not kept.
    """

    table: str = ""
    written: bool = False
    start: datetime | None = None
    end: datetime | None = None
    wanted_end: datetime | None = None
    rows: int = 0
    slices: int = 0
    layout: EventLayout | None = None
    dropped_rows: int = 0
    placeholders: Mapping[str, int] = {}
    author: ChangeSetAuthor | None = None

    @property
    def lease_seconds(self) -> float:
        """See :class:`DeliveryDetail`; what is written for all parts each of them may send."""
        return WRITING_SECONDS if self.table and not self.written else 0.0


class ProfilesTable(DeliveryDetail, frozen=True, kw_only=True, tag=Event.PROFILES.value):
    """The table of the profiles that a change set is about, for this destination alone.

    :param table: none once it is dropped.
    :param changes: the change set's table.
    """

    table: str = ""
    written: bool = False
    changes: str = ""
    exits_kept_seconds: int = 0
    slices: int = 0

    @property
    def lease_seconds(self) -> float:
        """See :class:`DeliveryDetail`."""
        return WRITING_SECONDS if self.table else 0.0


class RemovalBreach(Struct, frozen=True, kw_only=True):
    """A bound that removals by update break, of an audience or of all together."""

    audience: str | None
    sentence: str


class RemovalsCounted(DeliveryDetail, frozen=True, kw_only=True, tag=Event.REMOVALS.value):
    """It is known of a change set how many members who stay this destination would lose by updates.

    :param table: of the change set, and ``render_config`` what decides its messages.
    :param breaches: the bounds that it breaks; the destination gets nothing of it while there are any.
    :param released: somebody has let it through.
    """

    table: str
    render_config: str
    breaches: tuple[RemovalBreach, ...] = ()
    released: bool = False


class TooLarge(Struct, frozen=True, kw_only=True):
    """Members of what is sent whose message is larger than a record may be.

    :param positions: of their rows.
    :param users: the beginnings of the SHA-256 of some of their ids.
    :param largest: bytes of the largest message.
    """

    positions: AcknowledgedRanges
    users: tuple[str, ...] = ()
    largest: int = 0


class AttemptDetail(DeliveryDetail, frozen=True, kw_only=True):
    """How far a change set got; the last such row is where a resume starts.

    :param render_config: what decides bytes and ids, as text.
    :param table: of the change set.
    :param partition_groups: none in rows of a time when records were numbered in another way.
    :param omitted: changes that the format cannot express; ``excluded``, profiles that it must not send;
        ``filtered``, changes that the author's function leaves out.
    :param too_large: changes that no record can hold; ``too_large_members``, which they are.
    :param delivered: changes that are acknowledged, and ``acknowledged`` the records that carried them.
    """

    render_config: str = field(name="rendering")
    table: str
    partition_groups: int | None = field(name="feeds", default=None)
    omitted: int = 0
    excluded: int = 0
    filtered: int = 0
    too_large: int = field(name="rejected", default=0)
    delivered: int = 0
    acknowledged: AcknowledgedRanges = field(name="settled")
    too_large_members: TooLarge | None = field(name="oversized", default=None)


class AttemptStarted(AttemptDetail, frozen=True, kw_only=True, tag=Event.SENDING.value):
    """An attempt is about to put records of this change set."""

    @property
    def lease_seconds(self) -> float:
        """See :class:`DeliveryDetail`."""
        return SENDING_SECONDS


class AttemptUnsent(AttemptDetail, frozen=True, kw_only=True, tag=Event.UNSENT.value):
    """That attempt ended, and nothing of it can have been taken: what it was to send may still be changed."""


class AttemptCheckpoint(AttemptDetail, frozen=True, kw_only=True, tag=Event.CHECKPOINT.value):
    """An attempt got so far; each says all that those before it said."""

    @property
    def lease_seconds(self) -> float:
        """See :class:`DeliveryDetail`."""
        return SENDING_SECONDS


class ChangeSetDelivered(AttemptDetail, frozen=True, kw_only=True, tag=Event.DELIVERED.value):
    """Everything of this change set is acknowledged, or left out and counted.

    :param parts: of how many parts the last one has concluded it.
    :param inserted: it was inserted, so that later ones may have been delivered before.
    """

    table: str = ""
    acknowledged: AcknowledgedRanges = field(name="settled", default=AcknowledgedRanges(below=0, above=()))
    parts: int | None = None
    inserted: bool = False


class DeadLettersTable(DeliveryDetail, frozen=True, kw_only=True, tag=Event.REJECTED.value):
    """The members whose message is too large for a record, for this destination alone.

    :param rows: members in the table; none is there if there are none.
    :param as_of: the instant that they speak for.
    :param number: tells the messages of one redelivery from those of another.
    :param tried: the render config with which they were put last.
    :param begun: an attempt may have delivered some, and nobody knows.
    :param writing: a table that is written at this moment; ``replaced``, those that have just been replaced.
    :param has_times: the table says when each was recorded; one of an older version does not.
    :param since: when the oldest of them was recorded that is not given up.
    :param given_up: members in the table who are given up: they stay to be sent once they fit, and nobody hears of
        them before.
    :param report: what was given up and has to be reported.
    :param added: the instant of the change set whose too large members this row has added; none of another row.
    """

    rows: int = 0
    table: str = ""
    as_of: datetime | None = None
    layout: TableLayout | None = None
    number: int = 0
    tried: str = ""
    begun: bool = False
    writing: str = ""
    replaced: tuple[str, ...] | str | None = None
    users: tuple[str, ...] = ()
    largest: int = 0
    has_times: bool = False
    since: datetime | None = None
    given_up: int = 0
    report: LettersGivenUp | None = None
    added: datetime | None = None

    def __post_init__(self) -> None:
        if self.rows and not (self.table and self.as_of and self.layout):
            raise ValueError("dead letters without a table")

    @property
    def open(self) -> int:
        """How many of them are not given up."""
        return self.rows - self.given_up

    @property
    def lease_seconds(self) -> float:
        """See :class:`DeliveryDetail`."""
        return WRITING_SECONDS if self.writing else SENDING_SECONDS if self.begun else 0.0


class DestinationDetached(DeliveryDetail, frozen=True, kw_only=True, tag=Event.DETACHED.value):
    """The delivery is at its end, and needs nothing any more.

    :param replayed: it is a replay, and all of it is delivered.
    """

    replayed: bool = False
