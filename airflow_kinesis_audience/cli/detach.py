"""``detach``: what a destination keeps that nobody uses any more; with ``--yes`` it keeps nothing from then on.

Without ``--yes`` it looks and changes nothing. Nothing is ever sent to the destination.
"""

from __future__ import annotations

import argparse
from typing import TextIO

from airflow_kinesis_audience.cli.state import add_state_arguments, build_state
from airflow_kinesis_audience.core.outbox.detachment import choose_pins, detach
from airflow_kinesis_audience.core.state.status import read_state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("sync_id", help="the sync")
    parser.add_argument("destination", help="as `status` prints it, such as kinesis://eu-west-1/audience-changes")
    parser.add_argument("--format", metavar="NAME", help="only of this message format")
    parser.add_argument("--resyncs", action="store_true", help="only resyncs that are not finished")
    parser.add_argument("--replays", action="store_true", help="only replays that are not finished")
    add_state_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="detach them; without it, nothing changes")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Show what would be detached, and detach it where that is asked for."""
    from airflow_kinesis_audience.hooks.state import open_ledger

    with open_ledger(build_state(given), given.sync_id, tag=None) as ledger:
        read_state(ledger)
        chosen = choose_pins(
            ledger,
            given.destination,
            message_format=given.format,
            only_resyncs=given.resyncs,
            only_replays=given.replays,
        )
        for pin in chosen:
            print(pin.sentence, file=out)
        if given.yes:
            detach(ledger, {pin.log for pin in chosen})
        print(_conclude(is_found=bool(chosen), is_done=given.yes), file=out)
    return 0


def _conclude(*, is_found: bool, is_done: bool) -> str:
    if not is_found:
        return "It keeps nothing: it is already detached, or it has no such delivery."
    if is_done:
        return "Detached. The next run drops the history that nothing else needs."
    return (
        "Nothing was changed. --yes detaches it: it receives nothing more, and a publish task that still uses it "
        "starts again with its on_first_run."
    )
