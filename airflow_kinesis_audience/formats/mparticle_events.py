"""mParticle's event batches: the events of one user or device, with its identities and attributes.

Renders events, or changes of audiences as events, to messages and nothing else: no clock, no network, nothing kept
between calls. Every id is made of the source's own event id, so an event that is forwarded again has the same one.
Integers of 64 bits are written as strings, as the vendor does.
Format: https://docs.mparticle.com/developers/apis/json-reference/
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_audience.core.exceptions import MessageTooLarge
from airflow_kinesis_audience.core.model.audience import Action, Changes, IdentityValue
from airflow_kinesis_audience.core.model.messages import Envelope, Message, Notice, Oversized, digest_of, pack
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer, RendererTraits
from airflow_kinesis_audience.formats.json_values import render_column
from airflow_kinesis_audience.formats.mparticle.batches import (
    EVENTS,
    add_identities,
    close_batch,
    common_data,
    dumps,
    event_uuid,
    milliseconds,
    put,
)
from airflow_kinesis_audience.formats.mparticle.change_events import ChangeEvents, Side, notice_event
from airflow_kinesis_audience.formats.mparticle.event_fields import (
    CHOICES,
    EVENT_TYPES,
    METADATA,
    NEEDED,
    USER_IDENTITIES,
    check_hidden,
    check_place,
    event_identity,
    is_hidden,
    set_place,
    with_lists,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.events import Events

_ATTRIBUTES = "user_attributes"
_SWITCHES = {"user_attribute_change": "attribute_changes", "user_identity_change": "identity_changes"}
_BOOLEANS = ("batch", "exclude_metadata", *_SWITCHES.values())
_RENDERED_CHOICES = {place: {b"null", *render_column(place, names)} for place, names in CHOICES.items()}


@dataclass(frozen=True, kw_only=True)
class MparticleEvents(Renderer):
    """Render events as mParticle's batches; changes of audiences as custom events.

    :param batch: one message per user or device and some hundred events; if false, one per event.
    :param max_events: limit of events in a message.
    :param environment: ``production`` or ``development``.
    :param user_id_as: identity type of the user id in messages; none if it is not sent.
    :param attribute_changes: send ``user_attribute_change`` events, and ``identity_changes`` likewise.
    :param exclude_metadata: exclude the device's name and the IP address.
    :param exclude: dotted places that are excluded.
    :param constants: dotted place to a value that is the same in every batch, such as
        ``{"context.data_plan.plan_id": "shop"}``.
    :param unique_id: the batch's ``unique_id``, if it has one.
    :raises ValueError: if an option is invalid; a retry does not help.
    """

    version: ClassVar[int] = 1
    traits: ClassVar[RendererTraits] = RendererTraits(version=version, renders_events=True, renders_notices=True)

    batch: bool = True
    max_events: int = 100
    environment: str = "production"
    user_id_as: str | None = "customer_id"
    attribute_changes: bool = False
    identity_changes: bool = False
    exclude_metadata: bool = False
    exclude: Collection[str] = ()
    constants: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    unique_id: str | None = None

    def __post_init__(self) -> None:
        for name in _BOOLEANS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false")
        if type(self.max_events) is not int or self.max_events < 1:
            raise ValueError(f"max_events is {self.max_events!r}; expected a whole number of 1 or more")
        if self.environment not in ("production", "development"):
            raise ValueError(f"environment is {self.environment!r}; expected production or development")
        excluded = self.exclude
        if isinstance(excluded, str) or not isinstance(excluded, Collection) or not _are_texts(excluded):
            raise ValueError(f"exclude is {self.exclude!r}; expected a list of dotted places")
        for name, what in (("user_id_as", "an identity type"), ("unique_id", "a text")):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {what}, or none")
        self._check_constants()
        self._find_places(())

    def _check_constants(self) -> None:
        if not isinstance(self.constants, Mapping) or not _are_texts(self.constants):
            raise ValueError(f"constants is {self.constants!r}; expected values by dotted place")
        for place in self.constants:
            check_place(place, "constants: ")
            if place.partition(".")[0] in ("data", "event_type"):
                raise ValueError(f"constants has {place!r}, a place of an event; expected places of the batch")

    def check_options(self, mapped: Mapped) -> None:
        """Check that mapped fields and identities have a place, and that what is to be left out has, too."""
        places = self._find_places(mapped.identities)
        for place in mapped.properties if mapped.events else ():
            check_place(place)
            places |= {place} - {"event_type"}  # which every event has
        if not mapped.events:
            places |= {f"{_ATTRIBUTES}.{name}" for name in (*mapped.properties, *mapped.former_properties)}
        check_hidden(self.exclude, places)

    def _find_places(self, identities: Iterable[str]) -> set[str]:
        """Find where identities and the user id stand."""
        kinds = [event_identity(name) for name in identities]
        kinds += [event_identity(self.user_id_as, "user_id_as: ")] if self.user_id_as is not None else []
        return {kind.place or USER_IDENTITIES for kind in kinds}

    def __call__(self, given: Events | Changes, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render a slice of events, or of a change set, of which a change that is too large is :class:`Oversized`.

        :raises ValueError: if the format does not know a place or an identity type; a retry does not help.
        :raises MessageTooLarge: if one event alone exceeds ``envelope.message_bytes``.
        """
        if isinstance(given, Changes):
            return self._render_changes(given, envelope)
        return self._render(given, envelope)

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience: a custom event of nobody, which the vendor does not have."""
        where = partition_of(notice.audience_id, "000", envelope.partitions)
        event_id = event_uuid(str(envelope.batch_id), f"{notice.kind}/{notice.number}")
        event = dumps(notice_event(notice, event_id))
        return Message(self._close({}, [event], [event_id], milliseconds(notice.time), envelope), *where, 0)

    # -- events

    def _render(self, events: Events, envelope: Envelope) -> Iterator[Message]:
        for place in events.fields:
            check_place(place)
        columns = self._rendered(events.fields)
        inner = {p.removeprefix("data."): column for p, column in columns.items() if p.startswith("data.")}
        outer = {p: column for p, column in columns.items() if not p.startswith("data.")}
        for rows in self._find_batches(events):
            found = ((row, self._event(events, row, inner)) for row in rows)
            # Half of the bytes are enough for events, and leave the other half to what is known of the user.
            most = {"max_count": self.max_events if self.batch else 1, "max_bytes": envelope.message_bytes // 2}
            for group in pack(found, size=lambda f: len(f[1]), **most):
                last = group[-1][0]
                time = milliseconds(events.occurred_at[last])
                known = self._known(events.identities, outer, last, events.user_id[last], time)
                ids = [event_uuid(events.sync_id, events.event_id[row]) for row, _ in group]
                document = self._close(known, [e for _, e in group], ids, milliseconds(events.end), envelope)
                where = partition_of(EVENTS, events.bucket[last], envelope.partitions)
                yield Message(document, *where, len(group), events.bucket[last])

    def _find_batches(self, events: Events) -> Iterator[list[int]]:
        """Give the rows of each batch that are to be sent."""
        rows: list[int] = []
        for row, batch in enumerate(events.batch):
            if row and batch != events.batch[row - 1]:
                yield rows
                rows = []
            if self._sends(_type_of(events, row)):
                rows.append(row)
        yield rows

    def _sends(self, event_type: str) -> bool:
        if event_type not in EVENT_TYPES:
            raise ValueError(
                "the source has events of a type that is unknown to mParticle; map it in the query to one of "
                f"{', '.join(EVENT_TYPES)}"
            )
        switch = _SWITCHES.get(event_type)
        return switch is None or bool(getattr(self, switch))

    def _event(self, events: Events, row: int, inner: Mapping[str, Sequence[bytes]]) -> bytes:
        kind = _type_of(events, row)
        data = common_data(event_uuid(events.sync_id, events.event_id[row]), events.occurred_at[row])
        for place, column in inner.items():
            if place in CHOICES and column[row] not in _RENDERED_CHOICES[place]:
                expected = ", ".join(CHOICES[place])
                raise ValueError(
                    f"data.{place} of an event has a value that is unknown to mParticle; expected {expected}"
                )
            put(data, place, column[row])
        if kind == "custom_event":
            data.setdefault("custom_event_type", "other")
        if missing := [name for name in NEEDED.get(kind, ()) if name not in data]:
            raise ValueError(
                f"an event of type {kind} has no {' and no '.join(missing)}; map a column to data.{missing[0]} "
                "that has a value in every such row"
            )
        return dumps({"data": with_lists(data), "event_type": kind})

    # -- changes of audiences

    def _render_changes(self, changes: Changes, envelope: Envelope) -> Iterator[Message | Oversized]:
        new, old = (
            Side(
                identities,
                {
                    k: render_column(f"property {k}", column)
                    for k, column in properties.items()
                    if not self._hides(f"{_ATTRIBUTES}.{k}")
                },
            )
            for identities, properties in (
                (changes.new_identities, changes.new_properties),
                (changes.old_identities, changes.old_properties),
            )
        )
        identity_changes = self.identity_changes and not self._hides(USER_IDENTITIES)
        made = ChangeEvents(changes, new, old, self.attribute_changes, identity_changes)
        time = milliseconds(changes.as_of)
        for row, action in enumerate(changes.action):
            if events := list(made.of(row)):
                side = old if action == Action.EXITED else new
                attributes = {f"{_ATTRIBUTES}.{k}": v for k, v in side.properties.items()}
                known = self._known(side.identities, attributes, row, changes.user_id[row], time)
                rendered = [dumps(event) for _, event in events]
                ids = [event_id for event_id, _ in events]
                position = changes.position[row]
                try:
                    document = self._close(known, rendered, ids, time, envelope)
                except MessageTooLarge as error:
                    yield Oversized(position, 1, digest_of(changes.user_id[row]), error.size)
                    continue
                where = partition_of(EVENTS, changes.bucket[row], envelope.partitions)
                yield Message(document, *where, 1, str(position))

    # -- what is around the events

    @property
    def _hidden(self) -> set[str]:
        return {*self.exclude, *(METADATA if self.exclude_metadata else ())}

    def _hides(self, place: str) -> bool:
        return is_hidden(place, self._hidden)

    def _rendered(self, fields: Mapping[str, Sequence[Any]]) -> dict[str, list[bytes]]:
        shown = (place for place in fields if place != "event_type" and not self._hides(place))
        return {place: render_column(f"field {place}", fields[place]) for place in shown}

    def _known(
        self,
        identities: Mapping[str, Sequence[IdentityValue]],
        outer: Mapping[str, Sequence[bytes]],
        row: int,
        user_id: str | None,
        time: str,
    ) -> dict[str, Any]:
        """Gather what one row holds about user, device and application."""
        known: dict[str, Any] = {}
        for place, value in self.constants.items():
            set_place(known, place, value)
        for place, column in outer.items():
            put(known, place, column[row])
        named = {name: column[row] for name, column in identities.items()}
        if self.user_id_as is not None and user_id is not None:
            named[self.user_id_as] = user_id
        add_identities(known, named, time, self._hidden)
        return known

    def _close(
        self,
        known: dict[str, Any],
        events: Sequence[bytes],
        ids: Sequence[uuid.UUID],
        time: str,
        envelope: Envelope,
    ) -> bytes:
        return close_batch(
            known,
            events,
            ids,
            time,
            environment=self.environment,
            unique_id=self.unique_id,
            most_bytes=envelope.message_bytes,
        )


def _are_texts(found: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in found)


def _type_of(events: Events, row: int) -> str:
    types = events.fields.get("event_type")
    return str(types[row]) if types is not None else "custom_event"
