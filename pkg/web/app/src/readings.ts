// Readings of the past, by the hub's PromQL endpoints. A short time is read
// reading by reading; a long one as mean, least and greatest of each step.
import { get } from "./api";
import type { Edge, Series } from "./types";

export interface Key { edge: string; device: string; point: string; quantity: string }
export interface Shade { kind: "episode" | "gap" | "late" | "bad" | "unobserved"; from: number; to: number; text?: string }

// Course is a series over a time. Times are in ms; a null is a hole in the line.
export interface Course {
  x: number[];
  y: (number | null)[];
  low?: (number | null)[];
  high?: (number | null)[];
  step: number; // ms; 0: every reading
  late: [number, number][];
  bad: Shade[];
}

type Sample = [number, string];
interface Answer { data: { result: { metric: Record<string, string>; values?: Sample[]; value?: Sample }[] } }

const quote = (s: string) => JSON.stringify(s);
export const selector = (k: Key, more = "") => `${k.quantity}{edge=${quote(k.edge)},device=${quote(k.device)},point=${quote(k.point)}${more}}`;

export async function query(promql: string, at: number, signal?: AbortSignal) {
  const a = await get<Answer>(`/prometheus/api/v1/query?query=${encodeURIComponent(promql)}&time=${at / 1000}`, signal);
  return a.data.result;
}

export async function queryRange(promql: string, from: number, to: number, step: number, signal?: AbortSignal) {
  const a = await get<Answer>(`/prometheus/api/v1/query_range?query=${encodeURIComponent(promql)}&start=${from / 1000}&end=${to / 1000}&step=${step / 1000}`, signal);
  return a.data.result;
}

const merge = (lists: { values?: Sample[] }[]): [number, number][] =>
  lists.flatMap((r) => r.values ?? []).map(([t, v]): [number, number] => [Math.round(t * 1000), Number(v)]).sort((a, b) => a[0] - b[0]);

// rawPoints bounds the readings that are asked for one by one.
const rawPoints = 12_000;

// holes puts a null where the line would cross a silence much longer than usual.
function holes(list: [number, number][], least: number) {
  const x: number[] = [], y: (number | null)[] = [];
  const apart = list.slice(1).map((p, i) => p[0] - list[i]![0]).sort((a, b) => a - b);
  const usual = apart.length ? apart[Math.floor(apart.length * 0.9)]! : 0;
  const limit = Math.max(least, usual * 3);
  list.forEach(([at, v], i) => {
    if (i > 0 && at - list[i - 1]![0] > limit) { x.push(list[i - 1]![0] + 1); y.push(null); }
    x.push(at);
    y.push(v);
  });
  return { x, y };
}

const nice = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800].map((s) => s * 1000);

// read brings a series between two times for a plot of so many columns.
export async function read(k: Key, from: number, to: number, columns: number, signal?: AbortSignal): Promise<Course> {
  from = Math.floor(from);
  to = Math.ceil(to);
  const span = to - from;
  const want = span / Math.max(100, columns);
  const step = nice.find((s) => s >= want) ?? Math.ceil(want / 86_400_000) * 86_400_000;
  const [late, quality] = await Promise.all([
    span <= 32 * 86_400_000 ? query(`${selector(k, ',late="1"')}[${span}ms]`, to, signal).catch(() => []) : [],
    span <= 32 * 86_400_000 ? query(`${selector({ ...k, quantity: "reading_quality" })}[${span + 3_600_000}ms]`, to, signal).catch(() => []) : [],
  ]);
  const course = { late: merge(late), bad: badTimes(merge(quality), from, to) };
  if (step <= 60_000) {
    const count = span <= 300_000 ? 0 : Number((await query(`sum(count_over_time(${selector(k, ',late=""')}[${span}ms]))`, to, signal))[0]?.value?.[1] ?? 0);
    if (count <= rawPoints) {
      const list = merge(await query(`${selector(k, ',late=""')}[${span}ms]`, to, signal));
      return { ...holes(list, 10_000), step: 0, ...course };
    }
  }
  const start = Math.ceil(from / step) * step;
  const over = (fn: string) => queryRange(`${fn}_over_time(${selector(k, ',late=""')}[${step}ms])`, start, Math.ceil(to / step) * step, step, signal);
  const [mean, low, high] = await Promise.all([over("avg"), over("min"), over("max")]);
  const at = (list: [number, number][]) => new Map(list);
  const lows = at(merge(low)), highs = at(merge(high));
  const { x, y } = holes(merge(mean), step * 1.5);
  return { x, y, low: x.map((v) => lows.get(v) ?? null), high: x.map((v) => highs.get(v) ?? null), step, ...course };
}

// badTimes are the times in which the quality of a series was bad: reading_quality
// has a sample at every change, whose two upper bits are the status.
function badTimes(changes: [number, number][], from: number, to: number): Shade[] {
  const out: Shade[] = [];
  changes.forEach(([at, q], i) => {
    const end = changes[i + 1]?.[0] ?? to;
    if (q >> 6 >= 2 && end > from && at < to) out.push({ kind: "bad", from: Math.max(from, at), to: Math.min(to, end) });
  });
  return out;
}

// unseen are the times of an edge without readings. Of a gap the hub knows where it
// begins; that nobody looked there says until when.
export function unseen(edge: Edge | undefined): Shade[] {
  const lost = new Set(edge?.gaps.map((g) => g.from));
  return (edge?.unobserved ?? []).flatMap((g) => (g.from && g.to ? [{ kind: lost.has(g.from) ? "gap" as const : "unobserved" as const, from: Date.parse(g.from), to: Date.parse(g.to) }] : []));
}

export const keyOf = (s: Series): Key => ({ edge: s.edge, device: s.device, point: s.point, quantity: s.quantity });
export const idOf = (k: Key) => `${k.edge}/${k.device}/${k.point}`;
