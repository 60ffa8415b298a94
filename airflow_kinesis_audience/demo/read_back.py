"""The other end of the stream: what a consumer believes, and whether that is what the warehouse says.

The consumer gets the messages the hard way, in a shuffled order and many of them twice. What comes out are
counts; which users differ, if any do, is never said.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.consumer import AudienceConsumer

if TYPE_CHECKING:
    from airflow_kinesis_audience.demo.local_kinesis import Stored

_SEED = 1997
_TWICE = 3
"""One message in so many comes a second time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Belief:
    """What a consumer believes after it has applied all messages.

    :param members: user id to what is known of the member.
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
    :param stale: members of whom something else is known.
    """

    missing: int
    invented: int
    stale: int

    @property
    def equal(self) -> bool:
        """Tell whether there is no difference at all."""
        return not (self.missing or self.invented or self.stale)


def believe(
    stored: Sequence[Stored], audience: str, known: Callable[[AudienceConsumer, str, str], Mapping[str, Any]]
) -> Belief:
    """Apply all messages, shuffled and some of them twice; the same way on every call.

    :param known: what to ask the consumer about a member.
    """
    chance = random.Random(_SEED)  # noqa: S311
    arriving = [record.data for record in stored]
    again = chance.sample(arriving, len(arriving) // _TWICE)
    arriving += again
    chance.shuffle(arriving)
    consumer = AudienceConsumer()
    for message in arriving:
        consumer.apply(message)
    members = {user_id: known(consumer, audience, user_id) for user_id in consumer.members(audience)}
    return Belief(members=members, messages=len(stored), again=len(again))


def compare(believed: Mapping[str, Mapping[str, Any]], true: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Count how a consumer's members differ from the warehouse's, both user id to what is known."""
    return Verdict(
        missing=len(true.keys() - believed.keys()),
        invented=len(believed.keys() - true.keys()),
        stale=sum(believed[user_id] != true[user_id] for user_id in believed.keys() & true.keys()),
    )
