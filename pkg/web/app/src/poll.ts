// What is asked for again and again, once for all who show it.
import { type Signal, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { all, get } from "./api";
import type { Counts, Delivery, Device, Edge, Hold, Series, Site } from "./types";

export interface Polled<T> { value: Signal<T | null>; error: Signal<Error | null>; refresh: () => Promise<void>; use: () => T | null }

// polled asks while somebody shows it and the page is in view.
export function polled<T>(ask: () => Promise<T>, every: number): Polled<T> {
  const value = signal<T | null>(null);
  const error = signal<Error | null>(null);
  let users = 0;
  let timer: number | undefined;
  let busy = false;
  const refresh = async () => {
    if (busy) return;
    busy = true;
    try {
      value.value = await ask();
      error.value = null;
    } catch (err) {
      error.value = err as Error;
    } finally {
      busy = false;
    }
  };
  const loop = async () => {
    if (!document.hidden || value.value === null) await refresh();
    if (users > 0) timer = setTimeout(loop, error.value ? Math.min(every, 5000) : every);
  };
  const use = () => {
    useEffect(() => {
      if (users++ === 0) void loop();
      return () => { if (--users === 0) clearTimeout(timer); };
    }, []);
    return value.value;
  };
  return { value, error, refresh, use };
}

const sorted = <T>(list: T[], key: (x: T) => string) => list.sort((a, b) => (key(a) < key(b) ? -1 : 1));
export const sites = polled(async () => sorted(await all<Site>("sites"), (s) => s.id), 5000);
export const edges = polled(async () => sorted(await all<Edge>("edges"), (e) => e.id), 5000);
export const devices = polled(async () => sorted(await all<Device>("devices"), (d) => `${d.edge}/${d.id}`), 5000);
export const series = polled(() => all<Series>("series"), 30_000);
export const holds = polled(async () => (await get<{ items: Hold[] }>("/api/v1/holds")).items, 10_000);
export const counts = polled(() => get<Counts>("/api/v1/alerts/counts"), 3000);
export const rules = polled(() => all<import("./types").Rule>("rules"), 15_000);
export const deliveries = polled(async () => (await get<{ items: Delivery[] }>("/api/v1/deliveries")).items, 15_000);

// begun says what a system has already: asked for by the first of each alone, and
// not any more once there is everything.
export const begun = polled(async () => {
  const have = begun.value.peek();
  if (have?.edges && have.devices && have.rules) return have;
  const first = async (path: string) => (await get<{ items: unknown[] }>(`/api/v1/${path}?limit=1`)).items.length > 0;
  const [e, d, r] = await Promise.all([first("edges"), first("devices"), all<import("./types").Rule>("rules")]);
  return { edges: e, devices: d, rules: r.some((x) => !x.built_in) };
}, 5000) as Polled<{ edges: boolean; devices: boolean; rules: boolean }>;
export const settings = polled(() => get<import("./types").Settings>("/api/v1/page"), 600_000);
