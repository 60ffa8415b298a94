"""How far each delivery is, kept by Airflow as a Variable: a backup of the warehouse does not take it back.

A task reaches Variables through the API that runs it, without the metadata database, in every version of Airflow
3. What is kept is an instant and a random text, never a user. A Variable that cannot be read stops nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.core.outbox.remembered import Remembered, find_news

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog

_LOG = logging.getLogger(__name__)
_PREFIX = "airflow_kinesis_audience_delivered_"
_PLACE = ("warehouse_conn_id", "state_schema", "state_path")


class DeliveredVariable:
    """The Variable of one delivery.

    :param summary: names the sync and where its state is.
    :param log: of the delivery.
    """

    def __init__(self, summary: Mapping[str, Any], log: DeliveryLog) -> None:
        named = [summary["sync_id"], *(summary.get(n) for n in _PLACE), log.delivery.log]
        self._name = _PREFIX + hashlib.blake2b(json.dumps(named).encode(), digest_size=16).hexdigest()
        self._log = log
        self._known: Remembered | None = None
        self._is_read = False

    def recall(self) -> Remembered | None:
        """Read how far the delivery was; none if nothing is kept."""
        try:
            kept = Variable.get(self._name, default=None, deserialize_json=True)
            self._known = kept and Remembered(epoch=kept["epoch"], as_of=instant(kept["as_of"]))
            self._is_read = True
        except Exception as error:
            _LOG.warning("the Variable %s cannot be read (%s)", self._name, type(error).__name__)
        return self._known

    def keep(self) -> None:
        """Write how far the delivery is, if that is news."""
        now = find_news(self._log, self._known)
        if now is None or not self._is_read:
            return
        delivery = self._log.delivery
        value = {"epoch": now.epoch, "as_of": instant_text(now.as_of), "sync_id": self._log.ledger.sync_id}
        try:
            Variable.set(
                self._name,
                {**value, "destination": delivery.destination},
                description="How far an audience's changes are delivered; see docs/state.md of the provider",
                serialize_json=True,
            )
        except Exception as error:
            _LOG.warning("the Variable %s cannot be written (%s)", self._name, type(error).__name__)
