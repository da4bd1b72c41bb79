// A plot of courses over time with limits and shades, over uPlot. It is drawn on
// a canvas; the key below it says the same in words.
import { signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, duration, full, measured, number, unit } from "../format";
import { lang, t } from "../i18n";
import type { Course, Shade } from "../readings";
import { color, dark } from "../theme";

export interface Line { name: string; unit: string; course: Course; color?: string; decimals?: number }
export interface LimitLine { value: number; text: string; severity: string; unit: string; dash?: boolean }

interface Props {
  lines: Line[];
  from: number;
  to: number;
  limits?: LimitLine[];
  shades?: Shade[];
  height?: number;
  label: string;
  onZoom?: (from: number, to: number) => void;
  onOut?: () => void;
}

const syncKey = "page";
export const plotWidth = signal(900); // of the last plot, for those who read for one

function hatch(ctx: CanvasRenderingContext2D, x: number, y: number, w: number, h: number) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, w, h);
  ctx.clip();
  ctx.beginPath();
  for (let i = x - h; i < x + w; i += 9 * devicePixelRatio) { ctx.moveTo(i, y + h); ctx.lineTo(i + h, y); }
  ctx.strokeStyle = color("soft");
  ctx.globalAlpha = 0.35;
  ctx.lineWidth = devicePixelRatio;
  ctx.stroke();
  ctx.restore();
}

// same says whether lines show what others did: their owners draw often, and a plot
// that is made anew drops what the pointer does.
const same = (a: Line[], b: Line[]) => a.length === b.length && a.every((l, i) => l.course === b[i]!.course && l.unit === b[i]!.unit && l.color === b[i]!.color);

