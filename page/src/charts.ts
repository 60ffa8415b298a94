// The charts of one audience's runs. Options are made by pure functions; a chart is described in words, too, and every
// number in it stands in the table of runs beneath. Nothing that was written by somebody gets into a chart.

import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { type EChartsCoreOption, init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Run } from "./history.ts";
import { compact, fineSpan, labelsOf, numeral, utc } from "./words.ts";

use([BarChart, LineChart, GridComponent, LegendComponent, TooltipComponent, SVGRenderer]);

export type Kind = "size" | "changes" | "lag";

export interface Colours {
  text: string;
  line: string;
  members: string;
  entered: string;
  exited: string;
  bound: string;
  /** a font family: without its real name the library measures texts by another font */
  font: string;
}

/** A bound is drawn where the largest change, or the fewest members, come this near to it. */
const NEAR = 0.5;

type Points = (number | null | { value: number; symbol: string; symbolSize: number })[];

const line = (name: string, data: Points, colour: string, more: object = {}) => ({
  name,
  type: "line",
  data,
  step: "end",
  symbol: "circle",
  symbolSize: 5,
  lineStyle: { color: colour, width: 2 },
  itemStyle: { color: colour },
  ...more,
});
const bars = (name: string, data: Points, colour: string) => ({
  name,
  type: "bar",
  data,
  stack: "changes",
  itemStyle: { color: colour },
  barMaxWidth: 18,
});
/** What a guard stops, as a band from its bound to the end of the axis. */
const band = (name: string, data: Points, colour: string) =>
  line(name, data, colour, { step: "middle", symbol: "none", lineStyle: { color: colour, width: 1, type: "dashed" }, areaStyle: { color: colour, opacity: 0.14, origin: "start" } });
const bandWhereNear = (name: string, data: Points, colour: string) => (data.some((one) => one !== null) ? [band(name, data, colour)] : []);

/** Give the exits that would have tripped a guard, downwards, for runs whose bound is near to the largest change. */
function nearLimits(runs: readonly Run[]): (number | null)[] {
  const most = Math.max(0, ...runs.map((run) => run.counts?.exited ?? 0));
  return runs.map(({ exitLimit }) => (exitLimit !== null && exitLimit * NEAR <= most ? -exitLimit : null));
}

/** Where the axis of exits ends: below the bound, so that its band is seen; none where no bound is drawn. */
function lowest(runs: readonly Run[]): number | null {
  const limits = nearLimits(runs).filter((one) => one !== null);
  return limits.length ? Math.floor(1.25 * Math.min(...limits)) : null;
}

function nearLeast(runs: readonly Run[]): (number | null)[] {
  const fewest = Math.min(...runs.flatMap((run) => (run.counts ? [run.counts.members] : [])));
  return runs.map(({ minMembers }) => (minMembers !== null && minMembers >= fewest * NEAR ? minMembers : null));
}

const special = (value: number): Points[number] => ({ value, symbol: "diamond", symbolSize: 11 });

/** Give the members after each run, and those that a run which stopped has left as they were. */
function memberPoints(runs: readonly Run[]): { members: Points; stopped: Points } {
  let last: number | null = null;
  const [members, stopped]: [Points, Points] = [[], []];
  for (const { counts, isSpecial } of runs) {
    if (counts) last = counts.members;
    members.push(counts ? (isSpecial ? special(counts.members) : counts.members) : null);
    stopped.push(counts ? null : last);
  }
  return { members, stopped };
}

function lagSeries(runs: readonly Run[], colours: Colours): object[] {
  const destinations = [...new Set(runs.flatMap((run) => [...run.lags.keys()]))].sort();
  const palette = [colours.members, colours.entered, colours.exited, colours.bound];
  return destinations.map((destination, n) => {
    const seconds = runs.map((run) => run.lags.get(destination) ?? null).map((lag) => (lag === null ? null : Math.round(lag / 1_000)));
    return line(destination, seconds, palette[n % palette.length]!, { step: false, connectNulls: true });
  });
}

