// The overview: a row per audience of each sync, to search, filter, sort and leaf through.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Airflow } from "./airflow.ts";
import { type Row, type State, STATES, type Sync } from "./overview.ts";
import { Ago, Go, StateMark, Trouble } from "./parts.tsx";
import * as place from "./place.ts";
import { counted, numeral, percent, utc } from "./words.ts";

const ROWS = 50;

/** A line of the table: an audience, or a sync that has told of none yet. */
interface Line {
  sync: Sync;
  row: Row | null;
}

const COLUMNS: [string, (line: Line) => number | string, string][] = [
  ["Audience", ({ sync, row }) => (row?.name ?? sync.syncId).toLowerCase(), "text"],
  ["State", (line) => STATES.indexOf(stateOf(line)), "text"],
  ["Members", ({ row }) => row?.members ?? -1, "number"],
  ["Entered", ({ row }) => row?.entered ?? -1, "number"],
  ["Exited", ({ row }) => row?.exited ?? -1, "number"],
  ["Entered 24 h", ({ row }) => row?.day.entered ?? -1, "number"],
  ["Exited 24 h", ({ row }) => row?.day.exited ?? -1, "number"],
  ["Volatility", ({ row }) => row?.volatility ?? -1, "number"],
  ["Last success", ({ sync }) => sync.lastSuccess ?? 0, "text"],
  ["Not delivered", ({ sync }) => Math.max(-1, ...sync.lags.map((lag) => lag.behind)), "text"],
];
const TITLES: Record<string, string> = {
  Entered: "in the last run",
  Exited: "in the last run",
  "Entered 24 h": "in the 24 hours up to the sync's newest instant",
  "Exited 24 h": "in the 24 hours up to the sync's newest instant",
  Volatility: "(entered + exited) / members, over these 24 hours",
  "Not delivered": "change sets that a destination has not received yet",
};

