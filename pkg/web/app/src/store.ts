// What the page knows of alerts: the list, kept current by the stream.
import { computed, signal } from "@preact/signals";
import { all, contact, get, type Page } from "./api";
import type { Alert, Entry } from "./types";

// Alerts are in a plain map; version says that it changed, once per frame of the
// screen however many entries came.
const alerts = new Map<string, Alert>();
export const version = signal(0);
let drawing = false;
function changed() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; version.value++; });
}

// clearedKept bounds the alerts that are over, so that a page left open for
// weeks stays small; all of them are under History.
const clearedKept = 500;

export type Link = "connecting" | "live" | "reconnecting";
export const link = signal<Link>("connecting");
export const lastEvent = signal<string | null>(null);
export const listed = signal(false); // something is there to be shown
export const complete = signal(false); // all is there that is active
export const notice = signal<"trimmed" | "restored" | null>(null);
export const tick = signal(Date.now()); // each second: what is said in "ago"
setInterval(() => { tick.value = Date.now(); }, 1000);

export const staleAfter = 10_000;
// A page that was out of view asks less often: it may ask first when it is back.
const seenSince = signal(Date.now());
document.addEventListener("visibilitychange", () => { if (!document.hidden) tick.value = seenSince.value = Date.now(); });
export const stale = computed(() => tick.value - Math.max(contact.value, seenSince.value) > staleAfter);

// fresh are alerts that came while the page was open; they rise for a moment.
const freshUntil = new Map<string, number>();
export const isFresh = (id: string) => (freshUntil.get(id) ?? 0) > Date.now();
export const known = (id: string) => alerts.get(id);

export const current = computed(() => { void version.value; return [...alerts.values()]; });
export const calling = computed(() => current.value.filter((a) => a.state === "active" && (a.isa_state === "unacknowledged" || a.isa_state === "acknowledged")));

// put takes an alert as it stands in an answer or an entry; the higher sequence counts.
export function put(a: Alert) {
  const old = alerts.get(a.id);
  if (old && old.sequence > a.sequence) return false;
  alerts.set(a.id, a);
  changed();
  return !old;
}

function forget() {
  const over = [...alerts.values()].filter((a) => a.state === "cleared");
  if (over.length <= clearedKept + 100) return;
  over.sort((x, y) => (x.updated < y.updated ? -1 : 1));
  for (const a of over.slice(0, over.length - clearedKept)) alerts.delete(a.id);
}

// glimpse brings the newest active alerts at once, so that a page with a thousand
// of them shows something while the rest comes.
async function glimpse() {
  const p = await get<Page<Alert>>("/api/v1/alerts?state=active&limit=50");
  for (const a of p.items) put(a);
  listed.value = true;
}

// list reads what the stream does not repeat: all active alerts, those that
// nobody has looked at, and the newest others.
async function list() {
  const before = new Map([...alerts.values()].filter((a) => a.state === "active").map((a) => [a.id, a.sequence]));
  const [active, open, recent] = await Promise.all([
    all<Alert>("alerts?state=active"),
    get<Page<Alert>>(`/api/v1/alerts?isa_state=cleared_unacknowledged&limit=${clearedKept}`),
    get<Page<Alert>>("/api/v1/alerts?limit=100"),
  ]);
  for (const a of [...active, ...open.items, ...recent.items]) put(a);
  // What was active and is no longer listed has ended while nothing was heard,
  // unless the stream has said something newer of it.
  const listedNow = new Set(active.map((a) => a.id));
  for (const [id, sequence] of before) {
    if (listedNow.has(id) || alerts.get(id)?.sequence !== sequence) continue;
    get<Alert>(`/api/v1/alerts/${encodeURIComponent(id)}`).then(put, () => { alerts.delete(id); changed(); });
  }
  const newest = [...alerts.values()].reduce((at, a) => (a.recorded > at ? a.recorded : at), lastEvent.value ?? "");
  lastEvent.value = newest || null;
  listed.value = complete.value = true;
  changed();
}

const listUntilDone = () => { list().catch(() => setTimeout(listUntilDone, 2000)); };

function take(data: string, id: string) {
  const entry = (JSON.parse(data) as { data: Entry }).data; // a CloudEvents envelope
  const a: Alert = { ...entry.alert, sequence: entry.sequence };
  resumeAt = id;
  contact.value = Date.now();
  lastEvent.value = entry.recorded;
  if (put(a) && a.state === "active") {
    freshUntil.set(a.id, Date.now() + 4000);
    setTimeout(() => { freshUntil.delete(a.id); changed(); }, 4100);
  }
  forget();
}

let resumeAt = "";

// listen opens the stream first and reads the list once it is open: an alert
// that changes in between comes by both ways. The browser resumes a broken
// stream by itself; one that it gave up is opened anew where it was.
export function listen() {
  if (!listed.value) glimpse().catch(() => { /* the list follows */ });
  const source = new EventSource(`/api/v1/alerts/stream${resumeAt ? `?after=${encodeURIComponent(resumeAt)}` : ""}`);
  source.onopen = () => { link.value = "live"; contact.value = Date.now(); };
  source.onerror = () => {
    link.value = "reconnecting";
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
  source.addEventListener("hello", (ev) => { resumeAt = ev.lastEventId || resumeAt; listUntilDone(); });
  source.addEventListener("generation", (ev) => { notice.value = "restored"; alerts.clear(); resumeAt = ev.lastEventId || resumeAt; listUntilDone(); });
  source.addEventListener("trimmed", () => { notice.value = "trimmed"; listUntilDone(); });
  source.addEventListener("alert", (ev) => { take((ev as MessageEvent<string>).data, ev.lastEventId); });
}
