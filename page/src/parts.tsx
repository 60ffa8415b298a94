// Small parts that both views show: a state, a link into Airflow, progress, an alert.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Airflow, TaskInstance } from "./airflow.ts";
import type { Progress } from "./contract.ts";
import { questionPath, taskPath } from "./history.ts";
import { isRunning, loadProgress } from "./load.ts";
import { APPROVAL, type Row, type State, type Sync } from "./overview.ts";
import * as place from "./place.ts";
import { numeral, span, utc } from "./words.ts";

const PROGRESS_MILLISECONDS = 2_500;
const SIGNS: Record<State, string> = { held: "‖", failed: "✕", late: "◷", delivering: "➤", ok: "✓" };
const NAMES: Record<State, string> = { held: "held by a guard", failed: "failed", late: "late", delivering: "delivering", ok: "ok" };

export function StateMark({ state }: { state: State }) {
  return (
    <span class={`state ${state}`}>
      <span aria-hidden="true">{SIGNS[state]}</span> {NAMES[state]}
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

/** What is wrong with a sync, or with an audience of it, in sentences, and where to act. */
export function Trouble({ sync, row, airflow }: { sync: Sync; row: Row | null; airflow: Airflow }) {
  const { about } = sync;
  const { state, sentences } = row ?? sync;
  if (state === "ok") return null;
  return (
    <>
      {sentences.map((sentence) => (
        <p class="sentence" key={sentence}>{sentence}</p>
      ))}
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

function ProgressOf({ task, airflow }: { task: TaskInstance; airflow: Airflow }) {
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

/** An instant in words for now, and exactly for whoever points at it. */
export function Ago({ at, now }: { at: number | null; now: number }) {
  if (at === null) return <>–</>;
  return (
    <time dateTime={new Date(at).toISOString()} title={`${utc(at)} UTC`}>
      {span(now - at)} ago
    </time>
  );
}
