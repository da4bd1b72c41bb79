// Rules: what each watches, when it fired last, and what other limits would do.
import { useEffect, useMemo, useState } from "preact/hooks";
import { all, post } from "../api";
import { duration, full, measured, number, percent, unit, when } from "../format";
import { lang, t, text } from "../i18n";
import { Badge, Chip, Empty, Field, Loading, siteName, title } from "../parts/basics";
import { Plot } from "../parts/plot";
import { rules } from "../poll";
import type { Course } from "../readings";
import { path, route } from "../router";
import { mayAct } from "../session";
import { current } from "../store";
import { type Level, rank, type Rule, type Series, type Severity } from "../types";
import { limitsOf } from "./alert";
import { NextStep } from "./overview";

const levels = (r: Rule) => r.severities.map((l) => `${t("severity")[l.severity]} ${levelText(r, l)}`).join(" · ");
function levelText(r: Rule, l: Level, u = r.unit ?? "") {
  if (r.kind === "no_data" || r.kind === "flatline" || r.kind === "edge_offline") return l.for && l.for !== "0s" ? goTime(l.for) : duration(l.limit * 1000);
  const sign = r.compares === "above" ? "> " : r.compares === "below" ? "< " : "";
  return `${sign}${l.low !== undefined && l.low !== l.limit ? `${number(l.low)}–` : ""}${measured(l.limit, u)}`;
}

