// Vietnamese first; the choice is remembered.
import { effect, signal } from "@preact/signals";
import type { Text } from "./types";
import { en } from "./words/en";
import { type Words, vi } from "./words/vi";

export type Lang = "vi" | "en";
const asked = new URLSearchParams(location.search).get("lang");
const remembered = read("lang");
export const lang = signal<Lang>(asked === "en" || (asked !== "vi" && remembered === "en") ? "en" : "vi");

// read and keep survive browsers that refuse storage, as some do within frames.
export function read(key: string) { try { return localStorage.getItem(key); } catch { return null; } }
export function keep(key: string, value: string) { try { localStorage.setItem(key, value); } catch { /* for this visit only */ } }

export const t = <K extends keyof Words>(key: K): Words[K] => (lang.value === "vi" ? vi : en)[key];
export const text = (o: Text | undefined | null) => (o && (o[lang.value] || o.vi || o.en)) || "";

effect(() => { document.documentElement.lang = lang.value; });
export function setLang(l: Lang) { lang.value = l; keep("lang", l); }
