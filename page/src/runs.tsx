// The runs of one audience, a row each: counts, why a run stopped, who approved it, deliveries, cost, links to Airflow.

import type { Delivery } from "./contract.ts";
import { type Run, runPath, taskPath } from "./history.ts";
import { Leave } from "./parts.tsx";
import { costOf, counted, numeral, utc } from "./words.ts";

const COLUMNS = ["As of, UTC", "State", "Members", "Entered", "Exited", "Updated", "Delivered", "Warehouse", "Airflow"];

export function RunTable({ runs }: { runs: readonly Run[] }) {
  const of = (value: number | undefined) => (value === undefined ? "–" : numeral(value));
  return (
    <table class="cards" data-testid="runs-table">
      <caption>Runs, the newest first</caption>
      <thead>
        <tr>{COLUMNS.map((name, n) => <th key={name} scope="col" class={n >= 2 && n <= 5 ? "number" : "text"}>{name}</th>)}</tr>
      </thead>
      <tbody>
        {runs.map((run) => (
          <tr key={`${run.asOf} ${run.state} ${run.source.runId}`} data-testid="run-row" data-as-of={new Date(run.asOf).toISOString()}>
            <th scope="row" class="text">{utc(run.asOf)}</th>
            <td class="text wide"><Outcome run={run} /></td>
            <td class="number" data-label="Members">{of(run.counts?.members)}</td>
            <td class="number" data-label="Entered">{of(run.changed?.entered)}</td>
            <td class="number" data-label="Exited">{of(run.changed?.exited)}</td>
            <td class="number" data-label="Updated">{of(run.changed?.updated)}</td>
            <td class="text wide" data-label="Delivered">{run.deliveries.length ? run.deliveries.map((d) => <DeliveryLine key={d.destination} delivery={d} />) : "–"}</td>
            <td class="text wide" data-label="Warehouse" data-testid="cost">{costOf([run.cost, ...run.deliveries.map((d) => d.cost)])}</td>
            <td class="text wide" data-label="Airflow">
              <Leave path={runPath(run.source)} testid="run-link">run</Leave> <Leave path={taskPath(run.source)} testid="task-link">task</Leave>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Outcome({ run }: { run: Run }) {
  return (
    <>
      <span class={`state ${run.state.replaceAll(" ", "-")}`}>{run.state}</span>
      {[...run.notes, ...run.sentences].map((sentence) => <p class="sentence" key={sentence}>{sentence}</p>)}
      {run.approvals.map(({ by, at, answer }) => (
        <p class="sentence" key={at} data-testid="approval">answered {answer}{by ? ` by ${by}` : ""}, {utc(at)}</p>
      ))}
    </>
  );
}

function DeliveryLine({ delivery: d }: { delivery: Delivery }) {
  const more = [
    d.retried && `${numeral(d.retried)} retried`,
    d.rejected && `${numeral(d.rejected)} rejected`,
    d.omitted && `${numeral(d.omitted)} left out`,
    d.excluded && `${numeral(d.excluded)} without consent`,
    d.filtered && `${numeral(d.filtered)} filtered`,
    d.deadLetters && counted(d.deadLetters, "dead letter"),
  ].filter(Boolean);
  return (
    <span class="under">
      {numeral(d.delivered)} to <Leave path={taskPath(d.source)}>{d.destination}</Leave> in {d.seconds} s{more.map((one) => `, ${one}`)}
    </span>
  );
}
