// Gathers what the page shows from Airflow: few and large questions, never one per row.

import { type Airflow, AirflowError, type TaskInstance } from "./airflow.ts";
import { type ChangeSet, type Delivery, type Progress, readChangeSet, readDelivery, readProgress, readStop, type Source, type Stop } from "./contract.ts";
import { type Answers, APPROVAL, DELIVERING, keyOf, OPERATORS, reachesBack } from "./overview.ts";

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
  const told = DESTINATIONS.map((scheme) =>
    airflow.events({ name_pattern: scheme }, MOST_PAGES.events / 4, (found) => {
      const seen = new Set(readAll(found, readDelivery).map((d) => d.syncId));
      return [...syncs].every((syncId) => seen.has(syncId));
    }),
  );
  const [open, ended, ...deliveries] = await Promise.all([
    airflow.tasks(OPERATORS, { state: OPEN }, MOST_PAGES.open),
    airflow.tasks(OPERATORS, { state: ["success", "skipped"] }, MOST_PAGES.ended),
    ...told,
  ]);
  const tasks = [...open, ...ended];
  const dagIds = [...new Set([...tasks, ...changeSets.map((c) => c.source)].map((of) => of.dagId))];
  const dags = await airflow.dags(dagIds).catch(unlessRefused([]));
  return {
    changeSets,
    deliveries: readAll(deliveries.flat(), readDelivery),
    tasks,
    dags,
    stops: await loadStops(airflow, open),
    now: now(),
  };
}

/** Give why tasks stopped, of the newest that did. */
async function loadStops(airflow: Airflow, tasks: readonly TaskInstance[]): Promise<Map<string, Stop>> {
  const stopped = tasks.filter((t) => t.state === "failed" || t.state === "up_for_retry" || t.operator === APPROVAL).slice(0, MOST_STOPS);
  const found = await Promise.all(stopped.map(async (task) => [keyOf(task), await airflow.xcom(task, "state").then(readStop).catch(unlessRefused(UNREADABLE))] as const));
  return new Map(found.filter((one): one is [string, Stop] => one[1] !== null));
}

export interface History {
  changeSets: ChangeSet[];
  deliveries: Delivery[];
  tasks: TaskInstance[];
  stops: Map<string, Stop>;
  /** there are older change sets */
  more: boolean;
}

/** Give the newest runs of a sync, `pages` hundreds of them. */
export async function loadHistory(airflow: Airflow, syncId: string, pages: number): Promise<History> {
  const name = `audience://${encodeURIComponent(syncId)}`;
  const events = await airflow.events({ name_pattern: name }, pages, () => false);
  const changeSets = readAll(events, readChangeSet).filter((c) => c.syncId === syncId);
  const dagIds = [...new Set(changeSets.map((c) => c.source.dagId))];
  const [open, ...told] = await Promise.all([
    Promise.all(dagIds.map((dag_id) => airflow.tasks(OPERATORS, { state: OPEN, dag_id_pattern: dag_id }, 1))),
    ...DESTINATIONS.map((scheme) => airflow.events({ name_pattern: scheme }, pages * 2, () => false)),
  ]);
  const tasks = open.flat().filter((task) => dagIds.includes(task.dagId));
  return {
    changeSets,
    deliveries: readAll(told.flat(), readDelivery).filter((d) => d.syncId === syncId),
    tasks,
    stops: await loadStops(airflow, tasks),
    more: events.length >= pages * 100,
  };
}

/** Give how far a running delivery has come; null if it has not told yet. */
export async function loadProgress(airflow: Airflow, of: Source): Promise<Progress | null> {
  return readProgress(await airflow.xcom(of, "progress"));
}

/** Tell whether a task instance is a delivery that runs now. */
export const isRunning = (task: TaskInstance | null): task is TaskInstance =>
  task !== null && task.state === "running" && DELIVERING.includes(task.operator);
