"""Publish who entered, left or changed in an audience to Amazon Kinesis or Firehose.

Airflow imports this file while it is still starting up: it imports nothing, and must not.
"""

__version__ = "0.1.0"
