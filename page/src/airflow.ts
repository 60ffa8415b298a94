// Asks Airflow's REST API, with the session and the rights of the user who looks. It reads and never writes, keeps
// nothing, and says in a sentence what to do when Airflow refuses.

import { instant, type Source } from "./contract.ts";

const PAGE = 100;
const AT_ONCE = 6;

/** A task instance as the API describes it. */
export interface TaskInstance extends Source {
  operator: string;
  state: string;
  runAfter: number;
  startedAt: number | null;
  endedAt: number | null;
  tryNumber: number;
}

export interface Dag {
  dagId: string;
  isPaused: boolean;
  nextRunAfter: number | null;
}

export class AirflowError extends Error {
  status: number;

  constructor(status: number, sentence: string) {
    super(sentence);
    this.status = status;
  }
}

const REFUSALS: Record<number, string> = {
  401: "Your Airflow login has expired. Reload the page and log in.",
  403: "You have no permission to read this. Ask for the permission to read DAGs, their runs, task instances and XComs, and assets.",
  404: "Airflow does not have this. It was deleted, or the page's address is wrong.",
};

type Query = Record<string, string | number | readonly string[]>;
type Answer = Record<string, unknown>;

export class Airflow {
  #base: string;
  #fetch: typeof fetch;
  #free = AT_ONCE;
  #waiting: (() => void)[] = [];

  /** @param base where `api/v2/` is, absolute. */
  constructor(base: string, fetcher: typeof fetch = (...given) => fetch(...given)) {
    this.#base = base;
    this.#fetch = fetcher;
  }

  /** Give asset events, newest first, page by page, until `enough` says so or there are no more. */
  async events(query: Query, most: number, enough: (events: unknown[]) => boolean): Promise<unknown[]> {
    return this.#pages("assets/events", "asset_events", { order_by: "-timestamp", ...query }, most, enough);
  }

  /** Give task instances of operators, newest runs first. */
  async tasks(operators: readonly string[], query: Query, most: number): Promise<TaskInstance[]> {
    const asked = { operator: operators, order_by: "-run_after", ...query };
    const found = await this.#pages("dags/~/dagRuns/~/taskInstances", "task_instances", asked, most, () => false);
    return found.map(readTask).filter((task) => task !== null);
  }

  /** Give what is known of some DAGs; those that the user may not read are left out. */
  async dags(ids: readonly string[]): Promise<Dag[]> {
    const found =
      ids.length <= PAGE / 10
        ? await Promise.all(ids.map((id) => this.get(`dags/${encodeURIComponent(id)}`).catch(() => null)))
        : await this.#pages("dags", "dags", {}, 20, () => false);
    return (found as (Answer | null)[])
      .filter((dag): dag is Answer => dag !== null && ids.includes(String(dag.dag_id)))
      .map((dag) => ({
        dagId: String(dag.dag_id),
        isPaused: dag.is_paused === true,
        nextRunAfter: instant(dag.next_dagrun_run_after),
      }));
  }

  /** Give an XCom of a task instance, or null if there is none. */
  async xcom(of: Source, key: string): Promise<unknown> {
    const [dag, run, task] = [of.dagId, of.runId, of.taskId].map(encodeURIComponent);
    const path = `dags/${dag}/dagRuns/${run}/taskInstances/${task}/xcomEntries/${key}`;
    try {
      const { value } = await this.get(path, { map_index: of.mapIndex, deserialize: "false" });
      return typeof value === "string" ? JSON.parse(value) : value;
    } catch (error) {
      if (error instanceof AirflowError && error.status === 404) return null;
      throw error;
    }
  }

  /** Ask for a path below `api/v2/`. */
  async get(path: string, query: Query = {}): Promise<Answer> {
    const url = new URL(`api/v2/${path}`, this.#base);
    for (const [name, value] of Object.entries(query))
      for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, String(one));
    await this.#turn();
    try {
      const answer = await this.#fetch(url, { credentials: "same-origin", headers: { accept: "application/json" } });
      if (!answer.ok) throw new AirflowError(answer.status, REFUSALS[answer.status] ?? `Airflow answered with ${answer.status}; see its API server's log. The page retries automatically.`);
      return (await answer.json()) as Answer;
    } catch (error) {
      if (error instanceof AirflowError) throw error;
      throw new AirflowError(0, "Airflow did not answer. The page retries automatically.");
    } finally {
      this.#free += 1;
      this.#waiting.shift()?.();
    }
  }

  async #turn(): Promise<void> {
    while (this.#free <= 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#free -= 1;
  }

  async #pages(path: string, key: string, query: Query, most: number, enough: (found: unknown[]) => boolean): Promise<unknown[]> {
    const first = await this.get(path, { ...query, limit: PAGE, offset: 0 });
    const found = listed(first[key]);
    // A server may be set to give fewer at a time than it is asked for.
    const size = found.length;
    const ask = async (page: number) => this.get(path, { ...query, limit: PAGE, offset: page * size });
    const pages = size ? Math.min(most, Math.ceil(Number(first.total_entries ?? size) / size)) : 0;
    for (let next = 1; next < pages && !enough(found); next += AT_ONCE) {
      const numbers = Array.from({ length: Math.min(AT_ONCE, pages - next) }, (_, n) => next + n);
      for (const answer of await Promise.all(numbers.map(ask))) found.push(...listed(answer[key]));
    }
    return found;
  }
}

const listed = (value: unknown): unknown[] => (Array.isArray(value) ? [...value] : []);

function readTask(value: unknown): TaskInstance | null {
  const row = value as Answer;
  const runAfter = instant(row?.run_after);
  if (runAfter === null) return null;
  return {
    dagId: String(row.dag_id),
    runId: String(row.dag_run_id),
    taskId: String(row.task_id),
    mapIndex: Number(row.map_index ?? -1),
    operator: String(row.operator_name ?? row.operator),
    state: String(row.state ?? "none"),
    runAfter,
    startedAt: instant(row.start_date),
    endedAt: instant(row.end_date),
    tryNumber: Number(row.try_number ?? 0),
  };
}
