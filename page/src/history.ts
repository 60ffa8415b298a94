// What the page shows of one audience over time, worked out of what Airflow has answered. Pure.

import type { TaskInstance } from "./airflow.ts";
import type { AudienceCounts, ChangeSet, Delivery, Guards, Stop } from "./contract.ts";
import { audiencesOf, changeSetsOfEach, changesIn, DIFF, keyOf, newestOfEach } from "./overview.ts";

export interface Run {
  asOf: number;
  /** counts of the audience; null for a run that recorded no change set, or does not tell of this audience */
  counts: AudienceCounts | null;
  /** so many exits would have tripped a guard; null without a bound */
  exitLimit: number | null;
  minMembers: number | null;
  letThrough: string[];
  /** the instant whose published membership it corrects; null for any other run */
  corrects: number | null;
  /** the newest delivery of each destination at this instant */
  deliveries: Delivery[];
  state: "delivered" | "nothing to deliver" | "not delivered" | "held" | "failed";
  sentences: string[];
  source: ChangeSet["source"];
}

/** Of a task that ended before it could say why, as by a kill. */
const UNKNOWN: Stop = { state: "failed", syncId: null, asOf: null, sentences: ["The task ended without a reason; see its log."] };

/** Tell how many exits a guard would have let pass; null without a bound. */
export function exitLimit(guards: Guards, counts: AudienceCounts): number | null {
  const before = counts.members - counts.entered + counts.exited;
  const bounds: number[] = [];
  if (guards.maxExits !== null) bounds.push(guards.maxExits);
  if (guards.maxExitRatio !== null && before >= guards.ratioFromMembers) bounds.push(Math.floor(guards.maxExitRatio * before));
  return bounds.length ? Math.min(...bounds) : null;
}

/** Give the runs of a sync as one audience sees them, newest first. */
export function runsOf(
  audienceId: string,
  changeSets: readonly ChangeSet[],
  deliveries: readonly Delivery[],
  tasks: readonly TaskInstance[],
  stops: ReadonlyMap<string, Stop>,
): Run[] {
  const byDestination = Map.groupBy(deliveries, (d) => d.destination);
  const recorded = changeSetsOfEach(changeSets).map((changeSet): Run => {
    const counts = audiencesOf(changeSet).find((a) => a.id === audienceId) ?? null;
    const own = [...byDestination.values()].flatMap((all) => newestOfEach(all).filter((d) => d.asOf === changeSet.asOf));
    const told = own.length > 0 || deliveries.some((d) => d.upTo >= changeSet.asOf);
    const state = told ? "delivered" : changesIn(changeSet) ? "not delivered" : "nothing to deliver";
    return {
      asOf: changeSet.asOf,
      counts,
      exitLimit: counts && changeSet.previousAsOf !== null ? exitLimit(changeSet.guards, counts) : null,
      minMembers: changeSet.guards.minMembers,
      letThrough: changeSet.letThrough,
      corrects: changeSet.corrects,
      deliveries: own,
      state,
      sentences: [],
      source: changeSet.source,
    };
  });
  const known = new Set(recorded.map((run) => run.asOf));
  const stopped = tasks
    .filter((task) => task.operator === DIFF)
    .filter((task) => task.state === "failed" || stops.has(keyOf(task)))
    .map((task) => ({ task, stop: stops.get(keyOf(task)) ?? UNKNOWN }))
    .map((found) => ({ ...found, asOf: found.stop.asOf ?? found.task.runAfter }))
    .filter(({ asOf }) => !known.has(asOf))
    .map(({ task, stop, asOf }): Run => ({
      asOf,
      counts: null,
      exitLimit: null,
      minMembers: null,
      letThrough: [],
      corrects: null,
      deliveries: [],
      state: stop.state,
      sentences: stop.sentences,
      source: task,
    }));
  return [...recorded, ...stopped].sort((a, b) => b.asOf - a.asOf);
}

/** The addresses of Airflow's own pages, below its base. */
export const dagPath = (dagId: string): string => `dags/${encodeURIComponent(dagId)}`;
export const runPath = (of: { dagId: string; runId: string }): string =>
  `dags/${encodeURIComponent(of.dagId)}/runs/${encodeURIComponent(of.runId)}`;
export const taskPath = (of: ChangeSet["source"]): string =>
  `${runPath(of)}/tasks/${encodeURIComponent(of.taskId)}${of.mapIndex >= 0 ? `/mapped/${of.mapIndex}` : ""}`;
export const questionPath = (of: ChangeSet["source"]): string => `${taskPath(of)}/required_actions`;
