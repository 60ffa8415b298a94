// Where the page is: in a frame of Airflow's UI, whose address and theme it follows, or by itself.

export interface Place {
  syncId: string;
  audienceId: string | null;
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

/** Read which sync and audience the address asks for. */
export function read(search: string = host().location.search): Place | null {
  const asked = new URLSearchParams(search);
  const syncId = asked.get("sync");
  return syncId ? { syncId, audienceId: asked.get("audience") } : null;
}

/** Write the query of an address. */
export function query(place: Place | null): string {
  if (!place) return "";
  const asked = new URLSearchParams({ sync: place.syncId });
  if (place.audienceId !== null) asked.set("audience", place.audienceId);
  return `?${asked}`;
}

/** Go to another view of the page, with an address of its own. */
export function go(place: Place | null): void {
  const { history, location } = host();
  history.pushState(history.state, "", `${location.pathname}${query(place)}`);
}

/** Call back when the user goes back or forth. */
export function onMove(moved: () => void): () => void {
  host().addEventListener("popstate", moved);
  return () => host().removeEventListener("popstate", moved);
}

/** Leave for a page of Airflow's own. A frame may not navigate its parent, but Airflow's router can be told. */
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
