// What needs a person: one entry per sync, whatever the number of its audiences, with the reason and where to act.

import type { Airflow } from "./airflow.ts";
import { NEEDS_A_PERSON, type Sync } from "./overview.ts";
import { Go, StateMark, Trouble } from "./parts.tsx";
import { counted } from "./words.ts";

export function Attention({ syncs, airflow }: { syncs: readonly Sync[]; airflow: Airflow }) {
  const waiting = syncs.filter((sync) => NEEDS_A_PERSON.includes(sync.state));
  if (!waiting.length) return null;
  return (
    <section class="attention" aria-labelledby="attention" data-testid="attention">
      <h2 id="attention">{counted(waiting.length, "sync")} {waiting.length === 1 ? "needs" : "need"} a person</h2>
      <ul>
        {waiting.map((sync) => (
          <li key={sync.syncId} data-testid="alarm" data-sync={sync.syncId}>
            <p class="line">
              <StateMark state={sync.state} />
              <Go to={{ syncId: sync.syncId }}>{sync.syncId}</Go>
              {sync.heldAudiences.size > 0 && <span>{counted(sync.heldAudiences.size, "audience")} of {sync.audiences.length} held</span>}
            </p>
            <Trouble {...sync} sentences={[...sync.sentences, ...[...sync.heldAudiences.values()].flat()]} airflow={airflow} />
          </li>
        ))}
      </ul>
    </section>
  );
}
