"""The operators that DAGs use."""

from __future__ import annotations

from airflow_kinesis_audience.operators.diff import AudienceDiffOperator
from airflow_kinesis_audience.operators.publish import AudienceToKinesisOperator

__all__ = ["AudienceDiffOperator", "AudienceToKinesisOperator"]
