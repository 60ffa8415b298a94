"""The bounds of a diff task: as its author writes them, one by one or as one value, or as the deployment sets.

It checks them when the task runs, after templating, and never looks at a change set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from airflow.sdk import BaseOperator

from airflow_kinesis_audience.core.changes.guards import Guards, check_bound
from airflow_kinesis_audience.hooks.settings import read_configured
from airflow_kinesis_audience.operators.run_context import parse_bool

_Bound = TypeVar("_Bound", float, int)

CONFIGURED = "configured"
"""What a bound is that the author leaves to the deployment; ``None`` is no limit, whatever the deployment sets."""


# An operator for the reason that StateArguments is one.
class GuardArguments(BaseOperator):
    """The part of an operator that takes the bounds within which a change set is believed."""

    def __init__(
        self,
        *,
        guards: Guards | None = None,
        max_exit_ratio: float | str | None = "configured",
        max_exit_ratio_per_day: float | str | None = "configured",
        max_exits: int | str | None = "configured",
        max_change_ratio: float | str | None = "configured",
        min_members: int | str | None = "configured",
        on_empty: str = "fail",
        on_invalid_rows: str = "fail",
        on_schema_change: str = "fail",
        usual_guards: bool | str = False,
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
        self.usual_guards = usual_guards

    def build_guards(self) -> Guards:
        """Build the bounds, once templates are rendered.

        :raises ValueError: if they are not bounds, or are given both as one value and one by one.
        """
        if self.guards is None:
            return Guards(
                max_exit_ratio=_choose("max_exit_ratio", self.max_exit_ratio, _number),
                max_exit_ratio_per_day=_choose("max_exit_ratio_per_day", self.max_exit_ratio_per_day, _number),
                max_exits=_choose("max_exits", self.max_exits, _whole),
                max_change_ratio=_choose("max_change_ratio", self.max_change_ratio, _number),
                min_members=_choose("min_members", self.min_members, _whole),
                on_empty=self.on_empty,
                on_invalid_rows=self.on_invalid_rows,
                on_schema_change=self.on_schema_change,
                usual=parse_bool(self.usual_guards, "usual_guards"),
            )
        if not isinstance(self.guards, Guards):
            raise ValueError(f"guards is a {type(self.guards).__name__}; expected a Guards")
        names = {bound.name: bound.default for bound in fields(Guards)}
        names |= dict.fromkeys(self.guards.bounds, CONFIGURED)
        names["usual_guards"] = names.pop("usual")
        if both := [name for name, default in names.items() if getattr(self, name) != default]:
            raise ValueError(f"both guards and {', '.join(both)} are set; put all limits into guards, or none")
        return self.guards


def _choose(
    name: str, given: float | str | None, read: Callable[[float | str | None, str], _Bound | None]
) -> _Bound | None:
    """Return the bound that the author gave, or else what the deployment sets, or else the default."""
    if given != CONFIGURED:
        return read(given, name)

    def read_checked(text: str) -> _Bound | None:
        bound = read(text, name)
        check_bound(name, bound)
        return bound

    return read_configured(name, str(getattr(Guards(), name)), read_checked)


def _number(value: float | str | None, name: str) -> float | None:
    """Read a bound, which a template leaves as text."""
    if value is None or str(value).strip().lower() in ("", "none"):
        return None
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{name} is {value!r}; expected a number, or None for no limit") from None


def _whole(value: float | str | None, name: str) -> int | None:
    number = _number(value, name)
    if number is None or number.is_integer():
        return None if number is None else int(number)
    raise ValueError(f"{name} is {value!r}; expected a whole number, or None for no limit")
