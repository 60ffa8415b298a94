"""Looks back: who was in an audience at an instant, what a run has changed, and what became of one user.

It only reads: the ledger, and whatever change sets the retention has kept. What it returns is about people; it is
for a person to look at, and nothing of it goes to a log.
"""

from __future__ import annotations

from airflow_kinesis_audience.history.frames import changes_frame, members_frame
from airflow_kinesis_audience.history.members import Member, open_history, read_members
from airflow_kinesis_audience.history.user import DeliveryStatus, UserChange, UserHistory, find_user

__all__ = [
    "DeliveryStatus",
    "Member",
    "UserChange",
    "UserHistory",
    "changes_frame",
    "find_user",
    "members_frame",
    "open_history",
    "read_members",
]
