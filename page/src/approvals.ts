// Who approved what: the answers that people gave in Airflow's UI, as its REST API lists them.

import { instant, isFields, readSource, type Source, text, texts } from "./contract.ts";

/** What a person answered in Airflow's UI. */
export interface Approval {
  of: Source;
  /** the name by which Airflow knows the person; null where it does not say */
  by: string | null;
  at: number;
  answer: string;
}

/** Read a detail of Airflow's human in the loop as an approval; null where nobody has answered, or another task asks. */
export function readApproval(value: unknown, operator: string): Approval | null {
  if (!isFields(value) || !isFields(value.task_instance) || value.task_instance.operator_name !== operator) return null;
  const task = value.task_instance;
  const of = readSource({ source_dag_id: task.dag_id, source_run_id: task.dag_run_id, source_task_id: task.task_id, source_map_index: task.map_index });
  const [at, answer] = [instant(value.responded_at), texts(value.chosen_options).join(", ")];
  if (of === null || at === null || !answer) return null;
  return { of, by: isFields(value.responded_by_user) ? text(value.responded_by_user.name) : null, at, answer };
}
