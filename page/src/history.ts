// What the page shows of one audience over time, worked out of what Airflow has answered. Pure.

import type { TaskInstance } from "./airflow.ts";
import type { Approval } from "./approvals.ts";
import type { AudienceCounts, Changed, ChangeSet, Cost, Delivery, Guards, Source, Stop } from "./contract.ts";
import { audiencesOf, changeSetsOfEach, changesIn, DIFF, keyOf, newestOfEach } from "./overview.ts";
import { counted } from "./words.ts";

export interface Run {
  asOf: number;
  state: "delivered" | "nothing to deliver" | "not delivered" | "compensation" | Stop["state"];
  /** counts of the audience; null for a run that recorded no change set, or does not list this audience */
  counts: AudienceCounts | null;
  /** changes of the audience, also of a compensation, which has no members of its own */
  changed: Changed | null;
  /** so many exits would have tripped a guard; null without a bound */
  exitLimit: number | null;
  minMembers: number | null;
  /** what a guard let through, what the run corrects, and the like, a sentence each */
  notes: string[];
  /** it is no plain run: it corrects another one, or was inserted before later ones */
  isSpecial: boolean;
  /** the newest delivery of each destination at this instant */
  deliveries: Delivery[];
  /** by destination the milliseconds from the record of the change set to its delivery */
  lags: Map<string, number>;
  approvals: Approval[];
  cost: Cost | null;
  sentences: string[];
  source: Source;
}

const NOTHING = { counts: null, changed: null, exitLimit: null, minMembers: null, notes: [], isSpecial: false, deliveries: [], lags: new Map<string, number>(), approvals: [], cost: null, sentences: [] };

/** Of a task that ended before it could say why, as by a kill. */
const UNKNOWN: Stop = { state: "failed", syncId: null, asOf: null, sentences: ["The task ended without a reason; see its log."] };

/** Return how many exits a guard would have allowed; null without a bound. */
export function exitLimit(guards: Guards, counts: AudienceCounts): number | null {
  const before = counts.members - counts.entered + counts.exited;
  const bounds: number[] = [];
  if (guards.maxExits !== null) bounds.push(guards.maxExits);
  if (guards.maxExitRatio !== null && before >= guards.ratioFromMembers) bounds.push(Math.floor(guards.maxExitRatio * before));
  return bounds.length ? Math.min(...bounds) : null;
}

export interface Known {
  changeSets: readonly ChangeSet[];
  deliveries: readonly Delivery[];
  tasks: readonly TaskInstance[];
  stops: ReadonlyMap<string, Stop>;
  approvals: readonly Approval[];
}

/** Give the runs of a sync as one audience sees them, newest first. */
export function runsOf(audienceId: string, known: Known): Run[] {
  const newest = changeSetsOfEach(known.changeSets);
  const recorded = newest.flatMap((changeSet) => [recordedRun(audienceId, changeSet, known), ...compensationOf(audienceId, changeSet, known)]);
  const instants = new Set(newest.map((changeSet) => changeSet.asOf));
  const stopped = known.tasks
    .filter((task) => task.operator === DIFF && (task.state === "failed" || known.stops.has(keyOf(task))))
    .map((task) => ({ task, stop: known.stops.get(keyOf(task)) ?? UNKNOWN }))
    .map(({ task, stop }): Run => {
      const approvals = approvalsOf(task, known.approvals);
      return { ...NOTHING, asOf: stop.asOf ?? task.runAfter, state: stop.state, sentences: stop.sentences, approvals, source: task };
    })
    .filter((run) => run.state === "skipped" || !instants.has(run.asOf));
  return [...recorded, ...stopped].sort((a, b) => b.asOf - a.asOf);
}

function recordedRun(audienceId: string, changeSet: ChangeSet, { changeSets, deliveries, approvals }: Known): Run {
  const counts = audiencesOf(changeSet).find((a) => a.id === audienceId) ?? null;
  const [own, lags] = [deliveriesAt(changeSet.asOf, deliveries), lagsTo(changeSet, changeSets, deliveries)];
  return {
    ...NOTHING,
    asOf: changeSet.asOf,
    state: isDelivered(changeSet.asOf, deliveries) ? "delivered" : changesIn(changeSet) ? "not delivered" : "nothing to deliver",
    counts,
    changed: counts,
    exitLimit: counts && changeSet.previousAsOf !== null ? exitLimit(changeSet.guards, counts) : null,
    minMembers: changeSet.guards.minMembers,
    notes: notesOf(changeSet),
    isSpecial: changeSet.inserted || changeSet.corrects !== null,
    deliveries: own,
    lags,
    approvals: approvalsOf(changeSet.source, approvals),
    cost: changeSet.cost,
    source: changeSet.source,
  };
}