/** Make the series of a chart; runs come oldest first. */
function seriesOf(kind: Kind, runs: readonly Run[], colours: Colours): object[] {
  if (kind === "lag") return lagSeries(runs, colours);
  if (kind === "size") {
    const { members, stopped } = memberPoints(runs);
    const marks = line("stopped", stopped, colours.exited, { symbol: "triangle", symbolSize: 10, lineStyle: { width: 0 } });
    return [
      line("members", members, colours.members, { connectNulls: true }),
      ...(stopped.some((one) => one !== null) ? [marks] : []),
      ...bandWhereNear("below the guard's bound", nearLeast(runs), colours.bound),
    ];
  }
  return [
    bars("entered", runs.map((run) => run.counts?.entered ?? null), colours.entered),
    bars("exited", runs.map((run) => (run.counts ? -run.counts.exited : null)), colours.exited),
    ...bandWhereNear("beyond the guard's bound", nearLimits(runs), colours.bound),
  ];
}

/** Make the options of a chart; runs come oldest first. */
export function optionsOf(kind: Kind, runs: readonly Run[], colours: Colours): EChartsCoreOption {
  const [series, labels] = [seriesOf(kind, runs, colours), labelsOf(runs.map((run) => run.asOf))];
  // Names of destinations are long: each may need a line of the legend for itself.
  const top = 34 + (kind === "lag" ? 18 * Math.max(0, series.length - 1) : 0);
  const written = (value: number) => (kind === "lag" ? fineSpan(value * 1_000) : numeral(Math.abs(value)));
  return {
    animation: false,
    textStyle: { color: colours.text, fontFamily: colours.font },
    grid: { left: 56, right: 16, top, bottom: 28 },
    legend: { top: 0, left: 0, textStyle: { color: colours.text, fontFamily: colours.font }, itemWidth: 16, itemGap: 16 },
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      confine: true,
      valueFormatter: (value: unknown) => (typeof value === "number" ? written(value) : "–"),
    },
    xAxis: {
      type: "category",
      data: runs.map((run) => utc(run.asOf)),
      axisLabel: { color: colours.text, hideOverlap: true, formatter: (_: string, n: number) => labels[n]! },
      axisLine: { lineStyle: { color: colours.text }, onZero: false },
    },
    yAxis: {
      type: "value",
      minInterval: 1,
      scale: kind === "size",
      ...(kind === "changes" ? { min: lowest(runs) } : {}),
      axisLabel: { color: colours.text, formatter: (value: number) => (kind === "lag" ? fineSpan(value * 1_000) : compact(Math.abs(value))) },
      splitLine: { lineStyle: { color: colours.line } },
    },
    series,
  };
}

/** Describe in a sentence what a chart shows; runs come oldest first. */
export function sentenceOf(kind: Kind, runs: readonly Run[]): string {
  const counted = runs.filter((run) => run.counts);
  const [first, last] = [counted[0], counted.at(-1)];
  if (!first || !last) return "No run has reported this audience yet.";
  const when = `from ${utc(first.asOf)} to ${utc(last.asOf)} UTC`;
  if (kind === "size") return `Members ${when}: ${numeral(first.counts!.members)} at first, ${numeral(last.counts!.members)} at last.`;
  const sum = (of: (run: Run) => number) => numeral(counted.reduce((all, run) => all + of(run), 0));
  if (kind === "changes") return `Changes ${when}: ${sum((r) => r.counts!.entered)} entered, ${sum((r) => r.counts!.exited)} exited.`;
  const longest = new Map<string, number>();
  for (const run of counted) for (const [destination, lag] of run.lags) longest.set(destination, Math.max(lag, longest.get(destination) ?? 0));
  const lags = [...longest].map(([destination, lag]) => `at most ${fineSpan(lag)} to ${destination}`);
  return `Time from record to delivery ${when}: ${lags.join(", ") || "nothing was delivered, 0 deliveries"}.`;
}

/** Draw a chart into an element, and again whenever the element's size changes; gives what redraws it, and what ends it. */
export function draw(element: HTMLElement): { show: (options: EChartsCoreOption) => void; end: () => void } {
  const chart = init(element, null, { renderer: "svg" });
  const watching = new ResizeObserver(() => chart.resize());
  watching.observe(element);
  return {
    show: (options) => chart.setOption(options, { notMerge: true }),
    end: () => {
      watching.disconnect();
      chart.dispose();
    },
  };
}
