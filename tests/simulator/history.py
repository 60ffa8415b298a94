"""One history: days with whatever goes wrong, then calm days, and then the promises."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.simulator import oracle
from tests.simulator.scheduler import CALM, Killed, Scheduler, draw_weather
from tests.simulator.seams import under
from tests.simulator.world import AUDIENCES, Plan, World

_NAMED_BY = {"attached": ("snapshot",), "snapshot": ("table",)}

UNFORESEEN = "an error that nobody foresaw: "

CALM_DAYS = 3
"""So many runs without a fault have to be enough."""


@dataclass
class Ended:
    """What came of a history.

    :param broken: the promise that is broken, if one is.
    """

    seed: int
    plan: Plan
    broken: str
    reached: Counter[str]
    trace: list[str]
    steps: int


def live(seed: int, inner: Any) -> Ended:
    """Live the history of a seed in an empty warehouse."""
    chance = random.Random(f"plan {seed}")
    plan, weather = Plan.draw(chance), draw_weather(chance)
    scheduler = Scheduler(seed, weather)
    broken = ""
    with under(scheduler):
        world = World(inner, scheduler, plan)
        try:
            _days(world)
            _calm_days(world)
            _check(world)
        except AssertionError as error:
            broken = str(error)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
    if world.unforeseen:
        broken = f"{UNFORESEEN}{world.unforeseen[0]!r}"
    _note_what_was_reached(world)
    reached = world.reached + world.outcomes + scheduler.struck
    return Ended(seed, plan, broken, reached, scheduler.trace, scheduler.steps)


def _days(world: World) -> None:
    scheduler, plan = world.scheduler, world.plan
    unsteady = world.chance.choice((0.0, 0.1, 0.3))
    for stream in world.streams.values():
        stream.unsteady = unsteady
    for audience in AUDIENCES[: plan.audiences]:
        world.source[audience, "always"] = "Bern"
    world.edit()

    def one_day(number: int) -> None:
        scheduler.sleep(number * plan.apart_seconds)
        world.edit()
        world.dag_run(number)

    for number in range(plan.days):
        scheduler.spawn(f"day {number}", lambda n=number: one_day(n))  # type: ignore[misc]
    for act in plan.acts:
        if (person := _PEOPLE.get(act)) is not None:
            scheduler.spawn(act, lambda p=person: p(world))  # type: ignore[misc]
    scheduler.run()


def _resync(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((1.0, 30.0, 300.0)))
    name = world.chance.choice("a" if world.plan.parts > 1 else "ab")
    world.task(f"resync {name}", lambda: world.resync(name))


def _mapping(world: World) -> None:
    world.scheduler.sleep(world.chance.choice((0.5, 10.0, 100.0)))
    world.label = "town"


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


_PEOPLE = {"resync": _resync, "mapping": _mapping, "full": _full, "revoke": _revoke}


def _calm_days(world: World) -> None:
    scheduler = world.scheduler
    scheduler.change_weather(CALM)
    world.calm = True
    for stream in world.streams.values():
        stream.unsteady = 0.0
    world.outcomes["calm begins"] += 1
    well: list[bool] = []

    def calm() -> None:
        for number in range(CALM_DAYS):
            well.append(world.dag_run(world.plan.days + number, let_through=True))
            if well[-1] and number:
                return

    def calm_end() -> None:
        for name in world.streams:
            ended, _ = world.task(f"delete {name}", lambda n=name: world.delete(n, world.plan.days + CALM_DAYS))  # type: ignore[misc]
            well.append(ended)

    for act in (calm, calm_end) if "delete" in world.plan.acts else (calm,):
        actor = scheduler.spawn("calm", act)
        scheduler.run()
        if isinstance(actor.error, (Exception, Killed)):
            raise actor.error
        oracle.require(well[-1], f"still no success after {CALM_DAYS} calm days")


def _check(world: World) -> None:
    ledger = oracle.Ledger.of(world.ledger_rows())
    truth = {time: world.written[table] for time, table in ledger.counted.items()}
    newest = max(truth)
    deleted = "delete" in world.plan.acts
    due = {} if deleted else world._members(world.label)
    oracle.require(truth[newest] == due, "the newest change set leads to what the source is")
    for name, stream in world.streams.items():
        said = oracle.check_messages((t.data for t in stream.taken), truth)
        if not deleted:
            since = ledger.attached[world.log_of(name)]
            oracle.require(ledger.cursors[world.log_of(name)] == newest, f"{name} has everything")
            oracle.check_known(said, truth, since, newest)
    oracle.check_guards(truth, world.allowed, world.plan.max_exits)
    unlisted = world.tables() - ledger.listed
    oracle.require(not unlisted, f"tables that no row of the ledger lists: {sorted(unlisted)}")


def _note_what_was_reached(world: World) -> None:
    reached, rows = world.reached, world.ledger_rows()
    reached.update(f"ledger: {row.event}" for row in rows)
    for stream in world.streams.values():
        reached["a message is on the wire twice"] += len(stream.taken) > len({t.data for t in stream.taken})
    begun = {r.detail["table"] for r in rows if r.event == "started"}
    counted = {r.detail["table"] for r in rows if r.event in ("first", "change_set", "base", "held")}
    gone = {name for r in rows if r.event == "dropped" for name in r.detail["tables"]}
    reached["a table of a run that died is dropped"] += bool((begun - counted) & gone)
    named = {(r.log, r.detail.get(n)) for r in rows for n in _NAMED_BY.get(r.event, ())}
    logs = Counter(log for log, name in named if name)
    reached["two tables for one first delivery"] += any(count > 1 for count in logs.values())
