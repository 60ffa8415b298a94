"""Instants as the state and the wire want them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from airflow_kinesis_audience.core.model.instants import instant


def test_an_instant_is_a_plain_datetime_whatever_class_was_given():
    class Stamp(datetime):
        pass

    found = instant(Stamp(2026, 1, 31, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1))))
    assert type(found) is datetime
    assert found == datetime(2026, 1, 31, 0, 2, 3, tzinfo=UTC)
