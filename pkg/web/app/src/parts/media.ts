import { signal } from "@preact/signals";

function media(query: string) {
  const m = matchMedia(query);
  const s = signal(m.matches);
  m.addEventListener("change", () => { s.value = m.matches; });
  return s;
}
const narrow = media("(max-width: 720px)");
export const prefersDark = media("(prefers-color-scheme: dark)");
export const calm = media("(prefers-reduced-motion: reduce)");
export const useNarrow = () => narrow.value;
