"""One text per value, in every process: what has an order keeps its text, what has none gets one or is refused."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.canonical import canonical_json

IN_ANOTHER_PROCESS = """
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS
from airflow_kinesis_audience.formats import load_renderer
options = {"exclude": {"ip", "mpid", "device_info", "consent_state", "context"}}
delivery = Delivery(
    destination="kinesis://eu-west-1/a", connection="aws_default", message_format="mparticle_events",
    options=options, renderer=load_renderer("mparticle_events", options), limits=KINESIS_LIMITS,
)
print(delivery.envelope("sync", ("", "2026-01-01T00:00:00Z")).batch_id)
"""


class Color(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Range:
    names: Any


def test_a_set_among_the_options_gives_the_same_ids_in_every_process() -> None:
    found = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": (1, 2), "a": [None, True, 1.5]}, '{"a": [null, true, 1.5], "b": [1, 2]}'),
        ([Decimal("1.50"), date(2026, 1, 31)], '["Decimal(\'1.50\')", "datetime.date(2026, 1, 31)"]'),
        ([Color.RED, b"x", PurePosixPath("a")], "[\"<Color.RED: 'red'>\", \"b'x'\", \"PurePosixPath('a')\"]"),
        ({"only": {"one"}, "none": frozenset()}, '{"none": "frozenset()", "only": "{\'one\'}"}'),
        ([Range(["b", "a"]), Range({"a"})], "[\"Range(names=['b', 'a'])\", \"Range(names={'a'})\"]"),
    ],
)
def test_what_has_an_order_has_the_text_that_it_always_had(value: Any, text: str) -> None:
    assert canonical_json(value) == text


@given(st.lists(st.text(max_size=3) | st.integers(), min_size=2, max_size=6, unique=True))
def test_a_set_is_its_values_in_an_order_of_their_own(values: list[Any]) -> None:
    assert len({canonical_json({"x": kind(v)}) for kind in (set, frozenset) for v in (values, values[::-1])}) == 1


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [lambda: None],
        {"a": {"b": [object()]}},
        {object(), object()},
        Range({"a", "b"}),
        [Range({"k": {"a", "b"}})],
        Range([{"a", "b"}]),
    ],
)
def test_what_has_another_text_in_another_process_is_refused_without_its_value(value: Any) -> None:
    with pytest.raises(ValueError, match="whose text differs between processes") as said:
        canonical_json(value)
    assert "0x" not in str(said.value)


@pytest.mark.parametrize("value", [{1: "a", "b": 2}, {("a", "b"): 1}])
def test_keys_without_one_order_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="has keys that are not texts"):
        canonical_json(value)
