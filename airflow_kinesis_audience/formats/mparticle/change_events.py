"""Changes of audiences as mParticle's events: custom events for entries and exits, others for what was updated."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.core.model.audience import Action, Changes, UpdatedPart
from airflow_kinesis_audience.core.model.messages import Lifecycle, Notice
from airflow_kinesis_audience.formats.mparticle.batches import common_data, event_uuid, milliseconds, texts_of
from airflow_kinesis_audience.formats.mparticle.event_fields import event_identity

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.audience import IdentityValue

ENTERED, EXITED = "Audience Entered", "Audience Exited"
NOTICES = {
    Lifecycle.RESYNC_BEGIN: "Audience Resync Begun",
    Lifecycle.RESYNC_COMPLETE: "Audience Resync Complete",
    Lifecycle.DELETED: "Audience Deleted",
}

Event = tuple[uuid.UUID, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Side:
    """The users of changes, before or after: identities, and properties as rendered columns."""

    identities: Mapping[str, Sequence[IdentityValue]]
    properties: Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class ChangeEvents:
    """The events that a slice of changes makes.

    :param attribute_changes: make events of updated properties, and ``identity_changes`` of updated identities.
    """

    changes: Changes
    new: Side
    old: Side
    attribute_changes: bool
    identity_changes: bool

    def of(self, row: int) -> Iterator[Event]:
        """Make the events of one change; none of an update that is not sent."""
        changes, action = self.changes, self.changes.action[row]
        audience_id = changes.audience_id[row]
        if action != Action.UPDATED:
            name = ENTERED if action == Action.ENTERED else EXITED
            audience = {"audience_id": audience_id, "audience_name": changes.audience_names[audience_id]}
            data = {"event_name": name, "custom_event_type": "other", "custom_attributes": audience}
            yield self._event(row, "custom_event", name, data)
        elif changes.updated[row] in (UpdatedPart.PROPERTIES, UpdatedPart.BOTH) and self.attribute_changes:
            yield from self._attributes(row)
        if changes.updated[row] in (UpdatedPart.IDENTITIES, UpdatedPart.BOTH) and self.identity_changes:
            yield from self._identities(row)

    def _attributes(self, row: int) -> Iterator[Event]:
        for name in sorted(self.new.properties):
            new, old = (side.properties[name][row] for side in (self.new, self.old))
            if new != old:
                data = {
                    "user_attribute_name": name,
                    "new": orjson.Fragment(new),
                    "old": orjson.Fragment(old),
                    "deleted": new == b"null",
                    "is_new_attribute": old == b"null",
                }
                yield self._event(row, "user_attribute_change", name, data)

    def _identities(self, row: int) -> Iterator[Event]:
        time = milliseconds(self.changes.as_of)
        for name in sorted(self.new.identities):
            kind = event_identity(name).user
            new, old = (texts_of(side.identities[name][row]) for side in (self.new, self.old))
            if kind is not None and new != old:
                sides = {
                    n: {"identity_type": kind, "identity": t[0], "timestamp_unixtime_ms": time} if t else None
                    for n, t in (("new", new), ("old", old))
                }
                yield self._event(row, "user_identity_change", name, sides)

    def _event(self, row: int, kind: str, name: str, data: Mapping[str, Any]) -> Event:
        changes = self.changes
        source = (milliseconds(changes.as_of), changes.audience_id[row], changes.user_id[row], kind, name)
        # As JSON, so that no two sources make one text.
        event_id = event_uuid(changes.sync_id, orjson.dumps(source).decode())
        return event_id, {"data": {**common_data(event_id, changes.as_of), **data}, "event_type": kind}


def notice_event(notice: Notice, event_id: uuid.UUID) -> dict[str, Any]:
    """Make the event of what happens to a whole audience; the vendor has none."""
    attributes: dict[str, Any] = {"audience_id": notice.audience_id, "audience_name": notice.audience_name}
    if notice.kind is not Lifecycle.DELETED:
        attributes |= {"members": notice.members, "exits": notice.exits}
    data = {"event_name": NOTICES[notice.kind], "custom_event_type": "other", "custom_attributes": attributes}
    return {"data": {**common_data(event_id, notice.time), **data}, "event_type": "custom_event"}
