// What the tasks of this package tell by asset events and XComs, read with suspicion: whatever is not of the
// expected shape (of another package, of another version, made by hand) is left out and never trusted.

export interface Counts {
  entered: number;
  exited: number;
  updated: number;
  members: number;
}

export interface AudienceCounts extends Counts {
  id: string;
  name: string;
}

/** Bounds that held for a change set; null where there is none. */
export interface Guards {
  maxExitRatio: number | null;
  maxExits: number | null;
  minMembers: number | null;
  ratioFromMembers: number;
}

/** The task instance that something comes from. */
export interface Source {
  dagId: string;
  runId: string;
  taskId: string;
  mapIndex: number;
}

export interface ChangeSet extends Counts {
  syncId: string;
  asOf: number;
  previousAsOf: number | null;
  guards: Guards;
  audiences: AudienceCounts[] | null;
  moreAudiences: number;
  letThrough: string[];
  /** the instant whose published membership was computed once more; null for any other change set */
  corrects: number | null;
  /** which delivery keeps what history, and since when; a sentence each */
  pinned: string[];
  /** by id the audiences that a guard holds while all others are published, and why, a sentence each */
  held: Map<string, string[]>;
  source: Source;
  toldAt: number;
}

export interface Delivery {
  syncId: string;
  asOf: number;
  destination: string;
  /** the newest instant of what was delivered */
  upTo: number;
  delivered: number;
  rejected: number;
  /** changes that the format cannot express */
  omitted: number;
  retried: number;
  seconds: number;
  source: Source;
  toldAt: number;
}

/** Why a task stopped. */
export interface Stop {
  state: "held" | "failed";
  syncId: string | null;
  asOf: number | null;
  sentences: string[];
}

export interface Progress {
  asOf: number;
  done: number;
  total: number;
  rate: number;
  etaSeconds: number | null;
  throttled: number;
  retried: number;
}

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
const number = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;
const count = (value: unknown): number | null => {
  const found = number(value);
  return found !== null && found >= 0 ? found : null;
};
const texts = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : [];

/** Read an instant as milliseconds, or null. */
export function instant(value: unknown): number | null {
  const found = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(found) ? null : found;
}

function readCounts(from: Fields): Counts | null {
  const [entered, exited, updated, members] = [from.entered, from.exited, from.updated, from.members].map(count);
  if (entered == null || exited == null || updated == null || members == null) return null;
  return { entered, exited, updated, members };
}

function readAudiences(value: unknown): AudienceCounts[] | null {
  if (!isFields(value)) return null;
  const column = (name: string) => (Array.isArray(value[name]) ? value[name] : []);
  const [ids, names, entered, exited, updated, members] = ["id", "name", "entered", "exited", "updated", "members"].map(column);
  const found: AudienceCounts[] = [];
  ids!.forEach((id: unknown, n: number) => {
    const counts = readCounts({ entered: entered![n], exited: exited![n], updated: updated![n], members: members![n] });
    const known = text(id);
    if (known !== null && counts !== null) found.push({ id: known, name: text(names![n]) ?? known, ...counts });
  });
  return found.length ? found : null;
}

function readGuards(value: unknown): Guards {
  const given = isFields(value) ? value : {};
  return {
    maxExitRatio: count(given.max_exit_ratio),
    maxExits: count(given.max_exits),
    minMembers: count(given.min_members),
    ratioFromMembers: count(given.ratio_from_members) ?? 0,
  };
}

function readSource(event: Fields): Source | null {
  const [dagId, runId, taskId] = [event.source_dag_id, event.source_run_id, event.source_task_id].map(text);
  if (dagId == null || runId == null || taskId == null) return null;
  return { dagId, runId, taskId, mapIndex: number(event.source_map_index) ?? -1 };
}

/** Read an asset event as a change set of a sync; null if it is something else. */
export function readChangeSet(event: unknown): ChangeSet | null {
  if (!isFields(event) || !isFields(event.extra) || event.extra.kind !== "change_set") return null;
  const told = event.extra;
  const [syncId, asOf, counts] = [text(told.sync_id), instant(told.as_of), readCounts(told)];
  const [source, toldAt] = [readSource(event), instant(event.timestamp)];
  if (syncId === null || asOf === null || counts === null || source === null || toldAt === null) return null;
  return {
    syncId,
    asOf,
    ...counts,
    previousAsOf: instant(told.previous_as_of),
    guards: readGuards(told.guards),
    audiences: readAudiences(told.audiences),
    moreAudiences: count(told.more_audiences) ?? 0,
    letThrough: texts(told.let_through),
    corrects: instant(told.corrects),
    pinned: texts(told.pinned),
    held: new Map(Object.entries(isFields(told.held_audiences) ? told.held_audiences : {}).map(([id, why]) => [id, texts(why)])),
    source,
    toldAt,
  };
}

/** Read an asset event as a delivery to a destination; null if it is something else. */
export function readDelivery(event: unknown): Delivery | null {
  if (!isFields(event) || !isFields(event.extra) || event.extra.kind !== "delivery") return null;
  const told = event.extra;
  const [syncId, destination, asOf] = [text(told.sync_id), text(told.destination), instant(told.as_of)];
  const [source, toldAt] = [readSource(event), instant(event.timestamp)];
  if (syncId === null || destination === null || asOf === null || source === null || toldAt === null) return null;
  const instants = texts(told.change_sets).map(instant).filter((one) => one !== null);
  return {
    syncId,
    asOf,
    destination,
    upTo: Math.max(asOf, ...instants),
    delivered: count(told.delivered) ?? 0,
    rejected: count(told.rejected) ?? 0,
    omitted: count(told.omitted) ?? 0,
    retried: count(told.retried) ?? 0,
    seconds: count(told.seconds) ?? 0,
    source,
    toldAt,
  };
}

/** Read the XCom that says why a task stopped. */
export function readStop(value: unknown): Stop | null {
  if (!isFields(value) || (value.state !== "held" && value.state !== "failed")) return null;
  return {
    state: value.state,
    syncId: text(value.sync_id),
    asOf: instant(value.as_of),
    sentences: texts(value.sentences),
  };
}

/** Read the XCom that says how far a delivery has come. */
export function readProgress(value: unknown): Progress | null {
  if (!isFields(value)) return null;
  const [asOf, done, total] = [instant(value.as_of), count(value.done), count(value.total)];
  if (asOf === null || done === null || total === null) return null;
  return {
    asOf,
    done,
    total,
    rate: count(value.rate) ?? 0,
    etaSeconds: count(value.eta_seconds),
    throttled: count(value.throttled) ?? 0,
    retried: count(value.retried) ?? 0,
  };
}
