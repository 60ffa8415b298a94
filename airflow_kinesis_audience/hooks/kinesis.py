"""The door to a Kinesis data stream: one PutRecords per call, one outcome per record.

It never tries again by itself, because only ``delivery.py`` knows which record may be put when; the SDK's own
retries, which would put a whole request again, are off. What AWS answers leaves here as outcomes, or as one
domain error where every record would fare the same. Nothing of a record reaches a log: the SDK's loggers, which
print whole requests, are kept above DEBUG for the process.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from botocore import exceptions as sdk
from botocore.config import Config
from botocore.parsers import ResponseParserError

from airflow_kinesis_audience.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.messages import KINESIS_LIMITS, Limits, Outcome, Record, Status

_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_MOST_LANES = 64

_THROTTLED = re.compile(
    "KMSThrottlingException|LimitExceededException|ProvisionedThroughputExceededException|RequestLimitExceeded|"
    "ThrottlingException"
)
_DENIED = re.compile("AccessDenied(Exception)?")
_REFUSED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile("ResourceNotFoundException"),
        "stream {stream} does not exist in {region}; correct stream_name, region_name or the connection, or "
        "create it: aws kinesis create-stream --stream-name {name} --region {region} "
        "--stream-mode-details StreamMode=ON_DEMAND",
    ),
    (
        _DENIED,
        "AWS denies {operation} for stream {stream} ({said}); the login of connection {login} needs "
        "kinesis:PutRecords on the stream, kms:GenerateDataKey on its key if it is encrypted, and sts:AssumeRole "
        "if the connection names a role",
    ),
    (
        re.compile("KMS[A-Z].*"),
        "the KMS key of stream {stream} cannot be used ({code}); enable the key, and grant the login of "
        "connection {login} kms:GenerateDataKey on it",
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
        "AWS refuses the form of {operation} to stream {stream} ({code}); check stream_name and endpoint_url, and "
        "that the stream's largest record is not set below 1 MiB",
    ),
)
"""Codes of answers that would be the same for every record and at every attempt, and what to do then."""
_NO_CREDENTIALS = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.ProfileNotFound,
    sdk.SSOError,
    sdk.TokenRetrievalError,
)
_UNREADABLE = (ResponseParserError, AttributeError, TypeError, ValueError)
"""What the SDK's parser dies of when an answer is not a JSON object, as a proxy's page may be."""
_FAILED = (sdk.ClientError, sdk.BotoCoreError, *_UNREADABLE)
_NO_ANSWER = (
    sdk.ConnectionError,
    sdk.CredentialRetrievalError,
    sdk.HTTPClientError,
    sdk.IncompleteReadError,
    sdk.MetadataRetrievalError,
)
"""No answer, or none that can be read: the records may have been taken, and the next request may do better."""


class KinesisStreamHook(AwsBaseHook):
    """Puts records to one Kinesis data stream.

    :param stream_name: the stream's name, or its ARN.
    :param aws_conn_id: Airflow connection of type ``aws``; all in its extra holds, except retries.
    :param region_name: default: the ARN's region, else the connection's, else the SDK's.
    :raises ValueError: if the ARN is none of a stream or is of another region.
    """

    limits: Limits = KINESIS_LIMITS

    def __init__(
        self, stream_name: str, *, aws_conn_id: str | None = "aws_default", region_name: str | None = None
    ) -> None:
        self.stream_name = stream_name
        self._address = {"StreamName": stream_name}
        if stream_name.startswith("arn:"):
            region_name = _region_of(stream_name, region_name)
            self._address = {"StreamARN": stream_name}
        self._building = threading.Lock()
        super().__init__(aws_conn_id=aws_conn_id, region_name=region_name, client_type="kinesis")

    @property
    def destination(self) -> str:
        """Name of the stream by which a delivery keeps its cursor."""
        self._client_once()
        return f"kinesis://{self._region}/{self.stream_name}"

    @property
    def _region(self) -> str:
        # While the client is being built, for which credentials may be asked, it is not known yet.
        client = vars(self).get("conn")
        return client.meta.region_name if client else self.region_name or "its region"

    def check(self) -> None:
        """Look whether the stream is there and can take records in order, as far as the login may look.

        :raises DestinationRefused: if it is missing or going, or the login is no good; a retry does not help.
        :raises DeliveryIncomplete: if it is being created; a retry helps.
        :raises ValueError: if there is no connection of that id.
        """
        client = self._client_once()
        try:
            answer = client.describe_stream_summary(**self._address)
        except _FAILED as error:
            if _DENIED.fullmatch(_code(error)) and _operation(error) == "DescribeStreamSummary":
                self.log.info("The login may not look at the stream, which is fine if it may put records to it")
                return
            outcome = self._outcome_of(error)
            self.log.info("The stream could not be looked at (%s); the first put will tell", outcome.code)
            return
        self._require_ready(answer.get("StreamDescriptionSummary") or {})

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        """Put records in one request; safe to call from several threads.

        :param batch: within :attr:`limits`.
        :returns: one outcome per record, in order; fewer if AWS answered so.
        :raises DestinationRefused: if every record would fare the same; a retry does not help.
        """
        client = self._client_once()
        entries = [
            {"Data": record.data, "PartitionKey": record.partition_key, "ExplicitHashKey": str(record.hash_key)}
            for record in batch
        ]
        try:
            answer = client.put_records(Records=entries, **self._address)
        except _FAILED as error:
            return [self._outcome_of(error)] * len(batch)
        results = answer.get("Records")
        if results is None:
            return [Outcome(Status.UNKNOWN, "AnswerUnreadable")] * len(batch)
        return [_outcome(result or {}) for result in results]

    def _client_once(self) -> Any:
        with self._building:
            return self.conn

    @cached_property
    def conn(self) -> Any:
        """The client; built once, because building walks the stack and may assume a role."""
        self._require_connection()
        keep_requests_out_of_logs()
        try:
            given = self.config
            config = Config(connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS).merge(given)
            pool = max(_MOST_LANES, getattr(given, "max_pool_connections", 0))
            once = Config(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=pool)
            return self.get_client_type(region_name=self.region_name, config=config.merge(once))
        except (sdk.NoRegionError, sdk.InvalidRegionError):
            raise DestinationRefused(
                f"there is no valid AWS region for stream {self.stream_name}; set region_name, here or in the "
                f"extra of connection {self.aws_conn_id}"
            ) from None
        except (sdk.ClientError, sdk.BotoCoreError) as error:
            outcome = self._outcome_of(error)
            raise DeliveryIncomplete(
                f"nothing was put: the credentials of connection {self.aws_conn_id} could not be had from AWS "
                f"({outcome.code}); if the next attempt says the same, check its role and the network"
            ) from None

    def _require_connection(self) -> None:
        # The base class falls back to the SDK's own credentials, which may be of another account. That is what
        # one without any connection wants, and no one who has named a connection.
        if self.aws_conn_id in (None, "", self.default_conn_name):
            return
        try:
            self.get_connection(self.aws_conn_id)
        except AirflowNotFoundException:
            raise ValueError(
                f"aws_conn_id is {self.aws_conn_id!r}, and Airflow has no connection of that id; create it, for "
                f"example: airflow connections add {self.aws_conn_id} --conn-type aws"
            ) from None

    def _require_ready(self, found: Mapping[str, Any]) -> None:
        status = found.get("StreamStatus", "ACTIVE")
        if status == "CREATING":
            raise DeliveryIncomplete(
                f"nothing was put: stream {self.stream_name} is being created; the next attempt may find it ACTIVE"
            )
        if status not in ("ACTIVE", "UPDATING"):
            raise DestinationRefused(
                f"stream {self.stream_name} is {status}; expected ACTIVE. Choose another, or create it anew"
            )
        if found.get("RecordDistributionStrategy") == "AUTO":
            raise DestinationRefused(
                f"stream {self.stream_name} distributes records by itself (AUTO), whatever their keys, so changes "
                "of one user could overtake each other; have it distribute them by partition key"
            )

    def _outcome_of(self, error: Exception) -> Outcome:
        """Tell what a failed request means for its records.

        :raises DestinationRefused: if every record would fare the same.
        """
        code = _code(error)
        if _THROTTLED.fullmatch(code):
            return Outcome(Status.THROTTLED, code)
        if isinstance(error, sdk.ClientError):
            answered = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if answered < 500 and (sentence := self._sentence(error, code)):
                # Not chained: the SDK's own text may quote the request.
                raise DestinationRefused(sentence) from None
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, _NO_ANSWER) or not isinstance(error, sdk.BotoCoreError):
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, _NO_CREDENTIALS):
            raise DestinationRefused(
                f"there are no AWS credentials for stream {self.stream_name} ({code}); give connection "
                f"{self.aws_conn_id} an access key as login and password, or a profile_name or role_arn in its "
                "extra, or give the worker a role"
            ) from None
        raise DestinationRefused(
            f"the request to stream {self.stream_name} cannot be made ({code}); check stream_name and the extra "
            f"of connection {self.aws_conn_id}"
        ) from None

    def _sentence(self, error: sdk.ClientError, code: str) -> str | None:
        """Say what to do about an answer that will not change by itself; none if it may."""
        template = next((template for codes, template in _REFUSED if codes.fullmatch(code)), None)
        return template and template.format(
            code=code,
            login=self.aws_conn_id,
            name=self.stream_name.rpartition("/")[2],
            operation=_operation(error),
            region=self._region,
            said=error.response["Error"].get("Message") or "without a reason",
            stream=self.stream_name,
        )


def keep_requests_out_of_logs() -> None:
    """Keep the SDK's and the HTTP library's loggers above DEBUG, where they print whole requests."""
    roots = ("boto3", "botocore", "urllib3")
    below = [name for name in logging.root.manager.loggerDict if name.startswith(tuple(f"{r}." for r in roots))]
    for logger in map(logging.getLogger, (*roots, *below)):
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))


def _outcome(result: Mapping[str, Any]) -> Outcome:
    code = result.get("ErrorCode")
    if code:
        return Outcome(Status.THROTTLED if _THROTTLED.fullmatch(code) else Status.UNKNOWN, code)
    # A number in the stream is the acknowledgement; without one there is none.
    if result.get("SequenceNumber"):
        return Outcome(Status.DELIVERED)
    return Outcome(Status.UNKNOWN, "NoSequenceNumber")


def _code(error: Exception) -> str:
    if isinstance(error, sdk.ClientError):
        return str(error.response.get("Error", {}).get("Code") or "NoCode")
    is_sdk = isinstance(error, sdk.BotoCoreError)
    return type(error).__name__ if is_sdk else "AnswerUnreadable"


def _operation(error: Exception) -> str:
    return str(getattr(error, "operation_name", ""))


def _region_of(arn: str, region_name: str | None) -> str:
    # arn:partition:kinesis:region:account:stream/name
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[2] != "kinesis" or not parts[3] or not parts[5].startswith("stream/"):
        raise ValueError(f"stream_name is {arn!r}; expected a name or arn:aws:kinesis:REGION:ACCOUNT:stream/NAME")
    if region_name not in (None, parts[3]):
        raise ValueError(f"region_name is {region_name!r}, but the stream's ARN says {parts[3]!r}; leave one out")
    return parts[3]
