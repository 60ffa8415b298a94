"""What AWS, or the way to it, may answer instead of taking a request, and what to say about it."""

from __future__ import annotations

import re

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

DENIED = re.compile("AccessDenied(Exception)?")
REFUSED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        DENIED,
        "AWS denies {operation} for {noun} {stream} ({said}); the login of connection {login} needs {needs}, and "
        "sts:AssumeRole if the connection names a role",
    ),
    (
        re.compile(
            "(Incomplete|Invalid)Signature(Exception)?|InvalidClientTokenId|MissingAuthenticationToken(Exception)?|"
            "OptInRequired|SignatureDoesNotMatch|UnrecognizedClientException"
        ),
        "AWS does not accept the credentials of connection {login} ({code}); check its access key and secret, and "
        "the worker's clock",
    ),
    (
        re.compile("(InvalidArgument|Serialization|UnknownOperation|Validation)Exception"),
        "AWS refuses the form of {operation} to {noun} {stream} ({code}); check {argument} and endpoint_url{form}",
    ),
)
"""Codes of answers that would be the same for every record and at every attempt, and what to do then."""
NO_CREDENTIALS = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.ProfileNotFound,
    sdk.SSOError,
    sdk.TokenRetrievalError,
)
_UNREADABLE = (ResponseParserError, AttributeError, TypeError, ValueError)
"""What the SDK's parser dies of when an answer is not a JSON object, as a proxy's page may be."""
FAILED = (sdk.ClientError, sdk.BotoCoreError, *_UNREADABLE)
"""What a call of the SDK may raise."""
NO_ANSWER = (
    sdk.ConnectionError,
    sdk.CredentialRetrievalError,
    sdk.HTTPClientError,
    sdk.IncompleteReadError,
    sdk.MetadataRetrievalError,
)
"""No answer, or none that can be read: the records may have been taken, and the next request may do better."""


def code_of(error: Exception) -> str:
    """Give the code by which a failure is known."""
    if isinstance(error, sdk.ClientError):
        return str(error.response.get("Error", {}).get("Code") or "NoCode")
    is_sdk = isinstance(error, sdk.BotoCoreError)
    return type(error).__name__ if is_sdk else "AnswerUnreadable"


def operation_of(error: Exception) -> str:
    """Name the call that failed; empty where that is not told."""
    return str(getattr(error, "operation_name", ""))
