"""The masked sample of a destination's messages, which an asset event carries to the page."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.state.ledger import Ledger


def render_sample(ledger: Ledger, delivery: Delivery) -> dict[str, Any] | None:
    """Render a message of a delivery with masked values; none of an author's own format or transform.

    No statement is run, and no value of a row is read. Without a sample a delivery is done all the same.

    :param ledger: as the delivery left it.
    """
    from airflow_kinesis_audience.core.readers.change_sets import change_set_of
    from airflow_kinesis_audience.core.readers.masked_sample import render_masked_sample
    from airflow_kinesis_audience.formats import FORMATS

    timeline = ledger.state.timeline
    if timeline.newest is None or delivery.message_format not in FORMATS or delivery.renderer.traits.transform:
        return None
    with contextlib.suppress(Exception):
        change_set = change_set_of(ledger, timeline, timeline.newest)
        envelope = delivery.envelope(change_set.sync_id, change_set.instants)
        return render_masked_sample(change_set, delivery.renderer, envelope)
    return None
