"""Hook of a Firehose delivery stream: one PutRecordBatch per call, one outcome per record.

What it shares with the data stream's is in ``streams/stream_hook.py``. Firehose knows neither keys nor an order,
and puts records one behind the other into what it delivers, so each of them ends with a newline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.core.producer.records import FIREHOSE_LIMITS
from airflow_kinesis_audience.hooks.streams.calls import PUT_RECORD_BATCH, PUT_RECORD_OF_FIREHOSE
from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook


class FirehoseStreamHook(StreamHook):
    """Puts records to one Firehose delivery stream.

    :param delivery_stream_name: the delivery stream's name, or its ARN.
    :param aws_conn_id: Airflow connection of type ``aws``; all settings in its extra are used, except retries.
    :param region_name: default: the ARN's region, else the connection's, else the SDK's.
    :raises ValueError: if the ARN is not a delivery stream's, or has another region.
    """

    limits = FIREHOSE_LIMITS
    record_end = b"\n"
    call = PUT_RECORD_BATCH
    single_call = PUT_RECORD_OF_FIREHOSE
    service = "firehose"
    noun = "delivery stream"
    argument = "delivery_stream_name"
    arn_form = "arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME"
    console = "firehose/home?region={region}#/details/{name}/monitoring"
    created = "CreateTimestamp"
    put_action = "firehose:PutRecordBatch"
    single_action = "firehose:PutRecord"
    needs = "firehose:PutRecordBatch on the delivery stream"
    throttled = re.compile(
        "LimitExceededException|RequestLimitExceeded|ServiceUnavailable(Exception)?|SlowDown|ThrottlingException"
    )
    refused = (
        (
            re.compile("ResourceNotFoundException"),
            "delivery stream {stream} does not exist in {region}; correct delivery_stream_name, region_name or "
            "the connection, or create it with the source Direct PUT",
        ),
        (
            re.compile("InvalidKMSResourceException"),
            "the KMS key of delivery stream {stream} cannot be used ({code}); enable the key. If Firehose's own "
            "grant on the key is missing, start the stream's encryption again",
        ),
        (
            re.compile("InvalidSourceException"),
            "delivery stream {stream} accepts no records from a login ({code}), because its source is not Direct "
            "PUT; use a delivery stream with that source, or the data stream that it reads from",
        ),
    )

    def __init__(
        self, delivery_stream_name: str, *, aws_conn_id: str | None = "aws_default", region_name: str | None = None
    ) -> None:
        super().__init__(delivery_stream_name, aws_conn_id=aws_conn_id, region_name=region_name)
        # Unlike a data stream's, Firehose's requests take no ARN.
        self._short_name = delivery_stream_name.rpartition("/")[2]

    @property
    def address(self) -> Mapping[str, str]:
        """The argument that names the delivery stream to AWS."""
        return {"DeliveryStreamName": self._short_name}

    def describe(self) -> Mapping[str, Any]:
        """Ask AWS about the delivery stream."""
        response = self.conn.describe_delivery_stream(**self.address)
        return response.get("DeliveryStreamDescription") or {}

    def require_ready(self, found: Mapping[str, Any]) -> str | None:
        """Refuse a delivery stream that cannot take records; gives its ARN where AWS has named it."""
        status = found.get("DeliveryStreamStatus", "ACTIVE")
        if status == "CREATING":
            raise DeliveryIncomplete(
                f"nothing was put: delivery stream {self.name} is being created; retry when it is ACTIVE"
            )
        if status != "ACTIVE":
            raise DestinationRefused(
                f"delivery stream {self.name} is {status}; expected ACTIVE. Choose another one, or create it again"
            )
        source = found.get("DeliveryStreamType", "DirectPut")
        if source != "DirectPut":
            raise DestinationRefused(
                f"delivery stream {self.name} has the source {source}; expected Direct PUT. Use a delivery stream "
                "with that source, or the data stream that it reads from"
            )
        encryption = (found.get("DeliveryStreamEncryptionConfiguration") or {}).get("Status", "DISABLED")
        if encryption.endswith("_FAILED"):
            raise DestinationRefused(
                f"the encryption of delivery stream {self.name} is {encryption}; repair its KMS key and start the "
                "encryption again"
            )
        arn: str | None = found.get("DeliveryStreamARN")
        if self.arn and arn and arn != self.arn:
            raise DestinationRefused(
                f"delivery_stream_name is {self.arn}, and the login of connection {self.aws_conn_id} reaches "
                f"{arn}: Firehose finds names in the login's own account only. Set a role_arn of the other "
                "account in the connection"
            )
        return arn
