// Gathers what the page shows from Airflow: few and large questions, never one per row.

import { type Airflow, AirflowError, type TaskInstance } from "./airflow.ts";
import { type Approval, readApproval } from "./approvals.ts";
import { type ChangeSet, type Progress, readChangeSet, readDelivery, readProgress, readStop, type Source, type Stop } from "./contract.ts";
import type { Known } from "./history.ts";
import { type Answers, APPROVAL, changeSetsOfEach, DELIVERING, DIFF, keyOf, OPERATORS, reachesBack, type Sync, taskOf } from "./overview.ts";
import { TREND_RUNS } from "./trend.ts";

const OPEN = ["running", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "deferred", "awaiting_input", "restarting", "failed", "upstream_failed"];
const MOST_STOPS = 50;
const MOST_PAGES = { events: 40, unknown: 10, open: 3, ended: 10 };
const UNREADABLE: Stop = { state: "failed", syncId: null, asOf: null, sentences: ["The reason is in the task's XComs, which you have no permission to read."] };
const DESTINATIONS = ["kinesis://", "firehose://"];

/** Go on with something else where Airflow refuses; other errors stay errors. */
const unlessRefused =
  <T,>(otherwise: T) =>
  (error: unknown): T => {
    if (error instanceof AirflowError && error.status === 403) return otherwise;
    throw error;
  };

const readAll = <T>(events: readonly unknown[], read: (event: unknown) => T | null): T[] =>
  events.map(read).filter((one) => one !== null);

/** Give the newest change sets of all syncs, and at least 24 hours of each. */
export async function loadChangeSets(airflow: Airflow): Promise<ChangeSet[]> {
  const asked = { uri_pattern: "audience://", limit: 1, only_active: "false" };
  // Who may read events need not be allowed to list assets; then nobody knows how many syncs there are.
  const assets = await airflow.get("assets", asked).catch(unlessRefused<Record<string, unknown>>({}));
  const syncs = Number(assets.total_entries ?? Infinity);
  const most = Number.isFinite(syncs) ? MOST_PAGES.events : MOST_PAGES.unknown;
  const enough = (found: unknown[]) => reachesBack(readAll(found, readChangeSet), syncs);
  return readAll(await airflow.events({ name_pattern: "audience://" }, most, enough), readChangeSet);
}

/** Give all that the overview is worked out of. */
export async function loadAnswers(airflow: Airflow, changeSets: readonly ChangeSet[], now: () => number): Promise<Answers> {
  const syncs = new Set(changeSets.map((c) => c.syncId));
  const delivered = DESTINATIONS.map((scheme) =>
    airflow.events({ name_pattern: scheme }, MOST_PAGES.events / 4, (found) => {
      const seen = new Set(readAll(found, readDelivery).map((d) => d.syncId));
      return [...syncs].every((syncId) => seen.has(syncId));
    }),
  );
  const [open, ended, ...deliveries] = await Promise.all([
    airflow.tasks(OPERATORS, { state: OPEN }, MOST_PAGES.open),
    airflow.tasks(OPERATORS, { state: ["success", "skipped"] }, MOST_PAGES.ended),
    ...delivered,
  ]);
  const tasks = [...open, ...ended];
  const dagIds = [...new Set([...tasks, ...changeSets.map((c) => c.source)].map((of) => of.dagId))];
  const dags = await airflow.dags(dagIds).catch(unlessRefused([]));
  return {
    changeSets,
    deliveries: readAll(deliveries.flat(), readDelivery),
    tasks,
    dags,
    stops: await loadStops(airflow, open.filter(isStopped)),
    now: now(),
  };
}

const isStopped = (task: TaskInstance): boolean => task.state === "failed" || task.state === "up_for_retry" || task.operator === APPROVAL;

/** Give why tasks stopped, of the newest of them. */
async function loadStops(airflow: Airflow, tasks: readonly TaskInstance[]): Promise<Map<string, Stop>> {
  const newest = tasks.slice(0, MOST_STOPS);
  const found = await Promise.all(newest.map(async (task) => [keyOf(task), await airflow.xcom(task, "state").then(readStop).catch(unlessRefused(UNREADABLE))] as const));
  return new Map(found.filter((one): one is [string, Stop] => one[1] !== null));
}