export function Plot({ lines: given, from, to, limits = [], shades = [], height = 260, label, onZoom, onOut }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const cursor = useSignal<number | null>(null);
  const kept = useRef(given);
  if (!same(kept.current, given)) kept.current = given;
  const lines = kept.current;
  const data = useMemo(() => align(lines), [lines]);
  const acts = useRef({ onZoom, onOut });
  acts.current = { onZoom, onOut };
  const units = [...new Set(lines.map((l) => l.unit))];
  useEffect(() => {
    const el = box.current!;
    plotWidth.value = el.clientWidth;
    const css = (i: number) => color(lines[i]!.color ?? `s${i % 12}`);
    const scales: uPlot.Scales = { x: { time: true, min: from / 1000, max: to / 1000 } };
    for (const u of units) {
      scales[`y${u}`] = {
        range: (_, low, high) => {
          if (low === null || high === null || !Number.isFinite(low)) { low = 0; high = 1; }
          const span = Math.max(high - low, Math.abs(high) * 0.01, 1e-9);
          // A limit far from the readings would press them flat: it stays outside.
          for (const l of limits) if (l.unit === u && l.value < high + 2.5 * span && l.value > low - 2.5 * span) { low = Math.min(low, l.value); high = Math.max(high, l.value); }
          const pad = high > low ? (high - low) * 0.08 : Math.max(Math.abs(high) * 0.05, 0.05); // what never moves has an axis that can be read
          return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
        },
      };
    }
    const series: uPlot.Series[] = [{}];
    const bands: uPlot.Band[] = [];
    lines.forEach((l, i) => {
      const scale = `y${l.unit}`;
      series.push({ scale, stroke: css(i), width: 1.6, points: { show: l.course.x.length < 80, size: 4 } });
      if (l.course.low) {
        series.push({ scale, stroke: css(i), alpha: 0.35, width: 0.6, points: { show: false } }, { scale, stroke: css(i), alpha: 0.35, width: 0.6, points: { show: false } });
        bands.push({ series: [series.length - 1, series.length - 2], fill: `${css(i)}33` });
      }
      if (l.course.late.length) series.push({ scale, stroke: css(i), width: 0, paths: () => null, points: { show: true, size: 7, width: 1.5, fill: color("panel"), stroke: color("emergency") } });
    });
    const axis = { stroke: color("soft"), grid: { stroke: color("grid"), width: 1 }, ticks: { stroke: color("line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const plot = new uPlot({
      width: el.clientWidth, height, scales, series, bands, legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false }, sync: { key: syncKey }, points: { size: 6 } },
      axes: [
        { ...axis, space: 84, values: (_, at) => ticks(at) },
        ...units.slice(0, 2).map((u, i): uPlot.Axis => ({ ...axis, scale: `y${u}`, side: i ? 1 : 3, label: unit(u) || undefined, labelSize: 18, labelFont: "12px system-ui, sans-serif", size: 56, grid: i ? { show: false } : axis.grid, values: (_, v) => v.map((x) => number(x, places(v))) })),
      ],
      hooks: {
        drawClear: [(u) => {
          const { ctx, bbox } = u;
          for (const s of shades) {
            const a = Math.max(bbox.left, u.valToPos(s.from / 1000, "x", true)), b = Math.min(bbox.left + bbox.width, u.valToPos(s.to / 1000, "x", true));
            if (b < bbox.left || a > bbox.left + bbox.width) continue;
            ctx.fillStyle = color(s.kind === "unobserved" ? "shade-gap" : `shade-${s.kind}`);
            ctx.fillRect(a, bbox.top, Math.max(2, b - a), bbox.height);
            if (s.kind === "gap" || s.kind === "unobserved" || s.kind === "bad") hatch(ctx, a, bbox.top, Math.max(2, b - a), bbox.height);
          }
        }],
        draw: [(u) => {
          const { ctx, bbox } = u;
          for (const l of limits) {
            const scale = u.scales[`y${l.unit}`];
            if (!scale || scale.min === undefined || scale.max === undefined || l.value < scale.min! || l.value > scale.max!) continue;
            const y = u.valToPos(l.value, `y${l.unit}`, true);
            ctx.save();
            ctx.strokeStyle = ctx.fillStyle = color(l.severity);
            ctx.lineWidth = 1.5 * devicePixelRatio;
            ctx.setLineDash(l.dash === false ? [] : [6 * devicePixelRatio, 4 * devicePixelRatio]);
            ctx.beginPath();
            ctx.moveTo(bbox.left, y);
            ctx.lineTo(bbox.left + bbox.width, y);
            ctx.stroke();
            ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
            ctx.textAlign = "right";
            ctx.fillStyle = color("text");
            ctx.fillText(l.text, bbox.left + bbox.width - 4 * devicePixelRatio, y - 4 * devicePixelRatio);
            ctx.restore();
          }
        }],
        setCursor: [(u) => { cursor.value = u.cursor.left !== undefined && u.cursor.left >= 0 && u.cursor.idx !== undefined ? u.cursor.idx ?? null : null; }],
        setSelect: [(u) => {
          if (u.select.width > 4) acts.current.onZoom?.(u.posToVal(u.select.left, "x") * 1000, u.posToVal(u.select.left + u.select.width, "x") * 1000);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    }, data as uPlot.AlignedData, el);
    plot.over.addEventListener("dblclick", () => acts.current.onOut?.());
    const watch = new ResizeObserver(() => { if (el.clientWidth > 0) { plot.setSize({ width: el.clientWidth, height }); plotWidth.value = el.clientWidth; } });
    watch.observe(el);
    return () => { watch.disconnect(); plot.destroy(); cursor.value = null; };
  }, [data, from, to, dark.value, lang.value, height, JSON.stringify(limits), JSON.stringify(shades)]);

  const kinds = [...new Set(shades.map((s) => s.kind))];
  const at = cursor.value === null ? undefined : data[0]![cursor.value] ?? undefined;
  return (
    <figure class="plot" style={{ margin: 0 }}>
      <div class="box" ref={box} role="img" aria-label={`${label}. ${summary(given)}`} />
      <figcaption class="key">
        {given.map((l, i) => <span key={i}><i style={{ "--c": `var(--${l.color ?? `s${i % 12}`})` }} />{l.name}: {measured(at === undefined ? last(l.course) : near(l.course, at * 1000), l.unit, l.decimals)}</span>)}
        {limits.map((l) => <span key={l.text + l.value}><i class="dash" style={{ "--c": `var(--${l.severity})` }} />{l.text}</span>)}
        {kinds.map((k) => <span key={k}><i style={{ "--c": `var(--shade-${k === "unobserved" ? "gap" : k})`, outline: "1px solid var(--line)" }} />{t("shade")[k]}</span>)}
        {lines.some((l) => l.course.late.length) && <span><i style={{ "--c": "var(--emergency)", borderRadius: "50%", width: "10px" }} />{t("shade").late}</span>}
        {at !== undefined && <span class="soft">{full(at * 1000)}</span>}
      </figcaption>
    </figure>
  );
}

const last = (c: Course) => c.y.findLast((v) => v !== null) ?? null;
function near(c: Course, at: number) {
  let best: number | null = null;
  for (let i = 0; i < c.x.length && c.x[i]! <= at; i++) if (c.y[i] !== null) best = c.y[i]!;
  return best;
}

function summary(lines: Line[]) {
  return lines.map((l) => {
    const v = l.course.y.filter((y): y is number => y !== null);
    if (!v.length) return `${l.name}: ${t("noReadings")}`;
    return `${l.name}: ${measured(v.reduce((a, b) => Math.min(a, b)), l.unit, l.decimals)} – ${measured(v.reduce((a, b) => Math.max(a, b)), l.unit, l.decimals)}`;
  }).join("; ");
}

// align brings the courses onto one axis of time, in s: a series has no value
// (undefined) where only others have one, and a hole (null) where it was silent.
function align(lines: Line[]): (number | null | undefined)[][] {
  const tables: [number[], ...(number | null)[][]][] = [];
  for (const { course: c } of lines) {
    tables.push([c.x.map((v) => v / 1000), c.y, ...(c.low ? [c.low, c.high!] : [])]);
    if (c.late.length) tables.push([c.late.map((p) => p[0] / 1000), c.late.map((p) => p[1])]);
  }
  if (tables.length === 0) return [[]];
  return uPlot.join(tables as uPlot.AlignedData[], tables.map((x) => x.map(() => 2 as const))) as (number | null | undefined)[][];
}

function ticks(at: number[]) {
  const step = (at[1] ?? 0) - (at[0] ?? 0);
  let before = "";
  return at.map((v) => {
    const whole = full(v * 1000);
    const date = whole.slice(0, 5);
    const time = step < 1 ? `${clock(v * 1000)}.${String(Math.round(v * 1000) % 1000).padStart(3, "0")}` : step < 60 ? clock(v * 1000) : clock(v * 1000).slice(0, 5);
    const out = step >= 86_400 ? (step > 20 * 86_400 ? whole.slice(0, 10) : date) : date === before ? time : `${time}\n${date}`;
    before = date;
    return out;
  });
}

// places are the decimals that tell one tick from the next.
const places = (v: number[]) => (v.length < 2 ? undefined : Math.min(6, Math.max(0, Math.ceil(-Math.log10(Math.abs(v[1]! - v[0]!)) - 1e-9))));

export const resolution = (c: Course | undefined) => (!c ? "" : c.step === 0 ? t("raw") : `${t("mean")}, ${t("range")}: ${duration(c.step)}`);
