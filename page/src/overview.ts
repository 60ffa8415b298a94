// What the page shows of all syncs, worked out of what Airflow has answered. Pure: no clock, no network, no document.

import type { Dag, TaskInstance } from "./airflow.ts";
import type { AudienceCounts, ChangeSet, Counts, Delivery, Source, Stop } from "./contract.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const GRACE = HOUR / 6;

export const DIFF = "AudienceDiffOperator";
export const APPROVAL = "AudienceApprovalOperator";
export const DELIVERING = [
  "AudienceToKinesisOperator",
  "AudienceToFirehoseOperator",
  "AudienceReplayOperator",
  "AudienceResyncOperator",
  "AudienceDeleteOperator",
  "EventsToKinesisOperator",
];
export const OPERATORS = [DIFF, APPROVAL, ...DELIVERING];
/** A person is asked: Airflow 3.3 has a state of its own for it. */
const ASKING = ["awaiting_input", "deferred"];
/** What a delivery waits for, where it waits. */
const WAITS: Record<string, string | undefined> = {
  up_for_retry: "An attempt failed; the next one continues where it stopped.",
  deferred: "The stream throttles and accepts nothing at this moment; the task waits, and then continues where it stopped.",
};
const ENDED = ["success", "skipped", "failed", "upstream_failed", "removed"];

const HOW_TO_APPROVE =
  "Held alone: all other audiences are published, and each run computes this one again. If it is right, approve it with the command approve, or trigger a run that lets it through.";

/** From worst to best. */
export const STATES = ["held", "failed", "late", "delivering", "ok"] as const;
export type State = (typeof STATES)[number];

export interface Lag {
  destination: string;
  /** change sets that it has not received */
  behind: number;
}

export interface Sync {
  syncId: string;
  /** the newest instant that a change set speaks for; null where none was recorded yet */
  asOf: number | null;
  state: State;
  sentences: string[];
  /** by id the audiences that the state is about, and why; empty if it is about all */
  heldAudiences: Map<string, string[]>;
  /** the task instance that the state is about */
  about: TaskInstance | null;
  lastSuccess: number | null;
  lags: Lag[];
  /** what is kept for a delivery beyond the retention, as of the newest change set */
  pinned: string[];
  paused: boolean;
  /** none where nothing is known of it */
  dagId: string | null;
  /** when the DAG's next run is due; null without a schedule, or while it is paused */
  nextRun: number | null;
  moreAudiences: number;
  audiences: Row[];
  /** members that are too large for a record, at all destinations */
  deadLetters: number;
  /** the change sets that are known, the newest first, without those that were inserted before others */
  runs: ChangeSet[];
}

export interface Row extends AudienceCounts {
  sync: Sync;
  /** those of the sync, unless single audiences are held */
  state: State;
  sentences: string[];
  /** entered and exited in the 24 hours up to the sync's newest instant */
  day: { entered: number; exited: number };
  /** share of the members that entered or exited in these 24 hours; null without members */
  volatility: number | null;
}

export interface Answers {
  changeSets: readonly ChangeSet[];
  deliveries: readonly Delivery[];
  tasks: readonly TaskInstance[];
  dags: readonly Dag[];
  /** by `keyOf` the task instance */
  stops: ReadonlyMap<string, Stop>;
  now: number;
}

/** Name a task instance. */
export const keyOf = (of: Source): string => JSON.stringify([of.dagId, of.runId, of.taskId, of.mapIndex]);
/** Name a task, whatever its run. */
export const taskOf = (of: Source): string => JSON.stringify([of.dagId, of.taskId, of.mapIndex]);

/** States in which a person is to act, or to look. */
export const NEEDS_A_PERSON: readonly State[] = ["held", "failed", "late"];

/** Keep the newest event of each instant: a task that is cleared emits another one. */
export function newestOfEach<T extends { asOf: number; emittedAt: number }>(events: readonly T[]): T[] {
  const found = new Map<number, T>();
  for (const event of events) {
    const known = found.get(event.asOf);
    if (known === undefined || event.emittedAt > known.emittedAt) found.set(event.asOf, event);
  }
  return [...found.values()].sort((a, b) => b.asOf - a.asOf);
}

/** The same for change sets; the event of one that was found again may not list its audiences, but the first one did. */
export function changeSetsOfEach(events: readonly ChangeSet[]): ChangeSet[] {
  return newestOfEach(events).map((newest) => {
    if (newest.audiences) return newest;
    const listed = newestOfEach(events.filter((e) => e.asOf === newest.asOf && e.audiences))[0];
    return listed ? { ...newest, audiences: listed.audiences, moreAudiences: listed.moreAudiences } : newest;
  });
}

/** Count the changes of a change set. */
export const changesIn = (counts: Counts): number => counts.entered + counts.exited + counts.updated;

