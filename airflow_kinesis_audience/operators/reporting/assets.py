"""What tasks report to Airflow by asset events: a change set was computed, changes were delivered.

Each sync is an asset, ``audience://<sync_id>``, and so is each destination, ``kinesis://<region>/<stream>`` or
``firehose://<region>/<stream>``. Other DAGs can be scheduled on them, and the page in Airflow's UI reads them. An
event holds counts, instants and names of audiences, never a user. Which assets a task has is known when it runs,
so it reaches them through an alias of its own.
"""

from __future__ import annotations

import json
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
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.state.sync_details import GuardBounds

MOST_AUDIENCES = 1_000
"""How many audiences an event lists at most: the largest."""

MOST_PINS = 20
"""How many sentences on what is pinned an event has at most."""

MOST_MAPPED = 100
"""How many mapped columns an event lists at most."""

SAMPLE_BYTES = 4_000
"""How large a masked sample in an event may be, as JSON."""

_OF_CHANGE_SET = (
    *("let_through", "corrects", "inserted", "compensation", "held_audiences", "recorded", "confirmed"),
    *("dropped_rows", "excluded", "outranked", "statements", "statement_seconds", "bytes_scanned"),
)
"""What an event has of a change set's summary where the summary has it."""

_BOUNDS = ("max_exit_ratio", "max_exit_ratio_per_day", "max_exits", "max_change_ratio", "min_members")
_OF_DELIVERY = (
    *("sync_id", "as_of", "destination", *COUNTS, "events", "change_sets", "messages", "records", "bytes"),
    *("delivered", "rejected", "omitted", "excluded", "filtered", "retried", "seconds"),
    *("redelivered", "still_rejected", "given_up", "statements", "statement_seconds", "bytes_scanned"),
)
_OF_ATTEMPT = (
    *("messages", "records", "bytes", "rejected", "omitted", "excluded", "filtered", "retried", "seconds"),
    *("redelivered", "still_rejected", "given_up", "statements", "statement_seconds", "bytes_scanned"),
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
    source: Source | None = None,
) -> None:
    """Emit the event of a recorded change set.

    :param guards: the bounds by which it was looked at.
    :param counts: what the run found of each audience; nothing where it found its change set there already.
    :param names: audience id to name, as far as the author has given them.
    :param pinned: which delivery keeps what history, and since when, where that may stay so.
    :param source: whose mapping the event lists, by names of columns.
    """
    extra: dict[str, Any] = {
        "kind": "change_set",
        **{n: summary[n] for n in ("sync_id", "as_of", "previous_as_of", *COUNTS)},
        "guards": {**{n: getattr(guards, n) for n in _BOUNDS}, "ratio_from_members": RATIO_FROM_MEMBERS},
        **_audiences(counts, summary.get("audiences", {}), names),
    }
    extra |= {n: summary[n] for n in _OF_CHANGE_SET if n in summary}
    if pinned:
        extra["pinned"] = list(pinned[:MOST_PINS])
    if source is not None:
        extra["mapping"] = describe_mapping(source)[:MOST_MAPPED]
    _add(context, alias, sync_asset(summary["sync_id"]), extra)


def describe_mapping(source: Source) -> list[dict[str, str]]:
    """List the mapped columns: ``column``, ``role``, ``as`` which name it is sent, and an identity's ``rule``."""
    key = [(source.user_id, "user id"), (source.audience_id_column, "audience id")]
    key += [(source.audience_name_column, "audience name"), (source.consent_column, "consent")]
    rules = source.identity_rules
    return [
        *({"column": column, "role": role, "as": "", "rule": ""} for column, role in key if column),
        *(
            {"column": column, "role": "identity", "as": label, "rule": str(rules.get(column, ""))}
            for column, label in source.identities.items()
        ),
        *({"column": c, "role": "property", "as": name, "rule": ""} for c, name in source.properties.items()),
    ]


def emit_delivery(
    context: Context,
    alias: AssetAlias,
    summary: Mapping[str, Any],
    message_format: str,
    sample: Mapping[str, Any] | None = None,
) -> None:
    """Emit the event of a delivery, if anything was delivered.

    Where several tasks share a delivery, the one that finishes it emits the event, with all that was delivered.

    :param sample: a message with masked values.
    """
    extra = {n: summary[n] for n in _OF_DELIVERY if n in summary}
    if "parts" in summary:
        extra = {n: extra[n] for n in extra if n not in _OF_ATTEMPT} | {"delivered": summary["concluded"]}
    if extra.get("messages", extra["delivered"]):
        more: dict[str, Any] = {"kind": "delivery", "message_format": message_format}
        # As text: Airflow masks what is under a key such as "token", and here the keys are what is to be seen.
        if sample and len(text := json.dumps(sample, ensure_ascii=False).encode()) <= SAMPLE_BYTES:
            more["sample"] = text.decode()
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
