"""A process that runs an example DAG on the purchases, day by day, with an Airflow that logs at debug level.

    python run_example.py HOME DAG_FILE CONNECTION FIRST_DAY DAYS

``CONNECTION`` is the Airflow connection to the destination, in JSON. HOME becomes the directory of all that is
written, the warehouse among it; what Airflow logs goes to standard output and standard error.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path

from airflow_kinesis_audience.demo import cdnow, local_airflow


def main(home: Path, dag_file: str, connection: str, first_day: str, days: str) -> None:
    """Fill a warehouse, set up an Airflow, and run."""
    warehouse = home / "warehouse.duckdb"
    connections = {
        "warehouse": {"conn_type": "duckdb", "host": str(warehouse)},
        "aws_default": json.loads(connection),
    }
    local_airflow.set_up(home / "airflow", dag_file, connections)
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "DEBUG"
    with local_airflow.migrated(sys.stdout.buffer):
        cdnow.write_warehouse(warehouse, cdnow.read_purchases())
    runs = local_airflow.DailyRuns(home / "airflow", dag_file, local_airflow.Stop())
    for number in range(int(days)):
        runs.run(date.fromisoformat(first_day) + timedelta(days=number))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
