"""What must be true of a history, by plain Python, SQL and a parser of its own: nothing of the engine's readers.

The truth is what the source held when a table was written, and it holds from the row on by which the ledger says
that the table counts. Every message is held against it, and what a consumer makes of all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tests.simulator.consumer import Heard, Key, Members, Reader, Said, Void, message_id_of


class Broken(AssertionError):
    """A promise is broken."""


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


class Part(NamedTuple):
    """What a table has of another one: all but some audiences, or those alone.

    :param before: the instant of the membership that it leads from; none of the first.
    """

    origin: str
    audiences: frozenset[str]
    is_without: bool
    before: int | None

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> Part | None:
        said = detail.get("previous_as_of")
        before = int(datetime.fromisoformat(said).timestamp()) if said else None
        if (approved := detail.get("approves")) is not None:
            return cls(approved["table"], frozenset(approved["audiences"]), is_without=False, before=before)
        if (held := detail.get("held_audiences")) is not None:
            return cls(held["table"], frozenset(held["breaches"]), is_without=True, before=before)
        return None

    def has(self, audience: str) -> bool:
        return (audience in self.audiences) is not self.is_without


@dataclass
class Ledger:
    """What the ledger's rows say.

    :param counted: the table that leads to an instant, by the last row that says so; none of a compensation.
    :param steps: the rows by which tables count, in their order: instant, table, and of an inserted one the
        instant of its compensation.
    :param parts: of a table that is a part of another one, which and of which audiences.
    :param snapshots: by log the instants of which a destination got all members.
    :param listed: tables that a row names and none says are gone.
    :param forgets_after: the newest instant when somebody was forgotten; none if nobody was.
    :param of_exits: tables in which nobody but them exits.
    """

    counted: dict[int, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    steps: list[tuple[int, str, int | None]] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    attached: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, set[int]] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    closed: int | None = None
    forgets_after: int | None = None
    of_exits: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, rows: Sequence[LedgerRow]) -> Ledger:
        found = cls()
        for row in rows:
            found._add(row)
        found.forgets_after = next((row.time for row in rows if row.event == "forgotten"), None)
        latest: dict[tuple[str, str], LedgerRow] = {}
        for row in rows:
            if row.event in ("snapshot", "profiles", "rejected", "attached"):
                latest[row.log, "snapshot" if row.event == "attached" else row.event] = row
            if row.event == "detached":
                latest = {at: r for at, r in latest.items() if at[0] != row.log}
        for row in latest.values():
            found.listed |= {row.detail.get(n) for n in ("table", "snapshot", "writing")} - {None, ""}
        return found

    def nameless(self, written: Mapping[str, Collection[str]]) -> dict[int, Collection[str]]:
        """Say of which audiences there were rows of nobody when each instant's changes were found."""
        found: dict[int, Collection[str]] = {}
        for time, table in self.counted.items():
            part = self.parts.get(table)
            of = written[table if part is None else part.origin]
            found[time] = {audience for audience in of if part is None or part.has(audience)}
        return found

    def _add_step(self, row: LedgerRow) -> None:
        compensated_at = None
        if row.detail.get("forgets"):
            self.of_exits.add(row.detail["table"])
        if row.event == "inserted":
            compensated_at = int(datetime.fromisoformat(row.detail["compensated_at"]).timestamp())
            self.listed.add(row.detail["compensation"]["table"])
        self.steps.append((row.time, row.detail["table"], compensated_at))

    def _add(self, row: LedgerRow) -> None:
        match row.event:
            case "first" | "change_set" | "inserted":
                self.counted[row.time] = row.detail["table"]
                if (part := Part.of(row.detail)) is not None:
                    self.parts[row.detail["table"]] = part
                self.listed.add(row.detail["table"])
                self._add_step(row)
            case "started" | "base" | "held":
                self.listed.add(row.detail["table"])
            case "dropped":
                self.listed -= set(row.detail["tables"])
            case "attached":
                self.attached[row.log] = row.time
                self.cursors.pop(row.log, None)
                self.snapshots.setdefault(row.log, set()).add(row.time)
                if row.detail.get("on_first_run") == "baseline":
                    self.cursors[row.log] = row.time
            case "detached":
                self.attached.pop(row.log, None)
                self.cursors.pop(row.log, None)
            case "delivered" if not row.detail.get("resend"):
                self.cursors[row.log] = max(row.time, self.cursors.get(row.log, row.time))
            case "closed":
                self.closed = row.time


@dataclass
class Truth:
    """What is true at each instant: what the source held, or of a compensation what it must come to.

    Of somebody who is forgotten it says nothing: there is a promise of their own.

    A compensation leads exactly those that the inserted table changes to what they are at the next instant that a
    run has computed; all others stay what they were.

    :ivar members: by instant.
    :ivar runs: by instant of a run, its members before, when it counted, and then.
    """

    members: dict[int, Members] = field(default_factory=dict)
    runs: dict[int, tuple[Members, Members]] = field(default_factory=dict)
    _compensations: dict[int, tuple[set[Key], int]] = field(default_factory=dict)

    @classmethod
    def of(cls, ledger: Ledger, written: Mapping[str, Members], forgotten: str) -> Truth:
        found = cls()
        for time, table, compensated_at in ledger.steps:
            if table in ledger.of_exits:
                held = found._before(time) or {}
            else:
                held = found._held_by(ledger.parts.get(table), table, written)
            found._add(time, without(held, forgotten), compensated_at)
        return found

    def _add(self, time: int, now: Members, compensated_at: int | None) -> None:
        before = self._before(time)
        if before is not None:
            self.runs[time] = before, now
        if compensated_at is not None:
            assert before is not None
            following = min(t for t in self.members if t > time and t not in self._compensations)
            changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
            self._compensations[compensated_at] = changed, following
        self.members[time] = now
        for at, (changed, following) in sorted(self._compensations.items()):
            stay = {key: values for key, values in (self._before(at) or {}).items() if key not in changed}
            then = self.members[following]
            self.members[at] = stay | {key: then[key] for key in changed if key in then}

    def _held_by(self, part: Part | None, table: str, written: Mapping[str, Members]) -> Members:
        """Say who is a member by a table: of an audience that was left out whoever was before."""
        if part is None:
            return written[table]
        before = {} if part.before is None else self.members[part.before]
        now = {key: value for key, value in written[part.origin].items() if part.has(key[0])}
        return now | {key: value for key, value in before.items() if not part.has(key[0])}

    def _before(self, time: int) -> Members | None:
        earlier = [t for t in self.members if t < time]
        return self.members[max(earlier)] if earlier else None


