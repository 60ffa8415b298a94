// One audience: its numbers, its charts, and its runs with their deliveries.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Airflow } from "./airflow.ts";
import type { Colours, Kind } from "./charts.ts";
import { dagPath, type Run, runsOf } from "./history.ts";
import { type History, loadHistory } from "./load.ts";
import type { Row, Sync } from "./overview.ts";
import { Ago, Go, Leave, StateMark, Trouble } from "./parts.tsx";
import { RunTable } from "./runs.tsx";
import { Wiring } from "./wiring.tsx";
import { counted, numeral, percent, utc } from "./words.ts";

const TITLES: Record<Kind, string> = { size: "Members", changes: "Entered and exited per run", lag: "Time from record to delivery" };

/** States of runs that left the members as they were. */
const STOPPED: readonly string[] = ["held", "failed", "skipped"];

export interface DetailProps {
  syncId: string;
  audienceId: string | null;
  sync: Sync | null;
  airflow: Airflow;
  now: number;
  theme: number;
  onError: (error: unknown) => void;
}

export function Detail(props: DetailProps) {
  const { sync, syncId, airflow, now } = props;
  const [history, setHistory] = useState<History | null>(null);
  const [pages, setPages] = useState(1);
  const rows = sync?.audiences ?? [];
  const row = rows.find((one) => one.id === props.audienceId) ?? (props.audienceId === null ? rows[0] : undefined) ?? null;
  useEffect(() => {
    let on = true;
    loadHistory(airflow, syncId, pages).then((found) => on && setHistory(found), props.onError);
    return () => {
      on = false;
    };
  }, [syncId, pages, now]);
  const audienceId = row?.id ?? props.audienceId ?? "";
  const runs = useMemo(() => (history ? runsOf(audienceId, history) : []), [history, audienceId]);
  const oldestFirst = useMemo(() => runs.filter((run) => run.counts || STOPPED.includes(run.state)).reverse(), [runs]);
  return (
    <>
      <p><Go to={{}}>← All audiences</Go></p>
      <h2>{row?.name ?? props.audienceId ?? syncId}</h2>
      <p class="under">{audienceId && `${audienceId} · `}{syncId}{sync?.asOf != null && ` · as of ${utc(sync.asOf)} UTC`}</p>
      {rows.length > 1 && <Others rows={rows} row={row} syncId={syncId} />}
      {sync && <Headline sync={sync} row={row} now={now} airflow={airflow} newest={runs.find((run) => run.counts) ?? null} />}
      {!sync && <p>Airflow has no run of this sync that you have permission to see.</p>}
      <div class="charts">
        {(["size", "changes", "lag"] as const).map((kind) => <Chart key={kind} kind={kind} runs={oldestFirst} theme={props.theme} />)}
      </div>
      <RunTable runs={runs} />
      {history && <Wiring history={history} />}
      {history?.more && <button type="button" onClick={() => setPages(pages + 1)}>Older runs</button>}
    </>
  );
}

function Others({ rows, row, syncId }: { rows: Row[]; row: Row | null; syncId: string }) {
  return (
    <details class="others">
      <summary>{counted(rows.length, "audience")} in this sync</summary>
      <ul>
        {rows.map((one) => <li key={one.id} aria-current={one === row ? "page" : undefined}><Go to={{ syncId, audienceId: one.id }}>{one.name}</Go> {numeral(one.members)}</li>)}
      </ul>
    </details>
  );
}

function Headline({ sync, row, now, airflow, newest }: { sync: Sync; row: Row | null; now: number; airflow: Airflow; newest: Run | null }) {
  const numbers: [string, string][] = row
    ? [
        ["members", numeral(row.members)],
        ["entered, last run", numeral(row.entered)],
        ["exited, last run", numeral(row.exited)],
        ["entered, 24 h", numeral(row.day.entered)],
        ["exited, 24 h", numeral(row.day.exited)],
        ["volatility", percent(row.volatility)],
      ]
    : [];
  return (
    <>
      <dl class="totals">
        <div><dt>state</dt><dd><StateMark state={row?.state ?? sync.state} /></dd></div>
        {numbers.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}
        <div><dt>last success</dt><dd><Ago at={sync.lastSuccess} now={now} /></dd></div>
        {newest?.exitLimit != null && <div data-testid="exit-limit"><dt>exits allowed, last run</dt><dd>{numeral(newest.exitLimit)}</dd></div>}
        {newest?.minMembers != null && <div><dt>fewest members allowed</dt><dd>{numeral(newest.minMembers)}</dd></div>}
        {sync.deadLetters > 0 && <div data-testid="dead-letters"><dt>dead letters</dt><dd>{numeral(sync.deadLetters)}</dd></div>}
        {sync.nextRun !== null && <div data-testid="next-run"><dt>next run, UTC</dt><dd>{utc(sync.nextRun)}</dd></div>}
        {sync.lags.map((lag) => <div key={lag.destination}><dt>{lag.destination}</dt><dd>{lag.behind ? `${counted(lag.behind, "change set")} behind` : "up to date"}</dd></div>)}
      </dl>
      {sync.dagId !== null && <p><Leave path={dagPath(sync.dagId)} testid="dag-link">DAG {sync.dagId}</Leave></p>}
      <Trouble {...sync} {...(row ? { state: row.state, sentences: row.sentences } : {})} airflow={airflow} />
      {sync.deadLetters > 0 && <p class="sentence">Dead letters are members that are too large for a record. Each run retries them; the publish task's log has digests of their ids.</p>}
      {sync.pinned.map((sentence) => (
        <p class="sentence" data-testid="pinned" key={sentence}>{sentence}. AudienceDetachOperator ends that if nobody uses it any more.</p>
      ))}
    </>
  );
}

function coloursOf(element: Element): Colours {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return { text: of("text"), line: of("line"), members: of("members"), entered: of("entered"), exited: of("exited"), bound: of("bound"), font: style.fontFamily };
}

function Chart({ kind, runs, theme }: { kind: Kind; runs: Run[]; theme: number }) {
  const element = useRef<HTMLDivElement>(null);
  const [sentence, setSentence] = useState("");
  useEffect(() => {
    let end = () => undefined as void;
    let on = true;
    // With the library loaded only where charts are shown, the overview is there sooner.
    import("./charts.ts").then(({ draw, optionsOf, sentenceOf }) => {
      if (!on || !element.current) return;
      const drawn = draw(element.current);
      drawn.show(optionsOf(kind, runs, coloursOf(element.current)));
      setSentence(sentenceOf(kind, runs));
      end = drawn.end;
    });
    return () => {
      on = false;
      end();
    };
  }, [kind, runs, theme]);
  return (
    <figure>
      <figcaption>{TITLES[kind]}</figcaption>
      <div ref={element} class="chart" role="img" aria-label={sentence} data-testid={`chart-${kind}`} />
    </figure>
  );
}