export function Overview(props: { syncs: Sync[]; settled: boolean; now: number; airflow: Airflow; at: place.Place }) {
  const [wanted, setWanted] = useState(props.at.words);
  const [state, setState] = useState(props.at.state as State | "");
  const [sort, setSort] = useState({ column: 1, down: false });
  const [page, setPage] = useState(0);
  const lines = useMemo(() => props.syncs.flatMap((sync): Line[] => (sync.audiences.length ? sync.audiences.map((row) => ({ sync, row })) : [{ sync, row: null }])), [props.syncs]);
  const shown = useMemo(() => sorted(lines.filter((line) => matches(line, wanted, state)), sort), [lines, wanted, state, sort]);
  useEffect(() => place.become({ words: wanted, state }), [wanted, state]);
  const pages = Math.max(1, Math.ceil(shown.length / ROWS));
  const leaf = Math.min(page, pages - 1);
  const more = props.syncs.reduce((all, sync) => all + sync.moreAudiences, 0);
  return (
    <>
      <Totals {...props} lines={lines.filter((line) => line.row).length} />
      <div class="tools" role="search">
        <input type="search" aria-label="Search audiences and syncs" placeholder="Search audiences and syncs" value={wanted} onInput={(e) => { setWanted(e.currentTarget.value); setPage(0); }} />
        <select aria-label="Filter by state" value={state} onChange={(e) => { setState(e.currentTarget.value as State | ""); setPage(0); }}>
          <option value="">all states</option>
          {STATES.map((one) => <option key={one} value={one}>{one}</option>)}
        </select>
      </div>
      <div class="scroll">
        <table data-testid="overview-table">
          <caption class="unseen">Audiences, {counted(shown.length, "row")}</caption>
          <thead>
            <tr>
              {COLUMNS.map(([name, , kind], n) => (
                <th key={name} scope="col" class={kind} title={TITLES[name]} aria-sort={sort.column !== n ? undefined : sort.down ? "descending" : "ascending"}>
                  <button type="button" onClick={() => setSort({ column: n, down: sort.column === n ? !sort.down : kind === "number" })}>
                    {name}{sort.column === n && <span aria-hidden="true">{sort.down ? " ↓" : " ↑"}</span>}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.slice(leaf * ROWS, (leaf + 1) * ROWS).map((line) => <LineOf key={`${line.sync.syncId}\n${line.row?.id}`} {...line} {...props} />)}
          </tbody>
        </table>
      </div>
      {more > 0 && <p class="note">{counted(more, "smaller audience")} of these syncs are not listed.</p>}
      {pages > 1 && (
        <nav class="pager" aria-label="Pages">
          <button type="button" disabled={leaf === 0} onClick={() => setPage(leaf - 1)}>Previous</button>
          <span>{leaf + 1} of {pages}</span>
          <button type="button" disabled={leaf === pages - 1} onClick={() => setPage(leaf + 1)}>Next</button>
        </nav>
      )}
    </>
  );
}

function Totals({ syncs, lines, settled }: { syncs: Sync[]; lines: number; settled: boolean }) {
  const of = (state: State) => syncs.filter((sync) => sync.state === state).length;
  return (
    <dl class="totals" data-testid="totals">
      <div><dt>audiences</dt><dd>{numeral(lines)}</dd></div>
      <div><dt>syncs</dt><dd>{numeral(syncs.length)}</dd></div>
      {STATES.map((state) => <div key={state}><dt><StateMark state={state} /></dt><dd>{settled ? numeral(of(state)) : "…"}</dd></div>)}
    </dl>
  );
}

function LineOf({ sync, row, settled, now, airflow }: Line & { settled: boolean; now: number; airflow: Airflow }) {
  const of = (value: number | undefined) => (value === undefined ? "–" : numeral(value));
  return (
    <tr data-testid="row" data-sync={sync.syncId} data-audience={row?.id ?? ""}>
      <th scope="row" class="text">
        <Go to={{ syncId: sync.syncId, audienceId: row?.id || null }}>{row?.name ?? sync.syncId}</Go>
        <span class="under">{row && row.id !== row.name ? `${row.id} · ` : ""}{sync.syncId} {sync.asOf !== null && <span class="whole">· as of {utc(sync.asOf)}</span>}</span>
      </th>
      <td class="text" data-testid="cell-state">
        {settled ? <StateMark state={stateOf({ sync, row })} /> : "…"} {sync.paused && <span class="paused">paused</span>}
        {settled && <Trouble sync={sync} row={row} airflow={airflow} />}
      </td>
      <td class="number" data-testid="cell-members">{of(row?.members)}</td>
      <td class="number" data-testid="cell-entered">{of(row?.entered)}</td>
      <td class="number" data-testid="cell-exited">{of(row?.exited)}</td>
      <td class="number" data-testid="cell-entered-24h">{of(row?.day.entered)}</td>
      <td class="number" data-testid="cell-exited-24h">{of(row?.day.exited)}</td>
      <td class="number" data-testid="cell-volatility">{percent(row?.volatility ?? null)}</td>
      <td class="text">{settled ? <Ago at={sync.lastSuccess} now={now} /> : "…"}</td>
      <td class="text" data-testid="cell-lag">
        {settled && sync.lags.map((lag) => <div key={lag.destination}><span class={lag.behind ? "behind" : ""}>{lag.behind ? counted(lag.behind, "change set") : "up to date"}</span> <span class="under">{lag.destination}</span></div>)}
      </td>
    </tr>
  );
}

const stateOf = ({ sync, row }: Line): State => row?.state ?? sync.state;

function matches({ sync, row }: Line, wanted: string, state: State | ""): boolean {
  const texts = [sync.syncId, row?.id ?? "", row?.name ?? ""];
  return (!state || stateOf({ sync, row }) === state) && texts.some((text) => text.toLowerCase().includes(wanted.trim().toLowerCase()));
}

function sorted(lines: Line[], { column, down }: { column: number; down: boolean }): Line[] {
  const by = COLUMNS[column]![1];
  const compare = (a: Line, b: Line) => {
    const [x, y] = [by(a), by(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  };
  return [...lines].sort(compare);
}
