"""Print the JSON Schema of a wire format: ``python -m airflow_kinesis_audience.schemas amplitude_cohort``."""

from __future__ import annotations

import argparse
import json

from airflow_kinesis_audience.schemas import SCHEMAS, load_schema

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="schemas", description="Print the JSON Schema of a wire format.")
    parser.add_argument("format", choices=SCHEMAS)
    print(json.dumps(load_schema(parser.parse_args().format), indent=2))
