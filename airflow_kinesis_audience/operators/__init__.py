"""The operators that DAGs use, and the values that they take.

Importing it loads Airflow and nothing heavy besides: neither a SQL parser, nor Arrow, nor the AWS SDK.
"""

from __future__ import annotations

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.operators.approve import AudienceApprovalOperator
from airflow_kinesis_audience.operators.check import AudienceCheckOperator
from airflow_kinesis_audience.operators.delete import AudienceDeleteOperator
from airflow_kinesis_audience.operators.detach import AudienceDetachOperator
from airflow_kinesis_audience.operators.diff import AudienceDiffOperator
from airflow_kinesis_audience.operators.events import EventsToKinesisOperator
from airflow_kinesis_audience.operators.forget import AudienceForgetOperator
from airflow_kinesis_audience.operators.group import audience_sync
from airflow_kinesis_audience.operators.identity import Identity
from airflow_kinesis_audience.operators.publish import AudienceToFirehoseOperator, AudienceToKinesisOperator
from airflow_kinesis_audience.operators.replay import AudienceReplayOperator
from airflow_kinesis_audience.operators.resync import AudienceResyncOperator

__all__ = [
    "AudienceApprovalOperator",
    "AudienceCheckOperator",
    "AudienceDeleteOperator",
    "AudienceDetachOperator",
    "AudienceDiffOperator",
    "AudienceForgetOperator",
    "AudienceReplayOperator",
    "AudienceResyncOperator",
    "AudienceToFirehoseOperator",
    "AudienceToKinesisOperator",
    "EventsToKinesisOperator",
    "Guards",
    "Identity",
    "audience_sync",
]
