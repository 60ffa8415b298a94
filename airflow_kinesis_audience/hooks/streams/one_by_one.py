"""Puts the records of a batch each in a request of its own, for a login that may do no more than that.

Some vendors' pages ask for ``PutRecord`` alone. Each record has its own outcome, as in a request of many; no two
of a batch share an ordering key, so that several may be on their way at once. A refusal that meets every record is
raised only while none was taken: what was acknowledged is never forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.producer.records import Outcome, Record, Status

_AT_ONCE = 4
"""Requests of one batch at once; several batches are put at once, too."""

_MOST_UNANSWERED = 8
"""So many in a row without a clear answer: the endpoint is not there, and the rest does not wait for it."""


def put_one_by_one(batch: Sequence[Record], put: Callable[[Sequence[Record]], Sequence[Outcome]]) -> list[Outcome]:
    """Put each record of a batch in a request of its own; one outcome per record, in order.

    :param batch: no two records of one ordering key.
    :param put: one request for one record.
    :raises AudienceError: what ``put`` raises, if no record was taken.
    """
    errors: list[AudienceError] = []
    unanswered: list[Outcome] = []

    def put_one(record: Record) -> Outcome:
        if errors:
            return Outcome(Status.UNKNOWN, type(errors[0]).__name__)
        if len(seen := unanswered[:_MOST_UNANSWERED]) == _MOST_UNANSWERED:
            return seen[-1]
        try:
            found = put([record])
        except AudienceError as error:
            errors.append(error)
            return Outcome(Status.UNKNOWN, type(error).__name__)
        outcome = found[0] if len(found) == 1 else Outcome(Status.UNKNOWN, "AnswerDoesNotMatch")
        if outcome.status is Status.UNKNOWN:
            unanswered.append(outcome)
        else:
            unanswered.clear()
        return outcome

    with ThreadPoolExecutor(min(_AT_ONCE, len(batch)), thread_name_prefix="put-one") as pool:
        outcomes = list(pool.map(put_one, batch))
    if errors and not any(outcome.status is Status.DELIVERED for outcome in outcomes):
        raise errors[0]
    return outcomes
