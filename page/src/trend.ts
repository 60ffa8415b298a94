// How an audience went over its last runs: the points of a sparkline. Pure.

import type { ChangeSet } from "./contract.ts";
import { audiencesOf } from "./overview.ts";

/** How many runs a sparkline has. */
export const TREND_RUNS = 14;

export interface Point {
  members: number;
  entered: number;
  exited: number;
}

/** Give the last runs of an audience, the oldest first; a run that does not list it is left out. */
export function trendOf(audienceId: string, runs: readonly ChangeSet[]): Point[] {
  const found = runs.slice(0, TREND_RUNS).map((changeSet) => audiencesOf(changeSet).find((one) => one.id === audienceId));
  return found.filter((one) => one !== undefined).reverse();
}

/** Check whether a sync has older runs that would make its sparklines longer. */
export const hasOlder = (runs: readonly ChangeSet[]): boolean =>
  runs.length > 0 && runs.length < TREND_RUNS && runs.at(-1)!.previousAsOf !== null;

/** Place points along a line, in the unit square: x from 0 to 1, y from 0 (least) to 1 (most); a flat line is halfway. */
export function place(values: readonly number[]): [number, number][] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return values.map((value, n) => [values.length > 1 ? n / (values.length - 1) : 0.5, most > least ? (value - least) / (most - least) : 0.5]);
}
