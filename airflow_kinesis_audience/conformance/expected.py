"""What a consumer must have, by the rules of docs/consumers.md, and why, in words.

A second way to the same result: the first is the last step of a history. It works on any messages of a history,
also on a part of them, so that a failing history can be made small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What a message says about one user of one audience."""

    audience_id: str
    user_id: str
    member: bool
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``properties`` and ``identities``, as far as the format sends them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A message as it was put, and what it means.

    :param data: the record's bytes.
    :param time: epoch seconds.
    :param partition: messages about a user of an audience have the same one.
    :param deleted: the audience that ends.
    :param whole: the user whose whole state the message has.
    """

    data: bytes
    message_id: str
    time: int
    partition: int
    facts: Sequence[Fact] = ()
    deleted: str | None = None
    whole: str | None = None


Belief = Mapping[tuple[str, str], Mapping[str, Mapping[str, Any]]]
"""By audience and user, the values of each member."""


def find_expected(messages: Iterable[Sent]) -> Belief:
    """Find the members after some messages, in whatever order they arrived."""
    messages = list(messages)
    newest: dict[tuple[str, str], tuple[int, bool, Fact]] = {}
    for sent in messages:
        for fact in sent.facts:
            key = (fact.audience_id, fact.user_id)
            known = newest.get(key)
            if known is None or (sent.time, fact.member) > known[:2]:
                newest[key] = (sent.time, fact.member, fact)
    return {
        key: fact.values
        for key, (time, member, fact) in newest.items()
        if member and _find_voiding(messages, key, time) is None
    }


def _find_voiding(messages: Iterable[Sent], key: tuple[str, str], time: int) -> Sent | None:
    """Find the newest message by which an entry of a time does not count: a deletion, or a newer whole profile."""
    audience_id, user_id = key
    voiding = [
        sent
        for sent in messages
        if (sent.deleted == audience_id and sent.time >= time) or (sent.whole == user_id and sent.time > time)
    ]
    return max(voiding, key=lambda sent: sent.time, default=None)


def explain(arrived: Sequence[Sent], key: tuple[str, str]) -> str:
    """Say in words which message decides about a user of an audience, and what arrived after it.

    :param arrived: in the order of arrival; messages are numbered from 1.
    """
    about = [(n, sent, member) for n, sent, member in _list_about(arrived, key)]
    if not about:
        return "no message says that the user is a member"
    _, decides, member = max(about, key=lambda a: (a[1].time, a[2]))
    voiding = _find_voiding(arrived, key, decides.time) if member else None
    if voiding is not None:
        what = "a deletion of the audience" if voiding.deleted else "a whole profile without this audience"
        why = f"message {_number(arrived, voiding)} is {what} as of {_at(voiding.time)}: it voids all before it"
        decides = voiding
    else:
        does = "an entry" if member else "an exit"
        why = f"message {_number(arrived, decides)} is {does} as of {_at(decides.time)}, the newest about the user"
    ties = any(sent.time == decides.time and m != member for _, sent, m in about) and voiding is None
    tie = ["an exit of the same instant does not win over an entry"] if ties and member else []
    return "; ".join([why, *tie, *_explain_later(arrived, about, decides)])


def _explain_later(
    arrived: Sequence[Sent], about: Sequence[tuple[int, Sent, bool]], decides: Sent
) -> Iterator[str]:
    first = _number(arrived, decides)
    for n, sent, member in about:
        if n > first and sent.time < decides.time:
            does = "an entry" if member else "an exit"
            yield f"message {n} arrived later and is {does} as of {_at(sent.time)}: older, it changes nothing"
            return
    again = [n for n, sent in enumerate(arrived, 1) if n > first and sent.message_id == decides.message_id]
    if again:
        yield f"message {again[0]} is the same message again: it changes nothing"


def _list_about(arrived: Sequence[Sent], key: tuple[str, str]) -> Iterator[tuple[int, Sent, bool]]:
    for n, sent in enumerate(arrived, 1):
        for fact in sent.facts:
            if (fact.audience_id, fact.user_id) == key:
                yield n, sent, fact.member


def _number(arrived: Sequence[Sent], sent: Sent) -> int:
    return next(n for n, other in enumerate(arrived, 1) if other is sent)


def _at(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
