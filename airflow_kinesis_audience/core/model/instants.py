"""Instants: RFC 3339 text in the state, epoch seconds on the wire.

Nothing here looks at a clock. The invariant: an instant is timezone-aware, in UTC, and a whole second.
"""

from __future__ import annotations

from datetime import UTC, datetime


def instant(value: datetime | str, *, name: str = "as_of") -> datetime:
    """Return an instant as a whole second of UTC.

    :param value: a timezone-aware datetime, or its ISO 8601 text with an offset or ``Z``.
    :param name: what to call it in an error.
    :raises ValueError: if it is naive or no instant; a retry does not help.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(
                f"{name} is {value!r}; expected an ISO 8601 instant such as 2026-01-31T00:00:00Z"
            ) from None
    if not isinstance(value, datetime):
        raise ValueError(f"{name} is a {type(value).__name__}; expected a datetime with a time zone")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(
            f"{name} is {value.isoformat()}, without a time zone; add one, for example {value.isoformat()}+00:00"
        )
    utc = value.astimezone(UTC)
    # A plain one: what Airflow's templates have is a class of its own, which no encoder of the state knows.
    return datetime.combine(utc.date(), utc.time().replace(microsecond=0), UTC)


def instant_text(value: datetime) -> str:
    """Render an instant as RFC 3339 in UTC with whole seconds: fixed width, so that text sorts as time."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)


def epoch_seconds(value: datetime) -> str:
    """Render an instant as Unix epoch seconds in a string, as the wire formats want it."""
    return str(int(value.timestamp()))
