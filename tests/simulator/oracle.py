"""What must be true of a history, by plain Python, SQL and a parser of its own: nothing of the engine's readers.

The truth is what the source held when a table was written, and it holds from the row on by which the ledger says
that the table counts. Every message is held against it, and what a consumer makes of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

Key = tuple[str, str]
"""An audience and a user."""
Members = Mapping[Key, Mapping[str, Any]]
"""Who belongs, with the properties that have a value."""


class Broken(AssertionError):
    """A promise is broken."""


class Said(NamedTuple):
    """What a message says of one user."""

    message_id: str
    time: int
    key: Key
    member: bool
    properties: Mapping[str, Any]


def read_message(data: bytes) -> list[Said]:
    """Read a message; a notice about a whole audience says nothing of a user."""
    found = json.loads(data)
    time, member = int(found["computed_time"]), found["in_cohort"]
    return [
        Said(
            found["message_id"],
            time,
            (found["cohort_id"], user["user_id"]),
            member,
            {n: v for n, v in user.get("user_properties", {}).items() if v is not None},
        )
        for user in found["users"]
    ]


def known_after(said: Iterable[Said]) -> dict[Key, Mapping[str, Any]]:
    """Find who is a member for a consumer: per user the newest time wins, and of one time the membership."""
    newest: dict[Key, Said] = {}
    for s in said:
        before = newest.get(s.key)
        if before is None or (s.time, s.member) > (before.time, before.member):
            newest[s.key] = s
    return {key: s.properties for key, s in newest.items() if s.member}


class LedgerRow(NamedTuple):
    """A row of the ledger, read by SQL of the simulator's own."""

    log: str
    sequence: int
    event: str
    as_of: str
    detail: Mapping[str, Any]

    @property
    def time(self) -> int:
        return int(datetime.fromisoformat(self.as_of).timestamp())


@dataclass
class Ledger:
    """What the ledger's rows say.

    :param counted: the table that leads to an instant, by the last row that says so.
    :param listed: tables that a row names and none says are gone.
    """

    counted: dict[int, str] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    attached: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    closed: int | None = None

    @classmethod
    def of(cls, rows: Sequence[LedgerRow]) -> Ledger:
        found = cls()
        for row in rows:
            found._add(row)
        latest: dict[tuple[str, str], LedgerRow] = {}
        for row in rows:
            if row.event in ("snapshot", "profiles", "rejected", "attached"):
                latest[row.log, "snapshot" if row.event == "attached" else row.event] = row
            if row.event == "detached":
                latest = {at: r for at, r in latest.items() if at[0] != row.log}
        for row in latest.values():
            found.listed |= {row.detail.get(n) for n in ("table", "snapshot", "writing")} - {None, ""}
        return found

    def _add(self, row: LedgerRow) -> None:
        match row.event:
            case "first" | "change_set":
                self.counted[row.time] = row.detail["table"]
                self.listed.add(row.detail["table"])
            case "started" | "base" | "held":
                self.listed.add(row.detail["table"])
            case "dropped":
                self.listed -= set(row.detail["tables"])
            case "attached":
                self.attached[row.log] = row.time
                if row.detail.get("on_first_run") == "baseline":
                    self.cursors[row.log] = row.time
            case "detached":
                self.attached.pop(row.log, None)
            case "delivered" if not row.detail.get("resend"):
                self.cursors[row.log] = row.time
            case "closed":
                self.closed = row.time


def require(holds: object, promise: str) -> None:
    if not holds:
        raise Broken(promise)


def check_messages(taken: Iterable[bytes], truth: Mapping[int, Members]) -> list[Said]:
    """Hold each message against the truth of its instant; gives what all of them say."""
    contents: dict[str, bytes] = {}
    said: list[Said] = []
    for data in taken:
        message_id = json.loads(data)["message_id"]
        require(contents.setdefault(message_id, data) == data, "a message id has two contents")
        said += read_message(data)
    for s in said:
        members = truth.get(s.time)
        require(members is not None, f"a message speaks for {s.time}, of which no change set counts")
        assert members is not None
        if s.member:
            require(s.key in members, f"{s.key} enters as of {s.time} and was no member then")
            require(members[s.key] == s.properties, f"{s.key} has other properties as of {s.time}")
        else:
            require(s.key not in members, f"{s.key} exits as of {s.time} and was a member then")
    return said


def check_known(said: Sequence[Said], truth: Mapping[int, Members], since: int, until: int) -> None:
    """Hold what a consumer knows as of each instant against the truth."""
    for time in sorted(t for t in truth if since <= t <= until):
        known, due = known_after(s for s in said if s.time <= time), truth[time]
        lost, invented = due.keys() - known.keys(), known.keys() - due.keys()
        require(not lost and not invented, f"as of {time} lost: {sorted(lost)}, invented: {sorted(invented)}")
        others = sorted(key for key in due if known[key] != due[key])
        require(not others, f"as of {time} other properties: {others}")


def check_guards(truth: Mapping[int, Members], let_through: Iterable[int], max_exits: int | None) -> None:
    """Check that no audience lost more members than the bound, unless somebody let that through."""
    times = sorted(truth)
    for before, after in pairwise(times):
        exits: dict[str, int] = {}
        for audience, user in truth[before]:
            exits[audience] = exits.get(audience, 0) + ((audience, user) not in truth[after])
        beyond = max_exits is not None and max(exits.values(), default=0) > max_exits
        require(not beyond or after in let_through, f"exits beyond the bound as of {after}, let through by nobody")
