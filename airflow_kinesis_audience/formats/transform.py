"""A function of the author's between a change set and its messages: it enriches, renames or leaves out values.

It gets members as a pandas frame and gives the same members back, in any order; who they are it cannot change. It
gets what a member's values are and what they were by separate calls, so that a change of them is sent as one. If
the author allows it, it leaves members out: a member that it leaves out now and let through before exits. Messages
are in the order of the change set in any case. It is part of what decides ids: what is half sent with one function
is not sent with another.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from airflow_kinesis_audience.core.exceptions import describe_foreign_error
from airflow_kinesis_audience.core.model.audience import Changes
from airflow_kinesis_audience.core.model.profiles import Profiles
from airflow_kinesis_audience.formats.transformed_rows import (
    has_naive,
    let_through,
    rows_before,
    rows_now,
    scatter,
    take_frame_column,
)

if TYPE_CHECKING:
    import pandas as pd

    from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn

Values = Mapping[str, Sequence[Any]]
_KEYS = ("audience_id", "user_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Transform:
    """The author's function.

    :param path: where it is imported from, dotted.
    :param code: a digest of its text.
    :param filters: it may leave members out.
    :param naive_times: what times without a time zone are that it gives: an error (``fail``), or ``utc``.
    """

    path: str
    code: str
    call: Callable[[pd.DataFrame], pd.DataFrame]
    filters: bool = False
    naive_times: str = "fail"

    def apply(self, changes: Changes | Profiles) -> Changes | Profiles:
        """Give the same changes, with the values that the function makes of theirs, of those that it lets through.

        :raises ValueError: if it gives other members, or values that have no place in a message; no retry helps.
        """
        now, new = self._call(changes, rows_now(changes), changes.new_identities, changes.new_properties)
        before, old = self._call(changes, rows_before(changes), changes.old_identities, changes.old_properties)
        if new and old and set(new) != set(old):
            self._refuse(
                f"returned the columns {', '.join(sorted(old))} before and returns {', '.join(sorted(new))} now; "
                "it must always return the same columns"
            )
        sides = {"new": (new, now), "old": (old, before)}
        found: dict[str, dict[str, ArrowColumn]] = {}
        for side, (made, rows) in sides.items():
            for name in sorted({*new, *old}):
                role = "identities" if name in changes.new_identities else "properties"
                column = scatter(made.get(name), rows, len(changes))
                found.setdefault(f"{side}_{role}", {})[name] = column
        nothing: dict[str, Any] = {f"{side}_{role}": {} for side in sides for role in ("identities", "properties")}
        renewed = replace(changes, **{**nothing, **found})
        return let_through(renewed, set(now), set(before)) if isinstance(renewed, Changes) else renewed

    def _call(
        self, changes: Changes | Profiles, rows: Sequence[int], identities: Values, properties: Values
    ) -> tuple[Sequence[int], dict[str, pa.Array]]:
        """Call the function for some rows; gives those that it lets through, and its columns but the keys."""
        if not rows:
            return rows, {}
        import pandas as pd

        keys = {n: getattr(changes, n) for n in _KEYS if hasattr(changes, n)}
        if twice := (set(identities) & set(properties)) | (set(keys) & {*identities, *properties}):
            self._refuse(f"would get two columns named {', '.join(sorted(twice))}: map one to another name")
        given = pd.DataFrame(
            {n: take_frame_column(c, rows) for n, c in {**keys, **identities, **properties}.items()}
        )
        failure = ""
        try:
            made = self.call(given.copy())
        except Exception as error:
            failure = describe_foreign_error(error)
        if failure:
            self._refuse(failure)
        kept = self._find_kept(given, made, list(keys))
        if len(kept) < len(given) and isinstance(changes, Profiles):
            self._refuse("leaves members out; a format of profiles needs them all: use its option for consent")
        if kept != sorted(kept):
            made = made.iloc[sorted(range(len(kept)), key=kept.__getitem__)]
        columns = {n: self._column(n, made[n], n in identities) for n in made.columns if n not in keys}
        return [rows[at] for at in sorted(kept)], columns

    def _find_kept(self, given: pd.DataFrame, made: Any, keys: Sequence[str]) -> list[int]:
        """Find which row of what the function got each row is that it gives."""
        import pandas as pd

        if not isinstance(made, pd.DataFrame):
            self._refuse(f"returns a {type(made).__name__}; expected the changed frame")
        if not all(isinstance(n, str) for n in made.columns) or made.columns.has_duplicates:
            self._refuse("returns columns without a unique name")
        if missing := [key for key in keys if key not in made.columns]:
            self._refuse(f"removes {missing[0]}; it must keep {' and '.join(keys)}")
        asked, found = (list(zip(*(f[key].tolist() for key in keys), strict=True)) for f in (given, made))
        if asked == found:
            return list(range(len(asked)))
        place = {member: row for row, member in enumerate(asked)}
        if not all(isinstance(part, str) for member in found for part in member) or set(found) - set(place):
            self._refuse(f"returns members that it did not get; it must not change {' or '.join(keys)}")
        if len(set(found)) < len(found):
            self._refuse(f"returns {len(found):,} rows for {len(asked):,}; it must not return a member twice")
        if len(found) < len(asked) and not self.filters:
            self._refuse(
                f"returns {len(found):,} rows for {len(asked):,}; if it is to leave members out, set "
                "transform_filters=True on the task"
            )
        return [place[member] for member in found]

    def _column(self, name: str, values: pd.Series[Any], identity: bool) -> pa.Array:
        try:
            found = pa.Array.from_pandas(values)
        except (pa.ArrowException, TypeError, ValueError):
            found = None
        if found is not None and isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        if found is None:
            self._refuse(
                f"returns values of several types in {name!r}; expected one type, or None for a missing value"
            )
        if pa.types.is_timestamp(found.type) and (found.type.tz is None or has_naive(values)):
            if self.naive_times != "utc":
                self._refuse(
                    f"returns times without a time zone in {name!r}; add the zone with dt.tz_localize, or set "
                    'naive_times="utc" on the task if they are UTC'
                )
            found = found.cast(pa.timestamp(found.type.unit, "UTC"))
        if pa.types.is_large_string(found.type) or pa.types.is_string_view(found.type):
            found = found.cast(pa.string())
        texts = pa.types.is_string(found.type) or pa.types.is_null(found.type) or pa.types.is_list(found.type)
        if identity and not texts:
            self._refuse(f"returns {found.type} for the identity {name!r}; expected text, or lists of text")
        return found

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"transform {self.path} {what}. Nothing of this slice was sent")


def load_transform(path: str, *, filters: bool = False, naive_times: str = "fail") -> Transform:
    """Find the author's function.

    :param path: dotted, such as ``my_company.audiences.enrich``.
    :param filters: it may leave members out, and ``naive_times`` see :class:`Transform`.
    :raises ValueError: if there is none; a retry does not help.
    """
    if naive_times not in ("fail", "utc"):
        raise ValueError(f"naive_times is {naive_times!r}; expected fail or utc")
    module, _, name = path.rpartition(".")
    try:
        call = getattr(importlib.import_module(module), name) if module and not path.startswith(".") else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"transform {path!r} cannot be imported ({error}); expected a dotted path") from None
    if not callable(call):
        raise ValueError(
            f"transform is {path!r}; expected the dotted path of a function that takes and returns a frame"
        )
    try:
        text = inspect.getsource(call)
    except (OSError, TypeError):
        text = ""
    code = hashlib.sha256(text.encode()).hexdigest()
    return Transform(path=path, code=code, call=call, filters=filters, naive_times=naive_times)
