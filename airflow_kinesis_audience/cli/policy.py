"""``policy``: the least IAM policy with which a login can deliver, made of ARNs alone; AWS is not asked.

The hooks name what is needed (``put_action``). The rest lets a task find a mistake before it opens a change set,
and can be left out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_ARN = re.compile(
    r"arn:aws[a-z-]*:(?P<service>kinesis|firehose):[a-z0-9-]+:\d{12}:(?P<kind>stream|deliverystream)/[\w.-]+"
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/[\w+=,.@/-]+")
_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+")
_LOOK = {"kinesis": "kinesis:DescribeStreamSummary", "firehose": "firehose:DescribeDeliveryStream"}
_READ = ("kinesis:ListShards", "kinesis:GetShardIterator", "kinesis:GetRecords")
_CHECKS = ("iam:SimulatePrincipalPolicy", "iam:GetRole")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "arn",
        nargs="+",
        help="ARN of a stream (arn:aws:kinesis:REGION:ACCOUNT:stream/NAME) or of a delivery stream "
        "(arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME)",
    )
    parser.add_argument("--key", action="append", default=[], metavar="ARN", help="KMS key of a data stream")
    parser.add_argument(
        "--login",
        metavar="ARN",
        help="of the login itself; a task can then find a missing permission before it starts",
    )
    parser.add_argument("--least", action="store_true", help="leave out the permission to describe the stream")
    parser.add_argument("--read", action="store_true", help="also allow reading the data stream, as tail does")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print the policy."""
    policy = make_policy(given.arn, keys=given.key, login=given.login, looks=not given.least, reads=given.read)
    print(json.dumps(policy, indent=2), file=out)
    return 0


def make_policy(
    arns: Iterable[str],
    *,
    keys: Sequence[str] = (),
    login: str | None = None,
    looks: bool = True,
    reads: bool = False,
) -> dict[str, Any]:
    """Make the policy.

    :param looks: whether the stream may be looked at before a change set is opened.
    :param reads: whether a data stream is to be read, too.
    :raises ValueError: if an ARN has another form than it should.
    """
    streams = [(arn, _expect(arn, _ARN, "an ARN of a stream or a delivery stream")["service"]) for arn in arns]
    statements = []
    for service in sorted({service for _, service in streams}):
        actions = [_put_action(service), *([_LOOK[service]] if looks else [])]
        own = [arn for arn, found in streams if found == service]
        statements.append(_allow([*actions, *(_READ if reads and service == "kinesis" else ())], own))
    for key in keys:
        _expect(key, _KEY, "an ARN of a KMS key")
    if keys:
        statements.append(_allow(["kms:GenerateDataKey", *(["kms:Decrypt"] if reads else [])], keys))
    if login is not None:
        _expect(login, _ROLE, "an ARN of a role or a user")
        statements.append(_allow(_CHECKS, [login]))
        if own := [arn for arn, service in streams if service == "kinesis"]:
            statements.append(_allow(["kinesis:GetResourcePolicy"], own))
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    one = len(resources) == 1
    return {
        "Effect": "Allow",
        "Action": actions[0] if len(actions) == 1 else list(actions),
        "Resource": resources[0] if one else list(resources),
    }


def _put_action(service: str) -> str:
    from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
    from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

    return {hook.service: hook.put_action for hook in (KinesisStreamHook, FirehoseStreamHook)}[service]


def _expect(arn: str, form: re.Pattern[str], what: str) -> re.Match[str]:
    found = form.fullmatch(arn)
    if found is None:
        raise ValueError(f"{arn!r} is not {what}; see --help for its form")
    return found
