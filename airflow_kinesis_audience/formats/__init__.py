"""The registry of wire formats, and everything that the author of a format imports.

A format is a callable that takes the format's options as keywords and returns a renderer: a pure function from
:class:`Changes` and an :class:`Envelope` to messages, in the order of the changes. A dotted path to a callable of
    that shape works wherever a name does. A renderer is called once per chunk, the rows of a slice that are of
    one group of partitions, and keeps nothing between calls: chunks are rendered in any order, again on a resume,
    and by several tasks, and give the same bytes. Instead of a message that exceeds ``envelope.message_bytes``,
    it returns one :class:`Oversized` per row, and continues.

Optional members of a renderer, read once when it is loaded: a method ``render_notice(notice, envelope)``, which
renders what happens to a whole audience (a resync, a deletion). A method ``count_excluded(profiles)``, which
returns how many profiles it must not send. A method ``count_removed(changes)``, if updates can remove members
that stay in the source: it returns how many, by audience id, and the guards check them before anything is sent.
And traits, either as ``traits = RendererTraits(...)`` or as attributes of the same names: ``version``;
``exits_kept``: it is then called with :class:`Profiles`, which keep an ended membership for that time;
``ordered_by_stream``: its messages have nothing to restore their order; ``one_message_per_row`` (formerly
``apart``): no message contains several rows, so that a chunk can be split; ``renders_events``: it is also called
with :class:`Events`. A misspelt name is an error. A subclass of :class:`Renderer` can check its options against
the mapping: ``check_options`` and ``named_audiences``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from airflow_kinesis_audience.core.model.audience import Action, Changes, UpdatedPart
from airflow_kinesis_audience.core.model.events import Events
from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Message, Notice, Oversized, digest_of
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.core.model.profiles import Profiles
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer, RendererTraits
from airflow_kinesis_audience.formats.own import OwnRenderer

__all__ = [
    "FORMATS",
    "Action",
    "Changes",
    "Envelope",
    "Events",
    "Lifecycle",
    "Mapped",
    "Message",
    "Notice",
    "Oversized",
    "Profiles",
    "Renderer",
    "RendererTraits",
    "UpdatedPart",
    "digest_of",
    "load_renderer",
    "partition_of",
]

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
    :raises ValueError: if the format or an option is unknown, or your own format misspells a trait; a retry does
        not help.
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
            f"format_options has {', '.join(unknown)}; {message_format} accepts {', '.join(accepted) or 'none'}"
        )
    renderer = build(**options)
    if not callable(renderer):
        raise ValueError(
            f"message_format {message_format!r} returns a {type(renderer).__name__}; expected a renderer"
        )
    if message_format in FORMATS:
        ours: Renderer = renderer
        return ours
    return OwnRenderer(renderer, message_format)
