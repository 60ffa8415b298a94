// The runs of one audience, their bounds, and the ways into Airflow.

import assert from "node:assert/strict";
import { test } from "node:test";
import { optionsOf, sentenceOf } from "../src/charts.ts";
import type { Approval } from "../src/approvals.ts";
import { exitLimit, type Known, questionPath, runPath, runsOf as runsOfKnown, taskPath } from "../src/history.ts";
import { fieldsOf, readSample } from "../src/sample.ts";
import { fineSpan, labelsOf, span } from "../src/words.ts";
import { changeSet, day, delivery, source, stop, STREAM, task } from "./answers.ts";

const runsOf = (id: string, ...[changeSets, deliveries, tasks, stops, approvals = []]: [Known["changeSets"], Known["deliveries"], Known["tasks"], Known["stops"], Approval[]?]) =>
  runsOfKnown(id, { changeSets, deliveries, tasks, stops, approvals });
const guards = { maxExitRatio: 0.5, maxExits: null, minMembers: null, ratioFromMembers: 100 };
const counts = { id: "a", name: "A", entered: 10, exited: 30, updated: 0, members: 280 };

test("a guard lets pass its share of the members before, or its number, whichever is less", () => {
  assert.equal(exitLimit(guards, counts), 150);
  assert.equal(exitLimit({ ...guards, maxExits: 20 }, counts), 20);
  assert.equal(exitLimit(guards, { ...counts, members: 79 }), null);
  assert.equal(exitLimit(guards, { ...counts, members: 80 }), 50);
  assert.equal(exitLimit({ ...guards, maxExitRatio: null }, counts), null);
});

test("runs show what was delivered, what was not, and what a guard held", () => {
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
  assert.deepEqual(runs.map((run) => [run.notes, run.isSpecial]), [[["corrects 2026-01-02 00:00:00"], true], [[], false]]);
});

test("a delivery that was cleared counts once for each destination", () => {
  const events = [delivery(day(2)), delivery(day(2), { emittedAt: day(9), delivered: 1 }), delivery(day(2), { destination: "firehose://x/y" })];
  const [run] = runsOf("a", [changeSet(day(2))], events, [], new Map());
  assert.deepEqual(run!.deliveries.map((d) => [d.destination, d.delivered]), [[STREAM, 1], ["firehose://x/y", 8]]);
});

test("addresses keep every character of a run's id", () => {
  const run = source("manual__2026-01-01T00:00:00+00:00", "group.diff", "a dag");
  assert.equal(runPath(run), "dags/a%20dag/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00");
  assert.equal(taskPath({ ...run, runId: "a/b#c?d", mapIndex: 4 }), "dags/a%20dag/runs/a%2Fb%23c%3Fd/tasks/group.diff/mapped/4");
  assert.match(questionPath(run), /\/tasks\/group\.diff\/required_actions$/);
});

test("an inserted run has its compensation beside it, which is no plain run", () => {
  const changed = { entered: 1, exited: 4, updated: 0 };
  const compensation = { asOf: day(3) - 1_000, ...changed, audiences: new Map([["a", changed]]) };
  const sets = [changeSet(day(3)), changeSet(day(2), { inserted: true, compensation }), changeSet(day(1))];
  const runs = runsOf("a", sets, [delivery(day(3))], [], new Map());
  assert.deepEqual(runs.map((run) => [run.state, run.isSpecial]), [["delivered", false], ["compensation", false], ["delivered", true], ["delivered", false]]);
  assert.deepEqual([runs[1]!.counts, runs[1]!.changed], [null, changed]);
  assert.match(runs[1]!.notes[0]!, /compensates the run inserted at 2026-01-02 00:00:00/);
  assert.match(runs[2]!.notes[0]!, /inserted before later runs; its compensation is at 2026-01-02 23:59:59/);
  assert.equal(runsOf("b", sets, [], [], new Map())[1]!.changed, null);
});

test("a skipped run gives its reason, also at an instant that has a change set", () => {
  const skipped = [task("skipped", { runId: "r1" }), task("skipped", { runId: "r2" })];
  const stops = new Map(skipped.map((one, n) => stop(one, { state: "skipped", asOf: day(2) - n, sentences: ["a later run covers it"] })));
  const runs = runsOf("a", [changeSet(day(2))], [], skipped, stops);
  assert.deepEqual(runs.filter((run) => run.state === "skipped").map((run) => run.sentences), [["a later run covers it"], ["a later run covers it"]]);
  assert.equal(runs.length, 3);
});

test("a run that found its change set published says so", () => {
  const [found] = runsOf("a", [changeSet(day(2), { recorded: true, droppedRows: 3, excluded: 1_070, outranked: 1 })], [], [], new Map());
  assert.deepEqual(found!.notes, ["already published when the task ran again, so it was not computed again", "3 invalid rows dropped", "1,070 rows of the source excluded (exclude_sql, consent_column)", "1 row of the source outranked: the user is in an audience before"]);
});

test("an answer belongs to the run and to the group of tasks in which it was given", () => {
  const of = (runId: string, taskId: string) => ({ of: source(runId, taskId), by: "ines", at: day(2), answer: "Approve" });
  const set = changeSet(day(2), { source: source("r", "vip.diff") });
  const found = (one: Approval) => runsOf("a", [set], [], [], new Map(), [one])[0]!.approvals.length;
  assert.deepEqual([of("r", "vip.approve"), of("other", "vip.approve"), of("r", "shop.approve"), of("r", "approve")].map(found), [1, 0, 0, 0]);
});

