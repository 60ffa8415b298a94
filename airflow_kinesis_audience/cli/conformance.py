"""``conformance``: check a consumer of the messages with random histories, for teams that read the stream."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TextIO

from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.conformance import FORMATS, Consumer, HttpConsumer, check_consumer

FAILED = 3
"""Exit code if the consumer failed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("format", choices=FORMATS, help="the wire format that the consumer reads")
    parser.add_argument(
        "--consumer",
        metavar="MODULE:NAME",
        help="a function that takes a list of messages, in bytes, and returns the members by audience id",
    )
    parser.add_argument("--url", help="or the URL of a consumer that takes messages as Firehose posts them")
    parser.add_argument(
        "--members", metavar="URL", help="with --url: gives an audience's members; has {audience_id} in it"
    )
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="with --url: pause before members are read"
    )
    parser.add_argument("--seed", type=int, help="the seed of a report, to repeat its histories")
    parser.add_argument("--histories", type=int, default=100, metavar="N", help="how many to send (default: 100)")
    parser.epilog = f"It ends with {FAILED} if the consumer failed."


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Check the consumer, and print the report."""
    try:
        report = check_consumer(_build(given), given.format, seed=given.seed, histories=given.histories)
    except ConnectionError as error:
        raise ValueError(f"the check has no result: {error}") from None
    print("\n".join(map(one_line, report.describe())), file=out)
    return 0 if report.passed else FAILED


def _build(given: argparse.Namespace) -> Consumer:
    if given.consumer and not (given.url or given.members):
        module, _, name = given.consumer.partition(":")
        try:
            found: Consumer = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"--consumer {given.consumer} cannot be imported ({error}); expected MODULE:NAME"
            ) from error
        return found
    if given.url and given.members and not given.consumer:
        return HttpConsumer(given.url, given.members, wait_seconds=given.wait)
    raise ValueError("give either --consumer, or --url and --members")
