// Numbers and states of the overview.

import assert from "node:assert/strict";
import { test } from "node:test";
import { APPROVAL, changeSetsOfEach, lagsOf, overview, reachesBack } from "../src/overview.ts";
import { answers, changeSet, dag, day, delivery, publish, stop, STREAM, source, task } from "./answers.ts";

const HOUR = 3_600_000;
const MINUTE = 60_000;
const only = (given: Parameters<typeof answers>[0]) => {
  const found = overview(answers(given));
  assert.equal(found.length, 1);
  return found[0]!;
};

test("the newest change set has the members, and 24 hours up to it the changes", () => {
  const hourly = Array.from({ length: 30 }, (_, n) => changeSet(day(2) - n * HOUR, { members: 200 - n }));
  const [row] = only({ changeSets: hourly }).audiences;
  assert.deepEqual([row!.members, row!.entered, row!.exited], [200, 5, 2]);
  assert.deepEqual(row!.day, { entered: 24 * 5, exited: 24 * 2 });
  assert.equal(row!.volatility, (24 * 7) / 200);
});

test("what is pinned is what the newest change set says, and not an older one", () => {
  const sets = [changeSet(day(1), { pinned: ["old"] }), changeSet(day(2), { pinned: ["a keeps 7 tables", "b keeps 2"] })];
  assert.deepEqual(only({ changeSets: sets }).pinned, ["a keeps 7 tables", "b keeps 2"]);
  assert.deepEqual(only({ changeSets: [...sets, changeSet(day(3))] }).pinned, []);
  assert.deepEqual(only({ tasks: [task("failed")] }).pinned, []);
});

test("an audience without members has no volatility", () => {
  assert.equal(only({ changeSets: [changeSet(day(2), { members: 0 })] }).audiences[0]!.volatility, null);
});

test("a cleared run counts once, by its newest event, and keeps the audiences of its first", () => {
  const first = changeSet(day(2), { entered: 9 });
  const again = changeSet(day(2), { entered: 4, emittedAt: day(9), audiences: null });
  const [kept] = changeSetsOfEach([first, again]);
  assert.deepEqual([kept!.entered, kept!.audiences], [4, first.audiences]);
  assert.deepEqual(only({ changeSets: [again, first] }).audiences[0]!.day.entered, 9);
});

test("a sync that does not list its audiences is shown as a whole", () => {
  const [row] = only({ changeSets: [changeSet(day(2), { audiences: null, members: 7, moreAudiences: 3 })] }).audiences;
  assert.deepEqual([row!.id, row!.members], ["", 7]);
});

test("a destination lags by the change sets that it has not received, empty ones aside", () => {
  const sets = [changeSet(day(4), { entered: 0, exited: 0, updated: 0 }), changeSet(day(3)), changeSet(day(2)), changeSet(day(1))];
  const other = "firehose://eu-west-1/x";
  const received = [delivery(day(1)), delivery(day(2)), delivery(day(1), { destination: other })];
  assert.deepEqual(lagsOf(sets, received), [{ destination: other, behind: 2 }, { destination: STREAM, behind: 1 }]);
  assert.deepEqual(lagsOf(sets, [delivery(day(1), { upTo: day(3) })]), [{ destination: STREAM, behind: 0 }]);
});

test("a sync is ok when its newest tasks succeeded, whatever failed before", () => {
  const tasks = [task("success"), task("failed", { runId: "old", runAfter: day(1) }), publish("success"), publish("failed", { runId: "old", runAfter: day(1) })];
  const sync = only({ changeSets: [changeSet(day(2))], tasks });
  assert.equal(sync.state, "ok");
  assert.equal(sync.lastSuccess, day(2) + 5_000);
});

test("a failed task is shown with its sentences", () => {
  const failed = publish("failed", { runAfter: day(3) });
  const sync = only({ changeSets: [changeSet(day(2))], tasks: [failed, task("success")], stops: new Map([stop(failed, { sentences: ["why"] })]) });
  assert.deepEqual([sync.state, sync.sentences, sync.about], ["failed", ["why"], failed]);
});

test("a guard that failed a run holds the sync", () => {
  const failed = task("failed", { runAfter: day(3) });
  const sync = only({ changeSets: [changeSet(day(2))], tasks: [failed], stops: new Map([stop(failed, { state: "held", sentences: ["180 of 200"] })]) });
  assert.deepEqual([sync.state, sync.sentences], ["held", ["180 of 200"]]);
});

for (const state of ["awaiting_input", "deferred"])
  test(`an approval that is ${state} holds the sync until it is answered`, () => {
    const asks = task(state, { taskId: "approve", operator: APPROVAL });
    const given = { changeSets: [changeSet(day(2))], tasks: [asks, task("success"), publish("none")] };
    assert.deepEqual([only(given).state, only(given).about], ["held", asks]);
    assert.equal(only({ ...given, tasks: [{ ...asks, state: "success" }, task("success")] }).state, "ok");
    assert.equal(only({ ...given, tasks: [asks, { ...asks, state: "skipped", runId: "next", runAfter: day(3) }] }).state, "ok");
  });

