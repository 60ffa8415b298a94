"""Identities of mParticle's audience messages as fragments of JSON, rendered by columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from airflow_kinesis_audience.formats.json_values import render_column, render_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_audience.core.model.audience import IdentityValue


def join(columns: Sequence[Sequence[bytes]], rows: int) -> list[bytes]:
    """Put the columns' fragments of each row together."""
    return [b"".join(row) for row in zip(*columns, strict=True)] if columns else [b""] * rows


def render_fragments(key: str, column: Sequence[IdentityValue]) -> list[bytes]:
    """Render a column as one fragment per value, with a comma before it; nothing where there is no value."""
    before = b"," + orjson.dumps(key) + b":"
    # The key is what the error names, and never the value.
    texts = render_column(f"identity {key}", [None if isinstance(value, list) else value for value in column])
    return [
        (before + (_list(key, value) if isinstance(value, list) else text) if value else b"")
        for value, text in zip(column, texts, strict=True)
    ]


def _list(key: str, values: list[str]) -> bytes:
    """Render several values as a list, one as itself."""
    rendered = render_texts(f"identity {key}", values)
    return rendered[0] if len(rendered) == 1 else b"[" + b",".join(rendered) + b"]"
