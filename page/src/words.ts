// How numbers, shares and instants are written. Pure; one place, so that the page and its charts agree.

import type { Cost } from "./contract.ts";

const LOCALE = "en";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(LOCALE, { style: "percent", maximumFractionDigits: 1 });

export const numeral = (value: number): string => whole.format(value);
export const compact = (value: number): string => short.format(value);
export const percent = (value: number | null): string => (value === null ? "–" : share.format(value));

/** Write an instant in UTC: `1997-05-01 00:00`. */
export const utc = (at: number): string => new Date(at).toISOString().slice(0, 16).replace("T", " ");

/** Write instants for an axis, as short as all of them can be: days alone, or day and time without their only year. */
export function labelsOf(instants: readonly number[]): string[] {
  const full = instants.map(utc);
  if (full.every((at) => at.endsWith(" 00:00"))) return full.map((at) => at.slice(0, 10));
  return new Set(full.map((at) => at.slice(0, 4))).size === 1 ? full.map((at) => at.slice(5)) : full;
}

const UNITS: [number, string][] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"],
];

/** Write a span of milliseconds by its largest unit. */
export function span(milliseconds: number): string {
  const [size, unit] = UNITS.find(([size]) => milliseconds >= size) ?? [1_000, "s"];
  return `${Math.floor(Math.max(0, milliseconds) / size)} ${unit}`;
}

/** Write a span of milliseconds by the largest unit of which it has at least two, so that neighbours differ. */
export function fineSpan(milliseconds: number): string {
  const [size, unit] = UNITS.find(([size]) => milliseconds >= 2 * size) ?? [1_000, "s"];
  return `${Math.round(Math.max(0, milliseconds) / size)} ${unit}`;
}

/** Write a count of something: `1 change set`, `2 change sets`. */
export const counted = (count: number, what: string): string => `${numeral(count)} ${what}${count === 1 ? "" : "s"}`;

/** Write a number of bytes by its largest unit, of a thousand each: `640 B`, `1.2 GB`. */
export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let [value, unit] = [bytes, 0];
  // What would be rounded to a thousand is one of the next unit.
  while (value >= 999.5 && unit < units.length - 1) [value, unit] = [value / 1_000, unit + 1];
  return `${new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: value < 1_000 ? 3 : 21 }).format(value)} ${units[unit]}`;
}

/** Write what a run cost the warehouse, its deliveries included: what was read as far as the engine says it. */
export function costOf(costs: readonly (Cost | null)[]): string {
  const known = costs.filter((cost) => cost !== null);
  if (!known.length) return "–";
  const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
  const read = known.map((cost) => cost.bytesScanned).filter((bytes) => bytes !== null);
  const spent = `${counted(sum(known.map((cost) => cost.statements)), "statement")}, ${sum(known.map((cost) => cost.seconds)).toFixed(1)} s`;
  return read.length ? `${spent}, ${size(sum(read))} read` : spent;
}
