"""The client of one stream: the connection it is made of, its credentials, and what its errors mean.

A connection is checked before anything is opened with it. Where AWS takes credentials or a signature no more, they
are asked for anew, some times and not for ever; nothing is put here. The SDK's own retries, which would put a
whole request again, are off, and nothing of a record reaches a log: the SDK's loggers, which print whole requests,
are kept above DEBUG for the process.
"""

from __future__ import annotations

import re
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import botocore
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from botocore import exceptions as sdk
from botocore.config import Config

from airflow_kinesis_audience import __version__
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.core.producer.records import Outcome, Status
from airflow_kinesis_audience.hooks.client_logs import keep_requests_out_of_logs
from airflow_kinesis_audience.hooks.streams.arns import region_of
from airflow_kinesis_audience.hooks.streams.connection import require_aws
from airflow_kinesis_audience.hooks.streams.credentials import MOST_RENEWALS, describe_clock, is_too_old
from airflow_kinesis_audience.hooks.streams.put_request import PutRequest
from airflow_kinesis_audience.hooks.streams.responses import (
    DENIED,
    NO_CREDENTIALS,
    NO_RESPONSE,
    REFUSED,
    PutDenied,
    code_of,
    operation_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.hooks.streams.calls import Call

_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_MOST_CONNECTIONS = 64
_OF_CREDENTIALS = ("conn", "conn_config", "put_request", "session", "single_request")
"""Properties that are made anew with new credentials."""
_USER_AGENT = f"airflow-kinesis-audience/{__version__} Botocore/{botocore.__version__}"
"""The caller in AWS's logs, beside what Airflow adds; the SDK would put together its own twice a request."""


class StreamClient(AwsBaseHook):
    """The client of a stream; what kind of stream it is says the hook.

    :param name: the stream's name, or its ARN.
    :param aws_conn_id: Airflow connection of type ``aws``; all settings in its extra are used, except retries.
    :param region_name: default: the ARN's region, else the connection's, else the SDK's.
    :raises ValueError: if the ARN is not such a stream's, or has another region.
    """

    service: ClassVar[str]
    noun: ClassVar[str]
    argument: ClassVar[str]
    arn_form: ClassVar[str]
    call: ClassVar[Call]
    single_call: ClassVar[Call]
    needs: ClassVar[str]
    form: ClassVar[str] = ""
    throttled: ClassVar[re.Pattern[str]]
    refused: ClassVar[tuple[tuple[re.Pattern[str], str], ...]]

    def __init__(self, name: str, *, aws_conn_id: str | None, region_name: str | None) -> None:
        self.name = name
        self.arn = name if name.startswith("arn:") else None
        if self.arn is not None:
            region_name = region_of(self.arn, region_name, form=self.arn_form, argument=self.argument)
        self._building = threading.Lock()
        self.renewals = 0
        super().__init__(aws_conn_id=aws_conn_id, region_name=region_name, client_type=self.service)

    @property
    def _region(self) -> str:
        # While the client is being built, for which credentials may be asked, it is not known yet.
        client = vars(self).get("conn")
        return client.meta.region_name if client else self.region_name or "its region"

    def client_once(self) -> Any:
        """Give the client, built by one thread."""
        with self._building:
            return self.conn

    @cached_property
    def conn(self) -> Any:
        """The client; built once, because building walks the stack and may assume a role."""
        self._require_connection()
        keep_requests_out_of_logs("boto3", "botocore", "urllib3")
        try:
            given = self.config
            config = Config(
                connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, user_agent=_USER_AGENT
            ).merge(given)
            pool = max(_MOST_CONNECTIONS, getattr(given, "max_pool_connections", 0))
            once = Config(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=pool)
            return self.get_client_type(region_name=self.region_name, config=config.merge(once))
        except (sdk.NoRegionError, sdk.InvalidRegionError):
            raise DestinationRefused(
                f"there is no valid AWS region for {self.noun} {self.name}; set region_name, here or in the "
                f"extra of connection {self.aws_conn_id}"
            ) from None
        except (sdk.ClientError, sdk.BotoCoreError) as error:
            outcome = self.outcome_of(error)
            raise DeliveryIncomplete(
                f"nothing was put: the credentials of connection {self.aws_conn_id} could not be loaded from AWS "
                f"({outcome.code}); if the next attempt fails, too, check its role and the network"
            ) from None

    @cached_property
    def session(self) -> Any:
        """The session of all clients of this hook: each new one reads the SDK's data and assumes a role anew."""
        return super().get_session(region_name=self.region_name)

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:
        """Give the hook's one session, where that serves; the client is made of it, too."""
        if region_name == self.region_name and not deferrable:
            return self.session
        return super().get_session(region_name, deferrable)

    @property
    def address(self) -> Mapping[str, str]:
        """The arguments that name the stream to AWS."""
        raise NotImplementedError

    @cached_property
    def put_request(self) -> PutRequest:
        """The call that puts many records."""
        return PutRequest(self.conn, self.call, self.address)

    @cached_property
    def single_request(self) -> PutRequest:
        """The call that puts one record."""
        return PutRequest(self.conn, self.single_call, self.address)

    def is_present(self, request: PutRequest) -> bool:
        """Whether credentials were not asked for anew since a request was made ready."""
        own = vars(self)
        return request in (own.get("put_request"), own.get("single_request"))

    def note_accepted(self, request: PutRequest) -> None:
        """Begin the count of renewals again, unless it is a late answer to earlier credentials."""
        with self._building:
            if self.is_present(request):
                self.renewals = 0

    def renew_credentials(self, error: Exception, request: PutRequest) -> None:
        """Have the next requests signed with credentials that are asked for anew, and a connection read anew.

        :raises AudienceError: if that was done too often since AWS last accepted any.
        """
        with self._building:
            if not self.is_present(request):
                return  # another thread has
            own = vars(self)
            if self.renewals >= MOST_RENEWALS:
                if is_too_old(error):
                    raise DeliveryIncomplete(
                        f"AWS rejects the signature or the session token of connection {self.aws_conn_id} as too "
                        f"old ({code_of(error)}), also after {MOST_RENEWALS} requests for new credentials. "
                        f"{describe_clock(error)}Correct the worker's clock, or set a new session token or "
                        "(better) a role_arn in the connection. The next attempt puts what was not acknowledged"
                    ) from None
                self.outcome_of(error)
            self.renewals += 1
            self.log.info("AWS no longer accepts the credentials (%s); requesting new ones", code_of(error))
            before = {name: own.pop(name) for name in _OF_CREDENTIALS if name in own}
            try:
                meta, meta_before = self.conn.meta, before["conn"].meta
                is_same = (meta.region_name, meta.endpoint_url) == (
                    meta_before.region_name,
                    meta_before.endpoint_url,
                )
            except Exception as failed:
                # It is no reason to give up yet: the next put tries again.
                self.log.info("Requesting new credentials failed (%s)", type(failed).__name__)
                is_same = False
            if not is_same:
                own.update(before)

    def _require_connection(self) -> None:
        # The base class falls back to the SDK's own credentials, which may be of another account. That is what
        # one without any connection wants, and no one who has named a connection.
        if not self.aws_conn_id:
            return
        try:
            connection = self.get_connection(self.aws_conn_id)
        except AirflowNotFoundException:
            if self.aws_conn_id == self.default_conn_name:
                return
            raise ValueError(
                f"aws_conn_id is {self.aws_conn_id!r}, and Airflow has no connection of that id; create it, for "
                f"example: airflow connections add {self.aws_conn_id} --conn-type aws"
            ) from None
        require_aws(connection)

    def outcome_of(self, error: Exception) -> Outcome:
        """Give the outcome of a failed request for each of its records.

        :raises DestinationRefused: if every record would have the same outcome.
        """
        code = code_of(error)
        if self.throttled.fullmatch(code):
            return Outcome(Status.THROTTLED, code)
        if is_too_old(error):
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, sdk.ClientError):
            answered = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if answered < 500 and (sentence := self._sentence(error, code)):
                is_put = operation_of(error) in (self.call.operation, self.single_call.operation)
                kind = PutDenied if is_put and DENIED.fullmatch(code) else DestinationRefused
                # Not chained: the SDK's own text may quote the request.
                raise kind(sentence) from None
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, NO_RESPONSE) or not isinstance(error, sdk.BotoCoreError):
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, NO_CREDENTIALS):
            raise DestinationRefused(
                f"there are no AWS credentials for {self.noun} {self.name} ({code}); set an access key as login "
                f"and password of connection {self.aws_conn_id}, set a profile_name or role_arn in its extra, or "
                "attach a role to the worker"
            ) from None
        raise DestinationRefused(
            f"the request to {self.noun} {self.name} cannot be made ({code}); check {self.argument} and the extra "
            f"of connection {self.aws_conn_id}"
        ) from None

    def _sentence(self, error: sdk.ClientError, code: str) -> str | None:
        """Say what to do about an error that no retry changes; none if one may."""
        known = (*self.refused, *REFUSED)
        template = next((template for codes, template in known if codes.fullmatch(code)), None)
        return template and template.format(
            argument=self.argument,
            code=code,
            form=self.form,
            login=self.aws_conn_id,
            name=re.split("[:/]", self.name)[-1],
            needs=self.needs,
            noun=self.noun,
            operation=operation_of(error),
            region=self._region,
            said=error.response["Error"].get("Message") or "without a reason",
            stream=self.name,
        )
