// The overview: what needs a person, then a group per sync with its audiences, to search, filter, sort and leaf through.

import { useEffect, useLayoutEffect, useMemo, useState } from "preact/hooks";
import type { Airflow } from "./airflow.ts";
import type { ChangeSet } from "./contract.ts";
import { Attention } from "./attention.tsx";
import { dagPath } from "./history.ts";
import { isRunning, loadOlderRuns } from "./load.ts";
import { type Row, type State, STATES, type Sync } from "./overview.ts";
import { Ago, Delta, Go, Leave, ProgressOf, StateMark } from "./parts.tsx";
import * as place from "./place.ts";
import { ChangesSpark, MembersSpark } from "./sparks.tsx";
import { hasOlder, trendOf } from "./trend.ts";
import { counted, numeral, percent, utc } from "./words.ts";

const ROWS = 50;
/** So many audiences of a sync are shown until it is searched for. */
const FEW = 5;

/** A line of the table: an audience, or a sync that has recorded none yet. */
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
];
const TITLES: Record<string, string> = {
  Entered: "in the last run",
  Exited: "in the last run",
  "Entered 24 h": "in the 24 hours up to the sync's newest instant",
  "Exited 24 h": "in the 24 hours up to the sync's newest instant",
  Volatility: "(entered + exited) / members, over these 24 hours",
};
const BY_STATE = 1;

interface OverviewProps {
  syncs: Sync[];
  settled: boolean;
  now: number;
  airflow: Airflow;
  at: place.Place;
}