for (const [state, waits] of [["running", ""], ["queued", ""], ["up_for_retry", "An attempt failed"], ["deferred", "The stream throttles"]] as const)
  test(`a ${state} delivery is delivering, and says what it waits for`, () => {
    const found = only({ changeSets: [changeSet(day(2))], tasks: [publish(state), task("success")] });
    assert.equal(found.state, "delivering");
    assert.equal(found.sentences.length, waits ? 1 : 0);
    assert.ok((found.sentences[0] ?? "").startsWith(waits));
  });

test("the worst state wins, and the worst syncs come first", () => {
  const failed = publish("failed", { dagId: "b" });
  const asks = task("awaiting_input", { dagId: "b", taskId: "approve", operator: APPROVAL, runId: "next" });
  const sets = [changeSet(day(2)), changeSet(day(2), { syncId: "b.diff", source: source("r", "diff", "b") })];
  const found = overview(answers({ changeSets: sets, tasks: [failed, asks] }));
  assert.deepEqual(found.map((sync) => [sync.syncId, sync.state]), [["b.diff", "held"], ["dag.diff", "ok"]]);
});

test("a sync says which DAG it is of and when that runs next, unless the DAG is paused", () => {
  const of = (paused: boolean) => overview(answers({ changeSets: [changeSet(day(2))], dags: [dag(day(4), paused)] }))[0]!;
  assert.deepEqual([of(false).dagId, of(false).nextRun, of(true).nextRun], ["dag", day(4), null]);
});

test("a sync is late when its next run is due and not begun, unless its DAG is paused or ended", () => {
  const state = (nextRunAfter: number | null, isPaused = false) =>
    only({ changeSets: [changeSet(day(2))], tasks: [task("success"), publish("success")], dags: [dag(nextRunAfter, isPaused)], now: day(3) }).state;
  assert.equal(state(day(3) - 11 * MINUTE), "late");
  assert.equal(state(day(3) - 9 * MINUTE), "ok");
  assert.equal(state(day(3) - 11 * MINUTE, true), "ok");
  assert.equal(state(null), "ok");
});

test("a sync is late when nothing succeeded in the last two runs", () => {
  const tasks = [publish("running", { runAfter: day(9) }), publish("success", { runId: "old", runAfter: day(7) })];
  const late = (next: number) => only({ changeSets: [changeSet(day(7))], tasks, dags: [dag(next)], now: day(9) }).state;
  assert.equal(late(day(10)), "late");
  const better = [publish("running", { runAfter: day(9) }), publish("success", { runId: "old", runAfter: day(8) })];
  assert.equal(only({ changeSets: [changeSet(day(8))], tasks: better, dags: [dag(day(10))], now: day(9) }).state, "delivering");
});

test("mapped tasks are syncs of their own", () => {
  const sets = [0, 1].map((n) => changeSet(day(2), { syncId: `s${n}`, source: source("r", "diff", "dag", n) }));
  const tasks = [task("failed", { mapIndex: 1, runAfter: day(3) }), task("success", { mapIndex: 0, runAfter: day(3) })];
  const found = overview(answers({ changeSets: sets, tasks }));
  assert.deepEqual(found.map((sync) => [sync.syncId, sync.state]), [["s1", "failed"], ["s0", "ok"]]);
});

test("a task without any event is shown under its own name, or that of its XCom", () => {
  const failed = task("failed");
  assert.deepEqual(only({ tasks: [failed] }).syncId, "dag.diff");
  assert.deepEqual(only({ tasks: [failed], stops: new Map([stop(failed, { syncId: "named" })]) }).syncId, "named");
  assert.deepEqual(only({ tasks: [failed] }).audiences, []);
});

test("events reach far enough back when every sync has a day of them", () => {
  assert.equal(reachesBack([changeSet(day(2))], 1), false);
  assert.equal(reachesBack([changeSet(day(2)), changeSet(day(1))], 1), true);
  assert.equal(reachesBack([changeSet(day(2)), changeSet(day(1))], 2), false);
  assert.equal(reachesBack([changeSet(day(2), { previousAsOf: null })], 1), true);
});

test("an audience that alone is held is one alarm, and the others have none", () => {
  const counts = { entered: 1, exited: 0, updated: 0, members: 9 };
  const audiences = ["a", "b"].map((id) => ({ id, name: id.toUpperCase(), ...counts }));
  const held = new Map([["b", ["9 members before, and the source has no row"]], ["new", ["1 members would remain"]]]);
  const diff = task("success");
  const sync = only({ changeSets: [changeSet(day(2), { audiences, held })], tasks: [diff, publish("success")] });
  assert.deepEqual([sync.state, sync.about], ["held", diff]);
  assert.deepEqual(sync.audiences.map((row) => [row.id, row.state, row.members]), [["a", "ok", 9], ["b", "held", 9], ["new", "held", 0]]);
  assert.deepEqual(sync.audiences.map((row) => row.sentences.length), [0, 2, 2]);
  const again = only({ changeSets: [changeSet(day(3), { audiences }), changeSet(day(2), { audiences, held })], tasks: [diff] });
  assert.deepEqual([again.state, again.audiences.map((row) => row.state)], ["ok", ["ok", "ok"]]);
  const failed = publish("failed");
  const worse = only({ changeSets: [changeSet(day(2), { audiences, held })], tasks: [diff, failed] });
  assert.deepEqual([worse.state, worse.about, worse.audiences.map((row) => row.state)], ["failed", failed, ["failed", "failed"]]);
});
