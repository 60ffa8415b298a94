"""The changes of one step as a format gets them, and what the messages of all formats share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.conformance.expected import Fact, Sent

if TYPE_CHECKING:
    from airflow_kinesis_audience.conformance.histories import Change, Place
    from airflow_kinesis_audience.conformance.names import Names


@dataclass(frozen=True, kw_only=True, slots=True)
class StepChanges:
    """The changes of one step, as a format gets them.

    :param before: versions of the values before, and ``after`` the step's.
    :param members: who belongs after the step.
    :param left: who is known to have left, with the instants, and is named in a whole profile.
    """

    names: Names
    number: int
    time: int
    changes: Sequence[Change]
    before: Sequence[int]
    after: Sequence[int]
    members: frozenset[Place]
    left: Mapping[Place, int]

    def message_id(self, what: str, n: int) -> str:
        """Make a message's id."""
        return f"{self.names.batch_id(self.number)}::{what}::{n}"


def lifecycle_of(event: str, members: int, exits: int) -> dict[str, Any]:
    counts = {} if event == "deleted" else {"members": members, "exits": exits}
    return {"event": event, **counts}


def fact_of(names: Names, change: Change, values: Mapping[str, Mapping[str, Any]]) -> Fact:
    return Fact(
        audience_id=names.audience_id(change.place.audience),
        user_id=names.user_id(change.place.user),
        member=change.new is not None,
        values=values,
    )


def build_message(
    batch: StepChanges, document: Mapping[str, Any], message_id: str, partition: int, *, facts: Sequence[Fact] = ()
) -> Sent:
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Sent(data=data, message_id=message_id, time=batch.time, partition=partition, facts=tuple(facts))


def build_notice(
    batch: StepChanges, document: Mapping[str, Any], message_id: str, audience: int, event: str
) -> Sent:
    sent = build_message(batch, document, message_id, audience)
    return replace(sent, deleted=batch.names.audience_id(audience)) if event == "deleted" else sent


def rfc3339(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
