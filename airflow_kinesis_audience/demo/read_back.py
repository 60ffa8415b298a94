"""The other end of the stream: what a consumer believes, and whether that is what the warehouse says.

The consumer gets the messages the hard way, in a shuffled order and many of them twice. What comes out are counts
and one message to look at; which users differ, if any do, is never said.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.consumer import AudienceConsumer

if TYPE_CHECKING:
    from airflow_kinesis_audience.demo.local_kinesis import Stored

AUDIENCE = "lapsed_90_days"
_FEW = 3
_SEED = 1997
_TWICE = 3
"""One message in so many comes a second time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Belief:
    """What a consumer believes after it has applied all messages.

    :param members: user id to properties.
    :param again: messages that came a second time.
    """

    members: Mapping[str, Mapping[str, Any]]
    messages: int
    again: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How the consumer's members differ from the warehouse's; all zero where they are equal.

    :param missing: members whom the consumer does not have.
    :param invented: members of the consumer who are none.
    :param stale: members whose properties are others.
    """

    missing: int
    invented: int
    stale: int

    @property
    def equal(self) -> bool:
        """Tell whether there is no difference at all."""
        return not (self.missing or self.invented or self.stale)


def believe(stored: Sequence[Stored]) -> Belief:
    """Apply all messages, shuffled and some of them twice; the same way on every call."""
    chance = random.Random(_SEED)  # noqa: S311
    arriving = [record.data for record in stored]
    again = chance.sample(arriving, len(arriving) // _TWICE)
    arriving += again
    chance.shuffle(arriving)
    consumer = AudienceConsumer()
    for message in arriving:
        consumer.apply(message)
    members = {user_id: consumer.properties(AUDIENCE, user_id) for user_id in consumer.members(AUDIENCE)}
    return Belief(members=members, messages=len(stored), again=len(again))


def compare(believed: Mapping[str, Mapping[str, Any]], true: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Count how a consumer's members differ from the warehouse's, both user id to properties."""
    return Verdict(
        missing=len(true.keys() - believed.keys()),
        invented=len(believed.keys() - true.keys()),
        stale=sum(believed[user_id] != true[user_id] for user_id in believed.keys() & true.keys()),
    )


def count_by_shard(stored: Sequence[Stored]) -> Mapping[str, int]:
    """Count the records of each shard that has any."""
    return Counter(record.shard_id for record in stored)


def choose_sample(stored: Sequence[Stored]) -> tuple[Stored, dict[str, Any]]:
    """Choose a record to show, with its message: some few who entered, on the last day if anybody did."""

    def worth(candidate: tuple[Stored, dict[str, Any]]) -> tuple[bool, str, bool, int]:
        message = candidate[1]
        users = len(message["users"])
        return message["in_cohort"], message["computed_time"], users >= _FEW, -users

    return max(((record, json.loads(record.data)) for record in stored), key=worth)
