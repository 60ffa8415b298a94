"""What tasks report to Airflow by asset events: a change set was computed, changes were delivered.

Each sync is an asset, ``audience://<sync_id>``, and so is each destination, ``kinesis://<region>/<stream>`` or
``firehose://<region>/<stream>``. Other DAGs can be scheduled on them, and the page in Airflow's UI reads them. An
event holds counts, instants and names of audiences, never a user. Which assets a task has is known when it runs,
so it reaches them through an alias of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias

from airflow_kinesis_audience.core.changes.guards import RATIO_FROM_MEMBERS
from airflow_kinesis_audience.core.model.audience import COUNTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import BaseOperator, Context

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.changes.guards import Guards
    from airflow_kinesis_audience.core.state.sync_details import GuardBounds

MOST_AUDIENCES = 1_000
"""How many audiences an event lists at most: the largest."""

MOST_PINS = 20
"""How many sentences on what is pinned an event has at most."""

_BOUNDS = ("max_exit_ratio", "max_exit_ratio_per_day", "max_exits", "max_change_ratio", "min_members")
_OF_DELIVERY = (
    *("sync_id", "as_of", "destination", *COUNTS, "events", "change_sets", "messages", "records", "bytes"),
    *("delivered", "rejected", "omitted", "excluded", "retried", "seconds"),
    *("redelivered", "still_rejected"),
)
_OF_ATTEMPT = (
    *("messages", "records", "bytes", "rejected", "omitted", "excluded", "retried", "seconds"),
    *("redelivered", "still_rejected"),
)
"""Numbers of one task's attempt, which are not those of a delivery that several tasks share."""


def sync_asset(sync_id: str) -> Asset:
    """Return the asset that a sync is: DAGs scheduled on it run when a change set was computed."""
    return Asset(f"audience://{quote(sync_id, safe='')}")


def add_alias(task: BaseOperator) -> AssetAlias:
    """Give a task the alias through which it reaches its assets: an outlet, beside those of its author."""
    alias = AssetAlias(f"{task.dag_id}.{task.task_id}")
    task.outlets = [*task.outlets, alias]
    return alias


def emit_change_set(
    context: Context,
    alias: AssetAlias,
    summary: Mapping[str, Any],
    guards: Guards | GuardBounds,
    counts: Sequence[AudienceCounts],
    names: Mapping[str, str],
    pinned: Sequence[str] = (),
) -> None:
    """Emit the event of a recorded change set.

    :param guards: the bounds by which it was looked at.
    :param counts: what the run found of each audience; nothing where it found its change set there already.
    :param names: audience id to name, as far as the author has given them.
    :param pinned: which delivery keeps what history, and since when, where that may stay so.
    """
    extra: dict[str, Any] = {
        "kind": "change_set",
        **{n: summary[n] for n in ("sync_id", "as_of", "previous_as_of", *COUNTS)},
        "guards": {**{n: getattr(guards, n) for n in _BOUNDS}, "ratio_from_members": RATIO_FROM_MEMBERS},
        **_audiences(counts, summary.get("audiences", {}), names),
    }
    extra |= {n: summary[n] for n in ("let_through", "corrects", "inserted", "held_audiences") if n in summary}
    if pinned:
        extra["pinned"] = list(pinned[:MOST_PINS])
    _add(context, alias, sync_asset(summary["sync_id"]), extra)


def emit_delivery(context: Context, alias: AssetAlias, summary: Mapping[str, Any], message_format: str) -> None:
    """Emit the event of a delivery, if anything was delivered.

    Where several tasks share a delivery, the one that finishes it emits the event, with all that was delivered.
    """
    extra = {n: summary[n] for n in _OF_DELIVERY if n in summary}
    if "parts" in summary:
        extra = {n: extra[n] for n in extra if n not in _OF_ATTEMPT} | {"delivered": summary["concluded"]}
    if extra.get("messages", extra["delivered"]):
        more = {"kind": "delivery", "message_format": message_format}
        _add(context, alias, Asset(summary["destination"]), {**extra, **more})


def _audiences(
    counts: Sequence[AudienceCounts], few: Mapping[str, Mapping[str, int]], names: Mapping[str, str]
) -> dict[str, Any]:
    """List audiences by columns, which takes a third of the bytes of a row each."""
    found = sorted(
        [(a.audience_id, a.audience_name, *(getattr(a, n) for n in COUNTS)) for a in counts if a.audience_id]
        or [(a, None, *(of[n] for n in COUNTS)) for a, of in few.items()],
        key=lambda row: (-row[-1], row[0]),
    )
    if not found:
        return {}
    ids, found_names, *numbers = map(list, zip(*found[:MOST_AUDIENCES], strict=True))
    named = [name or names.get(a, a) for a, name in zip(ids, found_names, strict=True)]
    columns = {"id": ids, "name": named, **dict(zip(COUNTS, numbers, strict=True))}
    return {"audiences": columns, "more_audiences": max(0, len(found) - MOST_AUDIENCES)}


def _add(context: Context, alias: AssetAlias, asset: Asset, extra: Mapping[str, Any]) -> None:
    # Airflow gives an event the partition of its run, from 3.3 on; who reads the extra knows it in every version.
    key = getattr(context.get("dag_run"), "partition_key", None)
    context["outlet_events"][alias].add(asset, extra={**extra, **({"partition_key": key} if key else {})})
