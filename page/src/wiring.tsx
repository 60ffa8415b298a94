// What is sent of a sync: the mapping of the source's columns, and a message of each destination with masked values.

import type { Delivery, MappedColumn } from "./contract.ts";
import type { Known } from "./history.ts";
import { newestOfEach } from "./overview.ts";
import { fieldsOf, readSample } from "./sample.ts";

export function Wiring({ history }: { history: Known }) {
  const mapping = newestOfEach(history.changeSets.filter((c) => c.mapping.length))[0]?.mapping ?? [];
  const sampled = Map.groupBy(history.deliveries.filter((d) => d.sample !== null), (d) => d.destination);
  return (
    <section class="wiring">
      {mapping.length > 0 && <Mapping mapping={mapping} />}
      {[...sampled.values()].map((all) => <Sample key={all[0]!.destination} delivery={newestOfEach(all)[0]!} />)}
    </section>
  );
}

function Mapping({ mapping }: { mapping: readonly MappedColumn[] }) {
  return (
    <table class="cards" data-testid="mapping">
      <caption>Mapping of the newest run</caption>
      <thead><tr>{["Column", "Role", "Sent as", "Rule"].map((name) => <th key={name} scope="col">{name}</th>)}</tr></thead>
      <tbody>
        {mapping.map(({ column, role, as, rule }) => (
          <tr key={`${role} ${column}`}>
            <th scope="row">{column}</th>
            <td data-label="Role">{role}</td>
            <td data-label="Sent as">{as || "–"}</td>
            <td data-label="Rule">{rule || "–"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Sample({ delivery }: { delivery: Delivery }) {
  const sample = readSample(delivery.sample ?? "");
  if (sample === null) return null;
  return (
    <details data-testid="sample">
      <summary>Message to {delivery.destination} ({delivery.messageFormat}), with masked values</summary>
      <ul class="fields">
        {fieldsOf(sample).map(({ path, type }) => <li key={path}><code>{path}</code> {type}</li>)}
      </ul>
      <pre>{JSON.stringify(sample, null, 2)}</pre>
    </details>
  );
}
