// Who has signed in, if people sign in at this hub.
import { computed, signal } from "@preact/signals";
import { get } from "./api";
import { type Lang, lang, read } from "./i18n";

export interface Session { name: string; role: string; token: boolean; auth: boolean; language?: string }

export const session = signal<Session | null>(null);
// mayAct is false for those who may only look, and for screens.
export const mayAct = computed(() => session.value === null || !session.value.auth || !["viewer", "source"].includes(session.value.role));

// mayAsk is true for those who may ask gateways.
export const mayAsk = computed(() => session.value !== null && (!session.value.auth || ["technician", "admin"].includes(session.value.role)));

export async function learn(): Promise<void> {
  try {
    const s = session.value = await get<Session>("/api/v1/session");
    if (s.auth && !read("lang") && (s.language === "vi" || s.language === "en")) lang.value = s.language as Lang;
  } catch {
    setTimeout(() => void learn(), 3000);
  }
}

export async function leave() {
  await fetch("/api/v1/session", { method: "DELETE" }).catch(() => { /* then the session ends by itself */ });
  location.href = "/login";
}
