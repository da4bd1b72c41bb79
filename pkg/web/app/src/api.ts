// Requests to the hub. Every answer, good or bad, is a sign that the hub lives:
// contact says when there was the last one.
import { signal } from "@preact/signals";

export const contact = signal(Date.now());

// Problem is the hub's refusal, with the sentence that says what to do.
export class Problem extends Error {
  constructor(readonly status: number, readonly title: string, detail: string) { super(detail || title); }
}

async function answer<T>(r: Response): Promise<T> {
  if (r.status < 502) contact.value = Date.now(); // beyond stand the words of a proxy
  if (r.ok) return r.json() as Promise<T>;
  if (r.status === 401) location.href = `/login?next=${encodeURIComponent(`${location.pathname}${location.search}${location.hash}`)}`; // the session is over
  const body = await r.json().catch(() => ({})) as { title?: string; detail?: string; error?: string };
  throw new Problem(r.status, body.title ?? `HTTP ${r.status}`, body.detail ?? body.error ?? "");
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return answer(await fetch(path, { signal, headers: { Accept: "application/json" } }));
}

export interface Page<T> { items: T[]; next?: string }

// all reads every page of a list.
export async function all<T>(path: string, signal?: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  let cursor = "";
  do {
    const sep = path.includes("?") ? "&" : "?";
    const page = await get<Page<T>>(`/api/v1/${path}${sep}limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, signal);
    items.push(...page.items);
    cursor = page.next ?? "";
  } while (cursor);
  return items;
}

// stream sends a body and hands over each line of the answer as it arrives.
export async function stream<T>(path: string, body: unknown, take: (line: T) => void, signal: AbortSignal): Promise<void> {
  const r = await fetch(`/api/v1/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
  if (!r.ok || !r.body) { await answer(r); return; }
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    contact.value = Date.now();
    const lines = (rest + value).split("\n");
    rest = lines.pop()!;
    for (const l of lines) take(JSON.parse(l) as T);
  }
}

export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

// post sends a body. With a key in it the request is safe to repeat, and is
// repeated when no answer came.
export async function post<T>(path: string, body: Record<string, unknown>): Promise<T> {
  const send = () => fetch(`/api/v1/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  for (let attempt = 0; ; attempt++) {
    try {
      return await answer<T>(await send());
    } catch (err) {
      const lost = !(err instanceof Problem) || err.status >= 502;
      if (!lost || !("key" in body) || attempt >= 5) throw err;
      await new Promise((done) => setTimeout(done, 500 * 2 ** attempt));
    }
  }
}
