"""``schema``: print the JSON Schema of a wire format, for consumers."""

from __future__ import annotations

import argparse
import json
from typing import TextIO

from airflow_kinesis_audience.schemas import SCHEMAS, load_schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("format", choices=SCHEMAS, help="the wire format")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print the schema."""
    print(json.dumps(load_schema(given.format), indent=2), file=out)
    return 0
