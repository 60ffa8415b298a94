"""What AWS, or a proxy before it, may respond instead of taking a request: what it means, and what to do about it.

A record counts as delivered only by its acknowledgement. No response, or one that cannot be read, leaves its
outcome unknown, so that the record is put again. Nothing here sends anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.core.producer.records import Outcome, Status

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.calls import Call

DENIED = re.compile("AccessDenied(Exception)?")
NOT_ACCEPTED = re.compile(
    "(Incomplete|Invalid)Signature(Exception)?|InvalidClientTokenId|MissingAuthenticationToken(Exception)?|"
    "OptInRequired|SignatureDoesNotMatch|UnrecognizedClientException"
)
REFUSED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        DENIED,
        "AWS denies {operation} for {noun} {stream} ({said}); the login of connection {login} needs {needs}, and "
        "sts:AssumeRole if the connection names a role",
    ),
    (
        NOT_ACCEPTED,
        "AWS does not accept the credentials of connection {login} ({code}); check its access key and secret, and "
        "the worker's clock",
    ),
    (
        re.compile("(InvalidArgument|Serialization|UnknownOperation|Validation)Exception"),
        "AWS rejects the form of {operation} to {noun} {stream} ({code}); check {argument} and endpoint_url{form}",
    ),
)
"""Codes of responses that would be the same for every record and at every attempt, and what to do then."""
NO_CREDENTIALS = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.ProfileNotFound,
    sdk.SSOError,
    sdk.TokenRetrievalError,
)
_UNREADABLE = (ResponseParserError, AttributeError, TypeError, ValueError)
"""What the SDK's parser raises when a response is not a JSON object, as a proxy's page may be."""
FAILED = (sdk.ClientError, sdk.BotoCoreError, *_UNREADABLE)
"""What a call of the SDK may raise."""
NO_RESPONSE = (
    sdk.ConnectionError,
    sdk.CredentialRetrievalError,
    sdk.HTTPClientError,
    sdk.IncompleteReadError,
    sdk.MetadataRetrievalError,
)
"""No response, or none that can be read: the records may have been taken, and the next request may do better."""


class PutDenied(DestinationRefused):
    """The login may not make the call that puts; nothing was put."""


def code_of(error: Exception) -> str:
    """Give the code by which a failure is known."""
    if isinstance(error, sdk.ClientError):
        return str(error.response.get("Error", {}).get("Code") or "NoCode")
    is_sdk = isinstance(error, sdk.BotoCoreError)
    return type(error).__name__ if is_sdk else "AnswerUnreadable"


def operation_of(error: Exception) -> str:
    """Name the call that failed; empty where the SDK does not name it."""
    return str(getattr(error, "operation_name", ""))


def outcomes_of(results: Any, call: Call, throttled: re.Pattern[str], count: int) -> list[Outcome]:
    """Read a response's results, one per record; without the acknowledgement there is none.

    :param results: a list of mappings, unless the response is not one of the service.
    :param throttled: error codes that mean too little capacity.
    :param count: records of the request.
    """
    number, shard = call.acknowledgement, call.shard
    try:
        # Nearly always each has these and nothing more: no error code.
        if {len(result) for result in results} == {1 + bool(shard)} and all(map(itemgetter(number), results)):
            shards = map(itemgetter(shard), results) if shard else repeat("", len(results))
            return list(map(_delivered, shards))
    except (AttributeError, KeyError, TypeError):
        pass
    try:
        return [
            _delivered(result.get(shard))
            if result and result.get(number) and not result.get("ErrorCode")
            else _failure(result or {}, call, throttled)
            for result in results
        ]
    except (AttributeError, TypeError):
        return [Outcome(Status.UNKNOWN, "AnswerUnreadable")] * count


@lru_cache(maxsize=4_096)
def _delivered(shard: str | None) -> Outcome:
    # Hundreds of records of a response are of one shard, and need no more than one object.
    return Outcome(Status.DELIVERED, shard=str(shard or ""))


def _failure(result: Mapping[str, Any], call: Call, throttled: re.Pattern[str]) -> Outcome:
    if not (code := str(result.get("ErrorCode") or "")):
        return Outcome(Status.UNKNOWN, f"No{call.acknowledgement}")
    shard = re.search(r"shardId-\d{12}", str(result.get("ErrorMessage")))
    status = Status.THROTTLED if throttled.fullmatch(code) else Status.UNKNOWN
    return Outcome(status, code, shard.group() if shard else "")
