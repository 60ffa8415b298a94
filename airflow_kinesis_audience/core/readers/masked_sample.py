"""A message as a destination gets it, with masked values: what the page shows of a format.

It is rendered from a user that exists nowhere, so that no value of a row can be in it. Only the names and types of
a layout decide what it holds. Nothing is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from airflow_kinesis_audience.core.model.arrow_values import integers, texts
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.messages import Message
from airflow_kinesis_audience.core.model.profiles import MembershipStatus
from airflow_kinesis_audience.core.readers.change_sets import make_changes, value_fields
from airflow_kinesis_audience.core.readers.profiles import ProfileSet, make_profiles

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.messages import Envelope
    from airflow_kinesis_audience.core.model.renderer import Renderer
    from airflow_kinesis_audience.core.readers.change_sets import ChangeSet

MASK = "•••"
"""What takes the place of a text. A number is 0, a boolean false, a day or an instant that of the change set."""

AUDIENCE_ID = "audience-id"


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedChange:
    """What of a change its masked message shows: who and which values is left out.

    :param filled: the state columns that are not NULL; none stands for those of an entry with all values.
    :param changed: the columns of old values that differ from the new ones.
    """

    audience_id: str = AUDIENCE_ID
    action: str = Action.ENTERED.value
    updated: str | None = None
    filled: frozenset[str] | None = None
    changed: frozenset[str] = frozenset()


def render_masked_sample(change_set: ChangeSet, renderer: Renderer, envelope: Envelope) -> dict[str, Any] | None:
    """Render the message of one entry into an audience, with masked values.

    :param change_set: whose layout and instant count.
    :param renderer: a format of this package. An author's own may not expect such values.
    :returns: the JSON document; none if the format sends nothing of such an entry.
    """
    documents = render_masked(change_set, renderer, envelope, MaskedChange())
    found: dict[str, Any] | None = orjson.loads(documents[0]) if documents else None
    return found


def render_masked(
    change_set: ChangeSet, renderer: Renderer, envelope: Envelope, change: MaskedChange
) -> list[bytes]:
    """Render the messages of one change, with masked values; none where the format sends nothing of it.

    A format of profiles shows the one audience alone. See :func:`render_masked_sample`.
    """
    make = _make_profile if renderer.traits.exits_kept is not None else _make_change
    found = renderer(make(change_set, change), envelope)
    return [message.document for message in found if isinstance(message, Message)]


def _make_change(change_set: ChangeSet, change: MaskedChange) -> Any:
    own = {
        "position": 0,
        "action": change.action,
        "updated": change.updated,
        "bucket": "000",
        "audience_id": change.audience_id,
        "user_id": MASK,
        "member_since": instant_text(change_set.as_of),
    }
    return make_changes(change_set, _row(change_set, own, change), change_set.names or {})


def _make_profile(change_set: ChangeSet, change: MaskedChange) -> Any:
    since = instant_text(change_set.as_of)
    status, until = {
        Action.ENTERED.value: (MembershipStatus.ENTERED, " " * len(since)),
        Action.EXITED.value: (MembershipStatus.EXITED, since),
        Action.UPDATED.value: (MembershipStatus.MEMBER, " " * len(since)),
    }[change.action]
    own = {
        "position": 0,
        "user_id": MASK,
        "bucket": "000",
        "changes": 1,
        "known": int(change.action != Action.ENTERED.value),
        "memberships": f"{status}{since}{until}{len(change.audience_id)}:{change.audience_id}",
    }
    if change.filled is not None and change.action == Action.EXITED.value:
        # A profile keeps what is known of a user who has left.
        kept = {c.new for c in change_set.layout.columns if c.old in change.filled}
        change = replace(change, filled=change.filled | kept)
    profiles = ProfileSet(change_set=change_set, table="", slices=1)
    return make_profiles(profiles, _row(change_set, own, change), dict(change_set.names or {}))


def _row(change_set: ChangeSet, own: dict[str, Any], change: MaskedChange) -> pa.Table:
    """Make a table of one row, with a mask in each column that has a value."""
    several = {n for c in change_set.layout.identities if c.several for n in (c.new, c.old)}
    filled = change.filled
    if filled is None:
        filled = frozenset(c.new for c in change_set.layout.columns if not c.retired)
    columns = {n: integers([v]) if isinstance(v, int) else _column(v, pa.string()) for n, v in own.items()}
    for name, kind in value_fields(change_set.layout):
        mask = _other_mask if name in change.changed else _mask
        value = mask(kind, change_set) if name in filled else None
        columns[name] = _column(f'["{value}"]' if value and name in several else value, kind)
    return pa.table(columns)


def _column(value: str | None, kind: pa.DataType) -> pa.Array:
    return pa.nulls(1, kind) if value is None else texts([value]).cast(kind)


def _mask(kind: pa.DataType, change_set: ChangeSet, *, days: int = 0) -> str:
    if pa.types.is_boolean(kind):
        return "false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "0"
    as_of = change_set.as_of - timedelta(days=days)
    if pa.types.is_date(kind):
        return as_of.date().isoformat()
    return as_of.isoformat() if pa.types.is_timestamp(kind) else MASK


def _other_mask(kind: pa.DataType, change_set: ChangeSet) -> str:
    """Give what takes the place of a value that is another one now."""
    if pa.types.is_boolean(kind):
        return "true"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "1"
    is_time = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    return _mask(kind, change_set, days=1) if is_time else MASK[:-1]
