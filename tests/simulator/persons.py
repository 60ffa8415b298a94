"""What people do to a sync that runs, each at some time: some of it is wrong, and must do no harm all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulator import oracle
from tests.simulator.consumer import Void
from tests.simulator.remembering import SOURCE
from tests.simulator.source import USERS
from tests.simulator.world import OTHER_LABEL, World


def _resync(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((1.0, 30.0, 300.0)))
    name = world.chance.choice("ab")
    world.task(f"resync {name}", lambda: world.resync(name, "resync 1"))


def _mapping(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((0.5, 10.0, 100.0)))
    world.label = OTHER_LABEL


def _full(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((0.5, 2.0, 10.0)))
    world.server.full = True
    world.scheduler.sleep(world.chance.choice((1.0, 60.0)))
    world.server.full = False


def _revoke(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((0.5, 2.0, 10.0)))
    world.server.revoked = True
    world.scheduler.sleep(world.chance.choice((1.0, 60.0)))
    world.server.revoked = False


def _clear(world: World) -> None:
    """Clear a run, which then sees what the source holds by now."""
    world.scheduler.sleep(world.chance.choice((5.0, 60.0, 500.0, 6_000.0)))
    world.people.edit()
    world.dag_run(world.chance.randrange(world.plan.days))


def _insert(world: World) -> None:
    """Run for half a day that was missed, or correct a day, with what the source holds by now."""
    chance = world.chance
    world.scheduler.sleep(chance.choice((5.0, 60.0, 500.0, 6_000.0)))
    for _ in range(chance.choice((1, 2))):
        world.people.edit()
        number = chance.randrange(world.plan.days) + chance.choice((0.0, 0.25, 0.5))
        world.dag_run(number, on_covered=chance.choice(("insert", "correct")))


def _lose_table(world: World) -> None:
    """Drop a table that is for one destination alone, as soon as there is one."""
    world.scheduler.sleep(world.chance.choice((0.0, 10.0, 100.0)))
    for _ in range(world.chance.choice((1, 2))):
        if not world.scheduler.wait(lambda: bool(_find_derived(world)), 20_000.0):
            return
        world.scheduler.sleep(world.chance.choice((0.0, 0.1, 1.0)))
        for name in _find_derived(world)[:1]:
            world.lose(name)
            world.reached["a derived table is lost"] += 1


def _find_derived(world: World) -> list[str]:
    return sorted(n for n in world.tables() if n.startswith(("snapshot_", "profiles_")))


def _detach(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((1.0, 30.0, 300.0)))
    name = world.chance.choice("ab")
    world.task(f"detach {name}", lambda: world.detach(name))


def _forget(world: World) -> None:
    """Ask for a user to be forgotten, once there is a membership; calm days go on with it."""
    if world.scheduler.wait(lambda: any(r.event == "first" for r in world.ledger_rows()), 20_000.0):
        world.scheduler.sleep(world.chance.choice((0.0, 1.0, 30.0, 300.0, 6_000.0)))
        world.forgotten = world.chance.choice(USERS[: world.plan.users])
        world.task("forget", world.forget)


PERSONS: Mapping[str, Callable[[World], None]] = {
    "resync": _resync,
    "mapping": _mapping,
    "full": _full,
    "revoke": _revoke,
    "clear": _clear,
    "insert": _insert,
    "lost table": _lose_table,
    "detach": _detach,
    "forget": _forget,
}


@dataclass
class Backup:
    """The whole state as it was at some time.

    :ivar sent: how many records each destination had been sent by then.
    """

    world: World
    tables: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[Any, Any] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)

    def take(self) -> None:
        world = self.world
        world.scheduler.sleep(world.chance.choice((1.0, 10.0, 100.0, 5_100.0)))
        self.tables = {name: held for name, held in world.inner.names.items() if name != SOURCE}
        self.rows = dict(world.kept.rows)
        self.sent = {name: len(stream.taken) for name, stream in world.streams.items()}

    def is_noticed(self) -> bool:
        """Tell whether Airflow remembers of each destination all that was sent since, as far as that is news.

        What is half sent it does not remember, nor a state whose timeline had not begun.
        """
        world = self.world
        if not any(row.event == "first" for row in self.rows.values()):
            return False
        ledger = oracle.Ledger.of(world.ledger_rows(self.rows.values()))
        for name, stream in world.streams.items():
            read = world.wires[name].read
            new = [s for t in stream.taken[self.sent[name] :] for s in read(t.data)]
            latest = max((s.time for s in new if not isinstance(s, Void)), default=0)
            known = world.remembered.get(name)
            remembered = int(known.as_of.timestamp()) if known else 0
            if latest > max(remembered, ledger.cursors.get(world.log_of(name), 0)):
                return False
        return True

    def restore(self) -> None:
        world = self.world
        world.inner.names = {SOURCE: world.inner.names[SOURCE], **self.tables}
        world.kept.rows.clear()
        world.kept.rows.update(self.rows)
        world.reached["a backup is restored"] += 1
