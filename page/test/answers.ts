// Answers of an Airflow, made up: what the tests are about stands in them, the rest is filled in.

import type { Dag, TaskInstance } from "../src/airflow.ts";
import type { ChangeSet, Delivery, Stop } from "../src/contract.ts";
import { type Answers, DIFF, keyOf } from "../src/overview.ts";

export const at = (text: string): number => Date.parse(text);
export const day = (number: number): number => Date.UTC(2026, 0, number);
export const STREAM = "kinesis://eu-west-1/changes";

export const source = (runId = "run-1", taskId = "diff", dagId = "dag", mapIndex = -1) => ({ dagId, runId, taskId, mapIndex });

export function changeSet(asOf: number, more: Partial<ChangeSet> = {}): ChangeSet {
  const counts = { entered: 5, exited: 2, updated: 1, members: 100 };
  return {
    syncId: "dag.diff",
    asOf,
    previousAsOf: asOf - 86_400_000,
    ...counts,
    guards: { maxExitRatio: 0.5, maxExits: null, minMembers: null, ratioFromMembers: 100 },
    audiences: [{ id: "a", name: "A", ...counts, ...more }],
    moreAudiences: 0,
    letThrough: [],
    corrects: null,
    inserted: false,
    compensation: null,
    recorded: false,
    confirmed: false,
    droppedRows: 0,
    excluded: 0,
    outranked: 0,
    mapping: [],
    cost: null,
    assetId: 1,
    pinned: [],
    held: new Map(),
    source: source(),
    emittedAt: asOf + 1_000,
    ...more,
  };
}

export function delivery(asOf: number, more: Partial<Delivery> = {}): Delivery {
  const counts = { delivered: 8, rejected: 0, omitted: 0, excluded: 0, filtered: 0, retried: 0, seconds: 2, deadLetters: 0, messageFormat: "amplitude_cohort", sample: null, cost: null };
  return { syncId: "dag.diff", asOf, destination: STREAM, upTo: asOf, ...counts, source: source("run-1", "publish"), emittedAt: asOf + 2_000, ...more };
}

export function task(state: string, more: Partial<TaskInstance> = {}): TaskInstance {
  const runAfter = more.runAfter ?? day(2);
  return { ...source(), operator: DIFF, state, runAfter, startedAt: runAfter, endedAt: runAfter + 5_000, tryNumber: 1, ...more };
}

export const publish = (state: string, more: Partial<TaskInstance> = {}): TaskInstance =>
  task(state, { taskId: "publish", operator: "AudienceToKinesisOperator", ...more });

export const dag = (nextRunAfter: number | null, isPaused = false): Dag => ({ dagId: "dag", isPaused, nextRunAfter });

export const stop = (of: TaskInstance, more: Partial<Stop>): [string, Stop] => [
  keyOf(of),
  { state: "failed", syncId: null, asOf: null, sentences: [], ...more },
];

export function answers(more: Partial<Answers>): Answers {
  return { changeSets: [], deliveries: [], tasks: [], dags: [], stops: new Map(), now: day(3), ...more };
}