def without(members: Members, user: str) -> Members:
    """Leave out one user."""
    return {key: values for key, values in members.items() if key[1] != user}


def require(holds: object, promise: str) -> None:
    if not holds:
        raise Broken(promise)


@dataclass
class Wire:
    """What one destination was sent, held against the truth as far as that is known.

    :param read: reads a message, and ``tell`` says what a consumer is to know of members.
    :ivar heard: all that was read.
    :ivar forgotten: a user who does not enter after the instant ``forgets_after``; empty if there is none.
    """

    read: Reader
    tell: Callable[[Members], Members]
    heard: Heard = field(default_factory=Heard)
    forgotten: str = ""
    forgets_after: int | None = None
    _contents: dict[str, bytes] = field(default_factory=dict)

    def check(self, taken: Iterable[bytes], truth: Mapping[int, Members]) -> None:
        """Hold further messages against the truth of their instants."""
        told = {time: self.tell(members) for time, members in truth.items()}
        for data in taken:
            message_id = message_id_of(data)
            require(self._contents.setdefault(message_id, data) == data, "a message id has two contents")
            for found in self.read(data):
                if isinstance(found, Void):
                    self.heard.voids.append(found)
                else:
                    require(
                        found.time in told, f"a message speaks for {found.time}, of which no change set counts"
                    )
                    if found.key[1] == self.forgotten:
                        late = self.forgets_after is not None and found.time > self.forgets_after
                        require(not (found.member and late), f"{found.key} enters and is forgotten")
                    else:
                        _check_said(found, told[found.time])
                    self.heard.said.append(found)

    def times_of(self, taken: Iterable[bytes]) -> set[int]:
        """List the instants that messages about users speak for."""
        return {found.time for data in taken for found in self.read(data) if isinstance(found, Said)}

    def check_known(self, truth: Mapping[int, Members], since: int, until: int, *, forgets: bool) -> None:
        """Hold what a consumer knows as of each instant against the truth.

        :param forgets: it forgets what it knew before.
        """
        for time in sorted(t for t in truth if since <= t <= until):
            known = without(self.heard.known_at(time, since=since if forgets else 0), self.forgotten)
            due = self.tell(truth[time])
            lost, invented = due.keys() - known.keys(), known.keys() - due.keys()
            require(not lost and not invented, f"as of {time} lost: {sorted(lost)}, invented: {sorted(invented)}")
            others = sorted(key for key in due if known[key] != due[key])
            require(not others, f"as of {time} other properties: {others}")

    def check_forgotten(self, since: int, until: int) -> None:
        """Check that whoever is forgotten is no member for a consumer any more."""
        left = sorted(key for key in self.heard.known_at(until, since=since) if key[1] == self.forgotten)
        require(not left, f"as of {until} members who are forgotten: {left}")


def _check_said(s: Said, members: Members) -> None:
    if s.member:
        require(s.key in members, f"{s.key} enters as of {s.time} and was no member then")
        require(members[s.key] == s.properties, f"{s.key} has other properties as of {s.time}")
    else:
        require(s.key not in members, f"{s.key} exits as of {s.time} and was a member then")


@dataclass
class Bounds:
    """What is to be let through by somebody, before it is told.

    :param max_exits: so many members of an audience may exit at once.
    :param nameless: by instant the audiences of which the source had rows of nobody.
    :param let_through: instants that somebody let through at the diff.
    """

    max_exits: int | None
    nameless: Mapping[int, Collection[str]]
    let_through: Collection[int]

    def check(self, truth: Truth) -> None:
        """Check that no audience lost more members than it may, unless somebody let that through."""
        for after, (before, now) in truth.runs.items():
            if after in self.let_through:
                continue
            for audience, exits in _count_exits(before, now).items():
                beyond = self.max_exits is not None and exits > self.max_exits
                require(not beyond, f"exits beyond the bound as of {after}, let through by nobody")
                unsure = audience in self.nameless.get(after, ())
                require(not unsure, f"exits as of {after} that may be in rows of nobody, let through by nobody")

    def check_removals(self, wire: Wire, truth: Truth, sent: Collection[int]) -> None:
        """Check that no destination removed more of those who stay than it may.

        :param sent: instants whose change sets were sent there, and let through by nobody.
        """
        if self.max_exits is None:
            return
        for after, (before, now) in truth.runs.items():
            stay = {key: before[key] for key in before if key in now}
            told_before, told_after = wire.tell(before), wire.tell(now)
            exits = {} if after in self.let_through else _count_exits(before, now)
            removed = Counter(a for a, u in stay if (a, u) in told_before and (a, u) not in told_after)
            beyond = [a for a, count in removed.items() if count + exits.get(a, 0) > self.max_exits]
            require(not beyond or after not in sent, f"removals beyond the bound as of {after}")


def _count_exits(before: Members, after: Members) -> Counter[str]:
    return Counter(audience for audience, user in before if (audience, user) not in after)
