// The page: loads, shows, and looks again every half minute while somebody looks at it.

import { render } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Airflow, AirflowError } from "./airflow.ts";
import { Detail } from "./detail.tsx";
import { loadAnswers, loadChangeSets } from "./load.ts";
import { overview, type Sync } from "./overview.ts";
import { Alert } from "./parts.tsx";
import * as place from "./place.ts";
import { Overview } from "./table.tsx";

const AGAIN_MILLISECONDS = 30_000;

interface Shown {
  syncs: Sync[];
  /** states are known, not only numbers */
  settled: boolean;
  now: number;
}

function Page({ airflow, at }: { airflow: Airflow; at: place.Place }) {
  const [shown, setShown] = useState<Shown | null>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  const [theme, setTheme] = useState(0);
  const loading = useRef(false);
  const fail = useCallback((error: unknown) => setTrouble(error instanceof AirflowError ? error.message : "The page failed; reload it."), []);

  const load = useCallback(async () => {
    if (loading.current) return;
    loading.current = true;
    try {
      const changeSets = await loadChangeSets(airflow);
      const now = Date.now();
      const bare = { changeSets, deliveries: [], tasks: [], dags: [], stops: new Map(), now };
      setShown((known) => (known?.settled ? known : { syncs: overview(bare), settled: false, now }));
      const answers = await loadAnswers(airflow, changeSets, Date.now);
      setShown({ syncs: overview(answers), settled: true, now: answers.now });
      setTrouble(null);
    } catch (error) {
      fail(error);
    } finally {
      loading.current = false;
    }
  }, [airflow]);

  // For measurements: an effect runs once the page is painted.
  useEffect(() => {
    if (shown) performance.mark(shown.settled ? "audiences-settled" : "audiences-shown");
  }, [shown]);
  useEffect(() => place.followTheme(() => setTheme((n) => n + 1)), []);
  useEffect(() => {
    const look = () => document.visibilityState === "visible" && load();
    look();
    const timer = setInterval(look, AGAIN_MILLISECONDS);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [load]);

  return (
    <main aria-busy={!shown?.settled}>
      <header>
        <h1>Audiences</h1>
        <p class="under">
          {shown ? `as of ${new Date(shown.now).toISOString().slice(11, 19)} UTC` : "loading …"} <button type="button" onClick={load}>Refresh</button>
        </p>
      </header>
      <Alert sentence={trouble} />
      {shown && (at.syncId !== null
        ? <Detail syncId={at.syncId} audienceId={at.audienceId} sync={shown.syncs.find((s) => s.syncId === at.syncId) ?? null} airflow={airflow} now={shown.now} theme={theme} onError={fail} />
        : shown.syncs.length || !shown.settled
          ? <Overview {...shown} airflow={airflow} at={at} />
          : <Nothing />)}
    </main>
  );
}

function Nothing() {
  return (
    <p>
      No audience yet, or none that you have permission to see. Add an <code>AudienceDiffOperator</code> and an <code>AudienceToKinesisOperator</code> (or <code>AudienceToFirehoseOperator</code>) to a DAG and run it once.
    </p>
  );
}

render(<Page airflow={new Airflow(place.base())} at={place.here()} />, document.getElementById("page")!);
