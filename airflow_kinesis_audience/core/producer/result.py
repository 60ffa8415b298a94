"""The result of one attempt: its counts, and in words why it stopped before everything was acknowledged.

A partial failure is a result and not an exception here: the counts of what was delivered stay with the failure.
Nothing here puts, waits or decides. A sentence names the destination, its limits, its most frequent answer and
what to do; it holds nothing of a record.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.exceptions import AudienceError
    from airflow_kinesis_audience.core.producer.records import Limits, Outcome

_UNREACHABLE = "the endpoint cannot be reached: check region, endpoint_url and network"
_ADVICE = {
    "ExpiredTokenException": "the session token has expired: renew it, or let the connection assume a role",
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
}
_FEW_SHARDS = 3


@dataclass(kw_only=True, slots=True)
class ProduceResult:
    """The counts of one attempt.

    :param delivered: records acknowledged, with ``changes_``, ``messages_`` and ``bytes_delivered``.
    :param failed: records that were given up: rejected by the destination, or out of retries; with
        ``changes_failed``.
    :param retried: puts of records beyond their first; ``requests``, calls of ``put``.
    :param codes: error codes of records that were not acknowledged, by put; ``throttles`` are those of too little
        capacity, and ``shards`` the shards that gave them, as far as the answers name them.
    :param failure: why not everything was delivered; none if everything was.
    """

    delivered: int = 0
    changes_delivered: int = 0
    messages_delivered: int = 0
    bytes_delivered: int = 0
    failed: int = 0
    changes_failed: int = 0
    retried: int = 0
    requests: int = 0
    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    throttles: Counter[str] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    failure: AudienceError | None = None

    def add_failure(self, outcome: Outcome, *, throttled: bool) -> None:
        """Count a put of a record that was not acknowledged."""
        code = outcome.code or outcome.status
        self.codes[code] += 1
        self.throttles[code] += throttled
        self.shards[outcome.shard] += bool(outcome.shard)


def describe_failure(result: ProduceResult, limits: Limits, destination: str, why: str, *, exhausted: bool) -> str:
    """Build the sentence: why records were given up, which limit was met, and what to do.

    :param why: what ended the attempt.
    :param exhausted: whether the retry policy allowed no further try.
    """
    code, times = next(iter(result.codes.most_common(1)), ("no answer", 0))
    where = ""
    advice = _ADVICE.get(code, "look up this code and the state of the service")
    if result.throttles[code]:
        where = _describe_shards(result)
        advice = f"{limits.rate}: {limits.remedy}" if limits.rate else advice
    met = "Retry Limit Exceeded" if exhausted else "Refused"
    return (
        f"{met} at {destination} ({why}): {result.failed} records with {result.changes_failed} changes failed, "
        f"and {result.delivered} records with {result.changes_delivered} changes were delivered. Most frequent "
        f"error: {code}, {times} times{where}: {advice}. The next attempt puts only what is missing"
    )


def _describe_shards(result: ProduceResult) -> str:
    found = [(shard, times) for shard, times in result.shards.most_common() if times]
    if not found:
        return ""
    more = f" and {len(found) - _FEW_SHARDS} more" if len(found) > _FEW_SHARDS else ""
    return f", {', '.join(f'{times} of them of {shard}' for shard, times in found[:_FEW_SHARDS])}{more}"
