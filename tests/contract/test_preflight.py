"""What IAM says of a login before the first record: refused where it is clear, and never where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.scripted_iam import USER, ScriptedIam
from tests.scripted_kinesis import ScriptedKinesis

ACCOUNT = "123456789012"
ARNS = {
    "kinesis": f"arn:aws:kinesis:eu-west-1:{ACCOUNT}:stream/audience-changes",
    "firehose": f"arn:aws:firehose:eu-west-1:{ACCOUNT}:deliverystream/audience-changes",
}
ACTIONS = {"kinesis": "kinesis:PutRecords", "firehose": "firehose:PutRecordBatch"}
HOOKS = {"kinesis": KinesisStreamHook, "firehose": FirehoseStreamHook}
both = pytest.mark.parametrize("service", HOOKS)


@contextmanager
def opened(service: str, iam: ScriptedIam, *, policy: str = "", **more: Any) -> Iterator[Any]:
    """Open a hook whose connection has the stream at one endpoint, and STS and IAM at another."""
    key = {"kinesis": "StreamARN", "firehose": "DeliveryStreamARN"}[service]
    patch = pytest.MonkeyPatch()
    with ScriptedKinesis(describe={key: ARNS[service]}, policy=policy, **more) as streams, iam:
        services = {"sts": {"endpoint_url": iam.endpoint_url}, "iam": {"endpoint_url": iam.endpoint_url}}
        extra = {
            "region_name": "eu-west-1",
            "service_config": services | {service: {"endpoint_url": streams.endpoint_url}},
        }
        connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        try:
            yield HOOKS[service]("audience-changes")
        finally:
            patch.undo()


@both
@pytest.mark.parametrize(
    ("decision", "why", "do"),
    [
        ("implicitDeny", "none of its policies allows it", "Its policy needs {statement}"),
        (
            "explicitDeny",
            "a policy denies it explicitly",
            "Remove that statement, or choose another login",
        ),
    ],
)
def test_a_missing_permission_is_found_before_the_first_record(
    service: str, decision: str, why: str, do: str
) -> None:
    with opened(service, ScriptedIam(decision=decision)) as hook, pytest.raises(DestinationRefused) as refused:
        hook.check()
    statement = json.dumps({"Effect": "Allow", "Action": ACTIONS[service], "Resource": ARNS[service]})
    assert str(refused.value) == (
        f"the login of connection aws_default is not allowed {ACTIONS[service]} on {ARNS[service]}: {why} "
        f"(checked with iam:SimulatePrincipalPolicy). Nothing was put. {do.format(statement=statement)}"
    )


@both
@pytest.mark.parametrize(
    "iam",
    [
        ScriptedIam(decision="!AccessDenied"),
        ScriptedIam(decision="!NoSuchEntity"),
        ScriptedIam(decision="implicitDeny", missing=("aws:SourceVpce",)),
        ScriptedIam(decision="explicitDeny", missing=("aws:MultiFactorAuthPresent",)),
        ScriptedIam(decision="implicitDeny", caller=f"arn:aws:iam::{ACCOUNT}:root"),
        ScriptedIam(decision="implicitDeny", caller=f"arn:aws:sts::{ACCOUNT}:federated-user/loader"),
        ScriptedIam(decision="implicitDeny", caller="arn:aws:iam::210987654321:user/of-another-account"),
        ScriptedIam(decision="something new"),
        ScriptedIam(caller="nonsense"),
    ],
    ids=lambda iam: f"{iam.decision} {iam.caller.rpartition(':')[2]} {len(iam.missing)}",
)
def test_what_iam_does_not_know_for_sure_stops_nobody(service: str, iam: ScriptedIam) -> None:
    with opened(service, iam) as hook:
        hook.check()


def test_a_stream_that_has_a_policy_of_its_own_may_grant_what_the_login_s_policies_do_not() -> None:
    policy = '{"Statement": []}'
    with opened("kinesis", ScriptedIam(decision="implicitDeny"), policy=policy) as hook:
        hook.check()
    nothing = ScriptedIam(decision="implicitDeny")
    with (
        opened("kinesis", nothing, policy="{}") as hook,
        pytest.raises(DestinationRefused, match="Its policy needs"),
    ):
        hook.check()
    denied = ScriptedIam(decision="explicitDeny")
    with opened("kinesis", denied, policy=policy) as hook, pytest.raises(DestinationRefused):
        hook.check()


@both
def test_another_account_that_denies_explicitly_is_believed(service: str) -> None:
    elsewhere = ScriptedIam(decision="explicitDeny", caller="arn:aws:iam::210987654321:user/x")
    with opened(service, elsewhere) as hook, pytest.raises(DestinationRefused, match="denies it explicitly"):
        hook.check()


@pytest.mark.parametrize(
    ("role", "asked_as"),
    [
        (
            f"arn:aws:iam::{ACCOUNT}:role/with/a/path/publisher",
            f"arn:aws:iam::{ACCOUNT}:role/with/a/path/publisher",
        ),
        (None, f"arn:aws:iam::{ACCOUNT}:role/publisher"),
    ],
)
def test_a_role_that_was_assumed_is_asked_about_as_a_role(role: str | None, asked_as: str) -> None:
    iam = ScriptedIam(caller=f"arn:aws:sts::{ACCOUNT}:assumed-role/publisher/session-1", role=role)
    with opened("kinesis", iam) as hook:
        hook.check()
    assert iam.asked[-1] == (
        "SimulatePrincipalPolicy",
        {
            "Version": "2010-05-08",
            "PolicySourceArn": asked_as,
            "ActionNames.member.1": "kinesis:PutRecords",
            "ResourceArns.member.1": ARNS["kinesis"],
        },
    )


@both
def test_a_user_is_asked_about_by_its_own_arn(service: str) -> None:
    iam = ScriptedIam()
    with opened(service, iam) as hook:
        hook.check()
    assert [action for action, _ in iam.asked] == ["GetCallerIdentity", "SimulatePrincipalPolicy"]
    given = iam.asked[-1][1]
    assert (given["PolicySourceArn"], given["ResourceArns.member.1"]) == (USER, ARNS[service])
    assert given["ActionNames.member.1"] == ACTIONS[service]