test("the lag is from the first record to the first delivery that reached the change set, and an empty one has none", () => {
  const sets = [changeSet(day(2), { emittedAt: day(2) }), changeSet(day(2), { emittedAt: day(9) }), changeSet(day(1), { emittedAt: day(1) }), changeSet(day(3), { entered: 0, exited: 0, updated: 0 })];
  const sent = [delivery(day(2), { emittedAt: day(2) + 60_000 }), delivery(day(2), { emittedAt: day(8) }), delivery(day(4), { destination: "firehose://x/y", emittedAt: day(4) })];
  const runs = runsOf("a", sets, sent, [], new Map());
  const lags = new Map(runs.map((run) => [run.asOf, [...run.lags]]));
  assert.deepEqual(lags.get(day(2)), [[STREAM, 60_000], ["firehose://x/y", 2 * 86_400_000]]);
  assert.deepEqual(lags.get(day(1)), [[STREAM, 86_400_000 + 60_000], ["firehose://x/y", 3 * 86_400_000]]);
  assert.deepEqual(lags.get(day(3)), []);
});

const colours = { text: "", line: "", members: "", entered: "", exited: "", bound: "", font: "" };
const seriesOf = (kind: "size" | "changes" | "lag", sets: Parameters<typeof runsOf>[1], tasks: Parameters<typeof runsOf>[3] = [], stops: Parameters<typeof runsOf>[4] = new Map()) => {
  const runs = runsOf("a", sets, [], tasks, stops).reverse();
  const { series } = optionsOf(kind, runs, colours) as { series: { name: string; data: unknown[] }[] };
  return series.map((one) => [one.name, one.data]);
};

test("charts draw exits downwards and are described in words", () => {
  const sets = [changeSet(day(3), { members: 500 }), changeSet(day(2), { members: 400 })];
  assert.deepEqual(seriesOf("changes", sets), [["entered", [5, 5]], ["exited", [-2, -2]]]);
  const runs = runsOf("a", sets, [], [], new Map()).reverse();
  assert.equal(sentenceOf("size", runs), "Members from 2026-01-02 00:00 to 2026-01-03 00:00 UTC: 400 at first, 500 at last.");
  assert.equal(sentenceOf("changes", runs), "Changes from 2026-01-02 00:00 to 2026-01-03 00:00 UTC: 10 entered, 4 exited.");
  assert.match(sentenceOf("lag", runs), /0 deliveries/);
  assert.match(sentenceOf("lag", []), /No run/);
});

test("a bound is a band only where the numbers are near to it", () => {
  const bounded = (maxExits: number | null, minMembers: number | null) => ({ ...guards, maxExitRatio: null, maxExits, minMembers });
  const sets = (far: number, near: number) => [changeSet(day(3), { exited: 9, guards: bounded(far, 51) }), changeSet(day(2), { exited: 2, guards: bounded(near, 49) })];
  assert.deepEqual(seriesOf("changes", sets(19, 18)).slice(2), [["beyond the guard's bound", [-18, null]]]);
  assert.deepEqual(seriesOf("changes", sets(19, 19)).slice(2), []);
  assert.deepEqual(seriesOf("size", sets(1, 1)).slice(1), [["below the guard's bound", [null, 51]]]);
});

test("a run that stopped is a point at the members that it left, and a correction a point of another shape", () => {
  const failed = task("failed", { runAfter: day(4) });
  const sets = [changeSet(day(3), { corrects: day(2) }), changeSet(day(2))];
  const [members, stopped] = seriesOf("size", sets, [failed]);
  assert.deepEqual(members, ["members", [100, { value: 100, symbol: "diamond", symbolSize: 11 }, null]]);
  assert.deepEqual(stopped, ["stopped", [null, null, 100]]);
});

test("a sample is listed by its fields, and what is no document is left out", () => {
  const sample = readSample('{"id": "a", "users": [{"user_id": "•••", "n": {"x": 0}}], "none": [], "ok": true, "z": null}');
  assert.deepEqual(fieldsOf(sample).map(({ path, type }) => `${path} ${type}`), ["id text", "users[].user_id text", "users[].n.x number", "none[] empty", "ok boolean", "z null"]);
  assert.deepEqual([readSample("{"), readSample("5"), readSample("null")], [null, null, null]);
});

test("spans are written by their largest unit", () => {
  assert.deepEqual([0, 59_999, 60_000, 7_200_000, 200_000_000].map(span), ["0 s", "59 s", "1 min", "2 h", "2 d"]);
});

test("the spans of a chart keep two units of the next smaller kind", () => {
  assert.deepEqual([0, 61_000, 119_000, 120_000, 7_000_000, 172_800_000].map(fineSpan), ["0 s", "61 s", "119 s", "2 min", "117 min", "2 d"]);
});

test("the axis of daily runs has days, of hourly ones days with hours, and the year where it is not the only one", () => {
  const hours = (from: number) => [from, from + 3_600_000, from + 7_200_000];
  assert.deepEqual(labelsOf([day(1), day(2)]), ["2026-01-01", "2026-01-02"]);
  assert.deepEqual(labelsOf(hours(day(2) - 3_600_000)), ["01-01 23:00", "01-02 00:00", "01-02 01:00"]);
  assert.deepEqual(labelsOf(hours(day(1) - 3_600_000)), ["2025-12-31 23:00", "2026-01-01 00:00", "2026-01-01 01:00"]);
  assert.deepEqual(labelsOf([]), []);
  const runs = runsOf("a", hours(day(2)).map((at) => changeSet(at)), [], [], new Map()).reverse();
  const { xAxis } = optionsOf("size", runs, colours) as { xAxis: { data: string[]; axisLabel: { formatter: (at: string, n: number) => string } } };
  assert.deepEqual(xAxis.data.map(xAxis.axisLabel.formatter), ["01-02 00:00", "01-02 01:00", "01-02 02:00"]);
});
