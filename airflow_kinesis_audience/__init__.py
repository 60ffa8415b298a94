"""Keep the consumers of a Kinesis stream exactly informed of who is in which audience.

Airflow imports this file while it is still starting up: it imports nothing, and must not.
"""

__version__ = "0.1.0"
