// What people do to alerts: asked for, sent, told, undone.
import { computed, signal } from "@preact/signals";
import { newKey, post } from "./api";
import { keep, read, t } from "./i18n";
import { mayAct, session } from "./session";
import { known, put } from "./store";
import type { Alert, Entry } from "./types";

export type ActName = "acknowledge" | "unacknowledge" | "comment" | "assign" | "shelve" | "unshelve" | "close" | "reopen";

// who is who has signed in; where nobody does, the name that was typed.
const typed = signal(read("who") ?? "");
export const signedIn = computed(() => (session.value?.auth ? session.value.name : ""));
export const who = computed(() => signedIn.value || typed.value);
export function setWho(name: string) { typed.value = name.trim(); keep("who", typed.value); }

// possible says whether the hub would take the act now.
export function possible(act: ActName, a: Alert) {
  if (!mayAct.value) return false;
  switch (act) {
    case "acknowledge": return !a.acknowledged;
    case "unacknowledge": return a.acknowledged && !a.closed;
    case "comment": return true;
    case "assign": return !a.closed;
    case "shelve": return a.state === "active" && !a.shelved_until;
    case "unshelve": return Boolean(a.shelved_until);
    case "close": return a.state === "cleared" && !a.closed;
    case "reopen": return Boolean(a.closed);
  }
}

const reverse: Partial<Record<ActName, ActName>> = { acknowledge: "unacknowledge", shelve: "unshelve", unshelve: undefined, close: "reopen", assign: "assign" };

// undo is a list of requests that take the last act back.
type Undo = { act: ActName; ids: string[]; fields: Record<string, unknown> }[];
export interface Toast { id: number; text: string; bad: boolean; undo: Undo | null }
export const toasts = signal<Toast[]>([]);
let lastToast = 0;

export function tell(text: string, bad = false, undo: Undo | null = null) {
  const toast = { id: ++lastToast, text, bad, undo };
  toasts.value = [...toasts.value.slice(-2), toast];
  setTimeout(() => dismiss(toast.id), bad ? 12_000 : undo ? 10_000 : 5000);
}
export function dismiss(id: number) { toasts.value = toasts.value.filter((x) => x.id !== id); }

// asking is the act whose form is open; the form asks for the name, too.
export interface Asking { act: ActName; ids: string[] }
export const asking = signal<Asking | null>(null);

// start does an act that needs no more words at once, and asks for them otherwise.
export function start(act: ActName, ids: string[]) {
  const able = ids.filter((id) => { const a = known(id); return !a || possible(act, a); });
  if (able.length === 0) {
    if (ids.length) tell(act === "close" ? t("closeOnlyCleared") : `${t("acts")[act]}: ${t("notDone")}`, true);
    return;
  }
  if (["acknowledge", "unacknowledge", "unshelve", "reopen"].includes(act) && who.value) void perform(act, able, {});
  else asking.value = { act, ids: able };
}

interface Result { id: string; entry?: Entry; problem?: { detail: string } }

// perform sends the act, up to 1,000 alerts at a time, and says what became of it.
export async function perform(act: ActName, ids: string[], fields: Record<string, unknown>, quiet = false): Promise<boolean> {
  const before = new Map(ids.map((id) => [id, known(id)]));
  const done: string[] = [];
  const problems: string[] = [];
  try {
    for (let i = 0; i < ids.length; i += 1000) {
      const { items } = await post<{ items: Result[] }>("alerts/acts", { act, alerts: ids.slice(i, i + 1000), who: who.value, key: newKey(), ...fields });
      for (const r of items) {
        if (r.entry) {
          put({ ...r.entry.alert, sequence: r.entry.sequence });
          done.push(r.id);
        } else if (r.problem) problems.push(r.problem.detail);
      }
    }
  } catch (err) {
    problems.push((err as Error).message);
  }
  if (done.length && !quiet) {
    const back = reverse[act];
    let undo: Undo | null = null;
    if (act === "assign") {
      const by = new Map<string, string[]>();
      for (const id of done) { const was = before.get(id)?.assignee ?? ""; by.set(was, [...(by.get(was) ?? []), id]); }
      undo = [...by].map(([assignee, list]) => ({ act: "assign" as const, ids: list, fields: assignee ? { assignee } : {} }));
    } else if (back) undo = [{ act: back, ids: done, fields: {} }];
    tell(done.length === 1 ? t("done")[act]! : `${t("done")[act]} ${done.length} ${t("ofAlerts")}`, false, undo);
  }
  if (problems.length) tell(`${problems.length > 1 ? `${problems.length} × ` : ""}${t("notDone")}: ${problems[0]}`, true);
  return problems.length === 0;
}

export async function undo(toast: Toast | undefined = toasts.value.findLast((x) => x.undo)) {
  if (!toast?.undo) return;
  dismiss(toast.id);
  let ok = true;
  for (const u of toast.undo) ok = await perform(u.act, u.ids, u.fields, true) && ok;
  if (ok) tell(`${t("undo")}: ✓`);
}
