// The client: how it asks, leafs, waits its turn, and what it says when it is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Airflow, AirflowError } from "../src/airflow.ts";

type Asked = { url: URL; at: number };
const BASE = "http://here/airflow/";

/** An Airflow that gives `size` at a time out of `all`. */
function serving(all: number, size: number) {
  const asked: Asked[] = [];
  const most = { now: 0, ever: 0 };
  const airflow = new Airflow(BASE, async (given) => {
    const url = new URL(String(given));
    most.ever = Math.max(most.ever, ++most.now);
    await new Promise((resolve) => setTimeout(resolve, 1));
    most.now -= 1;
    const offset = Number(url.searchParams.get("offset"));
    asked.push({ url, at: offset });
    const some = Array.from({ length: Math.max(0, Math.min(size, all - offset)) }, (_, n) => offset + n);
    return Response.json({ asset_events: some, total_entries: all });
  });
  return { airflow, asked, most };
}

for (const [all, size] of [[0, 100], [7, 100], [100, 100], [950, 100], [95, 10]] as const)
  test(`all ${all} events come, ${size} at a time, each once and in order`, async () => {
    const { airflow, most } = serving(all, size);
    const found = await airflow.events({}, 40, () => false);
    assert.deepEqual(found, Array.from({ length: all }, (_, n) => n));
    assert.ok(most.ever <= 6);
  });

test("no more pages are asked for than allowed, or than are enough", async () => {
  const bounded = serving(5_000, 100);
  assert.equal((await bounded.airflow.events({}, 3, () => false)).length, 300);
  const enough = serving(5_000, 100);
  assert.equal((await enough.airflow.events({}, 40, (found) => found.length >= 50)).length, 100);
});

test("a list in a query is repeated, and the address keeps Airflow's own path", async () => {
  const { airflow, asked } = serving(1, 100);
  await airflow.tasks(["A", "B"], { state: ["failed"] }, 1);
  assert.deepEqual(asked[0]!.url.searchParams.getAll("operator"), ["A", "B"]);
  assert.equal(asked[0]!.url.pathname, "/airflow/api/v2/dags/~/dagRuns/~/taskInstances");
});

const refusing = (status: number) => new Airflow(BASE, async () => new Response("{}", { status }));
for (const [status, says] of [[401, /log in/], [403, /permission to read/], [500, /see its API server.s log/]] as const)
  test(`an answer of ${status} is described in a sentence that says what to do`, async () => {
    await assert.rejects(refusing(status).get("dags"), (error: AirflowError) => error.status === status && says.test(error.message));
  });

test("an Airflow that is away is described, too, and the next question is asked all the same", async () => {
  let away = true;
  const airflow = new Airflow(BASE, async () => {
    if (away) throw new TypeError("fetch failed");
    return Response.json({ ok: 1 });
  });
  await assert.rejects(Promise.all(Array.from({ length: 9 }, () => airflow.get("dags"))), /did not answer/);
  away = false;
  assert.deepEqual(await airflow.get("dags"), { ok: 1 });
});

test("an XCom that is not there is none, and one that is comes as JSON or as its text", async () => {
  const of = { dagId: "d", runId: "r+1", taskId: "t", mapIndex: -1 };
  assert.equal(await refusing(404).xcom(of, "state"), null);
  await assert.rejects(refusing(403).xcom(of, "state"), AirflowError);
  for (const value of [{ a: 1 }, '{"a": 1}']) {
    const airflow = new Airflow(BASE, async () => Response.json({ value }));
    assert.deepEqual(await airflow.xcom(of, "state"), { a: 1 });
  }
});
