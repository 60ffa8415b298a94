"""``approve``: which audiences of a sync are held, and why; with ``--yes`` the named ones count from then on.

Without ``--yes`` it looks and changes nothing. What counts is what was found when the audience was held: the
source is not read, and nothing is sent. The next run publishes it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TextIO

from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.cli.state import add_state_arguments, build_state
from airflow_kinesis_audience.core.changes.approval import approve_audiences
from airflow_kinesis_audience.core.exceptions import ReleaseRefused
from airflow_kinesis_audience.core.model.audience import COUNTS
from airflow_kinesis_audience.core.state.status import read_state

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_audience.core.state.sync_details import HeldAudiences


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("sync_id", help="the sync")
    parser.add_argument(
        "--audience", action="append", default=[], metavar="ID", help="an audience that is held; may be repeated"
    )
    add_state_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="approve them; without it, nothing changes")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Show what is held, and approve what is named where that is asked for."""
    from airflow_kinesis_audience.hooks.state import open_ledger

    with open_ledger(build_state(given), given.sync_id, tag=None) as ledger:
        held = read_state(ledger).timeline.held_audiences
        if held is None:
            print("No audience of this sync is held alone.", file=out)
            return 0
        asked = given.audience or sorted(held.breaches)
        _check(held, asked)
        for audience in asked:
            for sentence in held.breaches[audience]:
                print(one_line(sentence), file=out)
        if not given.yes or not given.audience:
            print("Nothing was changed. --audience ID --yes approves an audience.", file=out)
            return 0
        summary = approve_audiences(ledger, held.table, asked)
    counts = ", ".join(f"{summary[n]:,} {n}" for n in COUNTS)
    print(f"Approved: {counts}. The next run publishes it.", file=out)
    return 0


def _check(held: HeldAudiences, asked: Collection[str]) -> None:
    if others := sorted(set(asked) - held.breaches.keys()):
        raise ReleaseRefused(
            f"of the audiences to approve, these are not held: {', '.join(map(repr, others))}. Held are "
            f"{', '.join(map(repr, sorted(held.breaches)))}. Nothing was changed"
        )
