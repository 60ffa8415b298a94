"""``status``: what the ledger holds, for people: the timeline of each sync, its destinations, and their lag.

It reads rows of the ledger alone, which hold counts and names and nobody's id.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.cli.state import add_state_arguments, build_state
from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS, COUNTS
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.forgetting import find_waits
from airflow_kinesis_audience.core.outbox.removals import StoppedDelivery, find_stopped
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.status import (
    DeadLetterAge,
    DeliveryLag,
    Pin,
    count_dead_letters,
    find_former_values,
    find_lags,
    find_lasting_pins,
    find_oldest_dead_letter,
    read_state,
    read_syncs,
)
from airflow_kinesis_audience.core.state.sync_details import ChangeSetHeld

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_state import SyncState
    from airflow_kinesis_audience.core.state.timeline import Timeline
    from airflow_kinesis_audience.hooks.state import State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("sync_id", nargs="*", help="the syncs to show; default: all syncs of the schema")
    add_state_arguments(parser, of_files="; then name the syncs")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="newest change sets to list (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print what the ledger holds."""
    state = build_state(given)
    if given.state_path:
        if not given.sync_id:
            raise ValueError("name the syncs: with --state-path, the files do not list them")
        found = [_read_files(state, name, given.runs) for name in given.sync_id]
    else:
        found = _read_warehouse(state, given.sync_id, given.runs)
    if given.json:
        print(json.dumps(found, indent=2), file=out)
    else:
        lines = [one_line(line) for sync in found for line in [*describe(sync), ""]]
        print(
            "\n".join(lines[:-1]) or f"schema {state.state_schema!r} has no sync yet: no run has written to it",
            file=out,
        )
    return 0


def _read_files(state: State, sync_id: str, runs: int) -> dict[str, Any]:
    from airflow_kinesis_audience.hooks.state import open_ledger

    with open_ledger(state, sync_id, tag=None) as ledger:
        return read_status(ledger, runs)


