"""What pytest gets of this package when it starts: a fixture, so that a test of a mapping needs no import.

Every pytest in an environment loads this, whatever it tests, so it imports nothing else of the package: what a
fixture needs is loaded when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def find_audience_messages() -> Callable[..., list[dict[str, Any]]]:
    """Give :func:`airflow_kinesis_audience.testing.find_messages`: rows before, rows after, and the messages."""
    from airflow_kinesis_audience.testing import find_messages

    return find_messages
