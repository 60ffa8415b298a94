"""Reads the past: the members of an audience at an instant, the changes of a run, and the history of one user.

It only reads the ledger and the change sets that are kept. What it returns is personal data, and is never logged.
"""

from __future__ import annotations

from airflow_kinesis_audience.history.frames import changes_frame, members_frame
from airflow_kinesis_audience.history.members import Member, open_history, read_members
from airflow_kinesis_audience.history.user import DeliveryStatus, UserChange, UserHistory, find_user
from airflow_kinesis_audience.history.why import SentChange, create_delivered_view, delivered_sql, why

__all__ = [
    "DeliveryStatus",
    "Member",
    "SentChange",
    "UserChange",
    "UserHistory",
    "changes_frame",
    "create_delivered_view",
    "delivered_sql",
    "find_user",
    "members_frame",
    "open_history",
    "read_members",
    "why",
]
