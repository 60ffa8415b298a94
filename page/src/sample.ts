// What a message looks like: the fields of a masked sample. Pure.

export interface Field {
  /** the way to it, `users[].user_id` */
  path: string;
  type: string;
}

/** Read a masked sample; null if it is no JSON document. */
export function readSample(text: string): object | null {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null ? found : null;
  } catch {
    return null;
  }
}

/** List the fields of a document, in its order; of a list those of its first element. */
export function fieldsOf(value: unknown, path = ""): Field[] {
  if (Array.isArray(value)) return value.length ? fieldsOf(value[0], `${path}[]`) : [{ path: `${path}[]`, type: "empty" }];
  if (typeof value === "object" && value !== null)
    return Object.entries(value).flatMap(([name, of]) => fieldsOf(of, path ? `${path}.${name}` : name));
  return [{ path, type: value === null ? "null" : typeof value === "string" ? "text" : typeof value }];
}
