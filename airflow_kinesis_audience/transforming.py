"""A function of the author's between a change set and its messages: it enriches, renames or leaves out values.

It gets members as a pandas frame and gives the same members back, row by row; who they are and what became of them
it cannot change. What a member's values are and what they were it sees by separate calls, so that a change of them
is told as one. It is one of a delivery's terms: what is half sent with one function is not sent with another.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_kinesis_audience.audience import Action, Changes
from airflow_kinesis_audience.columns import ArrowColumn
from airflow_kinesis_audience.exceptions import tell_failure
from airflow_kinesis_audience.formats import Renderer, exits_kept_by, load_renderer
from airflow_kinesis_audience.profile import Profiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa

    from airflow_kinesis_audience.messages import Envelope, Message
    from airflow_kinesis_audience.oversize import Oversized

Values = Mapping[str, Sequence[Any]]
_KEYS = ("audience_id", "user_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Transform:
    """The author's function.

    :param path: where it is imported from, dotted.
    :param code: a digest of its text.
    """

    path: str
    code: str
    call: Callable[[pd.DataFrame], pd.DataFrame]

    def apply(self, changes: Changes | Profiles) -> Changes | Profiles:
        """Give the same changes, with the values that the function makes of theirs.

        :raises ValueError: if it gives other members, or values that have no place in a message; no retry helps.
        """
        now, before = _rows_now(changes), _rows_before(changes)
        new = self._call(changes, now, changes.new_identities, changes.new_properties)
        old = self._call(changes, before, changes.old_identities, changes.old_properties)
        if new and old and set(new) != set(old):
            self._refuse(f"gives the columns {', '.join(sorted(new))} once and {', '.join(sorted(old))} then")
        sides = {"new": (new, now), "old": (old, before)}
        found: dict[str, dict[str, ArrowColumn]] = {}
        for side, (made, rows) in sides.items():
            for name in sorted({*new, *old}):
                role = "identities" if name in changes.new_identities else "properties"
                column = _scattered(made.get(name), rows, len(changes))
                found.setdefault(f"{side}_{role}", {})[name] = column
        nothing: dict[str, Any] = {f"{side}_{role}": {} for side in sides for role in ("identities", "properties")}
        return replace(changes, **{**nothing, **found})

    def _call(
        self, changes: Changes | Profiles, rows: Sequence[int], identities: Values, properties: Values
    ) -> dict[str, pa.Array]:
        """Call the function for some rows; gives the columns that it makes, but the keys."""
        if not rows:
            return {}
        import pandas as pd

        keys = {n: getattr(changes, n) for n in _KEYS if hasattr(changes, n)}
        if twice := (set(identities) & set(properties)) | (set(keys) & {*identities, *properties}):
            self._refuse(f"cannot be given two columns named {', '.join(sorted(twice))}: map one to another name")
        given = pd.DataFrame({n: _series(c, rows) for n, c in {**keys, **identities, **properties}.items()})
        failure = ""
        try:
            made = self.call(given.copy())
        except Exception as error:
            failure = tell_failure(error)
        if failure:
            self._refuse(failure)
        self._check(given, made, list(keys))
        return {n: self._column(n, made[n], n in identities) for n in made.columns if n not in keys}

    def _check(self, given: pd.DataFrame, made: Any, keys: Sequence[str]) -> None:
        import pandas as pd

        if not isinstance(made, pd.DataFrame):
            self._refuse(f"gives a {type(made).__name__}; expected the frame that it was given, changed")
        if len(made) != len(given):
            self._refuse(f"gives {len(made):,} rows for {len(given):,}; nobody may be left out or added")
        if not all(isinstance(n, str) for n in made.columns) or made.columns.has_duplicates:
            self._refuse("gives columns that have no name of their own")
        for key in keys:
            if key not in made.columns or made[key].tolist() != given[key].tolist():
                self._refuse(f"changes {key}; the rows are to stay those that they were, in their order")

    def _column(self, name: str, values: pd.Series[Any], identity: bool) -> pa.Array:
        import pyarrow as pa

        try:
            found = pa.Array.from_pandas(values)
        except (pa.ArrowException, TypeError, ValueError):
            found = None
        if found is not None and isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        if found is None:
            self._refuse(f"gives values of more than one type in {name!r}; expected one type, or none for missing")
        if pa.types.is_large_string(found.type) or pa.types.is_string_view(found.type):
            found = found.cast(pa.string())
        texts = pa.types.is_string(found.type) or pa.types.is_null(found.type) or pa.types.is_list(found.type)
        if identity and not texts:
            self._refuse(f"gives {found.type} for the identity {name!r}; expected text, or lists of text")
        return found

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"transform {self.path} {what}. Nothing of this slice was sent")


class Transforming:
    """A renderer over what a transform gives; what else the renderer has, it has.

    :param renderer: of the format.
    :ivar transform: the author's function.
    """

    def __init__(self, renderer: Renderer, transform: Transform) -> None:
        self._renderer = renderer
        self.transform = transform
        self._last: tuple[Any, Any] = (None, None)

    def __call__(self, changes: Any, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render what the transform makes of the changes."""
        return self._renderer(self._apply(changes), envelope)

    def __getattr__(self, name: str) -> Any:
        if name == "count_excluded":
            count = self._renderer.count_excluded  # type: ignore[attr-defined]
            return lambda profiles: count(self._apply(profiles))
        return getattr(self._renderer, name)

    def _apply(self, changes: Any) -> Any:
        if not isinstance(changes, Changes | Profiles):
            raise ValueError("transform is for audiences, and these are events; leave it out")
        if self._last[0] is not changes:
            self._last = changes, self.transform.apply(changes)
        return self._last[1]


