// The runs of one audience, their bounds, and the ways into Airflow.

import assert from "node:assert/strict";
import { test } from "node:test";
import { optionsOf, sentenceOf } from "../src/charts.ts";
import { exitLimit, questionPath, runPath, runsOf, taskPath } from "../src/history.ts";
import { span } from "../src/words.ts";
import { changeSet, day, delivery, source, stop, STREAM, task } from "./answers.ts";

const guards = { maxExitRatio: 0.5, maxExits: null, minMembers: null, ratioFromMembers: 100 };
const counts = { id: "a", name: "A", entered: 10, exited: 30, updated: 0, members: 280 };

test("a guard lets pass its share of the members before, or its number, whichever is less", () => {
  assert.equal(exitLimit(guards, counts), 150);
  assert.equal(exitLimit({ ...guards, maxExits: 20 }, counts), 20);
  assert.equal(exitLimit(guards, { ...counts, members: 79 }), null);
  assert.equal(exitLimit(guards, { ...counts, members: 80 }), 50);
  assert.equal(exitLimit({ ...guards, maxExitRatio: null }, counts), null);
});

test("runs tell what was delivered, what was not, and what a guard held", () => {
  const held = task("failed", { runId: "held" });
  const sets = [changeSet(day(4)), changeSet(day(3), { entered: 0, exited: 0, updated: 0 }), changeSet(day(2)), changeSet(day(1), { previousAsOf: null })];
  const stops = new Map([stop(held, { state: "held", asOf: day(5), sentences: ["too many"] })]);
  const runs = runsOf("a", sets, [delivery(day(2))], [held], stops);
  assert.deepEqual(runs.map((run) => run.state), ["held", "not delivered", "nothing to deliver", "delivered", "delivered"]);
  assert.deepEqual([runs[0]!.sentences, runs[0]!.counts, runs[0]!.source.runId], [["too many"], null, "held"]);
  assert.equal(runs[3]!.deliveries[0]!.destination, STREAM);
  assert.deepEqual([runs[3]!.exitLimit, runs[4]!.exitLimit], [null, null]);
  assert.equal(runsOf("other", sets, [], [], new Map())[0]!.counts, null);
});

test("a run that failed before it could say why is shown, by the instant at which it was due", () => {
  const runs = runsOf("a", [changeSet(day(2))], [], [task("failed", { runAfter: day(3) }), task("failed", { runAfter: day(2) }), task("running", { runAfter: day(4) })], new Map());
  assert.deepEqual(runs.map((run) => [run.asOf, run.state, run.sentences.length]), [[day(3), "failed", 1], [day(2), "not delivered", 0]]);
});

test("a run that corrects another says which", () => {
  const runs = runsOf("a", [changeSet(day(2) + 1_000, { corrects: day(2) }), changeSet(day(2))], [], [], new Map());
  assert.deepEqual(runs.map((run) => run.corrects), [day(2), null]);
});

test("a delivery that was cleared counts once for each destination", () => {
  const told = [delivery(day(2)), delivery(day(2), { toldAt: day(9), delivered: 1 }), delivery(day(2), { destination: "firehose://x/y" })];
  const [run] = runsOf("a", [changeSet(day(2))], told, [], new Map());
  assert.deepEqual(run!.deliveries.map((d) => [d.destination, d.delivered]), [[STREAM, 1], ["firehose://x/y", 8]]);
});

test("addresses keep every character of a run's id", () => {
  const run = source("manual__2026-01-01T00:00:00+00:00", "group.diff", "a dag");
  assert.equal(runPath(run), "dags/a%20dag/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00");
  assert.equal(taskPath({ ...run, runId: "a/b#c?d", mapIndex: 4 }), "dags/a%20dag/runs/a%2Fb%23c%3Fd/tasks/group.diff/mapped/4");
  assert.match(questionPath(run), /\/tasks\/group\.diff\/required_actions$/);
});

test("charts draw exits downwards, with the bound, and are told in words", () => {
  const runs = runsOf("a", [changeSet(day(3), { members: 500 }), changeSet(day(2), { members: 400 })], [], [], new Map()).reverse();
  const colours = { text: "", line: "", members: "", entered: "", exited: "", bound: "", font: "" };
  const { series } = optionsOf("changes", runs, colours) as { series: { name: string; data: number[] }[] };
  assert.deepEqual(series.map((one) => [one.name, one.data]), [["entered", [5, 5]], ["exited", [-2, -2]], ["most exits allowed: 248 now", [-198, -248]]]);
  assert.equal(sentenceOf("size", runs), "Members from 2026-01-02 00:00 to 2026-01-03 00:00 UTC: 400 at first, 500 at last.");
  assert.equal(sentenceOf("changes", runs), "Changes from 2026-01-02 00:00 to 2026-01-03 00:00 UTC: 10 entered, 4 exited.");
  assert.match(sentenceOf("speed", []), /No run/);
});

test("spans are written by their largest unit", () => {
  assert.deepEqual([0, 59_999, 60_000, 7_200_000, 200_000_000].map(span), ["0 s", "59 s", "1 min", "2 h", "2 d"]);
});