/** Find how far each destination of a sync is behind. Of an empty change set nothing is delivered. */
export function lagsOf(changeSets: readonly ChangeSet[], deliveries: readonly Delivery[]): Lag[] {
  const reached = new Map<string, number>();
  for (const { destination, upTo } of deliveries)
    reached.set(destination, Math.max(upTo, reached.get(destination) ?? -Infinity));
  return [...reached]
    .map(([destination, upTo]) => ({
      destination,
      behind: changeSets.filter((c) => c.asOf > upTo && changesIn(c) > 0).length,
    }))
    .sort((a, b) => a.destination.localeCompare(b.destination));
}

/** Return all syncs with their states, the worst first. */
export function overview(answers: Answers): Sync[] {
  const syncIds = syncsOfTasks(answers);
  const grouped = {
    changeSets: Map.groupBy(answers.changeSets, (c) => c.syncId),
    deliveries: Map.groupBy(answers.deliveries, (d) => d.syncId),
    tasks: Map.groupBy(answers.tasks, (t) => syncIds.get(keyOf(t))!),
  };
  const dags = new Map(answers.dags.map((dag) => [dag.dagId, dag]));
  const known = new Set([...grouped.changeSets.keys(), ...grouped.deliveries.keys(), ...grouped.tasks.keys()]);
  return [...known]
    .map((syncId) =>
      syncOf(
        syncId,
        changeSetsOfEach(grouped.changeSets.get(syncId) ?? []),
        grouped.deliveries.get(syncId) ?? [],
        grouped.tasks.get(syncId) ?? [],
        dags,
        answers,
      ),
    )
    .sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state) || a.syncId.localeCompare(b.syncId));
}

/** Find the sync of each task instance: by its own XCom, by its task's earlier events, by its DAG's only sync. */
function syncsOfTasks(answers: Answers): Map<string, string> {
  const byTask = new Map<string, string>();
  const ofDag = new Map<string, Set<string>>();
  // Oldest first, so that the newest holds.
  for (const event of [...answers.changeSets, ...answers.deliveries].sort((a, b) => a.emittedAt - b.emittedAt)) {
    byTask.set(taskOf(event.source), event.syncId);
    ofDag.set(event.source.dagId, (ofDag.get(event.source.dagId) ?? new Set()).add(event.syncId));
  }
  for (const task of answers.tasks) {
    const syncId = answers.stops.get(keyOf(task))?.syncId;
    if (syncId) byTask.set(taskOf(task), syncId);
  }
  const found = new Map<string, string>();
  for (const task of answers.tasks) {
    const only = ofDag.get(task.dagId)?.size === 1 ? [...ofDag.get(task.dagId)!][0] : undefined;
    found.set(keyOf(task), byTask.get(taskOf(task)) ?? only ?? `${task.dagId}.${task.taskId}`);
  }
  return found;
}

function syncOf(
  syncId: string,
  changeSets: readonly ChangeSet[],
  deliveries: readonly Delivery[],
  tasks: readonly TaskInstance[],
  dags: ReadonlyMap<string, Dag>,
  { stops, now }: Answers,
): Sync {
  const newest = changeSets.find((changeSet) => !changeSet.inserted);
  const successes = tasks.filter((t) => DELIVERING.includes(t.operator) && t.state === "success");
  const last = Math.max(...successes.map((t) => t.endedAt ?? 0), ...deliveries.map((d) => d.emittedAt));
  const dagId = newest?.source.dagId ?? tasks[0]?.dagId ?? null;
  const dag = dags.get(dagId ?? "");
  const runs = changeSets.filter((changeSet) => !changeSet.inserted);
  const received = [...Map.groupBy(deliveries, (d) => d.destination).values()].map((all) => newestOfEach(all)[0]!);
  const sync: Sync = {
    syncId,
    asOf: newest?.asOf ?? null,
    ...worstOf(worst(tasks, stops, dag, now), newest, tasks),
    lastSuccess: Number.isFinite(last) && last > 0 ? last : null,
    lags: lagsOf(changeSets, deliveries),
    pinned: newest?.pinned ?? [],
    paused: dag?.isPaused ?? false,
    dagId,
    nextRun: dag && !dag.isPaused ? dag.nextRunAfter : null,
    moreAudiences: newest?.moreAudiences ?? 0,
    audiences: [],
    deadLetters: received.reduce((all, d) => all + d.deadLetters, 0),
    runs,
  };
  sync.audiences = rowsOf(sync, runs);
  return sync;
}

