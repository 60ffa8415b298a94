"""The links that a task has in Airflow's UI: to the page of its audience, and to its stream in the AWS console.

Airflow asks for them on the worker, when an attempt is over, and keeps the answers. A link holds names of syncs
and streams, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PAGE_ROUTE = "audiences"
"""Under ``/plugin/`` of Airflow's UI."""


class AudienceLink(BaseOperatorLink):
    """To the page of the task's sync."""

    name = "Audience"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address on Airflow's own server; for a task that broke off early, of all syncs."""
        sync_id = getattr(operator, "known_facts", {}).get("sync_id")
        asked = f"?{urlencode({'sync': sync_id})}" if sync_id else ""
        below = urlsplit(conf.get("api", "base_url", fallback=None) or "/").path.rstrip("/")
        return f"{below}/plugin/{PAGE_ROUTE}{asked}"


class StreamLink(BaseOperatorLink):
    """To the stream in the AWS console."""

    name = "AWS console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the stream's address, or nothing for a task that broke off before it knew the stream."""
        return str(getattr(operator, "known_facts", {}).get("console_url", ""))
