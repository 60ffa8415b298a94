// Where the page is: in a frame of Airflow's UI, whose theme it follows, or by itself. The frame's own address says what
// is shown; each view is a document of its own, so the browser's buttons work, and Airflow (from 3.3 on) mirrors the
// frame's address in its own.

export interface Place {
  /** none for the overview */
  syncId: string | null;
  audienceId: string | null;
  /** what the overview is searched for, and filtered by */
  words: string;
  state: string;
}

/** Airflow's window where it is one of ours, else the page's own. */
function host(): Window {
  try {
    return window.parent.location.origin === window.location.origin ? window.parent : window;
  } catch {
    return window;
  }
}

/** Where Airflow is: the page's files are in a folder below it. */
export const base = (): string => new URL("../", window.location.href).href;

/** Read what an address asks for. */
export function read(search: string): Place {
  const asked = new URLSearchParams(search);
  const of = (name: string) => asked.get(name) ?? "";
  return { syncId: of("sync") || null, audienceId: asked.get("audience"), words: of("words"), state: of("state") };
}

/** Write the query of an address. It is never empty: a frame without one is new, and asks what its host's address says. */
export function query(place: Partial<Place>): string {
  const asked = new URLSearchParams();
  if (place.syncId) asked.set("sync", place.syncId);
  if (place.syncId && place.audienceId != null) asked.set("audience", place.audienceId);
  if (place.words) asked.set("words", place.words);
  if (place.state) asked.set("state", place.state);
  return asked.size ? `?${asked}` : "?all";
}

/** Read what is to be shown, in a new frame from Airflow's address, where a link into the page puts it. */
export function here(): Place {
  if (window.location.search) return read(window.location.search);
  const place = read(host().location.search);
  become(place);
  return place;
}

/** Have the address say what is shown. */
export const become = (place: Partial<Place>): void => window.history.replaceState(null, "", query(place));

/** Leave for a page of Airflow's own. A frame may not navigate its parent, but Airflow's router listens to its history. */
export function leave(path: string): void {
  const url = new URL(path, base()).href;
  if (host() === window) window.location.href = url;
  else {
    host().history.pushState({}, "", url);
    host().dispatchEvent(new PopStateEvent("popstate"));
  }
}

/** Follow the theme of Airflow's UI, or of the browser. */
export function followTheme(changed: () => void): () => void {
  const root = host().document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const named = host() === window ? null : root.className.match(/\b(light|dark)\b/)?.[1];
    document.documentElement.dataset.theme = named ?? (dark.matches ? "dark" : "light");
    changed();
  };
  const watching = new MutationObserver(apply);
  if (host() !== window) watching.observe(root, { attributes: true, attributeFilter: ["class"] });
  dark.addEventListener("change", apply);
  apply();
  return () => {
    watching.disconnect();
    dark.removeEventListener("change", apply);
  };
}
