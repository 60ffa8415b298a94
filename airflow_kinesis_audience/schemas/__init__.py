"""JSON Schemas of the wire formats, for consumers: what a message has, and what may be in it.

``python -m airflow_kinesis_audience.schemas amplitude_cohort`` prints one. Pure standard library.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

SCHEMAS = ("adobe_profile", "amplitude_cohort", "mparticle_audience", "mparticle_events")
"""The wire formats that have one."""


def load_schema(message_format: str) -> dict[str, Any]:
    """Return the schema of a wire format, in JSON Schema's draft 2020-12.

    :raises ValueError: if no wire format has that name.
    """
    if message_format not in SCHEMAS:
        raise ValueError(f"message_format is {message_format!r}; expected one of {', '.join(SCHEMAS)}")
    schema: dict[str, Any] = json.loads(
        resources.files(__name__).joinpath(f"{message_format}.json").read_text(encoding="utf-8")
    )
    return schema
