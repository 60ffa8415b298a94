"""A format of an author's own: a plain callable, by a dotted path, that knows nothing of this package's classes.

What it has besides is read once, when the format is loaded, and never again: ``traits``, or attributes of the same
names. Of its errors no value is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, describe_foreign_error
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer, RendererTraits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_kinesis_audience.core.model.messages import Envelope, Message, Notice, Oversized

_VALUES = ("version", "exits_kept")
_ATTRIBUTES = {
    **{name: name for name in (*_VALUES, "ordered_by_stream")},
    "apart": "one_message_per_row",
    "one_message_per_row": "one_message_per_row",
    "tells_events": "renders_events",
    "renders_events": "renders_events",
}
"""Attributes that declare a trait, former names first; all but :data:`_VALUES` are true or false."""
_METHODS = ("render_notice", "count_excluded", "count_removed")
_UNMISTAKABLE = (*_METHODS, "exits_kept", "ordered_by_stream", "one_message_per_row")
"""Names that nobody gives to anything else, so that a name which is almost one of them is misspelt."""
_ALMOST = 0.9
_MISSING = object()


class OwnRenderer(Renderer):
    """A renderer that is not of this package.

    :param renderer: what the author's callable gave.
    :param path: where it was imported from.
    :raises ValueError: if a name is almost that of a trait, or a trait has a value that it cannot have.
    """

    def __init__(self, renderer: Callable[[Any, Envelope], Iterator[Message | Oversized]], path: str) -> None:
        self.renderer = renderer
        self._path = path
        _check_spelling(renderer, path)
        self._render_notice = _read_method(renderer, "render_notice", path)
        self._count_excluded = _read_method(renderer, "count_excluded", path)
        self._count_removed = _read_method(renderer, "count_removed", path)
        traits, notices = _read_traits(renderer, path), self._render_notice is not None
        # A format made of one of ours has the method in any case, and the trait says whether it counts.
        removes = traits.removes_by_update or (self._count_removed is not None and not self._is_made_of_ours)
        self._traits = replace(
            traits, renders_notices=notices, removes_by_update=removes, transform=None, filters=False
        )

    @property
    def traits(self) -> RendererTraits:
        """What the author's renderer declared when it was loaded."""
        return self._traits

    def __call__(self, changes: Any, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render the changes; of an error that is not ours only the kind and the place are shown."""
        failure = ""
        try:
            yield from self.renderer(changes, envelope)
        except AudienceError:
            raise
        except Exception as error:
            failure = describe_foreign_error(error)
        if failure:
            raise ValueError(
                f"message_format {self._path} {failure}. Messages that were rendered before may have been put"
            )

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience, as the author's renderer does."""
        if self._render_notice is None:
            raise NotImplementedError
        message: Message = self._render_notice(notice, envelope)
        return message

    def count_excluded(self, profiles: Any) -> int:
        """Count the profiles that the author's renderer must not send; none if it does not count them."""
        return 0 if self._count_excluded is None else int(self._count_excluded(profiles))

    def count_removed(self, changes: Any) -> Mapping[str, int]:
        """Count the members that updates remove, as the author's renderer does."""
        if self._count_removed is None:
            raise NotImplementedError
        found, failure = {}, ""
        try:
            found = dict(self._count_removed(changes))
        except AudienceError:
            raise
        except Exception as error:
            failure = describe_foreign_error(error)
        if failure:
            raise ValueError(f"count_removed of message_format {self._path} {failure}. Nothing was sent")
        return found

    def check_options(self, mapped: Mapped) -> None:
        """Check the options of a format that an author has made of one of ours; of others nothing is known."""
        if self._is_made_of_ours:
            self.renderer.check_options(mapped)  # type: ignore[attr-defined]

    def named_audiences(self) -> Mapping[str, Collection[str]]:
        """Return the audiences that such a format's options name."""
        return self.renderer.named_audiences() if self._is_made_of_ours else {}  # type: ignore[attr-defined]

    @property
    def _is_made_of_ours(self) -> bool:
        # Not by the methods' names: an author's renderer may have some that are called so and mean something else.
        return Renderer in type(self.renderer).__mro__


def _check_spelling(renderer: Any, path: str) -> None:
    names = [name for name in dir(renderer) if not name.startswith("_")]
    for known in _UNMISTAKABLE:
        if known not in names and (found := get_close_matches(known, names, n=1, cutoff=_ALMOST)):
            raise ValueError(
                f"message_format {path!r} returns a renderer with {found[0]}, which is not used; did you mean "
                f"{known}? Correct the name, or start it with an underscore"
            )


def _read_method(renderer: Any, name: str, path: str) -> Callable[..., Any] | None:
    method = getattr(renderer, name, None)
    if method is not None and not callable(method):
        raise ValueError(
            f"message_format {path!r} returns a renderer whose {name} is a {type(method).__name__}; "
            "expected a method"
        )
    return method


def _read_traits(renderer: Any, path: str) -> RendererTraits:
    """Read declared traits, and attributes of their names, which win: an author's subclass may have one."""
    declared = getattr(renderer, "traits", None)
    read: dict[str, Any] = {}
    for name, trait in _ATTRIBUTES.items():
        value = getattr(renderer, name, _MISSING)
        if value is not _MISSING:
            read[trait] = value if name in _VALUES else bool(value)
    kept = read.get("exits_kept")
    if kept is not None and not isinstance(kept, timedelta):
        raise ValueError(
            f"message_format {path!r} returns a renderer whose exits_kept is a {type(kept).__name__}; "
            "expected a timedelta, or none for a format that renders changes"
        )
    return replace(declared if isinstance(declared, RendererTraits) else RendererTraits(), **read)
