"""What every batch of mParticle's events has: ids made of the source's own, times, what is known of the user."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.core.exceptions import MessageTooLarge
from airflow_kinesis_audience.formats.json_values import encode
from airflow_kinesis_audience.formats.mparticle.event_fields import (
    USER_IDENTITIES,
    event_identity,
    is_hidden,
    set_place,
    with_lists,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.model.audience import IdentityValue

EVENTS = ""
"""In the place of an audience's id where a partition is chosen: a user's events share one."""

_IDS = uuid.UUID("3e0d5c0f-6a1b-5d57-9d0b-0f6f5b7f8f11")


def event_uuid(sync_id: str, event_id: str) -> uuid.UUID:
    """Make an event's id of the source's: the same one, if that is a UUID."""
    try:
        return uuid.UUID(event_id)
    except ValueError:
        return uuid.uuid5(_IDS, f"{sync_id}/{event_id}")


def milliseconds(at: datetime) -> str:
    """Render an instant as Unix epoch milliseconds, as a string since it has 64 bits."""
    return str(int(at.replace(microsecond=0).timestamp()) * 1000 + at.microsecond // 1000)


def common_data(event_id: uuid.UUID, at: datetime) -> dict[str, Any]:
    """Make what the ``data`` of every event has."""
    time = milliseconds(at)
    return {
        "event_id": _int64(event_id),
        "source_message_id": str(event_id),
        "timestamp_unixtime_ms": time,
        "event_start_unixtime_ms": time,
    }


def put(document: dict[str, Any], place: str, rendered: bytes) -> None:
    """Set a rendered value where there is one."""
    if rendered != b"null":
        set_place(document, place, orjson.Fragment(rendered), raw=rendered)


def texts_of(value: IdentityValue) -> list[str]:
    """List the values of an identity."""
    return value if isinstance(value, list) else [value] if value else []


def add_identities(
    batch: dict[str, Any], identities: Mapping[str, IdentityValue], time: str, hidden: Collection[str]
) -> None:
    """Put identities where they stand: in ``user_identities``, or at a place of their own.

    :param time: as of when they are known, in epoch milliseconds.
    :param hidden: places that are left out, with what is inside of them.
    """
    for name, value in identities.items():
        kind, texts = event_identity(name), texts_of(value)
        if is_hidden(kind.place or USER_IDENTITIES, hidden):
            continue
        if kind.user is not None:
            found = [{"identity_type": kind.user, "identity": t, "timestamp_unixtime_ms": time} for t in texts]
            batch.setdefault("user_identities", []).extend(found)
        elif kind.place is not None and texts:
            if len(texts) > 1:
                raise ValueError(
                    f"a user has several identities of type {name}, and the format can hold one; map a column of "
                    "single values"
                )
            set_place(batch, kind.place, texts[0])


def close_batch(
    known: dict[str, Any],
    events: Sequence[bytes],
    ids: Iterable[uuid.UUID],
    time: str,
    *,
    environment: str,
    unique_id: str | None,
    most_bytes: int,
) -> bytes:
    """Put a batch together; its ids are made of those of its events.

    :param known: what is known of the user, the device and the application.
    :param time: of the batch, in epoch milliseconds.
    :raises MessageTooLarge: if it has more bytes than ``most_bytes``.
    """
    batch_id = uuid.uuid5(_IDS, "/".join(map(str, ids)))
    own = {
        "events": orjson.Fragment(b"[" + b",".join(events) + b"]"),
        "schema_version": 2,
        "environment": environment,
        "message_type": "events",
        "message_id": str(batch_id),
        "batch_id": _int64(batch_id),
        "source_request_id": str(batch_id),
        "timestamp_unixtime_ms": time,
        **({"unique_id": unique_id} if unique_id is not None else {}),
    }
    document = dumps({**own, **with_lists(known)})
    if len(document) > most_bytes:
        raise MessageTooLarge(
            f"one event with its user's identities and attributes is a message of {len(document):,} bytes, the "
            f"limit is {most_bytes:,}; map fewer fields, or exclude some",
            size=len(document),
        )
    return document


def dumps(document: Mapping[str, Any]) -> bytes:
    """Render a document of these.

    :raises ValueError: if a text in it is none that UTF-8 can encode.
    """
    return encode(document, "an id, a name or an identity")


def _int64(value: uuid.UUID) -> str:
    return str(int.from_bytes(value.bytes[:8], "big", signed=True))
