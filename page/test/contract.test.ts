// Whatever comes as an event or an XCom: it is what it should be, or it is left out.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readChangeSet, readDelivery, readProgress, readStop } from "../src/contract.ts";

const extra = {
  kind: "change_set",
  sync_id: "lapsed",
  as_of: "2026-01-02T00:00:00Z",
  previous_as_of: null,
  entered: 12,
  exited: 3,
  updated: 40,
  members: 1204,
  guards: { max_exit_ratio: 0.5, max_exits: null, min_members: 10, ratio_from_members: 100 },
  audiences: { id: ["x", "y"], name: ["X", null], entered: [12, 0], exited: [3, 0], updated: [40, 0], members: [1204, 0] },
  more_audiences: 7,
  let_through: ["why", 5],
  corrects: "1997-05-01T00:00:00Z",
  pinned: ["kinesis://a/b (amplitude_cohort) keeps 7 tables", null],
};
const event = (told: unknown, more: object = {}) => ({
  extra: told,
  source_dag_id: "d",
  source_run_id: "r",
  source_task_id: "t",
  source_map_index: 3,
  timestamp: "2026-01-02T00:01:00Z",
  ...more,
});

test("a change set is read whole", () => {
  const read = readChangeSet(event(extra))!;
  assert.equal(read.asOf, Date.UTC(2026, 0, 2));
  assert.deepEqual(read.guards, { maxExitRatio: 0.5, maxExits: null, minMembers: 10, ratioFromMembers: 100 });
  assert.deepEqual(read.audiences!.map((a) => [a.id, a.name, a.members]), [["x", "X", 1204], ["y", "y", 0]]);
  assert.deepEqual([read.moreAudiences, read.letThrough, read.previousAsOf], [7, ["why"], null]);
  assert.deepEqual([read.corrects, readChangeSet(event({ ...extra, corrects: "then" }))!.corrects], [Date.UTC(1997, 4, 1), null]);
  assert.deepEqual(read.pinned, ["kinesis://a/b (amplitude_cohort) keeps 7 tables"]);
  assert.deepEqual(readChangeSet(event({ ...extra, pinned: "kept" }))!.pinned, []);
  assert.deepEqual(read.source, { dagId: "d", runId: "r", taskId: "t", mapIndex: 3 });
});

test("a delivery reaches as far as the newest change set in it", () => {
  const told = { kind: "delivery", sync_id: "s", destination: "kinesis://a/b", as_of: "2026-01-02T00:00:00Z", delivered: 5, seconds: 0.5 };
  assert.equal(readDelivery(event(told))!.upTo, Date.UTC(2026, 0, 2));
  assert.equal(readDelivery(event({ ...told, change_sets: ["2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z", 5] }))!.upTo, Date.UTC(2026, 0, 3));
});

const foreign: [string, unknown][] = [
  ["nothing", null],
  ["a text", "kind"],
  ["a list", [extra]],
  ["no extra", event(null)],
  ["another kind", event({ ...extra, kind: "other" })],
  ["no sync", event({ ...extra, sync_id: "" })],
  ["no instant", event({ ...extra, as_of: "yesterday" })],
  ["a count that is none", event({ ...extra, members: "<b>1</b>" })],
  ["a count below zero", event({ ...extra, exited: -1 })],
  ["an endless count", event({ ...extra, exited: Infinity })],
  ["no task", event(extra, { source_task_id: null })],
  ["no time", event(extra, { timestamp: null })],
];
for (const [what, given] of foreign)
  test(`an event with ${what} is left out`, () => {
    assert.equal(readChangeSet(given), null);
    assert.equal(readDelivery(given), null);
  });

test("of columns of different lengths only whole audiences are taken", () => {
  const audiences = { ...extra.audiences, members: [5] };
  assert.deepEqual(readChangeSet(event({ ...extra, audiences }))!.audiences!.map((a) => a.id), ["x"]);
  assert.equal(readChangeSet(event({ ...extra, audiences: "x" }))!.audiences, null);
  assert.equal(readChangeSet(event({ ...extra, audiences: { id: "xy" } }))!.audiences, null);
});

test("XComs of another shape are none", () => {
  assert.equal(readStop({ state: "ok" }), null);
  assert.equal(readStop("held"), null);
  assert.deepEqual(readStop({ state: "held", sentences: ["a", 1] }), { state: "held", syncId: null, asOf: null, sentences: ["a"] });
  assert.equal(readProgress({ done: 1 }), null);
  assert.equal(readProgress({ as_of: "2026-01-02T00:00:00Z", done: 1, total: 2, eta_seconds: null })!.etaSeconds, null);
});

test("what is held alone is read by audience, and anything else is left out", () => {
  const told = { ...extra, held_audiences: { a: ["why", 1], b: "x" } };
  assert.deepEqual([...readChangeSet(event(told))!.held], [["a", ["why"]], ["b", []]]);
  assert.equal(readChangeSet(event({ ...extra, held_audiences: ["a"] }))!.held.size, 0);
});