/** Give the newest runs of a sync, as many as a sparkline has, without those that were inserted before others. */
export async function loadOlderRuns(airflow: Airflow, sync: Sync): Promise<ChangeSet[]> {
  const assetId = sync.runs[0]?.assetId;
  if (assetId == null) return sync.runs;
  // A run that is cleared has more than one event.
  const query = { asset_id: assetId, order_by: "-timestamp", limit: TREND_RUNS + 2 };
  const events = (await airflow.get("assets/events", query)).asset_events;
  const found = readAll(Array.isArray(events) ? events : [], readChangeSet).filter((c) => c.syncId === sync.syncId && !c.inserted);
  return changeSetsOfEach([...found, ...sync.runs]).slice(0, TREND_RUNS);
}

export interface History extends Known {
  /** there are older change sets */
  more: boolean;
}

/** Give the newest runs of a sync, `pages` hundreds of them. */
export async function loadHistory(airflow: Airflow, syncId: string, pages: number): Promise<History> {
  const name = `audience://${encodeURIComponent(syncId)}`;
  const events = await airflow.events({ name_pattern: name }, pages, () => false);
  const changeSets = readAll(events, readChangeSet).filter((c) => c.syncId === syncId);
  const dagIds = [...new Set(changeSets.map((c) => c.source.dagId))];
  const tasksOf = (operators: readonly string[], state: readonly string[]) => Promise.all(dagIds.map((dag_id) => airflow.tasks(operators, { state, dag_id_pattern: dag_id }, 1)));
  const [open, ended, approvals, ...delivered] = await Promise.all([
    tasksOf(OPERATORS, OPEN),
    tasksOf([DIFF], ["success", "skipped"]),
    Promise.all(dagIds.map((dagId) => loadApprovals(airflow, dagId))),
    ...DESTINATIONS.map((scheme) => airflow.events({ name_pattern: scheme }, pages * 2, () => false)),
  ]);
  const runs = new Set(changeSets.map(({ source: { dagId, runId } }) => JSON.stringify([dagId, runId])));
  // A diff that ended without a change set: it was skipped, or a guard holds what it found.
  const silent = ended.flat().filter((task) => !runs.has(JSON.stringify([task.dagId, task.runId])));
  const found = [...open.flat().filter(isStopped), ...silent].filter((task) => dagIds.includes(task.dagId));
  const stops = await loadStops(airflow, found);
  const own = new Set(changeSets.map((c) => taskOf(c.source)));
  const isOwn = (task: TaskInstance) => (stops.get(keyOf(task))?.syncId ?? (own.has(taskOf(task)) ? syncId : null)) === syncId;
  return {
    changeSets,
    deliveries: readAll(delivered.flat(), readDelivery).filter((d) => d.syncId === syncId),
    tasks: found.filter(isOwn),
    stops,
    approvals: approvals.flat(),
    more: events.length >= pages * 100,
  };
}

/** Give what people answered in a DAG; nothing where the user may not read it, or Airflow has no such list. */
async function loadApprovals(airflow: Airflow, dagId: string): Promise<Approval[]> {
  const query = { limit: 100, order_by: "-created_at" };
  const answer = await airflow.get(`dags/${encodeURIComponent(dagId)}/dagRuns/~/hitlDetails`, query).catch(() => null);
  const details = answer?.hitl_details;
  return readAll(Array.isArray(details) ? details : [], (detail) => readApproval(detail, APPROVAL));
}

/** Give how far a running delivery has come; null if it has not reported yet. */
export async function loadProgress(airflow: Airflow, of: Source): Promise<Progress | null> {
  return readProgress(await airflow.xcom(of, "progress"));
}

/** Check whether a task instance is a delivery that runs now. */
export const isRunning = (task: TaskInstance | null): task is TaskInstance =>
  task !== null && task.state === "running" && DELIVERING.includes(task.operator);
