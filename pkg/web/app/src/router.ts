// The address of a view stands behind the #, so that the hub serves one file and
// a view can be named in the address of a frame.
import { signal } from "@preact/signals";

export interface Route { name: string; rest: string[]; query: URLSearchParams }

function parse(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = path.split("/").map(decodeURIComponent);
  return { name: name || "overview", rest, query: new URLSearchParams(query) };
}

export const route = signal<Route>(parse());
addEventListener("hashchange", () => { route.value = parse(); });

export const path = (name: string, ...rest: string[]) => `#/${[name, ...rest].map(encodeURIComponent).join("/")}`;
export function go(to: string, replace = false) {
  if (to === location.hash) return;
  if (replace) {
    history.replaceState(null, "", to);
    route.value = parse();
  } else location.hash = to;
}