// goTime shows a duration as Go writes it: 1h30m0s.
function goTime(s: string) {
  const m = /^(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?$/.exec(s);
  return m ? duration((Number(m[1] ?? 0) * 3600 + Number(m[2] ?? 0) * 60 + Number(m[3] ?? 0)) * 1000) : s;
}

const activeOf = (id: string) => current.value.filter((a) => a.state === "active" && a.rule === id);

export function Rules() {
  const list = rules.use();
  const [words, setWords] = useState("");
  if (!list) return <Loading error={rules.error.value} retry={() => void rules.refresh()} />;
  const w = words.trim().toLowerCase();
  const shown = list.filter((r) => !w || `${r.id} ${text(r.title)} ${r.quantity}`.toLowerCase().includes(w));
  return (
    <>
      <h1>{t("nav").rules}</h1>
      <NextStep />
      <div class="tools"><input type="search" class="search" aria-label={t("search")} placeholder={`${t("search")}…`} value={words} onInput={(e) => setWords(e.currentTarget.value)} /></div>
      {shown.length === 0 ? <Empty>{list.length ? t("noMatch") : t("noRules")}</Empty> : (
        <div class="panel scroll" tabIndex={0} role="region" aria-label={t("nav").rules}><table>
          <thead><tr><th>{t("rule")}</th><th>{t("quantity")}</th><th>{t("ladder")}</th><th>{t("state")}</th><th class="n">{t("matched")}</th><th class="n">{t("activeNow")}</th><th>{t("lastFired")}</th></tr></thead>
          <tbody>{shown.map((r) => {
            const active = activeOf(r.id);
            const worst = active.reduce<Severity | "">((a, x) => (rank(x.severity) > rank(a) ? x.severity : a), "");
            return (
              <tr key={r.id}>
                <td><a href={path("rule", r.id)}>{text(r.title) || r.id}</a>{r.title && <div class="soft">{r.id}</div>}</td>
                <td>{r.quantity || "–"} <span class="soft">{t("kinds")[r.kind] ?? r.kind}</span></td>
                <td class="num">{levels(r)}</td>
                <td><State r={r} /></td>
                <td class="n">{number(r.matched_series, 0)}</td>
                <td class="n">{active.length ? <Badge of={worst}>{active.length}</Badge> : "–"}</td>
                <td class="num">{r.last_fired ? when(r.last_fired) : t("never")}</td>
              </tr>
            );
          })}</tbody>
        </table></div>
      )}
    </>
  );
}

// State is how it is with a rule: also that it cannot do what it is for.
function State({ r }: { r: Rule }) {
  const bad = r.state === "no_series" || r.state === "no_data" || r.state === "failing";
  return <Chip kind={bad ? "bad" : r.state === "ok" ? "good" : ""} title={r.evaluations?.error}>{t("ruleStates")[r.state] ?? r.state}</Chip>;
}

export function RuleView() {
  const id = route.value.rest[0] ?? "";
  const list = rules.use();
  const r = list?.find((x) => x.id === id);
  if (!r) return list ? <Empty>{t("noMatch")}: {id}</Empty> : <Loading error={rules.error.value} />;
  const active = activeOf(id);
  return (
    <>
      <h1>{text(r.title) || r.id}</h1>
      <div class="cols">
        <div class="stack">
          {mayAct.value && <Backtest r={r} />}
          <section class="panel" aria-label={t("activeNow")}>
            <h2>{t("activeNow")} ({active.length})</h2>
            <ul class="stack" style={{ gap: ".4rem" }}>{active.slice(0, 50).map((a) => <li key={a.id}><Badge of={a.severity}>{""}</Badge> <a href={path("alert", a.id)}>{title(a)}</a> <span class="soft">{t("since")} {when(a.start)}</span></li>)}</ul>
          </section>
        </div>
        <div class="stack">
          <section class="panel" aria-label={t("details")}>
            <h2>{t("details")}</h2>
            <dl class="facts">
              <dt>ID</dt><dd>{r.id}</dd>
              <dt>{t("quantity")}</dt><dd>{r.quantity || "–"} ({t("kinds")[r.kind] ?? r.kind}{r.judges ? `, ${r.judges}` : ""})</dd>
              {r.where && <><dt>{t("choose")}</dt><dd>{r.where}</dd></>}
              <dt>{t("state")}</dt><dd><State r={r} /> {r.evaluations?.error}</dd>
              {r.query && <><dt>PromQL</dt><dd><code>{r.query}</code></dd></>}
              <dt>{t("matched")}</dt><dd>{number(r.matched_series, 0)} ({t("withData")}: {number(r.series_with_data, 0)}{r.newest_data ? `, ${when(r.newest_data)}` : ""})</dd>
              <dt>{t("lastFired")}</dt><dd>{r.last_fired ? full(r.last_fired) : t("never")}</dd>
              {r.source && <><dt>{t("source")}</dt><dd>{r.source}</dd></>}
              {Object.entries(r.links ?? {}).filter(([, u]) => /^https?:\/\//i.test(u)).map(([n, u]) => [<dt key={n}>{n === "procedure" ? t("procedure") : n === "camera" ? t("camera") : n}</dt>, <dd key={u}><a href={u} target="_blank" rel="noopener noreferrer">{u}</a></dd>])}
            </dl>
          </section>
          <Watched r={r} />
          <section class="panel" aria-label={t("ladder")}>
            <h2>{t("ladder")}</h2>
            <table>
              <thead><tr><th>{t("severityName")}</th><th class={unit(r.unit) ? "n unit" : "n"}>{unit(r.unit) || t("limit")}</th><th class="n">{t("clearAt")}</th><th class="n">{t("forTime")}</th></tr></thead>
              <tbody>{[...r.severities].reverse().map((l) => <tr key={l.severity}><td><Badge of={l.severity} /></td><td class="n">{levelText(r, l, "")}</td><td class="n">{number(l.clear)}</td><td class="n">{goTime(l.for)}</td></tr>)}</tbody>
            </table>
          </section>
        </div>
      </div>
    </>
  );
}

// Watched lists the series that a rule judges, with what they are now.
function Watched({ r }: { r: Rule }) {
  const [list, setList] = useState<Series[] | null>(null);
  useEffect(() => { all<Series>(`series?rule=${encodeURIComponent(r.id)}`).then(setList, () => setList([])); }, [r.id, r.version, r.matched_series]);
  if (!list?.length) return null;
  return (
    <section class="panel" aria-label={t("matched")}>
      <h2>{t("matched")} ({number(list.length, 0)})</h2>
      <ul class="stack" style={{ gap: ".25rem", maxHeight: "16rem", overflow: "auto" }} tabIndex={0} aria-label={t("matched")}>{list.slice(0, 200).map((s) => (
        <li key={`${s.edge}/${s.device}/${s.point}`}><a href={`${path("series")}?s=${encodeURIComponent(`${s.edge}/${s.device}/${s.point}`)}`}>{s.device}{s.point === s.quantity ? "" : ` · ${s.point}`}</a> <span class="soft">{siteName(s.site)}</span> <span class="num">{s.text || measured(s.value, s.unit, s.decimals)}</span></li>
      ))}</ul>
    </section>
  );
}

interface Tried {
  from: string;
  to: string;
  severity: Severity;
  series: { site: string; edge: string; device: string; point: string; quantity: string; unit: string; times: number[]; low: number[]; high: number[] }[];
  results: { limit: number | null; episodes: number; per_week: number; standing_seconds: number; share: number; median_seconds: number; longest_seconds: number; open: number; list: { series: string; severity: Severity; start: string; end: string | null; peak: number }[] }[];
}

function Backtest({ r }: { r: Rule }) {
  const able = (r.compares === "above" || r.compares === "below") && r.judged_by === "event time" && r.severities.length > 0;
  const [severity, setSeverity] = useState<Severity>(r.severities[0]?.severity ?? "warning");
  const at = r.severities.find((l) => l.severity === severity)?.limit ?? 0;
  const around = [0.8, 0.9, 1.1, 1.2].map((f) => number(Number((at * f).toPrecision(3)))).join("; ");
  const [limits, setLimits] = useState<string | null>(null);
  const [days, setDays] = useState(7);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const [got, setGot] = useState<Tried | null>(null);
  const parse = (s: string) => { const c = s.trim().replace(/\s/g, ""); return Number(lang.value === "vi" ? c.replace(/\./g, "").replace(",", ".") : c.replace(/,/g, "")); };
  const run = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const list = (limits ?? around).split(";").filter((s) => s.trim()).map(parse);
      const to = new Date(), from = new Date(to.getTime() - days * 86400_000);
      setGot(await post<Tried>(`rules/${encodeURIComponent(r.id)}/backtest`, { from: from.toISOString(), to: to.toISOString(), severity, limits: list }));
    } catch (err) { setError(err as Error); }
    setBusy(false);
  };
  return (
    <section class="panel" aria-label={t("tryLimits")}>
      <h2>{t("tryLimits")}</h2>
      {!able ? <p class="soft">{t("onlyAboveBelow")}</p> : (
        <form class="tools noprint" onSubmit={run}>
          <Field label={t("severityName")}><select value={severity} onChange={(e) => { setSeverity(e.currentTarget.value as Severity); setLimits(null); }}>{r.severities.map((l) => <option key={l.severity} value={l.severity}>{t("severity")[l.severity]}</option>)}</select></Field>
          <Field label={`${t("limits")} ${unit(r.unit)}`}><input value={limits ?? around} onInput={(e) => setLimits(e.currentTarget.value)} /></Field>
          <Field label={t("period")}><select value={days} onChange={(e) => setDays(Number(e.currentTarget.value))}>{[1, 7, 30].map((d) => <option key={d} value={d}>{t("hours")[d * 24]}</option>)}</select></Field>
          <button type="submit" class="main" disabled={busy}>{t("tryNow")}</button>
        </form>
      )}
      {busy && <div class="loading" role="status"><i aria-hidden="true" /><span>{t("tested")}</span></div>}
      {error && <Loading error={error} />}
      {got && !busy && <Result r={r} got={got} />}
    </section>
  );
}

function Result({ r, got }: { r: Rule; got: Tried }) {
  const u = got.series[0]?.unit ?? r.unit ?? "";
  const [pick, setPick] = useState(0);
  const from = Date.parse(got.from), to = Date.parse(got.to);
  const result = got.results[pick]!;
  const limit = result.limit ?? r.severities.find((l) => l.severity === got.severity)?.limit ?? 0;
  // A few series at a time: those with the most episodes.
  const count = (s: Tried["series"][number]) => result.list.filter((e) => e.series === `${s.edge}/${s.device}/${s.point}`).length;
  const shown = useMemo(() => [...got.series].sort((a, b) => count(b) - count(a)).slice(0, 6).map((s) => ({
    s, course: { x: s.times, y: s.low.map((v, i) => (v + s.high[i]!) / 2), low: s.low, high: s.high, step: 1, late: [], bad: [] } as Course,
  })), [got, pick]);
  return (
    <div class="stack" style={{ marginTop: ".8rem" }}>
      <div class="scroll"><table>
        <thead><tr><th>{t("limit")}</th><th class="n">{t("episodes")}</th><th class="n">{t("perWeek")}</th><th class="n">{t("standing")}</th><th class="n">{t("share")}</th><th class="n">{t("median")}</th><th class="n">{t("longest")}</th></tr></thead>
        <tbody>{got.results.map((x, i) => (
          <tr key={i}>
            <td><label class="pick"><input type="radio" name="limit" checked={i === pick} onChange={() => setPick(i)} /> {x.limit === null ? t("presentRule") : measured(x.limit, u)}</label></td>
            <td class="n">{number(x.episodes, 0)}</td><td class="n">{number(x.per_week, 1)}</td><td class="n">{duration(x.standing_seconds * 1000)}</td><td class="n">{percent(x.share)}</td><td class="n">{duration(x.median_seconds * 1000)}</td><td class="n">{duration(x.longest_seconds * 1000)}</td>
          </tr>
        ))}</tbody>
      </table></div>
      {shown.map(({ s, course }) => {
        const id = `${s.edge}/${s.device}/${s.point}`;
        return <Plot key={id} label={`${siteName(s.site)} · ${s.device}`} from={from} to={to} height={170}
          lines={[{ name: `${siteName(s.site)} · ${s.device}${s.point === s.quantity ? "" : ` · ${s.point}`}`, unit: u, course }]}
          limits={[{ value: limit, text: `${t("severity")[got.severity]} ${measured(limit, u)}`, severity: got.severity, unit: u }, ...limitsOf(r, u).filter((l) => l.severity !== got.severity)]}
          shades={result.list.filter((e) => e.series === id).map((e) => ({ kind: "episode" as const, from: Date.parse(e.start), to: e.end ? Date.parse(e.end) : to }))} />;
      })}
    </div>
  );
}
