// Small parts that both views show: a state, a link into Airflow, progress, an alert.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Airflow, TaskInstance } from "./airflow.ts";
import type { Progress } from "./contract.ts";
import { questionPath, taskPath } from "./history.ts";
import { isRunning, loadProgress } from "./load.ts";
import { APPROVAL, type State, type Sync } from "./overview.ts";
import * as place from "./place.ts";
import { numeral, span, utc } from "./words.ts";

const PROGRESS_MILLISECONDS = 2_500;
const SIGNS: Record<State, string> = { held: "‖", failed: "✕", late: "◷", delivering: "➤", ok: "✓" };
const NAMES: Record<State, string> = { held: "held by a guard", failed: "failed", late: "late", delivering: "delivering", ok: "ok" };

export function StateMark({ state, short = false }: { state: State; short?: boolean }) {
  return (
    <span class={`state ${state}`}>
      <span aria-hidden="true">{SIGNS[state]}</span> {short ? state : NAMES[state]}
    </span>
  );
}

/** A link to a page of Airflow's own. */
export function Leave(props: { path: string; children: ComponentChildren; testid?: string }) {
  const leave = (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    place.leave(props.path);
  };
  return (
    <a href={new URL(props.path, place.base()).href} onClick={leave} data-testid={props.testid}>
      {props.children}
    </a>
  );
}

/** A link to another view of the page. */
export function Go({ to, children }: { to: Partial<place.Place>; children: ComponentChildren }) {
  return <a href={place.query(to)}>{children}</a>;
}

/** By how many members the last run differs from the one before. */
export function Delta({ value }: { value: number }) {
  const sign = value > 0 ? "+" : value < 0 ? "−" : "±";
  return <span class={`delta ${value > 0 ? "more" : value < 0 ? "less" : ""}`} title="against the run before">{sign}{numeral(Math.abs(value))}</span>;
}

const MOST_SENTENCES = 3;

/** What is wrong with a sync, or an audience of it, in sentences, and where to act. */
export function Trouble({ state, sentences, about, airflow }: Pick<Sync, "state" | "sentences" | "about"> & { airflow: Airflow }) {
  if (state === "ok") return null;
  const [first, rest] = [sentences.slice(0, MOST_SENTENCES), sentences.slice(MOST_SENTENCES)];
  return (
    <>
      {first.map((sentence) => <p class="sentence" key={sentence}>{sentence}</p>)}
      {rest.length > 0 && (
        <details>
          <summary>{rest.length} more</summary>
          {rest.map((sentence) => <p class="sentence" key={sentence}>{sentence}</p>)}
        </details>
      )}
      {isRunning(about) && <ProgressOf task={about} airflow={airflow} />}
      {about && state !== "delivering" && <WhereToAct about={about} />}
    </>
  );
}

function WhereToAct({ about }: { about: TaskInstance }) {
  const asks = about.operator === APPROVAL && about.state !== "failed";
  return (
    <Leave path={asks ? questionPath(about) : taskPath(about)} testid="held-link">
      {asks ? "Approve or reject" : "See the task"}
    </Leave>
  );
}

export function ProgressOf({ task, airflow }: { task: TaskInstance; airflow: Airflow }) {
  const [progress, setProgress] = useState<Progress | null>(null);
  useEffect(() => {
    let on = true;
    const look = () => loadProgress(airflow, task).then((found) => on && setProgress(found), () => undefined);
    look();
    const timer = setInterval(look, PROGRESS_MILLISECONDS);
    return () => {
      on = false;
      clearInterval(timer);
    };
  }, [task.dagId, task.runId, task.taskId, task.mapIndex]);
  if (!progress) return <p class="sentence">Running for {span(Date.now() - (task.startedAt ?? Date.now()))}</p>;
  const { done, total, rate, etaSeconds, throttled } = progress;
  return (
    <div data-testid="progress">
      <progress value={done} max={total} aria-label={`Delivery as of ${utc(progress.asOf)}`} />
      <p class="sentence">
        {numeral(done)} of {numeral(total)}, {numeral(rate)}/s
        {etaSeconds === null ? "" : `, ${span(etaSeconds * 1_000)} to go`}
        {throttled ? `, ${numeral(throttled)} throttled` : ""}
      </p>
    </div>
  );
}

export function Alert({ sentence }: { sentence: string | null }) {
  return (
    <div role="alert" data-testid="alert" class={sentence ? "alert" : ""}>
      {sentence}
    </div>
  );
}

/** An instant in words for now, and exactly under the pointer. */
export function Ago({ at, now }: { at: number | null; now: number }) {
  if (at === null) return <>–</>;
  return (
    <time dateTime={new Date(at).toISOString()} title={`${utc(at)} UTC`}>
      {span(now - at)} ago
    </time>
  );
}
