"""Checks that a format's options name what is there, before anything is opened: a row, a table, a record.

An option that matches nothing would do nothing: what was to be left out would be sent, and nobody be exported.
Which names are right is the format's to say; it is asked about each layout that is to be sent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.renderer import Mapped
from airflow_kinesis_audience.core.state.audiences import find_audiences

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

_MOST_IDS = 20
"""How many audience ids a sentence has at most."""


def check_options(ledger: Ledger, delivery: Delivery, change_sets: Sequence[RecordedChangeSet]) -> None:
    """Check the options of a delivery against the change sets that it is about to send.

    :param change_sets: ascending; nothing is checked if there are none.
    :raises ValueError: if an option names what is neither mapped nor known; a retry does not help.
    """
    timeline = ledger.state.timeline
    layouts = [recorded.layout for recorded in timeline.change_sets]
    identities = {c.label for layout in layouts for c in layout.identities}
    properties = {c.label for layout in layouts for c in layout.properties}
    checked: list[TableLayout] = []
    for recorded in change_sets:
        if recorded.layout not in checked:
            checked.append(recorded.layout)
            mapped = mapped_of(recorded.layout)
            mapped = replace(mapped, former_identities=identities, former_properties=properties)
            try:
                delivery.renderer.check_options(mapped)
            except ValueError as error:
                if recorded.layout == layouts[-1]:
                    raise
                raise ValueError(_describe_older(error, recorded, delivery)) from None
    for option, asked in delivery.renderer.named_audiences().items():
        if change_sets and asked and delivery.on_unknown_audience == "fail":
            found = find_audiences(ledger, timeline, change_sets[-1], asked)
            if unknown := sorted(set(asked) - found):
                raise ValueError(_describe_unknown(option, unknown, found, ledger.sync_id))


def mapped_of(layout: TableLayout, *, events: bool = False) -> Mapped:
    """Give the names of a layout, those of retired columns among them, which a change set still has."""
    # A column that is there under a label counts, and not one that is retired under the same.
    identities = {c.label: AS_IT_IS for c in layout.identities if c.retired}
    identities |= {c.label: c.rule for c in layout.identities if not c.retired}
    properties = tuple(dict.fromkeys(c.label for c in layout.properties))
    return Mapped(identities=identities, properties=properties, events=events)


def _describe_older(error: ValueError, recorded: RecordedChangeSet, delivery: Delivery) -> str:
    return (
        f"{error}. That is the mapping of the change set as of {instant_text(recorded.as_of)}, which "
        f"{delivery.destination} has not received yet; later ones have another mapping. Publish as of that "
        "instant with the options for that mapping, then restore these. Nothing was sent"
    )


def _describe_unknown(option: str, unknown: Sequence[str], found: Collection[str], sync_id: str) -> str:
    shown = [repr(a) for a in sorted(found)[:_MOST_IDS]]
    shown += [f"and {len(found) - len(shown):,} more"] * (len(found) > len(shown))
    return (
        f"{option} in format_options names {', '.join(map(repr, unknown))}, which sync {sync_id!r} does not have "
        f"and never had; it has {', '.join(shown) or 'none'}. Correct the ids. If the audience is added later, "
        'set on_unknown_audience="wait" on this task: until then, no audience has this id. Nothing was sent'
    )
