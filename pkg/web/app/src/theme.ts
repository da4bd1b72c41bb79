// Light, dark, or as the system has it.
import { computed, effect, signal } from "@preact/signals";
import { keep, read } from "./i18n";
import { prefersDark } from "./parts/media";

export type Theme = "auto" | "light" | "dark";
const named = new URLSearchParams(location.search).get("theme") ?? read("theme");
export const theme = signal<Theme>(named === "light" || named === "dark" ? named : "auto");
export const dark = computed(() => theme.value === "dark" || (theme.value === "auto" && prefersDark.value));
effect(() => { document.documentElement.dataset.theme = dark.value ? "dark" : "light"; });
export function setTheme(x: Theme) { theme.value = x; keep("theme", x); }

// color reads one of the style sheet's colours, for what is drawn on a canvas.
export const color = (name: string) => { void dark.value; return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); };
