// Virtual shows the rows of a long list that are in view. All rows are equally
// high; the browser scrolls, and only what comes into view is drawn.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface Props<T> {
  items: T[];
  row: number; // height in px
  id: (x: T) => string;
  draw: (x: T, i: number) => ComponentChildren;
  label: string;
  cursor?: number; // is kept in view when it moves
  class?: string;
}

const beyond = 6; // rows drawn before and after

export function Virtual<T>({ items, row, id, draw, label, cursor, class: cls = "" }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  useLayoutEffect(() => {
    const el = box.current!;
    const measure = () => setHeight(el.clientHeight || 600);
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(el);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (cursor === undefined || cursor < 0) return;
    const el = box.current!;
    if (cursor * row < el.scrollTop) el.scrollTop = cursor * row;
    else if ((cursor + 1) * row > el.scrollTop + el.clientHeight) el.scrollTop = (cursor + 1) * row - el.clientHeight;
  }, [cursor]);
  const first = Math.max(0, Math.floor(top / row) - beyond);
  const last = Math.min(items.length, Math.ceil((top + height) / row) + beyond);
  return (
    <div class={`virtual ${cls}`} ref={box} tabIndex={0} role="region" aria-label={label}
      onScroll={(e) => { const at = Math.floor(e.currentTarget.scrollTop / row) * row; if (at !== top) setTop(at); }}>
      <ol style={{ height: `${items.length * row}px` }} aria-label={label}>
        {items.slice(first, last).map((x, i) => (
          <li key={id(x)} style={{ transform: `translateY(${(first + i) * row}px)`, height: `${row}px` }} aria-setsize={items.length} aria-posinset={first + i + 1}>
            {draw(x, first + i)}
          </li>
        ))}
      </ol>
    </div>
  );
}
