"""``python -m airflow_kinesis_audience``: what a person at a terminal can ask of the package."""

from __future__ import annotations

import sys

from airflow_kinesis_audience.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
