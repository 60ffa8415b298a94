// What the tasks of this package emit as asset events and XComs, read with suspicion: whatever is not of the
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

/** The second change set of an insertion: it leads back to the later membership. */
export interface Compensation {
  asOf: number;
  entered: number;
  exited: number;
  updated: number;
  /** by audience, where they are listed */
  audiences: Map<string, Changed>;
}

export type Changed = Omit<Counts, "members">;

/** A column of the source, and what it is sent as. */
export interface MappedColumn {
  column: string;
  role: string;
  as: string;
  rule: string;
}

/** What a task cost the warehouse; null where its version did not count. */
export interface Cost {
  statements: number;
  seconds: number;
  /** what its statements read; null where the engine does not say */
  bytesScanned: number | null;
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
  /** it was inserted before later change sets, which stay as they are */
  inserted: boolean;
  compensation: Compensation | null;
  /** the run found it published and computed nothing */
  recorded: boolean;
  /** the run computed it again and found it right */
  confirmed: boolean;
  droppedRows: number;
  /** rows of users who must be in no audience, of all audiences together */
  excluded: number;
  /** rows of users who are in an audience of a higher priority */
  outranked: number;
  mapping: MappedColumn[];
  cost: Cost | null;
  assetId: number | null;
  /** which delivery keeps what history, and since when; a sentence each */
  pinned: string[];
  /** by id the audiences that a guard holds while all others are published, and why, a sentence each */
  held: Map<string, string[]>;
  source: Source;
  emittedAt: number;
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
  /** rows without consent, of a format that asks for it */
  excluded: number;
  /** changes that the author's transform left out */
  filtered: number;
  retried: number;
  seconds: number;
  /** members that are too large for a record, as of this delivery */
  deadLetters: number;
  messageFormat: string;
  /** a message with masked values, as JSON */
  sample: string | null;
  cost: Cost | null;
  source: Source;
  emittedAt: number;
}

/** Why a task stopped. */
export interface Stop {
  state: "held" | "failed" | "skipped";
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

export const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
export const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
const number = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;
const count = (value: unknown): number | null => {
  const found = number(value);
  return found !== null && found >= 0 ? found : null;
};
export const texts = (value: unknown): string[] =>
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

const readChanged = (from: unknown): Changed | null => {
  const counts = isFields(from) ? readCounts({ ...from, members: 0 }) : null;
  return counts && { entered: counts.entered, exited: counts.exited, updated: counts.updated };
};

function readCompensation(value: unknown): Compensation | null {
  const [asOf, changed] = [isFields(value) ? instant(value.as_of) : null, readChanged(value)];
  if (!isFields(value) || asOf === null || changed === null) return null;
  const listed = Object.entries(isFields(value.audiences) ? value.audiences : {}).map(([id, of]) => [id, readChanged(of)] as const);
  return { asOf, ...changed, audiences: new Map(listed.filter((one): one is [string, Changed] => one[1] !== null)) };
}

function readMapping(value: unknown): MappedColumn[] {
  const found = (Array.isArray(value) ? value : []).filter(isFields);
  return found.map(({ column, role, as, rule }) => ({ column: text(column) ?? "", role: text(role) ?? "", as: text(as) ?? "", rule: text(rule) ?? "" })).filter((one) => one.column && one.role);
}

function readCost(from: Fields): Cost | null {
  const [statements, seconds] = [count(from.statements), count(from.statement_seconds)];
  return statements === null || seconds === null ? null : { statements, seconds, bytesScanned: count(from.bytes_scanned) };
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

export function readSource(event: Fields): Source | null {
  const [dagId, runId, taskId] = [event.source_dag_id, event.source_run_id, event.source_task_id].map(text);
  if (dagId == null || runId == null || taskId == null) return null;
  return { dagId, runId, taskId, mapIndex: number(event.source_map_index) ?? -1 };
}

/** Read an asset event as a change set of a sync; null if it is something else. */
export function readChangeSet(event: unknown): ChangeSet | null {
  if (!isFields(event) || !isFields(event.extra) || event.extra.kind !== "change_set") return null;
  const extra = event.extra;
  const [syncId, asOf, counts] = [text(extra.sync_id), instant(extra.as_of), readCounts(extra)];
  const [source, emittedAt] = [readSource(event), instant(event.timestamp)];
  if (syncId === null || asOf === null || counts === null || source === null || emittedAt === null) return null;
  return {
    syncId,
    asOf,
    ...counts,
    previousAsOf: instant(extra.previous_as_of),
    guards: readGuards(extra.guards),
    audiences: readAudiences(extra.audiences),
    moreAudiences: count(extra.more_audiences) ?? 0,
    letThrough: texts(extra.let_through),
    corrects: instant(extra.corrects),
    inserted: extra.inserted === true,
    compensation: readCompensation(extra.compensation),
    recorded: extra.recorded === true,
    confirmed: extra.confirmed === true,
    droppedRows: count(extra.dropped_rows) ?? 0,
    excluded: count(extra.excluded) ?? 0,
    outranked: count(extra.outranked) ?? 0,
    mapping: readMapping(extra.mapping),
    cost: readCost(extra),
    assetId: count(event.asset_id),
    pinned: texts(extra.pinned),
    held: new Map(Object.entries(isFields(extra.held_audiences) ? extra.held_audiences : {}).map(([id, why]) => [id, texts(why)])),
    source,
    emittedAt,
  };
}

/** Read an asset event as a delivery to a destination; null if it is something else. */
export function readDelivery(event: unknown): Delivery | null {
  if (!isFields(event) || !isFields(event.extra) || event.extra.kind !== "delivery") return null;
  const extra = event.extra;
  const [syncId, destination, asOf] = [text(extra.sync_id), text(extra.destination), instant(extra.as_of)];
  const [source, emittedAt] = [readSource(event), instant(event.timestamp)];
  if (syncId === null || destination === null || asOf === null || source === null || emittedAt === null) return null;
  const instants = texts(extra.change_sets).map(instant).filter((one) => one !== null);
  return {
    syncId,
    asOf,
    destination,
    upTo: Math.max(asOf, ...instants),
    delivered: count(extra.delivered) ?? 0,
    rejected: count(extra.rejected) ?? 0,
    omitted: count(extra.omitted) ?? 0,
    excluded: count(extra.excluded) ?? 0,
    filtered: count(extra.filtered) ?? 0,
    retried: count(extra.retried) ?? 0,
    seconds: count(extra.seconds) ?? 0,
    deadLetters: count(extra.still_rejected) ?? 0,
    messageFormat: text(extra.message_format) ?? "",
    sample: text(extra.sample),
    cost: readCost(extra),
    source,
    emittedAt,
  };
}

/** Read the XCom that says why a task stopped. */
export function readStop(value: unknown): Stop | null {
  if (!isFields(value) || (value.state !== "held" && value.state !== "failed" && value.state !== "skipped")) return null;
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
