"""The one registry of wire formats.

A format is a callable that takes the format's options as keywords and returns a renderer: a pure function from
:class:`~airflow_kinesis_audience.audience.Changes` and an
:class:`~airflow_kinesis_audience.messages.Envelope` to messages, in the order of the changes. A dotted path to a
callable of that shape works wherever a name does. A renderer is called once per cell, the rows of a slice that
are of one group of partitions, and keeps nothing between calls: cells are rendered in any order, again on a
resume, and by several tasks, and give the same bytes. In the place of messages that do not fit into
``envelope.message_bytes`` it gives one :class:`~airflow_kinesis_audience.oversize.Oversized` per row, and goes on.

What a renderer may have besides: a method ``render_notice(notice, envelope)``, words for what happens to a whole
audience: a resync, a deletion. An attribute ``exits_kept``: it is then called with
:class:`~airflow_kinesis_audience.profile.Profiles`, in which a membership that has ended is told of for that long.
A method ``count_excluded(profiles)``: how many of them it must not tell of. A true attribute
``ordered_by_stream``: its messages tell nothing to restore their order by. A true attribute ``apart``: no
message is made of several rows, so that a cell may be given to it in pieces.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from airflow_kinesis_audience.exceptions import AudienceError, tell_failure
from airflow_kinesis_audience.messages import Envelope, Message, Notice
from airflow_kinesis_audience.oversize import Oversized

Renderer = Callable[[Any, Envelope], Iterator[Message | Oversized]]
NoticeRenderer = Callable[[Notice, Envelope], Message]

FORMATS: Mapping[str, str] = {
    "amplitude_cohort": "airflow_kinesis_audience.formats.amplitude.AmplitudeCohort",
    "adobe_profile": "airflow_kinesis_audience.formats.adobe.AdobeProfile",
    "mparticle_events": "airflow_kinesis_audience.formats.mparticle_events.MparticleEvents",
    "mparticle_audience": "airflow_kinesis_audience.formats.mparticle.MparticleAudience",
}
"""Name to dotted path; imported when used."""


def load_renderer(message_format: str, options: Mapping[str, Any]) -> Renderer:
    """Build the renderer of a format with its options.

    :param message_format: a name of :data:`FORMATS` or a dotted path.
    :raises ValueError: if there is no such format or it does not know an option; a retry does not help.
    """
    path = FORMATS.get(message_format, message_format)
    module, _, name = path.rpartition(".")
    known = f"expected one of {', '.join(sorted(FORMATS))}, or a dotted path to a callable"
    if not module or path.startswith("."):
        raise ValueError(f"message_format is {message_format!r}; {known}")
    try:
        build = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"message_format {message_format!r} cannot be imported ({error}); {known}") from error
    if not callable(build):
        raise ValueError(f"message_format {message_format!r} is a {type(build).__name__}; {known}")
    accepted = inspect.signature(build).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    if not takes_any and (unknown := sorted(set(options) - set(accepted))):
        raise ValueError(
            f"format_options has {', '.join(unknown)}; {message_format} knows {', '.join(accepted) or 'none'}"
        )
    renderer: Renderer = build(**options)
    if not callable(renderer):
        raise ValueError(
            f"message_format {message_format!r} gives a {type(renderer).__name__}; expected a renderer"
        )
    return renderer if message_format in FORMATS else _Foreign(renderer, message_format)


class _Foreign:
    """A renderer that is not of this package; what it has besides, this has.

    :param path: where it was imported from.
    """

    def __init__(self, renderer: Renderer, path: str) -> None:
        self._renderer = renderer
        self._path = path

    def __call__(self, changes: Any, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render the changes; of an error that is not ours no more than its kind and place is told."""
        failure = ""
        try:
            yield from self._renderer(changes, envelope)
        except AudienceError:
            raise
        except Exception as error:
            failure = tell_failure(error)
        if failure:
            raise ValueError(f"message_format {self._path} {failure}. What was rendered before may have been sent")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)


def exits_kept_by(renderer: Renderer) -> timedelta | None:
    """Tell for how long a profile keeps a membership that has ended; none if the format speaks of no profiles."""
    kept: timedelta | None = getattr(renderer, "exits_kept", None)
    return kept


def notice_renderer(renderer: Renderer, message_format: str) -> NoticeRenderer:
    """Return what renders the notices of a format.

    :raises ValueError: if the format has no words for them; a retry does not help.
    """
    found: NoticeRenderer | None = getattr(renderer, "render_notice", None)
    if found is None:
        raise ValueError(
            f"message_format {message_format!r} has no message about a whole audience, which a resync and a "
            "deletion need; give its renderer a method render_notice(notice, envelope)"
        )
    return found