function rowsOf(sync: Sync, changeSets: readonly ChangeSet[]): Row[] {
  const [newest] = changeSets;
  if (!newest) return [];
  const day = new Map<string, { entered: number; exited: number }>();
  for (const changeSet of changeSets.filter((c) => c.asOf > newest.asOf - DAY))
    for (const audience of audiencesOf(changeSet)) {
      const sum = day.get(audience.id) ?? { entered: 0, exited: 0 };
      day.set(audience.id, { entered: sum.entered + audience.entered, exited: sum.exited + audience.exited });
    }
  const listed = audiencesOf(newest);
  // Held before anything was published of it, or too small to be listed.
  const unlisted = [...sync.heldAudiences.keys()].filter((id) => !listed.some((audience) => audience.id === id));
  const none = { entered: 0, exited: 0, updated: 0, members: 0 };
  return [...listed, ...unlisted.map((id) => ({ id, name: id, ...none }))].map((audience) => {
    const sum = day.get(audience.id) ?? { entered: 0, exited: 0 };
    const volatility = audience.members ? (sum.entered + sum.exited) / audience.members : null;
    const why = sync.heldAudiences.get(audience.id);
    const isOk = sync.heldAudiences.size > 0 && !why;
    return { ...audience, sync, state: isOk ? "ok" : sync.state, sentences: isOk ? [] : [...(why ?? []), ...sync.sentences], day: sum, volatility };
  });
}

/** Give the audiences of a change set; of one that does not list them, all together. */
export function audiencesOf(changeSet: ChangeSet): AudienceCounts[] {
  const { entered, exited, updated, members } = changeSet;
  return changeSet.audiences ?? [{ id: "", name: "All audiences", entered, exited, updated, members }];
}

type Found = Pick<Sync, "state" | "sentences" | "about">;

/** Find audiences that alone are held, unless all are held or failed. */
function worstOf(found: Found, newest: ChangeSet | undefined, tasks: readonly TaskInstance[]): Found & Pick<Sync, "heldAudiences"> {
  if (!newest?.held.size || ["held", "failed"].includes(found.state)) return { ...found, heldAudiences: new Map() };
  const about = tasks.find((task) => keyOf(task) === keyOf(newest.source)) ?? null;
  return { state: "held", sentences: [HOW_TO_APPROVE], heldAudiences: newest.held, about };
}

function worst(
  tasks: readonly TaskInstance[],
  stops: ReadonlyMap<string, Stop>,
  dag: Dag | undefined,
  now: number,
): Found {
  const found = newestOfTasks(tasks).map((task) => ({ task, ...stateOf(task, stops.get(keyOf(task))) }));
  const own = found.filter(({ state }) => state !== "ok").sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state))[0];
  if (own && own.state !== "delivering") return { state: own.state, sentences: own.sentences, about: own.task };
  const late = whyLate(tasks, dag, now);
  if (late) return { state: "late", sentences: [late], about: null };
  return own ? { state: own.state, sentences: own.sentences, about: own.task } : { state: "ok", sentences: [], about: null };
}

function newestOfTasks(tasks: readonly TaskInstance[]): TaskInstance[] {
  const found = new Map<string, TaskInstance>();
  for (const task of tasks) {
    const known = found.get(taskOf(task));
    if (known === undefined || task.runAfter > known.runAfter) found.set(taskOf(task), task);
  }
  return [...found.values()];
}

function stateOf(task: TaskInstance, stop: Stop | undefined): { state: State; sentences: string[] } {
  const sentences = stop?.sentences ?? [];
  if (task.operator === APPROVAL)
    return ASKING.includes(task.state) ? { state: "held", sentences } : { state: task.state === "failed" ? "failed" : "ok", sentences };
  if (task.state === "failed") return { state: stop?.state === "held" ? "held" : "failed", sentences };
  if (!DELIVERING.includes(task.operator) || ENDED.includes(task.state) || task.state === "none") return { state: "ok", sentences: [] };
  const waits = WAITS[task.state];
  return { state: "delivering", sentences: waits ? [waits, ...sentences] : [] };
}

function whyLate(tasks: readonly TaskInstance[], dag: Dag | undefined, now: number): string | null {
  const next = dag && !dag.isPaused ? dag.nextRunAfter : null;
  if (next === null) return null;
  if (now > next + GRACE) return "The next run is due and has not started. Check that the scheduler runs, and the DAG's max_active_runs.";
  const runs = tasks.map((t) => t.runAfter);
  const good = tasks.filter((t) => t.state === "success" && t.operator !== APPROVAL).map((t) => t.runAfter);
  if (!good.length) return null;
  const gap = next - Math.max(...runs);
  return gap > 0 && Math.max(...good) < next - 2 * gap ? "The last run that was delivered is more than one run ago." : null;
}

/** Check whether events reach far enough back: every sync has its newest, and the 24 hours before it. */
export function reachesBack(changeSets: readonly ChangeSet[], syncs: number): boolean {
  const bySync = Map.groupBy(changeSets, (c) => c.syncId);
  if (bySync.size < syncs) return false;
  return [...bySync.values()].every((own) => {
    const instants = own.map((c) => c.asOf);
    const newest = Math.max(...instants);
    return Math.min(...instants) <= newest - DAY || own.some((c) => c.previousAsOf === null);
  });
}
