"""Hook of a Kinesis data stream: one PutRecords per call, one outcome per record.

What it shares with Firehose's is in ``streams/stream_hook.py``; here is what only a data stream has: shards, keys,
and a distribution of records that can break their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from botocore import exceptions as sdk

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS, Limits
from airflow_kinesis_audience.hooks.streams.calls import PUT_RECORD, PUT_RECORDS
from airflow_kinesis_audience.hooks.streams.responses import DENIED, FAILED, code_of
from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook


class KinesisStreamHook(StreamHook):
    """Puts records to one Kinesis data stream.

    :param stream_name: the stream's name, or its ARN.
    :param aws_conn_id: Airflow connection of type ``aws``; all settings in its extra are used, except retries.
    :param region_name: default: the ARN's region, else the connection's, else the SDK's.
    :raises ValueError: if the ARN is not a stream's, or has another region.
    """

    limits = KINESIS_LIMITS
    call = PUT_RECORDS
    single_call = PUT_RECORD
    service = "kinesis"
    noun = "stream"
    argument = "stream_name"
    arn_form = "arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"
    console = "kinesis/home?region={region}#/streams/details/{name}/monitoring"
    created = "StreamCreationTimestamp"
    put_action = "kinesis:PutRecords"
    single_action = "kinesis:PutRecord"
    needs = "kinesis:PutRecords on the stream, kms:GenerateDataKey on its key if it is encrypted"
    form = ", and that the stream's maximum record size is at least 1 MiB"
    throttled = re.compile(
        "KMSThrottlingException|LimitExceededException|ProvisionedThroughputExceededException|"
        "RequestLimitExceeded|ThrottlingException"
    )
    refused = (
        (
            re.compile("ResourceNotFoundException"),
            "stream {stream} does not exist in {region}; correct stream_name, region_name or the connection, or "
            "create it: aws kinesis create-stream --stream-name {name} --region {region} "
            "--stream-mode-details StreamMode=ON_DEMAND",
        ),
        (
            re.compile("KMS[A-Z].*"),
            "the KMS key of stream {stream} cannot be used ({code}); enable the key, and grant the login of "
            "connection {login} kms:GenerateDataKey on it",
        ),
    )

    def __init__(
        self, stream_name: str, *, aws_conn_id: str | None = "aws_default", region_name: str | None = None
    ) -> None:
        self._most_record_kib: int | None = None
        super().__init__(stream_name, aws_conn_id=aws_conn_id, region_name=region_name)

    @property
    def address(self) -> Mapping[str, str]:
        """The argument that names the stream to AWS."""
        return {"StreamARN": self.arn} if self.arn else {"StreamName": self.name}

    def describe(self) -> Mapping[str, Any]:
        """Ask AWS about the stream; a login that may not, and may list the streams, finds it there."""
        try:
            response = self.conn.describe_stream_summary(**self.address)
        except sdk.ClientError as denied:
            if DENIED.fullmatch(code_of(denied)) and (found := self._find_in_list()) is not None:
                return found
            raise
        return response.get("StreamDescriptionSummary") or {}

    def _find_in_list(self) -> Mapping[str, Any] | None:
        """Find the stream among those of the login's account; none if it cannot be known.

        :raises botocore.exceptions.ClientError: if the account has none of that name, as a look at it would raise.
        """
        try:
            for page in self.conn.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1_000}):
                for summary in page.get("StreamSummaries") or ():
                    if self.name in (summary["StreamARN"], summary["StreamName"]):
                        # Whether a list has the creation to the millisecond, as a look has, is not known.
                        return {name: value for name, value in summary.items() if name != self.created}
                if self.name in page["StreamNames"]:
                    return {}
        except (*FAILED, KeyError):
            return None
        if self.arn:
            return None  # it may be another account's
        missing: Any = {
            "Error": {"Code": "ResourceNotFoundException"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        raise sdk.ClientError(missing, "ListStreams")

    def require_ready(self, found: Mapping[str, Any]) -> str | None:
        """Refuse a stream that cannot take records in order; gives its ARN where AWS has named it."""
        status = found.get("StreamStatus", "ACTIVE")
        if status == "CREATING":
            raise DeliveryIncomplete(
                f"nothing was put: stream {self.name} is being created; retry when it is ACTIVE"
            )
        if status not in ("ACTIVE", "UPDATING"):
            raise DestinationRefused(
                f"stream {self.name} is {status}; expected ACTIVE. Choose another one, or create it again"
            )
        if found.get("RecordDistributionStrategy") == "AUTO":
            raise DestinationRefused(
                f"stream {self.name} distributes records without their partition keys (AUTO), so changes of one "
                "user could overtake each other; configure it to distribute by partition key"
            )
        self._most_record_kib = found.get("MaxRecordSizeInKiB")
        return found.get("StreamARN")

    def find_large_limits(self) -> Limits:
        """Return the limits with the largest record that the stream accepts, once the stream is checked.

        A request may then be as large as one such record. Sources:
        https://docs.aws.amazon.com/kinesis/latest/APIReference/API_UpdateMaxRecordSize.html,
        https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html

        :raises DeliveryIncomplete: if the description of the stream does not have that size, or could not be read.
        """
        if self._most_record_kib is None:
            raise DeliveryIncomplete(
                f"nothing was put: large_records needs the maximum record size of stream {self.name}, which could "
                f"not be read. Allow the login of connection {self.aws_conn_id} kinesis:DescribeStreamSummary, or "
                "remove large_records"
            )
        # As much below the stream's size as the usual limit is below 1 MiB.
        size = self.limits.record_bytes * self._most_record_kib // 1024
        size = max(size, self.limits.record_bytes)
        return replace(self.limits, record_bytes=size, request_bytes=max(size, self.limits.request_bytes))

    def may_be_granted_by_stream(self, arn: str) -> bool:
        """Whether the stream has a policy of its own, as far as the login may look."""
        try:
            # Of a stream without a policy it may be an empty one.
            return "Statement" in json.loads(self.conn.get_resource_policy(ResourceARN=arn)["Policy"])
        except (*FAILED, KeyError):
            return False
