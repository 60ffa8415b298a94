"""``why``: what was sent about one user, to which destination, when and why; or the SQL of that for all users.

The user's id is given by whoever asks, and shown as a digest, as are the ids of users everywhere else.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from airflow_kinesis_audience.cli.masking import mask, one_line
from airflow_kinesis_audience.cli.state import add_state_arguments, build_state

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.history import SentChange


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("sync_id", help="the sync")
    parser.add_argument("user_id", nargs="?", help="the user's id; - reads it from standard input")
    parser.add_argument("--audience", metavar="ID", help="only of this audience")
    parser.add_argument("--message-ids", action="store_true", help="compute the ids of the messages, too")
    parser.add_argument("--show", action="store_true", help="show the user id; it is masked by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sql", action="store_true", help="print the query of what was delivered about all users")
    parser.add_argument("--create-view", action="store_true", help="create or replace a view over that query")
    add_state_arguments(parser)


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print what was sent about a user, or the query of it."""
    from airflow_kinesis_audience.hooks.state import open_ledger

    if bool(given.user_id) == bool(given.sql or given.create_view):
        raise ValueError("give either a user id, or --sql, or --create-view")
    with open_ledger(build_state(given), given.sync_id, tag=None) as ledger:
        print("\n".join(_answer(ledger, given)), file=out)
    return 0


def _answer(ledger: Ledger, given: argparse.Namespace) -> list[str]:
    from airflow_kinesis_audience.history import create_delivered_view, delivered_sql, why

    if given.sql:
        return [delivered_sql(ledger)]
    if given.create_view:
        return [f"{ledger.schema}.{create_delivered_view(ledger)}"]
    user_id = sys.stdin.readline().rstrip("\n") if given.user_id == "-" else given.user_id
    found = [
        sent
        for sent in why(ledger, user_id, message_ids=given.message_ids)
        if given.audience in (None, sent.audience_id)
    ]
    shown = user_id if given.show else mask(user_id)
    if given.json:
        return [json.dumps([{**asdict(sent), "user_id": shown} for sent in found], indent=2)]
    if not found:
        return [one_line(f"{shown}: nothing was sent that is kept")]
    return [one_line(line) for line in (f"{shown}:", *(f"  {describe(sent)}" for sent in found))]


def describe(sent: SentChange) -> str:
    """Describe a change that was sent in a line."""
    reason = f" ({sent.reason})" if sent.reason else ""
    state = f"delivered at {sent.delivered_at}" if sent.state == "delivered" else sent.state
    tries = f", attempt {sent.attempt}" if sent.attempt > 1 else ""
    run = f", by {sent.run}" if sent.run else ""
    message = f", message {sent.message_id}" if sent.message_id else ""
    where = f"{sent.destination} ({sent.message_format})"
    return f"{sent.as_of}  {sent.audience_id}  {sent.action}{reason}  {where}: {state}{tries}{run}{message}"
