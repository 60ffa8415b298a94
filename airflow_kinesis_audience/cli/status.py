"""``status``: what the ledger says, for people: the line of time of each sync, its destinations, and their lag.

It reads rows of the ledger alone, which hold counts and names and nobody's id.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.ledger import Ledger
from airflow_kinesis_audience.overview import Behind, find_behind, read_entries, read_syncs
from airflow_kinesis_audience.timeline import Edge, Timeline

STATE_SCHEMA = "airflow_audience"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("sync_id", nargs="*", help="the syncs to tell of; by default all of the schema")
    parser.add_argument(
        "--warehouse", default="warehouse", metavar="CONN_ID", help="Airflow connection (default: warehouse)"
    )
    parser.add_argument("--state-schema", default=STATE_SCHEMA, help=f"default: {STATE_SCHEMA}")
    parser.add_argument("--state-path", help="where the state is kept as files, if it is; then name the syncs")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="newest change sets to list (default: 5)")
    parser.add_argument("--json", action="store_true", help="for other programs")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print what the ledger says."""
    if given.state_path:
        if not given.sync_id:
            raise ValueError("name the syncs where there is a --state-path: its files do not list them")
        told = [_read_files(given, name) for name in given.sync_id]
    else:
        told = _read_warehouse(given)
    if given.json:
        print(json.dumps(told, indent=2), file=out)
    else:
        lines = [line for sync in told for line in [*describe(sync), ""]]
        print(
            "\n".join(lines[:-1]) or f"schema {given.state_schema!r} has no sync yet: no run has written there",
            file=out,
        )
    return 0


def _read_files(given: argparse.Namespace, sync_id: str) -> dict[str, Any]:
    from airflow_kinesis_audience.hooks.state import State, open_ledger

    where = {n: getattr(given, n) for n in ("state_schema", "state_path")}
    with open_ledger(State(warehouse_conn_id=given.warehouse, **where), sync_id) as ledger:
        return read_status(ledger, given.runs)


def _read_warehouse(given: argparse.Namespace) -> list[dict[str, Any]]:
    from airflow_kinesis_audience.hooks.warehouse import open_warehouse

    with open_warehouse(given.warehouse) as warehouse:
        known = read_syncs(warehouse, given.state_schema)
        if unknown := sorted(set(given.sync_id) - set(known)):
            raise ValueError(
                f"schema {given.state_schema!r} has no sync {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
        names = given.sync_id or known
        return [read_status(Ledger(warehouse, given.state_schema, name), given.runs) for name in names]


def read_status(ledger: Ledger, runs: int) -> dict[str, Any]:
    """Read all that is told of a sync.

    :param runs: most change sets to list, the newest.
    """
    entries = read_entries(ledger)
    timeline = Timeline.from_entries(entries)
    newest = timeline.newest
    return {
        "sync_id": ledger.sync_id,
        "members": newest.counts["members"] if newest else None,
        "as_of": instant_text(newest.as_of) if newest else None,
        "deleted": instant_text(timeline.closed) if timeline.closed else None,
        "held": list(timeline.held.recorded.get("breaches", ())) if timeline.held else [],
        "bases": len(timeline.bases),
        "change_sets": [_tell_edge(e) for e in timeline.edges[-runs:]] if runs > 0 else [],
        "destinations": [_tell_behind(b, timeline) for b in find_behind(timeline, entries)],
    }


def _tell_edge(edge: Edge) -> dict[str, Any]:
    counted = {n: edge.counts[n] for n in ("entered", "exited", "updated", "members")}
    return {"as_of": instant_text(edge.as_of), **counted, "sealed": edge.sealed, "kept": not edge.dropped}


def _tell_behind(behind: Behind, timeline: Timeline) -> dict[str, Any]:
    newest, told = timeline.newest, asdict(behind)
    for name in ("cursor", "under_way"):
        told[name] = instant_text(told[name]) if told[name] else None
    lag = None
    if newest is not None and behind.cursor is not None:
        lag = max(0, int((newest.as_of - behind.cursor).total_seconds()))
    return {**told, "lag_seconds": lag}


def describe(sync: dict[str, Any], now: datetime | None = None) -> Sequence[str]:
    """Tell of a sync in lines."""
    if sync["as_of"] is None:
        return [f"{sync['sync_id']}: no change set is recorded"]
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(sync["as_of"])
    lines = [f"{sync['sync_id']}: {sync['members']:,} members as of {sync['as_of']}, {_spell(age)} ago"]
    if sync["deleted"]:
        lines.append(f"  deleted as of {sync['deleted']}")
    lines += [f"  held until a person decides: {sentence}" for sentence in sync["held"]]
    lines.append(f"  {'as of':<20} {'entered':>10} {'exited':>10} {'updated':>10} {'members':>12}")
    for edge in reversed(sync["change_sets"]):
        counts = "".join(f" {edge[n]:>10,}" for n in ("entered", "exited", "updated"))
        lines.append(f"  {edge['as_of']:<20}{counts} {edge['members']:>12,}{'' if edge['kept'] else '  not kept'}")
    if not sync["destinations"]:
        lines.append("  no destination has been told anything yet")
    for behind in sync["destinations"]:
        lines.append(f"  {behind['destination']} ({behind['message_format']}): {_tell_lag(behind)}")
    return lines


def _tell_lag(behind: dict[str, Any]) -> str:
    if behind["knows_nobody"]:
        state = "the first delivery is not finished"
    elif behind["change_sets"]:
        lag = _spell(timedelta(seconds=behind["lag_seconds"]))
        state = f"told up to {behind['cursor']}, {lag} behind: {behind['change_sets']:,} change sets, "
        state += f"{behind['changes']:,} changes to go"
    else:
        state = f"told everything, up to {behind['cursor']}"
    return f"{state}; under way: {behind['under_way']}" if behind["under_way"] else state


def _spell(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} seconds"
