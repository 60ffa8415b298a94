"""Asks IAM, where the login may ask, whether a put would be allowed, so that a missing permission is found early.

It only ever refuses where IAM has answered clearly. Whatever else comes, no permission to ask, no network, a
response with conditions that only a real request could decide, means that it is not known: the first put shows it.
Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

_QUICK = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1})
"""A network without a way to IAM must not cost a task more than some seconds."""

_NOT_KNOWN = (ClientError, BotoCoreError, ResponseParserError, AttributeError, KeyError, TypeError, ValueError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What a login lacks.

    :param denied: a policy denies it explicitly; if not, none of the login's own allows it.
    """

    action: str
    resource: str
    denied: bool

    @property
    def statement(self) -> str:
        """The statement of a policy that allows it."""
        return json.dumps({"Effect": "Allow", "Action": self.action, "Resource": self.resource})


def find_caller(hook: AwsBaseHook) -> str | None:
    """Give the ARN of who a hook's login is, which needs no permission; none where STS cannot be asked."""
    try:
        return str(_client(hook, "sts").get_caller_identity()["Arn"])
    except _NOT_KNOWN as error:
        log.debug(
            (
                "The check of the login with STS failed (%s); publishing continues, and the first put shows any "
                "problem"
            ),
            type(error),
        )
        return None


def find_missing_permission(hook: AwsBaseHook, action: str, resource: str) -> Grant | None:
    """Find out whether the login of a hook lacks a permission; none too where that is not known.

    :param action: for example ``kinesis:PutRecords``.
    :param resource: ARN of what it is to be allowed on.
    """
    if (caller := find_caller(hook)) is None:
        return None
    try:
        iam = _client(hook, "iam")
        if (principal := _principal_of(caller, iam)) is None:
            return None
        [result] = iam.simulate_principal_policy(
            PolicySourceArn=principal, ActionNames=[action], ResourceArns=[resource]
        )["EvaluationResults"]
        decision, unsure = result["EvalDecision"], result.get("MissingContextValues")
    except _NOT_KNOWN as error:
        log.debug(
            "The check of %s with IAM failed (%s); publishing continues, and the first put shows any problem",
            action,
            type(error),
        )
        return None
    denied = decision == "explicitDeny"
    # The policies of another account's resource decide there, and no simulation here sees them.
    elsewhere = resource.split(":")[4] != caller.split(":")[4]
    if unsure or decision not in ("explicitDeny", "implicitDeny") or (elsewhere and not denied):
        return None
    return Grant(action=action, resource=resource, denied=denied)


def _client(hook: AwsBaseHook, service: str) -> Any:
    session: Any = hook.get_session(region_name=hook.region_name)
    return session.client(
        service,
        endpoint_url=hook.conn_config.get_service_endpoint_url(service),
        config=hook.config.merge(_QUICK),
        verify=hook.verify,
    )


def _principal_of(caller: str, iam: Any) -> str | None:
    """Give the ARN by which IAM knows a caller; none for those whose policies cannot be simulated."""
    _, partition, service, _, account, name = caller.split(":", 5)
    if service == "iam" and name.startswith("user/"):
        return caller
    kind, _, rest = name.partition("/")
    if kind != "assumed-role":
        return None
    role = rest.partition("/")[0]
    try:
        # A role may have a path, which the caller's ARN does not show.
        return str(iam.get_role(RoleName=role)["Role"]["Arn"])
    except ClientError:
        return f"arn:{partition}:iam::{account}:role/{role}"
