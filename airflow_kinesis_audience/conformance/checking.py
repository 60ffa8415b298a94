"""Sends a consumer histories, compares what it has with what it must have, and makes a failing history small."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from airflow_kinesis_audience.conformance.arrivals import ARRIVALS
from airflow_kinesis_audience.conformance.expected import Sent, explain, find_expected
from airflow_kinesis_audience.conformance.histories import AUDIENCES, History, draw_history
from airflow_kinesis_audience.conformance.names import Names
from airflow_kinesis_audience.conformance.writing import FORMATS, write_history

Members = Collection[str] | Mapping[str, Mapping[str, Any]]
"""User ids; or by user id ``properties`` and ``identities``, or one of them, which are then compared, too."""
Consumer = Callable[[Sequence[bytes]], Mapping[str, Members]]
"""Applies messages in the order in which they arrive, and returns the members by audience id.

It is called once per history. The ids are new each time, so it may keep what it had before.
"""

_MOST_CALLS = 400
"""Calls of a consumer to make a failing history small."""
_MOST_DIFFERENCES, _MOST_MESSAGES = 5, 12
_RUNS = 10**6


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A history after which a consumer has something else than it must.

    :param number: of the history, from 1.
    :param arrival: how its messages arrived.
    :param messages: a part of its messages that is enough to fail, in the order of arrival.
    :param differences: which user of which audience differs after these messages, and why, a sentence each.
    """

    number: int
    arrival: str
    messages: Sequence[bytes]
    differences: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConformanceReport:
    """The result of a check; ``str`` gives it as text.

    :param seed: gives the same histories again.
    :param histories: how many there were, by how messages arrived, and ``failed`` likewise.
    :param messages: how many the consumer got, repeated ones included.
    :param failure: the first failing history, made small.
    """

    message_format: str
    seed: int
    histories: Mapping[str, int]
    failed: Mapping[str, int]
    messages: int
    failure: Failure | None = None

    @property
    def passed(self) -> bool:
        """Whether no history failed."""
        return self.failure is None

    def __str__(self) -> str:
        return "\n".join(self.describe())

    def describe(self) -> Iterator[str]:
        """Render the report in lines."""
        total, failed = sum(self.histories.values()), sum(self.failed.values())
        result = "passed" if self.passed else f"failed {failed:,} of"
        sent = f"{total:,} histories with {self.messages:,} messages"
        yield f"{self.message_format}: {result} {sent}; seed {self.seed}"
        for arrival, histories in self.histories.items():
            yield f"  {arrival}: {self.failed.get(arrival, 0):,} of {histories:,} failed"
        if self.failure is not None:
            yield from _describe_failure(self.failure)


def _describe_failure(failure: Failure) -> Iterator[str]:
    arrived = len(failure.messages)
    yield f"History {failure.number} ({failure.arrival}), made small: it fails with {arrived:,} of its messages"
    for difference in failure.differences[:_MOST_DIFFERENCES]:
        yield f"  {difference}"
    if (more := len(failure.differences) - _MOST_DIFFERENCES) > 0:
        yield f"  and {more:,} more differences"
    yield "  The messages, in the order of arrival:"
    for n, message in enumerate(failure.messages[:_MOST_MESSAGES], 1):
        yield f"  {n}. {message.decode()}"
    if (more := arrived - _MOST_MESSAGES) > 0:
        yield f"  and {more:,} more messages"


@dataclass(frozen=True, slots=True)
class _Case:
    """A history, and the positions of its messages in the order of arrival."""

    number: int
    arrival: str
    history: History
    order: Sequence[int]