def load_transform(path: str) -> Transform:
    """Find the author's function.

    :param path: dotted, such as ``my_company.audiences.enrich``.
    :raises ValueError: if there is none, or pandas is missing; a retry does not help.
    """
    module, _, name = path.rpartition(".")
    try:
        call = getattr(importlib.import_module(module), name) if module and not path.startswith(".") else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"transform {path!r} cannot be imported ({error}); expected a dotted path") from None
    if not callable(call):
        raise ValueError(f"transform is {path!r}; expected a dotted path to a function from a frame to a frame")
    try:
        importlib.import_module("pandas")
    except ImportError:
        raise ValueError(
            "a transform gets pandas frames, and pandas is not installed here; pip install "
            "airflow-kinesis-audience[pandas]"
        ) from None
    try:
        text = inspect.getsource(call)
    except (OSError, TypeError):
        text = ""
    return Transform(path=path, code=hashlib.sha256(text.encode()).hexdigest(), call=call)


def render_as_told(how: Mapping[str, Any], changes: Any, envelope: Envelope) -> Iterator[Message | Oversized]:
    """Render as it was rendered then; nothing, if that was over a function that is another one now.

    Nothing, too, if the format speaks of profiles: changes alone do not say what is in one.

    :param how: what the ledger says of it.
    """
    renderer = load_renderer(how["format"], how["options"])
    if exits_kept_by(renderer) is not None:
        return
    if "transform" in how:
        path, code = how["transform"]
        try:
            transform = load_transform(path)
        except ValueError:
            return
        if transform.code != code:
            return
        renderer = Transforming(renderer, transform)
    yield from renderer(changes, envelope)


def _rows_now(changes: Changes | Profiles) -> Sequence[int]:
    if isinstance(changes, Profiles):
        return range(len(changes))
    return [row for row, action in enumerate(changes.action) if action != Action.EXITED]


def _rows_before(changes: Changes | Profiles) -> Sequence[int]:
    if isinstance(changes, Profiles):
        return [row for row, known in enumerate(changes.known) if known]
    return [row for row, action in enumerate(changes.action) if action != Action.ENTERED]


def _series(column: Sequence[Any], rows: Sequence[int]) -> pd.Series[Any]:
    """Give the values of some rows, with Arrow's types: one type per column, and NULL is no NaN."""
    import pandas as pd
    import pyarrow as pa

    array = column.array if isinstance(column, ArrowColumn) else pa.array(column)
    taken = array.take(pa.array(rows, pa.int64()))
    return pd.Series(pd.arrays.ArrowExtensionArray(taken))


def _scattered(made: pa.Array | None, rows: Sequence[int], length: int) -> ArrowColumn:
    """Put the values of some rows where they belong, and nothing in the others."""
    import pyarrow as pa

    if made is None:
        return ArrowColumn(pa.nulls(length, pa.string()))
    place: list[int | None] = [None] * length
    for at, row in enumerate(rows):
        place[row] = at
    return ArrowColumn(made.take(pa.array(place, pa.int64())))