const instantOf = (at: number): string => new Date(at).toISOString().slice(0, 19).replace("T", " ");

function notesOf({ corrects, inserted, compensation, recorded, confirmed, droppedRows, excluded, outranked, letThrough }: ChangeSet): string[] {
  const notes = letThrough.map((sentence) => `let through: ${sentence}`);
  if (corrects !== null) notes.unshift(`corrects ${instantOf(corrects)}`);
  if (inserted) notes.push(`inserted before later runs${compensation ? `; its compensation is at ${instantOf(compensation.asOf)}` : ""}`);
  if (confirmed) notes.push("computed again later, and found right: nothing was added");
  else if (recorded) notes.push("already published when the task ran again, so it was not computed again");
  if (droppedRows) notes.push(`${counted(droppedRows, "invalid row")} dropped`);
  if (excluded) notes.push(`${counted(excluded, "row")} of the source excluded (exclude_sql, consent_column)`);
  if (outranked) notes.push(`${counted(outranked, "row")} of the source outranked: the user is in an audience before`);
  return notes;
}

/** Make the row of the change set that leads from an inserted one back to the later membership. */
function compensationOf(audienceId: string, { compensation, asOf, source }: ChangeSet, { deliveries }: Known): Run[] {
  if (compensation === null) return [];
  const { entered, exited, updated, audiences } = compensation;
  const changed = audiences.get(audienceId) ?? (audiences.size ? null : { entered, exited, updated });
  const note = `compensates the run inserted at ${instantOf(asOf)}: later memberships stay as they are`;
  return [{ ...NOTHING, asOf: compensation.asOf, state: "compensation", changed, notes: [note], deliveries: deliveriesAt(compensation.asOf, deliveries), source }];
}

const isDelivered = (asOf: number, deliveries: readonly Delivery[]): boolean => deliveries.some((d) => d.asOf === asOf || d.upTo >= asOf);

function deliveriesAt(asOf: number, deliveries: readonly Delivery[]): Delivery[] {
  const byDestination = [...Map.groupBy(deliveries, (d) => d.destination).values()];
  return byDestination.flatMap((all) => newestOfEach(all).filter((d) => d.asOf === asOf));
}

/** Find how long after its record a change set was delivered to each destination, the first time; an empty one is not. */
function lagsTo(changeSet: ChangeSet, changeSets: readonly ChangeSet[], deliveries: readonly Delivery[]): Map<string, number> {
  const found = new Map<string, number>();
  if (!changesIn(changeSet) || changeSet.inserted) return found;
  const recordedAt = Math.min(...changeSets.filter((c) => c.asOf === changeSet.asOf).map((c) => c.emittedAt));
  for (const { destination, upTo, emittedAt } of deliveries)
    if (upTo >= changeSet.asOf && emittedAt >= recordedAt) found.set(destination, Math.min(emittedAt - recordedAt, found.get(destination) ?? Infinity));
  return found;
}

/** Find the answers about a task's change set: those of the same run, of the same group of tasks. */
function approvalsOf(of: Source, approvals: readonly Approval[]): Approval[] {
  const groupOf = (taskId: string) => taskId.split(".").slice(0, -1).join(".");
  const isOwn = (one: Source) => one.dagId === of.dagId && one.runId === of.runId && one.mapIndex === of.mapIndex && groupOf(one.taskId) === groupOf(of.taskId);
  return approvals.filter((approval) => isOwn(approval.of));
}

/** The addresses of Airflow's own pages, below its base. */
export const dagPath = (dagId: string): string => `dags/${encodeURIComponent(dagId)}`;
export const runPath = (of: { dagId: string; runId: string }): string =>
  `dags/${encodeURIComponent(of.dagId)}/runs/${encodeURIComponent(of.runId)}`;
export const taskPath = (of: Source): string =>
  `${runPath(of)}/tasks/${encodeURIComponent(of.taskId)}${of.mapIndex >= 0 ? `/mapped/${of.mapIndex}` : ""}`;
export const questionPath = (of: Source): string => `${taskPath(of)}/required_actions`;
