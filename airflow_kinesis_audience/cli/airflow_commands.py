"""``airflow audiences``: the commands of a person at a terminal, as a group of Airflow's own.

Airflow 3.2 and newer ask for the group whenever ``airflow`` is called, so that nothing is imported here that
another command would wait for.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.cli.commands import COMMANDS, as_sentence, import_command, run

if TYPE_CHECKING:
    import argparse

    from airflow.cli.cli_config import Arg, GroupCommand

GROUP = "audiences"
PROGRAM = f"airflow {GROUP}"


class Arguments:
    """Takes the place of a parser, and keeps what a command adds to one in Airflow's form."""

    epilog: str | None = None

    def __init__(self) -> None:
        self.found: list[Arg] = []

    def add_argument(self, *flags: str, **how: Any) -> None:
        """Keep an argument."""
        from airflow.cli.cli_config import Arg

        self.found.append(Arg(flags, **how))  # type: ignore[no-untyped-call]


def get_audience_commands() -> list[GroupCommand]:
    """Give the group for Airflow's command line."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    commands = []
    for name, what in COMMANDS.items():
        if name != "demo":  # it makes an Airflow of its own
            arguments = Arguments()
            if GROUP in sys.argv:
                import_command(name).add_arguments(arguments)
            command = ActionCommand(
                name=name,
                help=what,
                func=partial(_run, name),
                args=arguments.found,
                description=as_sentence(what),
                epilog=arguments.epilog,
            )
            commands.append(command)
    return [
        GroupCommand(
            name=GROUP, help="Audiences: plan a run, look at the state and at a stream", subcommands=commands
        )
    ]


def _run(name: str, given: argparse.Namespace) -> None:
    if code := run(name, given, PROGRAM):
        sys.exit(code)
