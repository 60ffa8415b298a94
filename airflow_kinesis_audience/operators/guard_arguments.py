"""The bounds of a diff task as its author writes them: one by one, or as one value.

It checks them when the task runs, after templating, and never looks at a change set.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from airflow.sdk import BaseOperator

from airflow_kinesis_audience.core.changes.guards import Guards


# An operator for the reason that StateArguments is one.
class GuardArguments(BaseOperator):
    """The part of an operator that takes the bounds within which a change set is believed."""

    def __init__(
        self,
        *,
        guards: Guards | None = None,
        max_exit_ratio: float | None = 0.5,
        max_exit_ratio_per_day: float | None = None,
        max_exits: int | None = None,
        max_change_ratio: float | None = None,
        min_members: int | None = None,
        on_empty: str = "fail",
        on_invalid_rows: str = "fail",
        on_schema_change: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.guards = guards
        self.max_exit_ratio = max_exit_ratio
        self.max_exit_ratio_per_day = max_exit_ratio_per_day
        self.max_exits = max_exits
        self.max_change_ratio = max_change_ratio
        self.min_members = min_members
        self.on_empty = on_empty
        self.on_invalid_rows = on_invalid_rows
        self.on_schema_change = on_schema_change

    def build_guards(self) -> Guards:
        """Build the bounds, once templates are rendered.

        :raises ValueError: if they are not bounds, or are given both as one value and one by one.
        """
        if self.guards is None:
            return Guards(
                max_exit_ratio=_number(self.max_exit_ratio, "max_exit_ratio"),
                max_exit_ratio_per_day=_number(self.max_exit_ratio_per_day, "max_exit_ratio_per_day"),
                max_exits=_whole(self.max_exits, "max_exits"),
                max_change_ratio=_number(self.max_change_ratio, "max_change_ratio"),
                min_members=_whole(self.min_members, "min_members"),
                on_empty=self.on_empty,
                on_invalid_rows=self.on_invalid_rows,
                on_schema_change=self.on_schema_change,
            )
        if not isinstance(self.guards, Guards):
            raise ValueError(f"guards is a {type(self.guards).__name__}; expected a Guards")
        if both := [bound.name for bound in fields(Guards) if getattr(self, bound.name) != bound.default]:
            raise ValueError(f"both guards and {', '.join(both)} are set; put all limits into guards, or none")
        return self.guards


def _number(value: float | str | None, name: str) -> float | None:
    """Read a bound, which a template leaves as text."""
    if value is None or str(value).strip().lower() in ("", "none"):
        return None
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{name} is {value!r}; expected a number, or None for no limit") from None


def _whole(value: int | str | None, name: str) -> int | None:
    number = _number(value, name)
    if number is None or number.is_integer():
        return None if number is None else int(number)
    raise ValueError(f"{name} is {value!r}; expected a whole number, or None for no limit")
