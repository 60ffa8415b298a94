"""A function of the author's between a change set and its messages: it enriches, renames or leaves out values.

It gets members as a pandas frame and gives the same members back, row by row; who they are and what became of them
it cannot change. It gets what a member's values are and what they were by separate calls, so that a change of them
is sent as one. It is part of what decides ids: what is half sent with one function is not sent with another.
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
from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.audience import Action, Changes
from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS
from airflow_kinesis_audience.core.model.profiles import Profiles
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer
from airflow_kinesis_audience.formats import load_renderer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pandas as pd

    from airflow_kinesis_audience.core.model.messages import Envelope, Message, Notice, Oversized
    from airflow_kinesis_audience.core.model.renderer import RendererTraits

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
            self._refuse(
                f"returned the columns {', '.join(sorted(old))} before and returns {', '.join(sorted(new))} now; "
                "it must always return the same columns"
            )
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
            self._refuse(f"would get two columns named {', '.join(sorted(twice))}: map one to another name")
        given = pd.DataFrame({n: _series(c, rows) for n, c in {**keys, **identities, **properties}.items()})
        failure = ""
        try:
            made = self.call(given.copy())
        except Exception as error:
            failure = describe_foreign_error(error)
        if failure:
            self._refuse(failure)
        self._check(given, made, list(keys))
        return {n: self._column(n, made[n], n in identities) for n in made.columns if n not in keys}

    def _check(self, given: pd.DataFrame, made: Any, keys: Sequence[str]) -> None:
        import pandas as pd

        if not isinstance(made, pd.DataFrame):
            self._refuse(f"returns a {type(made).__name__}; expected the changed frame")
        if len(made) != len(given):
            self._refuse(f"returns {len(made):,} rows for {len(given):,}; it must not add or remove rows")
        if not all(isinstance(n, str) for n in made.columns) or made.columns.has_duplicates:
            self._refuse("returns columns without a unique name")
        for key in keys:
            if key not in made.columns or made[key].tolist() != given[key].tolist():
                self._refuse(f"changes {key}; it must keep the rows and their order")

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
        if pa.types.is_large_string(found.type) or pa.types.is_string_view(found.type):
            found = found.cast(pa.string())
        texts = pa.types.is_string(found.type) or pa.types.is_null(found.type) or pa.types.is_list(found.type)
        if identity and not texts:
            self._refuse(f"returns {found.type} for the identity {name!r}; expected text, or lists of text")
        return found

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"transform {self.path} {what}. Nothing of this slice was sent")


class TransformedRenderer(Renderer):
    """A renderer over what a transform gives, with the traits of the format.

    :param renderer: of the format.
    :param transform: the author's function.
    """

    def __init__(self, renderer: Renderer, transform: Transform) -> None:
        self._renderer = renderer
        self._transform = transform
        self._traits = replace(renderer.traits, transform=(transform.path, transform.code))
        self._last: tuple[Any, Any] = (None, None)
        self._before: Mapped | None = None

    @property
    def traits(self) -> RendererTraits:
        """What the format declares about itself, and which function makes its values."""
        return self._traits

    def __call__(self, changes: Any, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render what the transform makes of the changes."""
        made = self._apply(changes)
        self._check_options_of(changes, made)
        return self._renderer(made, envelope)

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience, which has no values to transform."""
        return self._renderer.render_notice(notice, envelope)

    def count_excluded(self, profiles: Any) -> int:
        """Count, of what the transform makes of the profiles, those that the format must not send."""
        return self._renderer.count_excluded(self._apply(profiles))

    def count_removed(self, changes: Any) -> Mapping[str, int]:
        """Count the members that updates remove, by what the transform makes of the changes."""
        return self._renderer.count_removed(self._apply(changes))

    def named_audiences(self) -> Mapping[str, Collection[str]]:
        """Return the audiences that the format's options name, which no transform changes."""
        return self._renderer.named_audiences()

    def check_options(self, mapped: Mapped) -> None:
        """Remember the names before the transform; which there are after it is known once it has run."""
        self._before = mapped

    def _check_options_of(self, given: Changes | Profiles, made: Changes | Profiles) -> None:
        """Check the format's options by the names that the transform gives."""
        before, rules = self._before, made.rules if isinstance(made, Profiles) else {}
        mapped = Mapped(
            identities={kind: rules.get(kind, AS_IT_IS) for kind in made.new_identities},
            properties=made.new_properties,
            former_identities={*given.new_identities, *(before.former_identities if before else ())},
            former_properties={*given.new_properties, *(before.former_properties if before else ())},
        )
        self._renderer.check_options(mapped)

    def _apply(self, changes: Any) -> Any:
        if not isinstance(changes, Changes | Profiles):
            raise ValueError("transform works for audiences and not for events; remove it")
        if self._last[0] is not changes:
            self._last = changes, self._transform.apply(changes)
        return self._last[1]


def load_transform(path: str) -> Transform:
    """Find the author's function.

    :param path: dotted, such as ``my_company.audiences.enrich``.
    :raises ValueError: if there is none; a retry does not help.
    """
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
    return Transform(path=path, code=hashlib.sha256(text.encode()).hexdigest(), call=call)


def render_again(how: Mapping[str, Any], changes: Any, envelope: Envelope) -> Iterator[Message | Oversized]:
    """Render as it was rendered then; nothing, if that was over a function that is another one now.

    Nothing, too, if the options cannot be read back, or if the format renders profiles: changes alone do not have
    what is in one.

    :param how: what the ledger has about it.
    """
    try:
        renderer = load_renderer(how["format"], how["options"])
    except ValueError:  # an option was of a kind that JSON does not have
        return
    if renderer.traits.exits_kept is not None:
        return
    if "transform" in how:
        path, code = how["transform"]
        try:
            transform = load_transform(path)
        except ValueError:
            return
        if transform.code != code:
            return
        renderer = TransformedRenderer(renderer, transform)
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

    array = column.array if isinstance(column, ArrowColumn) else pa.array(column)
    taken = array.take(pa.array(rows, pa.int64()))
    return pd.Series(pd.arrays.ArrowExtensionArray(taken))


def _scattered(made: pa.Array | None, rows: Sequence[int], length: int) -> ArrowColumn:
    """Put the values of some rows where they belong, and nothing in the others."""
    if made is None:
        return ArrowColumn(pa.nulls(length, pa.string()))
    place: list[int | None] = [None] * length
    for at, row in enumerate(rows):
        place[row] = at
    return ArrowColumn(made.take(pa.array(place, pa.int64())))
