// The charts of one audience's runs. Options are made by pure functions; a chart is told in words, too, and every
// number in it stands in the table of runs beneath. Nothing that was written by somebody gets into a chart.

import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { type EChartsCoreOption, init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Run } from "./history.ts";
import { compact, numeral, utc } from "./words.ts";

use([BarChart, LineChart, GridComponent, LegendComponent, TooltipComponent, SVGRenderer]);

export type Kind = "size" | "changes" | "speed";

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

/** So many times the largest change is too far to be drawn. */
const FAR = 4;

type Points = (number | null)[];

const line = (name: string, data: Points, colour: string, dashed = false) => ({
  name,
  type: "line",
  data,
  step: dashed ? "middle" : "end",
  symbol: dashed ? "none" : "circle",
  symbolSize: 5,
  lineStyle: { color: colour, width: dashed ? 1.5 : 2, type: dashed ? "dashed" : "solid" },
  itemStyle: { color: colour },
});
const bars = (name: string, data: Points, colour: string, more: object = {}) => ({
  name,
  type: "bar",
  data,
  itemStyle: { color: colour },
  barMaxWidth: 18,
  ...more,
});

/** Make the series of a chart; runs come oldest first. */
function seriesOf(kind: Kind, runs: readonly Run[], colours: Colours): object[] {
  if (kind === "size") {
    const least = runs.map((run) => run.minMembers);
    const bound = least.some((one) => one !== null) ? [line("fewest allowed", least, colours.bound, true)] : [];
    return [line("members", runs.map((run) => run.counts?.members ?? null), colours.members), ...bound];
  }
  if (kind === "changes") {
    const most = runs.map((run) => (run.exitLimit === null ? null : -run.exitLimit));
    const newest = runs.at(-1)?.exitLimit;
    const name = newest == null ? "most exits allowed" : `most exits allowed: ${numeral(newest)} now`;
    const bound = most.some((one) => one !== null) ? [line(name, most, colours.bound, true)] : [];
    const stacked = { stack: "changes" };
    return [
      bars("entered", runs.map((run) => run.counts?.entered ?? null), colours.entered, stacked),
      bars("exited", runs.map((run) => (run.counts ? -run.counts.exited : null)), colours.exited, stacked),
      ...bound,
    ];
  }
  const sum = (run: Run, of: "delivered" | "retried" | "seconds") => run.deliveries.reduce((all, d) => all + d[of], 0);
  const speed = runs.map((run) => (sum(run, "seconds") > 0 ? sum(run, "delivered") / sum(run, "seconds") : null));
  return [
    line("changes per second", speed, colours.members),
    bars("records retried", runs.map((run) => (run.deliveries.length ? sum(run, "retried") : null)), colours.exited, { yAxisIndex: 1 }),
  ];
}

/** Where the axis of exits ends: a bound that is far from them is told in the legend, or the bars would be lines. */
function lowest(runs: readonly Run[]): number | undefined {
  const most = Math.max(1, ...runs.flatMap(({ counts }) => (counts ? [counts.entered, counts.exited] : [])));
  const furthest = Math.max(0, ...runs.map((run) => run.exitLimit ?? 0));
  return furthest > FAR * most ? -most : undefined;
}

/** Make the options of a chart; runs come oldest first. */
export function optionsOf(kind: Kind, runs: readonly Run[], colours: Colours): EChartsCoreOption {
  const axis = (more: object = {}) => ({
    type: "value",
    minInterval: 1,
    axisLabel: { color: colours.text, formatter: (value: number) => compact(Math.abs(value)) },
    splitLine: { lineStyle: { color: colours.line } },
    ...more,
  });
  return {
    animation: false,
    textStyle: { color: colours.text, fontFamily: colours.font },
    grid: { left: 56, right: kind === "speed" ? 56 : 16, top: 34, bottom: 28 },
    legend: { top: 0, left: 0, textStyle: { color: colours.text, fontFamily: colours.font }, itemWidth: 16, itemGap: 16 },
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      confine: true,
      valueFormatter: (value: unknown) => (typeof value === "number" ? numeral(Math.abs(value)) : "–"),
    },
    xAxis: {
      type: "category",
      data: runs.map((run) => utc(run.asOf)),
      axisLabel: { color: colours.text, hideOverlap: true, formatter: (at: string) => at.replace(" 00:00", "") },
      axisLine: { lineStyle: { color: colours.text } },
    },
    yAxis: kind === "changes" ? [axis({ min: lowest(runs) })] : kind === "speed" ? [axis(), axis({ splitLine: { show: false } })] : [axis()],
    series: seriesOf(kind, runs, colours),
  };
}

/** Say in a sentence what a chart shows; runs come oldest first. */
export function sentenceOf(kind: Kind, runs: readonly Run[]): string {
  const told = runs.filter((run) => run.counts);
  const [first, last] = [told[0], told.at(-1)];
  if (!first || !last) return "No run has reported this audience yet.";
  const when = `from ${utc(first.asOf)} to ${utc(last.asOf)} UTC`;
  if (kind === "size") return `Members ${when}: ${numeral(first.counts!.members)} at first, ${numeral(last.counts!.members)} at last.`;
  const sum = (of: (run: Run) => number) => numeral(told.reduce((all, run) => all + of(run), 0));
  if (kind === "changes") return `Changes ${when}: ${sum((r) => r.counts!.entered)} entered, ${sum((r) => r.counts!.exited)} exited.`;
  const of = (field: "delivered" | "retried") => sum((r) => r.deliveries.reduce((all, d) => all + d[field], 0));
  return `Deliveries ${when}: ${of("delivered")} changes delivered, ${of("retried")} records retried.`;
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
