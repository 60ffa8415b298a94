// Whatever comes as an event or an XCom: it is what it should be, or it is left out.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readApproval } from "../src/approvals.ts";
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
const event = (extra: unknown, more: object = {}) => ({
  extra,
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

test("what was excluded or filtered is read, and is nothing where nothing is said", () => {
  const sent = { kind: "delivery", sync_id: "s", destination: "kinesis://a/b", as_of: "2026-01-02T00:00:00Z" };
  const found = [extra, { ...extra, excluded: 70, outranked: 3 }, { ...extra, excluded: "many" }].map((one) => readChangeSet(event(one))!);
  assert.deepEqual(found.map((one) => [one.excluded, one.outranked]), [[0, 0], [70, 3], [0, 0]]);
  const delivered = [sent, { ...sent, excluded: 4, filtered: 9 }].map((one) => readDelivery(event(one))!);
  assert.deepEqual(delivered.map((one) => [one.excluded, one.filtered]), [[0, 0], [4, 9]]);
});

test("a delivery reaches as far as the newest change set in it", () => {
  const given = { kind: "delivery", sync_id: "s", destination: "kinesis://a/b", as_of: "2026-01-02T00:00:00Z", delivered: 5, seconds: 0.5 };
  assert.equal(readDelivery(event(given))!.upTo, Date.UTC(2026, 0, 2));
  assert.equal(readDelivery(event({ ...given, change_sets: ["2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z", 5] }))!.upTo, Date.UTC(2026, 0, 3));
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

test("what a change set says of itself is read, and anything else is left out", () => {
  const changed = { entered: 1, exited: 2, updated: 0 };
  const compensation = { as_of: "2026-01-03T00:00:00Z", ...changed, audiences: { a: changed, b: "x" } };
  const more = { inserted: true, compensation, recorded: true, dropped_rows: 4, statements: 7, statement_seconds: 1.5, mapping: [{ column: "email", role: "identity", as: "Email", rule: "" }, "x", {}] };
  const read = readChangeSet(event({ ...extra, ...more }, { asset_id: 9 }))!;
  assert.deepEqual([read.inserted, read.recorded, read.confirmed, read.droppedRows, read.assetId], [true, true, false, 4, 9]);
  assert.deepEqual(read.compensation, { asOf: Date.UTC(2026, 0, 3), ...changed, audiences: new Map([["a", changed]]) });
  assert.deepEqual([read.cost, read.mapping], [{ statements: 7, seconds: 1.5, bytesScanned: null }, [{ column: "email", role: "identity", as: "Email", rule: "" }]]);
  const none = readChangeSet(event({ ...extra, inserted: "yes", compensation: { as_of: "x" }, statements: -1, mapping: "m" }))!;
  assert.deepEqual([none.inserted, none.compensation, none.cost, none.mapping], [false, null, null, []]);
});

test("a delivery has its dead letters, its cost and its masked sample", () => {
  const given = { kind: "delivery", sync_id: "s", destination: "kinesis://a/b", as_of: "2026-01-02T00:00:00Z", still_rejected: 2, message_format: "f", sample: "{}", statements: 6, statement_seconds: 0, bytes_scanned: 20_971_520 };
  const read = readDelivery(event(given))!;
  assert.deepEqual([read.deadLetters, read.messageFormat, read.sample, read.cost], [2, "f", "{}", { statements: 6, seconds: 0, bytesScanned: 20_971_520 }]);
  assert.equal(readDelivery(event({ ...given, bytes_scanned: "x" }))!.cost!.bytesScanned, null);
  assert.equal(readDelivery(event({ ...given, sample: { a: 1 } }))!.sample, null);
});

test("an answer of a person is read, and a question that nobody has answered, or of another operator, is not", () => {
  const task_instance = { dag_id: "d", dag_run_id: "r", task_id: "approve", map_index: -1, operator_name: "Op" };
  const given = { task_instance, responded_at: "2026-01-02T00:00:00Z", chosen_options: ["Approve"], responded_by_user: { id: "1", name: "ines" } };
  const of = { dagId: "d", runId: "r", taskId: "approve", mapIndex: -1 };
  assert.deepEqual(readApproval(given, "Op"), { of, by: "ines", at: Date.UTC(2026, 0, 2), answer: "Approve" });
  assert.equal(readApproval({ ...given, responded_by_user: null }, "Op")!.by, null);
  const wrong = [null, { ...given, responded_at: null }, { ...given, chosen_options: [] }, { ...given, task_instance: null }];
  assert.deepEqual([...wrong.map((one) => readApproval(one, "Op")), readApproval(given, "Other")], [null, null, null, null, null]);
});

test("what is held alone is read by audience, and anything else is left out", () => {
  const given = { ...extra, held_audiences: { a: ["why", 1], b: "x" } };
  assert.deepEqual([...readChangeSet(event(given))!.held], [["a", ["why"]], ["b", []]]);
  assert.equal(readChangeSet(event({ ...extra, held_audiences: ["a"] }))!.held.size, 0);
});
