"""``forget``: which users are to be forgotten, and with ``--yes`` it is done, as far as it is possible now.

The ids come from a file or from standard input, never from the command line, which shells and Airflow keep. They
are never printed. Called again it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.cli.state import add_state_arguments, build_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_kinesis_audience.core.state.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("users", help="file with one user id per line; - reads standard input")
    parser.add_argument("--sync", action="append", metavar="ID", help="a sync; default: all syncs of the schema")
    add_state_arguments(parser, of_files="; then name the syncs")
    parser.add_argument("--recall", action="store_true", help="let these users enter again: they gave consent")
    parser.add_argument(
        "--let-through", action="store_true", help="also if a large share of an audience would exit"
    )
    parser.add_argument("--yes", action="store_true", help="do it; without it, nothing changes")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Forget users, or take that back; 0 once it is complete, and 1 while it waits for a destination."""
    from airflow_kinesis_audience.core.state.status import read_syncs
    from airflow_kinesis_audience.hooks.state import open_ledger

    text = sys.stdin.read() if given.users == "-" else Path(given.users).read_text(encoding="utf-8-sig")
    user_ids = {line.removesuffix("\r") for line in text.split("\n")} - {""}
    if not user_ids:
        raise ValueError("found no user id; expected one per line")
    if given.state_path and not given.sync:
        raise ValueError("name the syncs: with --state-path, the files do not list them")
    with open_ledger(build_state(given), given.sync[0] if given.sync else "", tag=None) as ledger:
        syncs = given.sync or read_syncs(ledger.warehouse, ledger.schema)
        if not syncs:
            raise ValueError(f"schema {ledger.schema!r} has no sync; correct --state-schema. Nothing was changed")
        if not given.yes:
            what = "could enter again in" if given.recall else "would leave every audience of"
            print(f"{len(user_ids):,} users {what} {len(syncs):,} syncs: {', '.join(syncs)}", file=out)
            print("Nothing was changed. --yes does it.", file=out)
            return 0
        is_complete = True
        for line in _recall(ledger, syncs, user_ids) if given.recall else _forget(ledger, user_ids, given):
            is_complete &= not line.startswith("  waits")
            print(one_line(line), file=out)
    return 0 if is_complete else 1


def _recall(ledger: Ledger, syncs: Sequence[str], user_ids: set[str]) -> Iterator[str]:
    from airflow_kinesis_audience.core.outbox.burying import recall_in

    for sync_id, users in recall_in(ledger, syncs, user_ids).items():
        yield f"{sync_id}: {users:,} of these users can enter again"


def _forget(ledger: Ledger, user_ids: set[str], given: argparse.Namespace) -> Iterator[str]:
    from airflow_kinesis_audience.core.outbox.forgetting import find_unknown, forget_in

    each = forget_in(ledger, given.sync or (), user_ids, let_through=given.let_through)
    for found in each:
        done = "their rows are still there" if found.waits_for else "the state has no row of them"
        yield f"{found.sync_id}: {found.users:,} users are forgotten, of earlier requests, too; {done}"
        for sentence in found.waits_for:
            yield f"  waits: {sentence}"
    if unknown := find_unknown(each):
        yield f"{len(unknown):,} of {len(user_ids):,} users are in no table of these syncs: check the ids"
