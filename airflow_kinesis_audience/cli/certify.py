"""``certify``: prove in one's own account that a stream gets everything, in order, also after a kill.

It uses a stream that the user names, says first what it will put there, and puts nothing without ``--yes``.
"""

from __future__ import annotations

import argparse
import json
from typing import TextIO

from airflow_kinesis_audience.cli.masking import one_line

FAILED = 3
"""Exit code if something is not as it must be."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("stream", help="name or ARN of a Kinesis data stream without other consumers")
    parser.add_argument("--aws-conn-id", default="aws_default", metavar="ID", help="default: aws_default")
    parser.add_argument("--region", metavar="NAME", help="default: the connection's")
    parser.add_argument(
        "--members", type=int, default=10_000, metavar="N", help="how many made-up members (default: 10000)"
    )
    parser.add_argument("--yes", action="store_true", help="put the messages; otherwise only say what it costs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = f"It ends with {FAILED} if something is not as it must be. It needs the extra duckdb."


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Say what it costs, and with ``--yes`` print what was found."""
    from airflow_kinesis_audience.cli.certifying import Certification, describe_cost

    if given.members < 100:
        raise ValueError(f"--members is {given.members}; expected 100 or more, so that a kill comes half-way")
    cost = describe_cost(given.stream, given.members)
    if not given.yes:
        print("\n".join([*cost, "Nothing was put. To run it, add --yes"]), file=out)
        return 0
    certification = Certification(given.stream, given.aws_conn_id, given.region, members=given.members)
    found = []
    for finding in certification.run():
        found.append(finding)
        if not given.json:
            print(one_line(str(finding)), file=out, flush=True)
    if given.json:
        listed = [{"what": f.what, "ok": f.ok, "text": f.text} for f in found]
        print(json.dumps({"stream": given.stream, "cost": cost, "findings": listed}, indent=2), file=out)
    return FAILED if any(f.ok is False for f in found) else 0
