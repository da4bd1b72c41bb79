import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";

const loaded = new Map<string, unknown>();

// useLazy brings a component once it is wanted; null until it is there.
export function useLazy<P>(name: string, load: () => Promise<ComponentType<P>>): ComponentType<P> | null {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (!loaded.has(name)) load().then((c) => { loaded.set(name, c); redraw((n) => n + 1); }, () => { /* the list beside it says the same */ });
  }, [name]);
  return (loaded.get(name) as ComponentType<P> | undefined) ?? null;
}
