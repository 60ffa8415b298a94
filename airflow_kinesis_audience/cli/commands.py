"""The sub-commands of ``python -m airflow_kinesis_audience`` and ``airflow audiences``, and how each is found.

A command's module is imported when it is asked for: printing a policy must not wait for a warehouse's driver. An
error that has a sentence is shown by it, on standard error; a wrong argument never shows a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from airflow_kinesis_audience import __version__
from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.core.exceptions import AudienceError, TaskEnded

PROGRAM = "python -m airflow_kinesis_audience"
COMMANDS = {
    "demo": "run an example on this machine: real purchases, Airflow, a local Kinesis and a checked consumer",
    "plan": "show what a DAG's diff task would find now: counts, guards, a masked sample; write nothing",
    "check": "check that the tasks of a DAG file can run: connections, source, state, streams, permissions",
    "status": "show each sync's timeline, its destinations, and how far behind they are",
    "approve": "show the audiences that a guard holds, and why; with --yes, approve the named ones",
    "why": "show what was sent about one user: when, to which destination, and what had changed",
    "forget": "show which users would leave every audience; with --yes, forget them and erase their rows",
    "detach": "show the history that an unused destination keeps; with --yes, detach the destination",
    "tail": "print the messages of a Kinesis stream in readable form, with user ids masked",
    "policy": "print the minimal IAM policy for streams and delivery streams, as JSON",
    "schema": "print the JSON Schema of a wire format",
    "certify": "prove on a stream of yours: order, duplicates, kill and resume, throttling, grants",
    "conformance": "check a consumer with random histories: shuffled, repeated, late messages",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return its exit code."""
    parser, commands = _parser()
    given, rest = parser.parse_known_args(arguments)
    if given.command == "demo":
        # It keeps its own arguments, as ``python -m airflow_kinesis_audience.demo`` does.
        return int(import_module("airflow_kinesis_audience.demo.__main__").main(rest))
    own = commands[given.command]
    import_command(given.command).add_arguments(own)
    return run(given.command, own.parse_args(rest), PROGRAM)


def import_command(name: str) -> Any:
    """Import the module of a command: ``add_arguments`` says what it takes, ``run`` runs it."""
    return import_module(f"airflow_kinesis_audience.cli.{name}")


def run(name: str, given: argparse.Namespace, program: str) -> int:
    """Run a command with its arguments, and return its exit code.

    :param program: how it was called, for what is said of an error.
    """
    # Outside of a task Airflow looks for connections in its database only with this setting.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    out = sys.stdout
    try:
        # What Airflow prints goes to standard error, so that the results are alone.
        with contextlib.redirect_stdout(sys.stderr):
            return int(import_command(name).run(given, out))
    except (AudienceError, ValueError) as error:
        print(f"{program} {name}: {one_line(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read has had enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 0
    except (KeyboardInterrupt, TaskEnded):
        return 130


def as_sentence(what: str) -> str:
    """Make a sentence of what a command does."""
    return f"{what[0].upper()}{what[1:]}."


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Any]]:
    """Make the parser of the first word, and one per command for the rest."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Publish who entered, left or changed in an audience to Amazon Kinesis or Firehose.",
        epilog=f"{PROGRAM} COMMAND --help shows a command's arguments.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = {}
    for name, what in COMMANDS.items():
        subparsers.add_parser(name, help=what, add_help=False)
        commands[name] = argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=as_sentence(what))
    return parser, commands
