"""The hook of Firehose against an emulator that lands in S3: what goes in comes out, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination, Record
from airflow_kinesis_audience.demo.local_firehose import STREAM, LocalFirehose, local_firehose
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook


@pytest.fixture
def firehose(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalFirehose]:
    with local_firehose() as firehose:
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(dict(firehose.connection)))
        yield firehose


def test_what_is_delivered_lands_line_by_line(firehose: LocalFirehose) -> None:
    hook = FirehoseStreamHook(STREAM)
    hook.check()
    documents = [json.dumps({"n": n, "text": "é" * (n % 40)}).encode() for n in range(1_200)]
    records = [Record(n, d + hook.record_end, "key", 0, 1, ordering_key=str(n)) for n, d in enumerate(documents)]
    destination = Destination(put=hook.put, limits=hook.limits)
    tally = produce([records], destination, acknowledged=AcknowledgedOrdinals(), on_progress=lambda _: None)
    assert (tally.failure, tally.delivered) == (None, 1_200)
    assert tally.requests < 10
    assert sorted(stored.data for stored in firehose.read_all()) == sorted(documents)


@pytest.mark.usefixtures("firehose")
def test_a_missing_delivery_stream_is_refused_before_and_while_putting() -> None:
    hook = FirehoseStreamHook("nobody-made-it")
    for attempt in (hook.check, lambda: hook.put([Record(0, b"{}\n", "key", 0, 1)])):
        with pytest.raises(DestinationRefused, match="delivery stream nobody-made-it does not exist in us-east-1"):
            attempt()
