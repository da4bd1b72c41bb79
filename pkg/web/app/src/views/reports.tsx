// A day, a week or a month on paper: alerts, air and completeness per commune.
import { useEffect, useState } from "preact/hooks";
import { get } from "../api";
import { csv, day, download, duration, full, measured, number, percent } from "../format";
import { t, text } from "../i18n";
import { Badge, Empty, Field, Loading, siteName, Tabs } from "../parts/basics";
import { rules, sites } from "../poll";
import { query } from "../readings";
import { path, route, go } from "../router";
import { severities, type Site, type Severity } from "../types";

type Period = "day" | "week" | "month";
interface Statistics {
  alerts: number;
  held: number;
  per_hour: number;
  hours: { start: string; alerts: number }[];
  by_severity: Partial<Record<Severity, number>>;
  top: { rule: string; site: string; series: string; alerts: number; share: number }[];
  standing: { count: number };
  fleeting: number;
  floods: { start: string; end: string; alerts: number }[];
  flood_share: number;
}

const pad = (n: number) => String(n).padStart(2, "0");
const iso = (d: Date) => `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;

// spanOf is the day, the week from Monday, or the month that a date lies in.
function spanOf(period: Period, date: string): [Date, Date] {
  const [y = 2026, m = 1, d = 1] = date.split("-").map(Number);
  if (period === "month") return [new Date(y, m - 1, 1), new Date(y, m, 1)];
  const back = period === "week" ? (new Date(y, m - 1, d).getDay() + 6) % 7 : 0;
  return [new Date(y, m - 1, d - back), new Date(y, m - 1, d - back + (period === "week" ? 7 : 1))];
}

const air: [string, string, string, number][] = [["pm2_5", "PM2.5", "ug/m3", 1], ["pm10", "PM10", "ug/m3", 1], ["co2", "CO₂", "[ppm]", 0]];

interface Row {
  site: Site | null; // null: the whole system
  stats: Statistics;
  air: Record<string, { mean: number; max: number } | undefined>;
  complete: number | null; // 0 to 1
  up: number | null;
}

// Work reads a report piece by piece, so that progress can be shown.
async function work(from: Date, to: Date, list: Site[], progress: (done: number, of: number) => void, stop: AbortSignal): Promise<Row[]> {
  const end = Math.min(to.getTime(), Date.now()), begin = from.getTime();
  const span = Math.max(1000, end - begin);
  const total = list.length + 1 + air.length * 2 + 2;
  let done = 0;
  const step = <T,>(p: Promise<T>) => p.then((v) => { if (!stop.aborted) progress(++done, total); return v; });
  const bySite = async (promql: string) => new Map((await query(promql, end, stop)).map((r) => [r.metric.site ?? "", Number(r.value?.[1])]));
  const stats = async (site: string) => get<Statistics>(`/api/v1/alerts/statistics?from=${from.toISOString()}&to=${new Date(end).toISOString()}${site ? `&site=${encodeURIComponent(site)}` : ""}`, stop);
  const airs: Record<string, [Map<string, number>, Map<string, number>]> = {};
  for (const [q] of air) {
    airs[q] = [await step(bySite(`avg by (site) (avg_over_time(${q}{late=""}[${span}ms]))`)), await step(bySite(`max by (site) (max_over_time(${q}{late=""}[${span}ms]))`))];
  }
  const up = await step(bySite(`avg by (site) (avg_over_time(device_up{late=""}[${span}ms]))`));
  // The hub computes each hour's completeness within minutes of its end. An hour that
  // it has nothing of counts as empty: the edge has not sent it yet.
  const present = new Map<string, number>();
  const last = Math.floor(Math.min(end, Date.now() - 600_000) / 3600_000) * 3600_000;
  const n = Math.floor((last - begin) / 3600_000);
  if (n > 0) {
    const hours = `sum by (site) (sum_over_time(last_over_time(completeness_hour{late=""}[1h])[${n}h:1h])) / count by (site) (last_over_time(completeness_hour{late=""}[${n}h]))`;
    for (const r of await query(hours, last, stop)) present.set(r.metric.site ?? "", Number(r.value?.[1]) / n / 100);
  }
  progress(++done, total);
  const rows: Row[] = [{ site: null, stats: await step(stats("")), air: {}, complete: null, up: null }];
  for (const s of list) {
    rows.push({
      site: s, stats: await step(stats(s.id)), complete: present.size ? present.get(s.id) ?? 0 : null, up: up.get(s.id) ?? null,
      air: Object.fromEntries(air.map(([q]) => [q, airs[q]![0].has(s.id) ? { mean: airs[q]![0].get(s.id)!, max: airs[q]![1].get(s.id) ?? NaN } : undefined])),
    });
  }
  return rows;
}

export function Reports() {
  rules.use();
  const q = route.value.query;
  const period = (["day", "week", "month"].includes(q.get("period") ?? "") ? q.get("period") : "day") as Period;
  const date = /^\d{4}-\d\d-\d\d$/.test(q.get("date") ?? "") ? q.get("date")! : iso(new Date());
  const [from, to] = spanOf(period, date);
  const [rows, setRows] = useState<Row[] | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [progress, setProgress] = useState<[number, number]>([0, 1]);
  const [round, again] = useState(0);
  const list = sites.value.value;
  useEffect(() => {
    if (!list) return undefined;
    const stop = new AbortController();
    setRows(null);
    setError(null);
    setProgress([0, 1]);
    work(from, to, list, (d, of) => setProgress([d, of]), stop.signal).then((r) => { if (!stop.signal.aborted) setRows(r); }, (err: Error) => { if (!stop.signal.aborted) setError(err); });
    return () => stop.abort();
  }, [from.getTime(), to.getTime(), list === null, round]);
  const set = (p: Period, d: string) => go(`${path("reports")}?period=${p}&date=${d}`);
  const shift = (by: number) => { const d = new Date(from); if (period === "month") d.setMonth(d.getMonth() + by); else d.setDate(d.getDate() + by * (period === "week" ? 7 : 1)); set(period, iso(d)); };
  const last = new Date(to.getTime() - 1);
  const name = `${t("reportOf")}: ${t("periods")[period].toLowerCase()} ${period === "day" ? day(from) : `${day(from)} – ${day(last)}`}`;
  const save = () => download(`langbiang-${period}-${iso(from)}.csv`, csv([
    [t("site"), "ID", t("from"), t("to"), t("alertsBegan"), ...severities.map((s) => t("severity")[s]), t("heldCount"), t("standingLong"), ...air.flatMap(([, n]) => [`${n} ${t("meanShort")}`, `${n} ${t("maxShort")}`]), `${t("completeness")} (%)`, `${t("devicesUp")} (%)`],
    ...(rows ?? []).map((r) => [r.site ? text(r.site.name) : t("total"), r.site?.id ?? "", from.toISOString(), to.toISOString(), r.stats.alerts, ...severities.map((s) => r.stats.by_severity[s] ?? 0), r.stats.held, r.stats.standing.count, ...air.flatMap(([k]) => [round3(r.air[k]?.mean), round3(r.air[k]?.max)]), round3(r.complete === null ? undefined : 100 * r.complete), round3(r.up === null ? undefined : 100 * r.up)]),
  ]));
  return (
    <>
      <h1>{name}</h1>
      <div class="tools noprint">
        <Tabs<Period> label={t("period")} value={period} onChange={(p) => set(p, date)} options={(["day", "week", "month"] as Period[]).map((p) => [p, t("periods")[p]])} />
        <button type="button" onClick={() => shift(-1)}>← {t("earlier")}</button>
        <Field label={t("periods").day}><input type="date" value={date} max={iso(new Date())} onChange={(e) => { if (e.currentTarget.value) set(period, e.currentTarget.value); }} /></Field>
        <button type="button" disabled={to.getTime() > Date.now()} onClick={() => shift(1)}>{t("later")} →</button>
        <button type="button" class="main" disabled={!rows} onClick={() => print()}>{t("print")}</button>
        <button type="button" disabled={!rows} onClick={save}>{t("csv")}</button>
      </div>
      {error ? <Loading error={error} retry={() => again((n) => n + 1)} /> : !rows ? (
        <div class="panel"><div class="progress" role="progressbar" aria-label={t("loading")} aria-valuemin={0} aria-valuemax={progress[1]} aria-valuenow={progress[0]}><i style={{ width: `${(100 * progress[0]) / progress[1]}%` }} /></div><p class="soft">{t("loading")} {progress[0]}/{progress[1]}</p></div>
      ) : rows.length === 1 ? <Empty title={t("empty").sitesTitle}>{t("empty").sites}</Empty> : <Shown rows={rows} period={period} from={from} to={to} />}
    </>
  );
}

const round3 = (v: number | undefined) => (v === undefined || !Number.isFinite(v) ? null : Math.round(v * 1000) / 1000);

function Shown({ rows, period, from, to }: { rows: Row[]; period: Period; from: Date; to: Date }) {
  const all = rows[0]!.stats;
  const list = rows.slice(1);
  return (
    <>
      <div class="reportgrid">
        <div class="card"><span>{t("alertsBegan")}</span><b>{number(all.alerts, 0)}</b><span class="soft">{number(all.per_hour, 1)} {t("perHour")} ({t("aim")} ≤ 6)</span></div>
        <div class="card"><span>{t("severityName")}</span><div>{severities.map((s) => <div key={s}><Badge of={s} /> <span class="num">{number(all.by_severity[s] ?? 0, 0)}</span></div>)}</div></div>
        <div class="card"><span>{t("floods")}</span><b>{number(all.floods.length, 0)}</b><span class="soft">{percent(all.flood_share)} ({t("aim")} &lt; 1 %)</span></div>
        <div class="card"><span>{t("standingLong")}</span><b>{number(all.standing.count, 0)}</b><span class="soft">{t("fleeting")}: {number(all.fleeting, 0)} · {t("heldCount")}: {number(all.held, 0)}</span></div>
      </div>
      <Bars hours={all.hours} period={period} from={from} to={to} />
      <section class="panel report" aria-label={t("communes")}>
        <h2>{t("communes")}</h2>
        <div class="scroll" tabIndex={0} role="region" aria-label={t("communes")}><table>
          <thead><tr><th>{t("site")}</th><th class="n">{t("totalOf")}</th>{severities.map((s) => <th key={s} class="n">{t("severity")[s]}</th>)}{air.map(([k, n, , ]) => <th key={k} class="n">{n}<br />{t("meanShort")} / {t("maxShort").toLowerCase()}</th>)}<th class="n">{t("completeness")}</th><th class="n">{t("devicesUp")}</th></tr></thead>
          <tbody>{list.map((r) => (
            <tr key={r.site!.id}>
              <td>{text(r.site!.name)}</td><td class="n">{number(r.stats.alerts, 0)}</td>
              {severities.map((s) => <td key={s} class="n">{r.stats.by_severity[s] ? number(r.stats.by_severity[s]!, 0) : "–"}</td>)}
              {air.map(([k, , u, d]) => <td key={k} class="n">{r.air[k] ? `${number(r.air[k]!.mean, d)} / ${measured(r.air[k]!.max, u, d)}` : "–"}</td>)}
              <td class="n"><Meter v={r.complete} /></td><td class="n"><Meter v={r.up} /></td>
            </tr>
          ))}</tbody>
        </table></div>
      </section>
      <section class="panel" aria-label={t("top")}>
        <h2>{t("top")}</h2>
        {all.top.length === 0 ? <p class="soft">{t("none_")}</p> : <table>
          <thead><tr><th>{t("rule")}</th><th>{t("site")}</th><th>{t("series")}</th><th class="n">{t("alerts")}</th><th class="n">%</th></tr></thead>
          <tbody>{all.top.map((x) => <tr key={x.rule + x.series}><td>{text(rules.value.value?.find((r) => r.id === x.rule)?.title) || x.rule}</td><td>{siteName(x.site)}</td><td>{x.series}</td><td class="n">{number(x.alerts, 0)}</td><td class="n">{percent(x.share, 0)}</td></tr>)}</tbody>
        </table>}
        {all.floods.length > 0 && <p class="soft" style={{ marginTop: ".6rem" }}>{t("floods")}: {all.floods.slice(0, 6).map((f) => `${full(f.start)} (${duration(Date.parse(f.end) - Date.parse(f.start))}, ${number(f.alerts, 0)})`).join("; ")}</p>}
      </section>
      <p class="hint">{t("readingsExpected")}. {t("reportNote")}</p>
    </>
  );
}

function Meter({ v }: { v: number | null }) {
  if (v === null || !Number.isFinite(v)) return <>–</>;
  const w = Math.min(1, Math.max(0, v));
  return <><span class="meter" aria-hidden="true"><i class={w < 0.9 ? "low" : ""} style={{ width: `${100 * w}%` }} /></span> {percent(w)}</>;
}

function Bars({ hours, period, from, to }: { hours: Statistics["hours"]; period: Period; from: Date; to: Date }) {
  const by = period === "day" ? 3600_000 : 86_400_000;
  const n = Math.round((to.getTime() - from.getTime()) / by);
  const bins = new Array<number>(n).fill(0);
  for (const h of hours) { const i = Math.floor((Date.parse(h.start) - from.getTime()) / by); if (i >= 0 && i < n) bins[i]! += h.alerts; }
  const most = Math.max(1, ...bins);
  return (
    <section class="panel" aria-label={period === "day" ? t("byHour") : t("byDay")}>
      <h2>{period === "day" ? t("byHour") : t("byDay")}</h2>
      <div class="bars" role="img" aria-label={bins.map((b, i) => `${period === "day" ? `${i}:00` : i + 1}: ${b}`).join(", ")}>{bins.map((b, i) => <i key={i} style={{ height: `${(100 * b) / most}%` }} title={String(b)} />)}</div>
      <div class="barlabels"><span>{period === "day" ? "00:00" : day(from)}</span><span>{t("maxShort")}: {number(most, 0)}</span><span>{period === "day" ? "24:00" : day(new Date(to.getTime() - 1))}</span></div>
    </section>
  );
}
