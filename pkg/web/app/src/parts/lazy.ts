import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";

const loaded = new Map<string, unknown>();

// useLazy brings a component once it is wanted; null until it is there.
export function useLazy<P>(name: string, load: () => Promise<ComponentType<P>>): ComponentType<P> | null {
  const [, redraw] = useState(0);
  useEffect(() => {
    let timer = 0;
    const bring = () => { load().then((c) => { loaded.set(name, c); redraw((n) => n + 1); }, () => { timer = setTimeout(bring, 3000); }); };
    if (!loaded.has(name)) bring();
    return () => clearTimeout(timer);
  }, [name]);
  return (loaded.get(name) as ComponentType<P> | undefined) ?? null;
}
