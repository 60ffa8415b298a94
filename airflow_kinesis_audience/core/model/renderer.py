"""What a wire format is: a pure function from changes to messages, with declared traits.

The rest of the core asks a format for nothing but what stands here, and knows no format by name. A format keeps
nothing between calls; the same changes and the same envelope give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import timedelta

    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
    from airflow_kinesis_audience.core.model.messages import Envelope, Message, Notice, Oversized


@dataclass(frozen=True, kw_only=True, slots=True)
class RendererTraits:
    """What a format declares about itself. The defaults are those of a plain function.

    :param version: of the bytes that the format writes; another version gives other message ids.
    :param one_message_per_row: no message is made of several rows, so a format may get a chunk in pieces.
    :param exits_kept: how long a profile keeps a membership that has ended. A format that declares it gets
        :class:`~airflow_kinesis_audience.core.model.profiles.Profiles`, all others get changes.
    :param ordered_by_stream: the messages hold nothing to restore their order by.
    :param renders_events: the format renders events, not only changes.
    :param renders_notices: the format has a message about a whole audience: a resync, a deletion.
    :param removes_by_update: a member who stays may be removed at the destination by an update, where it leaves
        nothing to be sent; ``count_removed`` then says of how many that is so.
    :param transform: path and digest of the author's function that makes the values; none without one.
    :param filters: this function may leave members out.
    """

    version: Any = None
    one_message_per_row: bool = False
    exits_kept: timedelta | None = None
    ordered_by_stream: bool = False
    renders_events: bool = False
    renders_notices: bool = False
    removes_by_update: bool = False
    transform: tuple[str, str] | None = None
    filters: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapped:
    """The names that there are in what is to be sent, by which a format's options are judged.

    :param identities: identity type to what its values become.
    :param properties: names of properties; of events, the dotted places of their fields.
    :param former_identities: identity types that were mapped some time, and ``former_properties`` likewise. An
        option that leaves such a one out does no harm, and older change sets may still have it.
    :param events: events are sent, and not changes of audiences.
    """

    identities: Mapping[str, IdentityRule]
    properties: Collection[str]
    former_identities: Collection[str] = ()
    former_properties: Collection[str] = ()
    events: bool = False


class Renderer(Protocol):
    """Renders changes, profiles or events to messages, in their order."""

    @property
    def traits(self) -> RendererTraits:
        """What the format declares about itself."""
        ...

    def __call__(self, changes: Any, envelope: Envelope, /) -> Iterator[Message | Oversized]:
        """Render what was read of a chunk; a row without room in a message as :class:`Oversized`."""
        ...

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole audience; called only where ``renders_notices`` is declared."""
        raise NotImplementedError

    def count_excluded(self, profiles: Any) -> int:
        """Count the profiles that the format must not send."""
        return 0

    def let_through(self, changes: Any) -> Any:
        """Return the changes that the author's function lets through; without one, all."""
        return changes

    def count_removed(self, changes: Any) -> Mapping[str, int]:
        """Count, by audience id, who stays a member and is removed at the destination all the same.

        :param changes: updates, or profiles; called only where ``removes_by_update`` is declared.
        """
        raise NotImplementedError

    def check_options(self, mapped: Mapped) -> None:
        """Check that whatever the options name is there, before anything is begun.

        :raises ValueError: if an option names what is neither mapped nor known, with the names that it may have.
        """

    def named_audiences(self) -> Mapping[str, Collection[str]]:
        """Return, by option, the ids of audiences that the options name."""
        return {}


def notice_renderer(renderer: Renderer, message_format: str) -> Callable[[Notice, Envelope], Message]:
    """Return what renders the notices of a format.

    :raises ValueError: if the format has no words for them; a retry does not help.
    """
    if not renderer.traits.renders_notices:
        raise ValueError(
            f"message_format {message_format!r} has no message about a whole audience, which a resync and a "
            "deletion need; add a method render_notice(notice, envelope) to its renderer"
        )
    return renderer.render_notice
