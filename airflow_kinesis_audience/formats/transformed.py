"""A format over what an author's function makes of the changes, and the rendering of what was sent so before.

The traits and notices are the format's own. The options of the format are checked by the names that the function
gives, so once it has run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.audience import Action, Changes
from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS
from airflow_kinesis_audience.core.model.profiles import Profiles
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.transform import Transform, load_transform
from airflow_kinesis_audience.formats.transformed_rows import take_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_kinesis_audience.core.model.messages import Envelope, Message, Notice, Oversized
    from airflow_kinesis_audience.core.model.renderer import RendererTraits


class TransformedRenderer(Renderer):
    """A renderer over what a transform gives, with the traits of the format.

    :param renderer: of the format.
    :param transform: the author's function.
    """

    def __init__(self, renderer: Renderer, transform: Transform) -> None:
        self._renderer = renderer
        self._transform = transform
        self._traits = replace(
            renderer.traits,
            transform=(transform.path, transform.code),
            filters=transform.filters,
            removes_by_update=renderer.traits.removes_by_update or transform.filters,
        )
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

    def let_through(self, changes: Any) -> Any:
        """Return the changes that the transform lets through, with the values that it makes."""
        return self._apply(changes)

    def count_removed(self, changes: Any) -> Mapping[str, int]:
        """Count the members that updates remove, by what the transform makes of the changes."""
        made = self._apply(changes)
        if isinstance(made, Profiles):
            return self._renderer.count_removed(made)
        stays = [row for row, action in enumerate(made.action) if action == Action.UPDATED]
        gone = Counter(
            a for a, action in zip(made.audience_id, made.action, strict=True) if action == Action.EXITED
        )
        if self._renderer.traits.removes_by_update:
            gone.update(self._renderer.count_removed(made if len(stays) == len(made) else take_rows(made, stays)))
        return gone

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


def with_transform(renderer: Renderer, path: str | None, *, filters: bool, naive_times: str) -> Renderer:
    """Build the renderer of a task: that of its format, over its transform if it has one.

    :param path: of the function, dotted; ``filters`` and ``naive_times`` see :class:`Transform`.
    :raises ValueError: if there is no such function; a retry does not help.
    """
    if path:
        return TransformedRenderer(renderer, load_transform(path, filters=filters, naive_times=naive_times))
    if filters or naive_times != "fail":
        raise ValueError("transform_filters and naive_times need a transform; set one, or remove them")
    return renderer


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
        path, code = how["transform"][:2]
        try:
            transform = load_transform(path, filters=True, naive_times="utc")  # it was sent, so it was allowed
        except ValueError:
            return
        if transform.code != code:
            return
        renderer = TransformedRenderer(renderer, transform)
    yield from renderer(changes, envelope)
