"""The whole way on one machine: real purchases, Airflow, a local Kinesis and a consumer that is checked.

Run it with ``python -m airflow_kinesis_audience.demo``. It needs no account and no container, listens on 127.0.0.1
alone and leaves nothing behind. Nothing else of the package uses it.
"""
