"""What one attempt at a delivery did, and why it ended before everything was delivered, in words.

Counts and sentences; nothing here puts, waits or decides. A sentence names the destination, what it takes, what it
answered, and what to do, and nothing of a record.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_kinesis_audience.exceptions import AudienceError
    from airflow_kinesis_audience.messages import Limits, Outcome

_UNREACHABLE = "the endpoint cannot be reached: check region, endpoint_url and network"
_ADVICE = {
    "ExpiredTokenException": "the session token has expired: renew it, or let the connection assume a role",
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
}
_FEW_SHARDS = 3


@dataclass(kw_only=True, slots=True)
class Tally:
    """What one attempt did.

    :param delivered: records acknowledged, with ``changes_``, ``messages_`` and ``bytes_delivered``.
    :param rejected: records put and never acknowledged: refused or given up; with ``changes_rejected``.
    :param retried: puts of records beyond their first; ``requests``, calls of ``put``.
    :param codes: error codes of records that were not acknowledged, by put; ``throttles`` are those of too little
        capacity, and ``shards`` where that was, as far as it was said.
    :param failure: why not everything was delivered; none where it was.
    """

    delivered: int = 0
    changes_delivered: int = 0
    messages_delivered: int = 0
    bytes_delivered: int = 0
    rejected: int = 0
    changes_rejected: int = 0
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


def describe_failure(tally: Tally, limits: Limits, destination: str, why: str, *, exhausted: bool) -> str:
    """Say why records were given up, which bound was met, and what to do.

    :param why: what ended the attempt.
    :param exhausted: it was tried again as often, or as long, as the policy says.
    """
    code, times = next(iter(tally.codes.most_common(1)), ("no answer", 0))
    where = ""
    advice = _ADVICE.get(code, "look up this code and the state of the service")
    if tally.throttles[code]:
        where = _describe_shards(tally)
        advice = f"{limits.rate}: {limits.remedy}" if limits.rate else advice
    met = "Retry Limit Exceeded" if exhausted else "Refused"
    return (
        f"{met} at {destination} ({why}): {tally.rejected} records with {tally.changes_rejected} changes were "
        f"given up, and {tally.delivered} records with {tally.changes_delivered} changes delivered; most frequent "
        f"answer: {code}, {times} times{where}: {advice}. The next attempt sends exactly what is missing"
    )


def _describe_shards(tally: Tally) -> str:
    found = [(shard, times) for shard, times in tally.shards.most_common() if times]
    if not found:
        return ""
    more = f" and {len(found) - _FEW_SHARDS} more" if len(found) > _FEW_SHARDS else ""
    return f", {', '.join(f'{times} of them of {shard}' for shard, times in found[:_FEW_SHARDS])}{more}"
