"""For consumers: reads messages of any format and applies them in any order.

This package needs Python's standard library alone and imports nothing of ours outside itself. The invariant: the
state is a function of the set of messages, never of their order or number.
"""

from airflow_kinesis_audience.consumer.aggregated import split_record
from airflow_kinesis_audience.consumer.applying import SetAside, Unfit, apply_records, persist
from airflow_kinesis_audience.consumer.membership import AudienceConsumer, Resync
from airflow_kinesis_audience.consumer.messages import AudienceNotice, Reading, Statement, read_message

__all__ = [
    "AudienceConsumer",
    "AudienceNotice",
    "Reading",
    "Resync",
    "SetAside",
    "Statement",
    "Unfit",
    "apply_records",
    "persist",
    "read_message",
    "split_record",
]
