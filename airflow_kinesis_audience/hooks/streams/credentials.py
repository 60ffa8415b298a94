"""What AWS says of a signature or of credentials that are no good any more, and how often that is tried again.

A signature grows old while a machine sleeps, a session token while a long delivery goes on, and a key is replaced
by its owner: new credentials, and a new signature, then pass. A secret that is wrong from the first request on is
wrong. Nothing is taken of a request that is refused so. Nothing here asks for credentials or puts.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore import exceptions as sdk

from airflow_kinesis_audience.hooks.streams.responses import NOT_ACCEPTED, code_of

MOST_RENEWALS = 5
"""So often one after the other credentials are asked for anew; one request that AWS accepts begins it again."""

_TOO_OLD = re.compile("ExpiredToken(Exception)?|RequestExpired|RequestTimeTooSkewed|TokenRefreshRequired")
_BY_AGE = re.compile("expired|not yet current|too skewed", re.IGNORECASE)
_NOTABLE_SECONDS = 60


def is_too_old(error: Exception) -> bool:
    """Whether a request was refused for the age of its signature, or of its session token."""
    code = code_of(error)
    if not isinstance(error, sdk.ClientError) or not _is_refusal(error):
        return False
    said = str(error.response["Error"].get("Message") or "")
    return bool(_TOO_OLD.fullmatch(code) or (NOT_ACCEPTED.fullmatch(code) and _BY_AGE.search(said)))


def is_not_accepted(error: Exception) -> bool:
    """Whether a request was refused for its credentials or its signature, for whatever reason."""
    return (
        isinstance(error, sdk.ClientError) and _is_refusal(error) and bool(NOT_ACCEPTED.fullmatch(code_of(error)))
    )


def _is_refusal(error: sdk.ClientError) -> bool:
    return bool(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) < 500)


def describe_clock(error: Exception) -> str:
    """Say how far the worker's clock is from AWS's, by the date of a response; empty where that is little."""
    try:
        date = error.response["ResponseMetadata"]["HTTPHeaders"]["date"]  # type: ignore[attr-defined]
        seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    if abs(seconds) < _NOTABLE_SECONDS:
        return ""
    return f"The worker's clock is {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} AWS's. "