def _read_warehouse(state: State, sync_ids: Sequence[str], runs: int) -> list[dict[str, Any]]:
    from airflow_kinesis_audience.hooks.warehouse import open_warehouse

    with open_warehouse(state.warehouse_conn_id) as warehouse:
        known = read_syncs(warehouse, state.state_schema)
        if unknown := sorted(set(sync_ids) - set(known)):
            raise ValueError(
                f"schema {state.state_schema!r} has no sync {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
        names = sync_ids or known
        return [read_status(Ledger(warehouse, state.state_schema, name), runs) for name in names]


def read_status(ledger: Ledger, runs: int) -> dict[str, Any]:
    """Read all that is shown of a sync.

    :param runs: most change sets to list, the newest.
    """
    state = read_state(ledger)
    timeline = state.timeline
    newest, former, letter = timeline.newest, find_former_values(state), find_oldest_dead_letter(state)
    return {
        "sync_id": ledger.sync_id,
        "members": newest.counts.members if newest else None,
        "as_of": instant_text(newest.as_of) if newest else None,
        "deleted": instant_text(timeline.closed) if timeline.closed else None,
        "held": _held_by(timeline),
        "held_audiences": dict(timeline.held_audiences.breaches) if timeline.held_audiences else {},
        "bases": len(timeline.bases),
        "change_sets": [_show_change_set(e) for e in timeline.change_sets[-runs:]] if runs > 0 else [],
        "destinations": [_show_behind(b, timeline) for b in find_lags(state)],
        "stopped": [_show_stopped(s) for s in find_stopped(state)],
        "pinned": [_show_pin(pin) for pin in find_lasting_pins(state)],
        "dead_letters": count_dead_letters(state),
        "oldest_dead_letter": letter and _show_letter(letter),
        "forgotten": _show_forgotten(state),
        "oldest_former_value": former and {"since": instant_text(former.since), "sentence": former.sentence},
    }


def _show_letter(letter: DeadLetterAge) -> dict[str, Any]:
    return {"since": letter.since and instant_text(letter.since), "sentence": letter.sentence}


def _show_forgotten(state: SyncState) -> dict[str, Any] | None:
    tombstones = state.timeline.tombstones
    if tombstones is None or not tombstones.users:
        return None
    return {"users": tombstones.users, "erased": tombstones.erased, "waits_for": find_waits(state)}


def _describe_forgotten(forgotten: dict[str, Any] | None) -> list[str]:
    if forgotten is None:
        return []
    done = "no table has rows of them" if forgotten["erased"] else "their rows are not erased yet"
    line = f"  users who are forgotten: {forgotten['users']:,}; {done}"
    return [line, *(f"  {sentence}, so the rows stay" for sentence in forgotten["waits_for"])]


def _held_by(timeline: Timeline) -> list[str]:
    held = timeline.held.detail if timeline.held else None
    return list(held.breaches) if isinstance(held, ChangeSetHeld) else []


def _show_change_set(change_set: RecordedChangeSet) -> dict[str, Any]:
    counted = {n: getattr(change_set.counts, n) for n in COUNTS}
    return {
        "as_of": instant_text(change_set.as_of),
        **counted,
        "sealed": change_set.sealed,
        "kept": not change_set.dropped,
        **{name: instant_text(at) for name, at in _related(change_set).items()},
    }


def _related(change_set: RecordedChangeSet) -> dict[str, datetime]:
    """Name the instant of another run that a change set is about, if it is."""
    found = {"corrects": change_set.detail.corrects, "compensates": change_set.compensates}
    return {name: at for name, at in found.items() if at is not None}


def _show_behind(behind: DeliveryLag, timeline: Timeline) -> dict[str, Any]:
    newest, shown = timeline.newest, asdict(behind)
    for name in ("cursor", "under_way"):
        shown[name] = instant_text(shown[name]) if shown[name] else None
    lag = None
    if newest is not None and behind.cursor is not None:
        lag = max(0, int((newest.as_of - behind.cursor).total_seconds()))
    return {**shown, "lag_seconds": lag}


def _show_pin(pin: Pin) -> dict[str, Any]:
    shown = asdict(pin)
    del shown["log"]
    return {**shown, "since": instant_text(pin.since), "sentence": pin.sentence}


def _show_stopped(stopped: StoppedDelivery) -> dict[str, Any]:
    shown = {n: getattr(stopped, n) for n in ("destination", "message_format", "sentences")}
    return {**shown, "as_of": instant_text(stopped.as_of)}


def describe(sync: dict[str, Any], now: datetime | None = None) -> Sequence[str]:
    """Describe a sync in lines."""
    if sync["as_of"] is None:
        return [f"{sync['sync_id']}: no change set is recorded"]
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(sync["as_of"])
    lines = [f"{sync['sync_id']}: {sync['members']:,} members as of {sync['as_of']}, {_spell(age)} ago"]
    if sync["deleted"]:
        lines.append(f"  deleted as of {sync['deleted']}")
    lines += [f"  held for approval: {sentence}" for sentence in sync["held"]]
    for sentences in sync["held_audiences"].values():
        lines += [f"  held alone, see `approve`: {sentence}" for sentence in sentences]
    lines.append(f"  {'as of':<20} {'entered':>10} {'exited':>10} {'updated':>10} {'members':>12}")
    for change_set in reversed(sync["change_sets"]):
        counts, kept = "".join(f" {change_set[n]:>10,}" for n in CHANGE_COUNTS), change_set["kept"]
        members = f"{change_set['members']:>12,}{'' if kept else '  not kept'}"
        members += "".join(f"  {n} {change_set[n]}" for n in ("corrects", "compensates") if n in change_set)
        lines.append(f"  {change_set['as_of']:<20}{counts} {members}")
    if not sync["destinations"]:
        lines.append("  nothing has been delivered to any destination yet")
    for behind in sync["destinations"]:
        lines.append(f"  {behind['destination']} ({behind['message_format']}): {_describe_lag(behind)}")
    for stopped in sync["stopped"]:
        where = f"{stopped['destination']} ({stopped['message_format']})"
        where += f" is stopped before the change set as of {stopped['as_of']}"
        lines += [f"  {where}, waiting for approval: {sentence}" for sentence in stopped["sentences"]]
    lines += [f"  {pin['sentence']}; if nobody uses it, end it with `detach`" for pin in sync["pinned"]]
    if former := sync["oldest_former_value"]:
        lines.append(f"  {former['sentence']}")
    lines += _describe_forgotten(sync["forgotten"])
    if letters := sync["dead_letters"]:
        oldest = sync["oldest_dead_letter"]
        lines.append(f"  dead letters: {letters:,}; {oldest['sentence']}")
    return lines


def _describe_lag(behind: dict[str, Any]) -> str:
    if behind["knows_nobody"]:
        state = "the first delivery is not finished"
    elif behind["change_sets"]:
        lag = _spell(timedelta(seconds=behind["lag_seconds"]))
        state = f"delivered up to {behind['cursor']}, {lag} behind: {behind['change_sets']:,} change sets, "
        state += f"{behind['changes']:,} changes left"
    else:
        state = f"delivered everything, up to {behind['cursor']}"
    return f"{state}; under way: {behind['under_way']}" if behind["under_way"] else state


def _spell(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} seconds"
