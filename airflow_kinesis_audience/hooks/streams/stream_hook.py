"""What the hooks of Kinesis data streams and of Firehose delivery streams have in common.

A hook never retries, because only ``core/producer`` knows which record may be put when. A response becomes
outcomes, or one domain error where every record would have the same. A login that may not put many records in a
request, as its first put shows, puts each in one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink

from airflow_kinesis_audience.core.exceptions import AudienceError, DestinationRefused
from airflow_kinesis_audience.core.producer.records import Limits, Outcome, Record, Status
from airflow_kinesis_audience.hooks.streams.arns import arn_in_account_of
from airflow_kinesis_audience.hooks.streams.credentials import is_not_accepted, is_too_old
from airflow_kinesis_audience.hooks.streams.one_by_one import put_one_by_one
from airflow_kinesis_audience.hooks.streams.permissions import Grant, find_caller, find_missing_permission
from airflow_kinesis_audience.hooks.streams.put_request import BodyChanged
from airflow_kinesis_audience.hooks.streams.responses import (
    DENIED,
    FAILED,
    PutDenied,
    code_of,
    operation_of,
    outcomes_of,
)
from airflow_kinesis_audience.hooks.streams.stream_client import StreamClient

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.calls import Call


class StreamHook(StreamClient):
    """What is common to the two hooks; each defines how a stream is described and how records are put.

    :ivar identity: which stream it is, by ARN and creation, once it was looked at: another stream of its name has
        another one. Empty where the login may not look.
    :param name: the stream's name, or its ARN.
    :param aws_conn_id: Airflow connection of type ``aws``; all settings in its extra are used, except retries.
    :param region_name: default: the ARN's region, else the connection's, else the SDK's.
    :raises ValueError: if the ARN is not such a stream's, or has another region.
    """

    limits: Limits
    record_end = b""
    put_action: ClassVar[str]
    single_action: ClassVar[str]
    console: ClassVar[str]
    created: ClassVar[str]

    def __init__(self, name: str, *, aws_conn_id: str | None, region_name: str | None) -> None:
        self.identity = ""
        self._is_accepted = self._puts_many = self._puts_one_by_one = False
        super().__init__(name, aws_conn_id=aws_conn_id, region_name=region_name)

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

    def check(self) -> None:
        """Check that the stream exists and accepts records, and that the login is allowed to put them.

        Both as far as the login is allowed to check.

        :raises DestinationRefused: if it is missing or being deleted, or the login is not valid; a retry does not
            help.
        :raises DeliveryIncomplete: if it is being created; a retry helps.
        :raises ValueError: if there is no connection of that id.
        """
        self.client_once()
        try:
            found = self.describe()
        except FAILED as error:
            if not (DENIED.fullmatch(code_of(error)) and operation_of(error).startswith("Describe")):
                outcome = self.outcome_of(error)
                self.log.info(
                    "The check of the stream failed (%s); publishing continues, and the first put shows any "
                    "problem",
                    outcome.code,
                )
                return
            self.log.info(
                "The login of connection %s is not allowed to describe the stream. Publishing needs %s only; the "
                "task cannot detect a stream that was deleted and created again under the same name",
                self.aws_conn_id,
                self.put_action,
            )
            arn = self.arn or self._arn_by_name()
        else:
            arn = self.require_ready(found)
            self.identity = self._identity_of(arn, found.get(self.created))
        if arn is not None and (missing := find_missing_permission(self, self.put_action, arn)):
            self._refuse_without(missing)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether this login may put records to the stream, as far as it can check, and a sentence."""
        try:
            self.check()
        except (AudienceError, ValueError) as error:
            return False, str(error)
        return True, f"{self.destination} accepts records from this login, as far as the login can check"

    @staticmethod
    def _identity_of(arn: str | None, created: Any) -> str:
        is_known = arn is not None and isinstance(created, datetime) and created.tzinfo is not None
        return f"{arn} created {created.astimezone(UTC).isoformat(timespec='milliseconds')}" if is_known else ""

    def _arn_by_name(self) -> str | None:
        caller = find_caller(self)
        return caller and arn_in_account_of(caller, self.name, self._region, form=self.arn_form)

    def _refuse_without(self, missing: Grant) -> None:
        if not missing.denied and self.may_be_granted_by_stream(missing.resource):
            self.log.info(
                "The stream has a resource policy, which can grant permissions that the login's policies lack"
            )
            return
        if find_missing_permission(self, self.single_action, missing.resource) is None:
            return  # the first put decides between the two
        why, do = "none of its policies allows it", f"Its policy needs {missing.statement}"
        if missing.denied:
            why, do = "a policy denies it explicitly", "Remove that statement, or choose another login"
        raise DestinationRefused(
            f"the login of connection {self.aws_conn_id} is not allowed {missing.action} on {missing.resource}: "
            f"{why} (checked with iam:SimulatePrincipalPolicy). Nothing was put. {do}"
        )

    def find_large_limits(self) -> Limits:
        """Return the limits with the largest record that the stream accepts, once the stream is checked.

        :raises ValueError: if it is no stream with such a setting.
        """
        raise ValueError(f"large_records is for data streams; remove it for {self.noun} {self.name}")

    def describe(self) -> Mapping[str, Any]:
        """Ask AWS about the stream."""
        raise NotImplementedError

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        """Put records in one request; safe to call from several threads.

        :param batch: within :attr:`limits`.
        :returns: one outcome per record, in order; fewer if AWS returned fewer.
        :raises DestinationRefused: if every record would have the same outcome; a retry does not help.
        :raises ValueError: if it is not a batch of records, or has more than a request may have.
        """
        self._check_batch(batch)
        if self._puts_one_by_one:
            return put_one_by_one(batch, self._put_one)
        try:
            return self._put_with(self.call, batch)
        except PutDenied as denied:
            if self._puts_many:
                raise
            return self._try_one_by_one(batch, denied)

    def _check_batch(self, batch: Sequence[Record]) -> None:
        most = self.limits.records_per_request
        if 0 < len(batch) <= most and all(issubclass(kind, Record) for kind in set(map(type, batch))):
            return
        kinds = ", ".join(sorted({type(record).__name__ for record in batch}))
        raise ValueError(
            f"put got {len(batch):,} values ({kinds or 'none'}); expected 1 to {most} of class Record of "
            "core.producer.records. Nothing was put"
        )

    def _try_one_by_one(self, batch: Sequence[Record], denied: PutDenied) -> list[Outcome]:
        """Put in a request for each record, if the login may do that instead."""
        try:
            [first] = self._put_one(batch[:1])
        except PutDenied:
            raise denied from None
        if first.status is not Status.DELIVERED:
            return [first] * len(batch)
        if not self._puts_one_by_one:
            self._puts_one_by_one = True
            self.log.warning(
                "The login of connection %s is not allowed %s, but is allowed %s: each record is put in its own "
                "request, which is slower. If you allow %s, one request puts up to %s records",
                self.aws_conn_id,
                self.put_action,
                self.single_action,
                self.put_action,
                self.limits.records_per_request,
            )
        rest = batch[1:]
        try:
            return [first, *(put_one_by_one(rest, self._put_one) if rest else ())]
        except AudienceError as error:
            # The first is taken, which must not be forgotten; the next put meets the same.
            return [first, *[Outcome(Status.UNKNOWN, type(error).__name__)] * len(rest)]

    def _put_one(self, record: Sequence[Record]) -> list[Outcome]:
        return self._put_with(self.single_call, record)

    def _put_with(self, call: Call, batch: Sequence[Record]) -> list[Outcome]:
        with self._building:
            request = self.single_request if call is self.single_call else self.put_request
        try:
            results = request.put(batch)
        except BodyChanged as patch:
            raise DestinationRefused(
                f"the body of a request to {self.noun} {self.name} was changed by {patch} after it was signed; "
                "nothing was sent. Switch off what patches the AWS SDK in this process, such as a tracer"
            ) from None
        except FAILED as error:
            if is_too_old(error) or (self._is_accepted and is_not_accepted(error)):
                self.renew_credentials(error, request)
                return [Outcome(Status.UNKNOWN, code_of(error))] * len(batch)
            return [self.outcome_of(error)] * len(batch)
        self._is_accepted = True
        if self.renewals:
            self.note_accepted(request)
        self._puts_many |= call is not self.single_call
        return outcomes_of(results, call, self.throttled, len(batch))

    def require_ready(self, found: Mapping[str, Any]) -> str | None:
        """Refuse a stream that cannot take records; gives its ARN where AWS has named it."""
        raise NotImplementedError

    def may_be_granted_by_stream(self, arn: str) -> bool:
        """Whether the stream has a policy of its own, which no simulation of the login's policies sees."""
        return False
