"""The other end of the stream: what a consumer believes, and whether that is what the warehouse says.

The consumer gets the messages the hard way, in a shuffled order and many of them twice. What comes out are
counts; which users differ, if any do, is never said.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_kinesis_audience.demo.local_kinesis import Stored

_SEED = 1997
_TWICE = 3
"""One message in so many comes a second time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Belief:
    """What a consumer believes after it has applied all messages.

    :param known: a member, a profile or a purchase, to what is known of it.
    :param again: messages that came a second time.
    """

    known: Mapping[str, Mapping[str, Any]]
    messages: int
    again: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How what a consumer knows differs from the warehouse; all zero where it does not.

    :param missing: what the consumer does not have.
    :param invented: what the consumer has and should not.
    :param stale: of what it knows something else.
    """

    missing: int
    invented: int
    stale: int

    @property
    def equal(self) -> bool:
        """Whether there is no difference at all."""
        return not (self.missing or self.invented or self.stale)


def believe(
    stored: Sequence[Stored], read: Callable[[Sequence[bytes]], Mapping[str, Mapping[str, Any]]]
) -> Belief:
    """Let a consumer read all messages, shuffled and some of them twice; the same way on every call.

    :param read: the consumer: gives what it knows in the end.
    """
    chance = random.Random(_SEED)  # noqa: S311
    arriving = [record.data for record in stored]
    again = chance.sample(arriving, len(arriving) // _TWICE)
    arriving += again
    chance.shuffle(arriving)
    return Belief(known=read(arriving), messages=len(stored), again=len(again))


def compare(believed: Mapping[str, Mapping[str, Any]], true: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Count how what a consumer knows differs from what is true."""
    return Verdict(
        missing=len(true.keys() - believed.keys()),
        invented=len(believed.keys() - true.keys()),
        stale=sum(believed[key] != true[key] for key in believed.keys() & true.keys()),
    )
