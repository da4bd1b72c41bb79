// The keyboard: views register what their keys do; the newest that knows a key
// takes it. Keys typed into a field or a dialog are the field's.
import { useEffect, useRef } from "preact/hooks";

export type Keys = Record<string, (e: KeyboardEvent) => void>;
const layers: { keys: Keys }[] = [];

addEventListener("keydown", (e) => {
  const el = e.target as HTMLElement;
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  if (el.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(el.tagName)) {
    const check = el instanceof HTMLInputElement && el.type === "checkbox";
    if (!check && e.key !== "Escape") return;
    if (e.key === "Escape") el.blur();
  }
  if ((e.key === "Enter" || e.key === " ") && /^(A|BUTTON|SUMMARY)$/.test(el.tagName)) return;
  for (let i = layers.length - 1; i >= 0; i--) {
    const f = layers[i]!.keys[e.key];
    if (f) { e.preventDefault(); f(e); return; }
  }
});

export function useKeys(keys: Keys) {
  const layer = useRef({ keys });
  layer.current.keys = keys;
  useEffect(() => {
    const l = layer.current;
    layers.push(l);
    return () => { layers.splice(layers.indexOf(l), 1); };
  }, []);
}