export function Overview(props: OverviewProps) {
  const { syncs, settled, airflow } = props;
  const [wanted, setWanted] = useState(props.at.words);
  const [state, setState] = useState(props.at.state as State | "");
  const [sort, setSort] = useState({ column: BY_STATE, down: false });
  const [page, setPage] = useState(0);
  const [drawn, setDrawn] = useState(false);
  // An effect runs once the page is painted: neither numbers nor states wait for the pictures of fifty rows.
  useEffect(() => { if (settled) setDrawn(true); }, [settled]);
  const look = (words: string, of: State | "" = state) => { setWanted(words); setState(of); setPage(0); };
  const lines = useMemo(() => syncs.flatMap(linesOf), [syncs]);
  const found = useMemo(() => sorted(lines.filter((line) => matches(line, wanted, state)), sort), [lines, wanted, state, sort]);
  const groups = useMemo(() => [...Map.groupBy(found, (line) => line.sync)], [found]);
  const isWhole = Boolean(wanted.trim() || state) || groups.length === 1;
  const shown = useMemo(() => groups.flatMap(([, own]) => (isWhole ? own : own.slice(0, FEW))), [groups, isWhole]);
  // Before anything else runs: the address never says less than the table shows.
  useLayoutEffect(() => place.become({ words: wanted, state }), [wanted, state]);
  const pages = Math.max(1, Math.ceil(shown.length / ROWS));
  const leaf = Math.min(page, pages - 1);
  const visible = useMemo(() => [...Map.groupBy(shown.slice(leaf * ROWS, (leaf + 1) * ROWS), (line) => line.sync)], [shown, leaf]);
  const older = useOlderRuns(airflow, settled ? visible.map(([sync]) => sync) : []);
  const sizes = new Map(groups.map(([sync, own]) => [sync, own.length]));
  const more = syncs.reduce((all, sync) => all + sync.moreAudiences, 0);
  return (
    <>
      <Totals {...props} lines={lines.filter((line) => line.row).length} />
      {settled && <Attention syncs={syncs} airflow={airflow} />}
      <div class="tools" role="search">
        <input type="search" aria-label="Search audiences and syncs" placeholder="Search audiences and syncs" value={wanted} onInput={(e) => look(e.currentTarget.value)} />
        <select aria-label="Filter by state" value={state} onChange={(e) => look(wanted, e.currentTarget.value as State | "")}>
          <option value="">all states</option>
          {STATES.map((one) => <option key={one} value={one}>{one}</option>)}
        </select>
      </div>
      <table class="cards" data-testid="overview-table">
        <caption class="unseen">Audiences by sync, {counted(found.length, "row")}</caption>
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
        {visible.map(([sync, own]) => (
          <tbody key={sync.syncId}>
            <SyncLine {...props} sync={sync} />
            {own.map(({ row }) => row && <AudienceLine key={row.id} sync={sync} row={row} settled={settled} drawn={drawn} runs={older.get(sync.syncId) ?? sync.runs} />)}
            {!isWhole && sizes.get(sync)! > FEW && (
              <tr class="rest"><td colSpan={COLUMNS.length}><button type="button" onClick={() => look(sync.syncId)}>Show all {numeral(sizes.get(sync)!)} audiences of {sync.syncId}</button></td></tr>
            )}
          </tbody>
        ))}
      </table>
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

/** Load older runs of the syncs that are seen, one after the other, once all states are known. */
function useOlderRuns(airflow: Airflow, syncs: readonly Sync[]): ReadonlyMap<string, ChangeSet[]> {
  const [known, setKnown] = useState<ReadonlyMap<string, ChangeSet[]>>(new Map());
  const missing = syncs.filter((sync) => hasOlder(sync.runs) && known.get(sync.syncId)?.[0]?.asOf !== sync.runs[0]!.asOf);
  const names = missing.map((sync) => `${sync.syncId}\n${sync.asOf}`).join("\n");
  useEffect(() => {
    let on = true;
    for (const sync of missing)
      loadOlderRuns(airflow, sync).then((runs) => on && setKnown((before) => new Map(before).set(sync.syncId, runs)), () => undefined);
    return () => {
      on = false;
    };
  }, [airflow, names]);
  return known;
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

function SyncLine({ sync, settled, now, airflow }: { sync: Sync; settled: boolean; now: number; airflow: Airflow }) {
  return (
    <tr class="sync" data-testid="sync" data-sync={sync.syncId}>
      <th colSpan={COLUMNS.length} scope="rowgroup">
        <span class="line">
          <Go to={{ syncId: sync.syncId }}>{sync.syncId}</Go>
          <span data-testid="sync-state">{settled ? <StateMark state={sync.state} /> : "…"}</span>
          {sync.paused && <span class="paused">paused</span>}
          {sync.asOf !== null && <span class="whole">as of {utc(sync.asOf)}</span>}
          {settled && <span class="whole">delivered <Ago at={sync.lastSuccess} now={now} /></span>}
          {sync.nextRun !== null && <span class="whole">next run {utc(sync.nextRun)}</span>}
          {sync.dagId !== null && <Leave path={dagPath(sync.dagId)}>DAG {sync.dagId}</Leave>}
        </span>
        <span class="line" data-testid="sync-lag">
          {settled && sync.lags.map((lag) => <span key={lag.destination}>{lag.destination} <span class={lag.behind ? "behind" : ""}>{lag.behind ? `${counted(lag.behind, "change set")} behind` : "up to date"}</span></span>)}
          {settled && sync.deadLetters > 0 && <span class="behind">{counted(sync.deadLetters, "dead letter")}</span>}
        </span>
        {settled && isRunning(sync.about) && <ProgressOf task={sync.about} airflow={airflow} />}
      </th>
    </tr>
  );
}

function AudienceLine({ sync, row, settled, drawn, runs }: { sync: Sync; row: Row; settled: boolean; drawn: boolean; runs: readonly ChangeSet[] }) {
  const points = drawn ? trendOf(row.id, runs) : [];
  return (
    <tr data-testid="row" data-sync={sync.syncId} data-audience={row.id}>
      <th scope="row" class="text">
        <Go to={{ syncId: sync.syncId, audienceId: row.id || null }}>{row.name}</Go>
        {row.id !== row.name && row.id && <span class="under">{row.id}</span>}
      </th>
      <td class="text" data-label="State" data-testid="cell-state">{settled ? <StateMark state={row.state} short /> : "…"}</td>
      <td class="number" data-label="Members">
        <span data-testid="cell-members">{numeral(row.members)}</span> <Delta value={row.entered - row.exited} />
        <MembersSpark points={points} />
      </td>
      <td class="number" data-label="Entered" data-testid="cell-entered">{numeral(row.entered)}</td>
      <td class="number" data-label="Exited">
        <span data-testid="cell-exited">{numeral(row.exited)}</span>
        <ChangesSpark points={points} />
      </td>
      <td class="number" data-label="Entered 24 h" data-testid="cell-entered-24h">{numeral(row.day.entered)}</td>
      <td class="number" data-label="Exited 24 h" data-testid="cell-exited-24h">{numeral(row.day.exited)}</td>
      <td class="number" data-label="Volatility" data-testid="cell-volatility">{percent(row.volatility)}</td>
    </tr>
  );
}

const linesOf = (sync: Sync): Line[] => (sync.audiences.length ? sync.audiences.map((row) => ({ sync, row })) : [{ sync, row: null }]);
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
