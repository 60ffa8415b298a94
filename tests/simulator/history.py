"""One history: days with whatever goes wrong, then calm days, and then the promises."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulator import oracle
from tests.simulator.persons import PERSONS, Backup
from tests.simulator.plan import Plan
from tests.simulator.scheduler import CALM, Killed, Scheduler, draw_weather
from tests.simulator.seams import under
from tests.simulator.world import World

_NAMED_BY = {"attached": ("snapshot",), "snapshot": ("table",)}

UNFORESEEN = "an error that nobody foresaw: "

CALM_DAYS = 3
"""So many runs without a fault have to be enough."""

AGAIN = 0.5
"""How often a backup that was restored is restored once more after the calm days."""


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
    plan, weather = Plan.of(seed), draw_weather(random.Random(f"weather {seed}"))
    scheduler = Scheduler(seed, weather)
    broken = ""
    with under(scheduler):
        worlds = [World(inner, scheduler, plan)]
        if plan.beside is not None:
            worlds.append(World(inner, scheduler, plan.beside, worlds[0]))
        try:
            backup = _days(worlds)
            for world in worlds:
                _begin_calm(world)
            for world in worlds:
                _calm_days(world, world.plan.days)
            _check(worlds)
            if backup is not None and backup.is_noticed() and worlds[0].chance.random() < AGAIN:
                backup.restore()
                _calm_days(worlds[0], plan.days + CALM_DAYS)
                _check(worlds)
                worlds[0].reached["a backup is restored once more"] += 1
        except AssertionError as error:
            broken = str(error)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
    reached = scheduler.struck
    for world in worlds:
        if world.unforeseen:
            broken = f"{UNFORESEEN}{world.unforeseen[0]!r}"
        _note_what_was_reached(world)
        reached += world.reached + world.outcomes
    if plan.beside is not None:
        reached.update(f"beside another sync: {act}" for act in (*plan.beside.acts, *plan.acts))
    return Ended(seed, plan, broken, reached, scheduler.trace, scheduler.steps)


def _days(worlds: Sequence[World]) -> Backup | None:
    """Live the days with whatever goes wrong; gives the backup that was restored, if one was."""
    [world, *_], scheduler = worlds, worlds[0].scheduler
    days = [_begin_days(w) for w in worlds]
    backup = Backup(world)
    restores = "restore" in world.plan.acts and world.rows_in_memory
    if restores:
        scheduler.spawn("backup", backup.take)
    scheduler.run()
    if restores and backup.is_noticed():
        _judge(world)
        backup.restore()
        for number in world.chance.choice(((), (world.plan.days - 1,))):
            scheduler.spawn(f"day {number} again", lambda n=number: days[0](n))  # type: ignore[misc]
        scheduler.run()
        return backup
    return None


def _begin_days(world: World) -> Callable[[int], None]:
    """Begin what happens to a sync; gives what makes a day of it."""
    scheduler, plan = world.scheduler, world.plan
    unsteady = world.chance.choice((0.0, 0.1, 0.3))
    for stream in world.streams.values():
        stream.unsteady = unsteady
    world.people.begin()

    def one_day(number: int) -> None:
        scheduler.sleep(number * plan.apart_seconds)
        world.people.edit()
        world.dag_run(number)

    for number in range(plan.days):
        scheduler.spawn(f"day {number}", lambda n=number: one_day(n))  # type: ignore[misc]
    for act in plan.acts:
        if (person := PERSONS.get(act)) is not None:
            scheduler.spawn(act, lambda p=person: p(world))  # type: ignore[misc]
    return one_day


def _begin_calm(world: World) -> None:
    world.scheduler.change_weather(CALM)
    world.calm = True
    for stream in world.streams.values():
        stream.unsteady, stream.calm_from = 0.0, len(stream.taken)
    world.outcomes["calm begins"] += 1


def _calm_days(world: World, first: int) -> None:
    """Let days pass without a fault, after which all has to be well.

    :param first: the number of the first one.
    """
    _in_peace(world, lambda: _run_calmly(world, first))
    if "delete" in world.plan.acts:
        _in_peace(world, lambda: all(_delete_calmly(world, name, first + CALM_DAYS) for name in world.streams))
    if world.forgotten:
        _in_peace(world, lambda: _forget_calmly(world, first + CALM_DAYS))


def _in_peace(world: World, act: Callable[[], bool]) -> None:
    actor = world.scheduler.spawn("calm", act)
    world.scheduler.run()
    if isinstance(actor.error, (Exception, Killed)):
        raise actor.error
    oracle.require(actor.result, f"still no success after {CALM_DAYS} calm days")


def _run_calmly(world: World, first: int) -> bool:
    well = False
    for number in range(CALM_DAYS):
        if world.forgotten:
            world.task("forget", world.forget)
        well = world.dag_run(first + number, let_through=True)
        if well and number:
            break
    return well


def _delete_calmly(world: World, name: str, number: int) -> bool:
    well, _ = world.task(f"delete {name}", lambda: world.delete(name, number))
    return well


def _forget_calmly(world: World, first: int) -> bool:
    for number in range(CALM_DAYS):
        done, waits_for = world.task("forget", world.forget)
        if done and not waits_for:
            left = world.tables_with(world.forgotten)
            oracle.require(not left, f"is forgotten and in {left}")
            world.reached["somebody is forgotten"] += 1
            return True
        world.scheduler.trace.append(f"{world.scheduler.now:9.3f} forget: {waits_for}")
        for name in world.streams:
            world.task(f"detach {name}", lambda n=name: world.detach(n, only_resyncs=True))  # type: ignore[misc]
        world.dag_run(first + number, let_through=True)
    return False


def _judge(world: World) -> oracle.Ledger:
    """Hold what was sent since the last time against the truth, and the truth against the bounds."""
    ledger = oracle.Ledger.of(world.ledger_rows())
    truth = oracle.Truth.of(ledger, world.written, world.forgotten)
    nameless = ledger.nameless(world.nameless)
    bounds = oracle.Bounds(world.plan.max_exits, nameless, world.allowed)
    for name, stream in world.streams.items():
        wire, judged = world.wires[name], world.judged[name]
        wire.forgotten, wire.forgets_after = world.forgotten, ledger.forgets_after
        wire.check((t.data for t in stream.taken[judged:]), truth.members)
        world.judged[name] = len(stream.taken)
        guarded = wire.times_of(t.data for t in stream.taken[judged : stream.calm_from])
        guarded -= {time for time, table in ledger.counted.items() if table in world.released[name]}
        bounds.check_removals(wire, truth, guarded - ledger.snapshots.get(world.log_of(name), set()))
    bounds.check(truth)
    return ledger


def _check(worlds: Sequence[World]) -> None:
    listed = set().union(*(_check_one(world).listed for world in worlds))
    unlisted = worlds[0].tables() - listed
    oracle.require(not unlisted, f"tables that no row of the ledger lists: {sorted(unlisted)}")


def _check_one(world: World) -> oracle.Ledger:
    ledger = _judge(world)
    truth = oracle.Truth.of(ledger, world.written, world.forgotten).members
    newest, deleted = max(truth), "delete" in world.plan.acts
    due = {} if deleted else oracle.without(world.people.members(world.label), world.forgotten)
    oracle.require(truth[newest] == due, "the newest change set leads to what the source is")
    for name, wire in world.wires.items():
        log = world.log_of(name)
        if not deleted:
            oracle.require(ledger.cursors[log] == newest, f"{name} has everything")
            since = ledger.attached[log]
            wire.check_known(truth, since, newest, forgets=name in world.detached)
            wire.check_forgotten(since if name in world.detached else 0, newest)
    return ledger


def _note_what_was_reached(world: World) -> None:
    reached, rows = world.reached, world.ledger_rows()
    reached.update(f"ledger: {row.event}" for row in rows)
    for stream in world.streams.values():
        reached["a message is on the wire twice"] += len(stream.taken) > len({t.data for t in stream.taken})
    begun = {r.detail["table"] for r in rows if r.event == "started"}
    counted = {r.detail["table"] for r in rows if r.event in ("first", "change_set", "base", "held", "inserted")}
    counted |= {r.detail["compensation"]["table"] for r in rows if r.event == "inserted"}
    gone = {name for r in rows if r.event == "dropped" for name in r.detail["tables"]}
    reached["a table of a run that died is dropped"] += bool((begun - counted) & gone)
    named = {(r.log, r.detail.get(n)) for r in rows for n in _NAMED_BY.get(r.event, ())}
    logs = Counter(log for log, name in named if name)
    reached["two tables for one first delivery"] += any(count > 1 for count in logs.values())