@dataclass(slots=True)
class _Check:
    """One use of the kit: each history that it sends gets ids of its own."""

    consume: Consumer
    message_format: str
    _runs: Iterator[int] = field(
        default_factory=lambda: count(random.SystemRandom().randrange(_RUNS // 10, _RUNS) * _RUNS)
    )

    def find_differences(self, case: _Case, order: Sequence[int]) -> tuple[list[bytes], list[str]]:
        """Send messages of a case; gives them, and what differs after them."""
        names = Names(next(self._runs))
        sent = write_history(case.history, self.message_format, names)
        arrived = [sent[n] for n in order]
        messages = [one.data for one in arrived]
        try:
            found = _read_members(self.consume(messages), names)
        except ConnectionError:
            raise
        except Exception as error:  # whatever else it raises is the result of the check
            return messages, [f"the consumer raised {type(error).__name__}: {error}"]
        return messages, list(_compare(found, arrived))


def check_consumer(
    consume: Consumer, message_format: str, *, seed: int | None = None, histories: int = 100
) -> ConformanceReport:
    """Check a consumer with random histories.

    :param consume: applies messages and returns the members; :class:`HttpConsumer` for one behind a URL.
    :param message_format: a name of :data:`FORMATS`.
    :param seed: of a report, to send the same histories again; by default a new one.
    :param histories: how many to send. One has four to nine instants, two audiences and six users.
    :returns: the report. A consumer that raises an error fails; this function does not raise it.
    :raises ConnectionError: if the consumer raises one, because then nothing is known about its rules.
    :raises ValueError: if an argument is invalid.
    """
    if message_format not in FORMATS:
        raise ValueError(f"message_format is {message_format!r}; expected one of {', '.join(FORMATS)}")
    if histories < 1:
        raise ValueError(f"histories is {histories}; expected 1 or more")
    seed = random.SystemRandom().randrange(10**9) if seed is None else seed
    run = _Check(consume, message_format)
    sent, failed, messages, first = Counter[str](), Counter[str](), 0, None
    for number in range(1, histories + 1):
        case = _draw_case(seed, number, message_format)
        arrived, differences = run.find_differences(case, case.order)
        sent[case.arrival] += 1
        failed[case.arrival] += bool(differences)
        messages += len(arrived)
        if differences and first is None:
            first = case
    return ConformanceReport(
        message_format=message_format,
        seed=seed,
        histories=sent,
        failed=failed,
        messages=messages,
        failure=_shrink(run, first) if first is not None else None,
    )


def _draw_case(seed: int, number: int, message_format: str) -> _Case:
    chance = random.Random(f"{seed}/{number}")  # noqa: S311
    history = draw_history(chance, deletes_all=message_format == "adobe_profile")
    partitions = [sent.partition for sent in write_history(history, message_format, Names(_RUNS))]
    arrival = [*ARRIVALS][(number - 1) % len(ARRIVALS)]
    return _Case(number, arrival, history, ARRIVALS[arrival](chance, partitions))


def _shrink(run: _Check, case: _Case) -> Failure:
    """Leave out messages while the consumer still fails: halves first, then smaller parts, one in the end."""
    order = list(case.order)
    arrived, differences = run.find_differences(case, order)
    if not differences:
        differences = ["the consumer failed once, and had the right members when it got the same history again"]
        return Failure(number=case.number, arrival=case.arrival, messages=arrived, differences=differences)
    calls, part = 1, len(order) // 2
    while part:
        start = 0
        while start < len(order) and calls < _MOST_CALLS:
            less = order[:start] + order[start + part :]
            calls += 1
            found = run.find_differences(case, less)
            if found[1]:
                order, (arrived, differences) = less, found
            else:
                start += part
        part //= 2
    return Failure(number=case.number, arrival=case.arrival, messages=arrived, differences=differences)


def _read_members(found: Mapping[Any, Members], names: Names) -> dict[str, Members]:
    """Read the members of the audiences of one run; an id may be a number, as in mParticle's messages."""
    read: dict[str, Members] = {}
    for audience_id in map(names.audience_id, range(AUDIENCES)):
        read[audience_id] = ()
        for key in (audience_id, int(audience_id)):
            with suppress(KeyError):
                read[audience_id] = found[key]
                break
        if isinstance(read[audience_id], str) or not isinstance(read[audience_id], Collection):
            kind = type(read[audience_id]).__name__
            raise TypeError(f"the members of an audience are a {kind}; expected user ids, or values by user id")
    return read


def _compare(found: Mapping[str, Members], arrived: Sequence[Sent]) -> Iterator[str]:
    """Say of each user who differs what the consumer has, what it must have, and why."""
    expected = find_expected(arrived)
    for audience_id, has in found.items():
        must = {user: values for (audience, user), values in expected.items() if audience == audience_id}
        for user_id in sorted({*map(str, has), *must}):
            if what := _describe_difference(has, must, user_id):
                why = explain(arrived, (audience_id, user_id))
                yield f"audience {audience_id}, user {user_id}: {what}, because {why}"


def _describe_difference(
    has: Members, must: Mapping[str, Mapping[str, Mapping[str, Any]]], user_id: str
) -> str | None:
    if user_id not in must:
        return "the consumer has a member; it must have none"
    if user_id not in has:
        return "the consumer has no member; it must have one"
    values = has[user_id] if isinstance(has, Mapping) else {}
    for kind, expected in must[user_id].items():
        if kind in values and values[kind] != expected:
            return f"the consumer has {kind} {values[kind]!r}; it must have {expected!r}"
    return None
