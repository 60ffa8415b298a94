"""What the doors to a Kinesis data stream and to a Firehose delivery stream have in common.

A door never tries again by itself, because only ``delivery.py`` knows which record may be put when; the SDK's own
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
from typing import Any, ClassVar
from urllib.parse import quote

import botocore
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from botocore import exceptions as sdk
from botocore.config import Config

from airflow_kinesis_audience import __version__
from airflow_kinesis_audience.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.hooks.answers import (
    DENIED,
    FAILED,
    NO_ANSWER,
    NO_CREDENTIALS,
    REFUSED,
    code_of,
    operation_of,
    outcomes_of,
)
from airflow_kinesis_audience.hooks.permissions import Grant, find_missing_permission
from airflow_kinesis_audience.hooks.wire import Call, Wire
from airflow_kinesis_audience.messages import Limits, Outcome, Record, Status

_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_MOST_LANES = 64
_USER_AGENT = f"airflow-kinesis-audience/{__version__} Botocore/{botocore.__version__}"
"""The caller in AWS's logs, beside what Airflow adds; the SDK would put together its own twice a request."""


class StreamHook(AwsBaseHook):
    """What is common to the two doors; each says how a stream is looked at and how records are put.

    :param name: the stream's name, or its ARN.
    :param aws_conn_id: Airflow connection of type ``aws``; all in its extra holds, except retries.
    :param region_name: default: the ARN's region, else the connection's, else the SDK's.
    :raises ValueError: if the ARN is none of such a stream or is of another region.
    """

    limits: Limits
    record_end = b""
    service: ClassVar[str]
    noun: ClassVar[str]
    argument: ClassVar[str]
    arn_form: ClassVar[str]
    console: ClassVar[str]
    put_action: ClassVar[str]
    call: ClassVar[Call]
    needs: ClassVar[str]
    form: ClassVar[str] = ""
    throttled: ClassVar[re.Pattern[str]]
    refused: ClassVar[tuple[tuple[re.Pattern[str], str], ...]]

    def __init__(self, name: str, *, aws_conn_id: str | None, region_name: str | None) -> None:
        self.name = name
        self.arn = name if name.startswith("arn:") else None
        if self.arn is not None:
            region_name = self._region_of(self.arn, region_name)
        self._building = threading.Lock()
        super().__init__(aws_conn_id=aws_conn_id, region_name=region_name, client_type=self.service)

    @property
    def destination(self) -> str:
        """Name of the stream by which a delivery keeps its cursor."""
        self.client_once()
        return f"{self.service}://{self._region}/{self.name}"

    @property
    def console_url(self) -> str:
        """Address of the stream in the AWS console, or nothing in a partition without a public one."""
        domain = BaseAwsLink.get_aws_domain(self.client_once().meta.partition)
        where = self.console.format(region=self._region, name=quote(re.split("[:/]", self.name)[-1]))
        return f"{BASE_AWS_CONSOLE_LINK.format(aws_domain=domain)}/{where}" if domain else ""

    @property
    def _region(self) -> str:
        # While the client is being built, for which credentials may be asked, it is not known yet.
        client = vars(self).get("conn")
        return client.meta.region_name if client else self.region_name or "its region"

    def check(self) -> None:
        """Look whether the stream is there and can take records, and whether the login may put them.

        Both as far as the login may look.

        :raises DestinationRefused: if it is missing or going, or the login is no good; a retry does not help.
        :raises DeliveryIncomplete: if it is being created; a retry helps.
        :raises ValueError: if there is no connection of that id.
        """
        self.client_once()
        try:
            found = self.describe()
        except FAILED as error:
            if DENIED.fullmatch(code_of(error)) and operation_of(error).startswith("Describe"):
                self.log.info("The login may not look at the stream, which is fine if it may put records to it")
                return
            outcome = self.outcome_of(error)
            self.log.info("The stream could not be looked at (%s); the first put will tell", outcome.code)
            return
        arn = self.require_ready(found)
        if arn is not None and (missing := find_missing_permission(self, self.put_action, arn)):
            self._refuse_without(missing)

    def _refuse_without(self, missing: Grant) -> None:
        if not missing.denied and self.may_be_granted_by_stream(missing.resource):
            self.log.info("The stream has a policy of its own, which may grant what the login's do not")
            return
        why, do = "no policy of its own allows it", f"Its policy needs {missing.statement}"
        if missing.denied:
            why, do = "a policy denies it explicitly", "Take that statement out, or choose another login"
        raise DestinationRefused(
            f"the login of connection {self.aws_conn_id} may not {missing.action} on {missing.resource}: {why}, "
            f"as iam:SimulatePrincipalPolicy says; nothing was put. {do}"
        )

    def describe(self) -> Mapping[str, Any]:
        """Ask AWS about the stream."""
        raise NotImplementedError

    @property
    def address(self) -> Mapping[str, str]:
        """The arguments that tell AWS which stream is meant."""
        raise NotImplementedError

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        """Put records in one request; safe to call from several threads.

        :param batch: within :attr:`limits`.
        :returns: one outcome per record, in order; fewer if AWS answered so.
        :raises DestinationRefused: if every record would fare the same; a retry does not help.
        """
        with self._building:
            wire = self._wire
        try:
            results = wire.put(batch, self.address)
        except FAILED as error:
            return [self.outcome_of(error)] * len(batch)
        return outcomes_of(results, self.call, self.throttled, len(batch))

    def require_ready(self, found: Mapping[str, Any]) -> str | None:
        """Refuse a stream that cannot take records; gives its ARN where that is told."""
        raise NotImplementedError

    def may_be_granted_by_stream(self, arn: str) -> bool:
        """Tell whether the stream has a policy of its own, which no simulation of the login's policies sees."""
        return False

    def client_once(self) -> Any:
        """Give the client, built by one thread."""
        with self._building:
            return self.conn

    @cached_property
    def conn(self) -> Any:
        """The client; built once, because building walks the stack and may assume a role."""
        self._require_connection()
        keep_requests_out_of_logs()
        try:
            given = self.config
            config = Config(
                connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, user_agent=_USER_AGENT
            ).merge(given)
            pool = max(_MOST_LANES, getattr(given, "max_pool_connections", 0))
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
                f"nothing was put: the credentials of connection {self.aws_conn_id} could not be had from AWS "
                f"({outcome.code}); if the next attempt says the same, check its role and the network"
            ) from None

    @cached_property
    def _wire(self) -> Wire:
        return Wire(self.conn, self.call)

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

    def outcome_of(self, error: Exception) -> Outcome:
        """Tell what a failed request means for its records.

        :raises DestinationRefused: if every record would fare the same.
        """
        code = code_of(error)
        if self.throttled.fullmatch(code):
            return Outcome(Status.THROTTLED, code)
        if isinstance(error, sdk.ClientError):
            answered = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if answered < 500 and (sentence := self._sentence(error, code)):
                # Not chained: the SDK's own text may quote the request.
                raise DestinationRefused(sentence) from None
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, NO_ANSWER) or not isinstance(error, sdk.BotoCoreError):
            return Outcome(Status.UNKNOWN, code)
        if isinstance(error, NO_CREDENTIALS):
            raise DestinationRefused(
                f"there are no AWS credentials for {self.noun} {self.name} ({code}); give connection "
                f"{self.aws_conn_id} an access key as login and password, or a profile_name or role_arn in its "
                "extra, or give the worker a role"
            ) from None
        raise DestinationRefused(
            f"the request to {self.noun} {self.name} cannot be made ({code}); check {self.argument} and the extra "
            f"of connection {self.aws_conn_id}"
        ) from None

    def _sentence(self, error: sdk.ClientError, code: str) -> str | None:
        """Say what to do about an answer that will not change by itself; none if it may."""
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

    def _region_of(self, arn: str, region_name: str | None) -> str:
        # arn:partition:service:region:account:kind/name
        parts = arn.split(":", 5)
        wanted = self.arn_form.split(":", 5)
        kind = wanted[5].partition("/")[0]
        if len(parts) != 6 or parts[2] != wanted[2] or not parts[3] or not parts[5].startswith(f"{kind}/"):
            raise ValueError(f"{self.argument} is {arn!r}; expected a name or {self.arn_form}")
        if region_name not in (None, parts[3]):
            raise ValueError(
                f"region_name is {region_name!r}, but the stream's ARN says {parts[3]!r}; leave one out"
            )
        return parts[3]


def keep_requests_out_of_logs() -> None:
    """Keep the SDK's and the HTTP library's loggers above DEBUG, where they print whole requests."""
    roots = ("boto3", "botocore", "urllib3")
    below = [name for name in logging.root.manager.loggerDict if name.startswith(tuple(f"{r}." for r in roots))]
    for logger in map(logging.getLogger, (*roots, *below)):
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
