// Series of several sites beside each other, from a year to a second.
import { useEffect, useMemo, useState } from "preact/hooks";
import { csv, download, full, measured, unit } from "../format";
import { t, text } from "../i18n";
import { useKeys } from "../keys";
import { useCourses } from "../parts/courses";
import { Empty, Field, Loading, siteName } from "../parts/basics";
import { Plot, plotWidth, resolution } from "../parts/plot";
import { edges, series, sites } from "../poll";
import { keyOf, unseen } from "../readings";
import { go, path, route } from "../router";
import type { Series } from "../types";

const hour = 3600_000;
const most = 12;
const idOf = (s: Series) => `${s.edge}/${s.device}/${s.point}`;
const local = (at: number) => new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);

export function Explorer() {
  void sites.value.value;
  const all = series.use();
  const q = route.value.query;
  const chosen = q.getAll("s");
  const span = useMemo((): [number, number] => {
    const to = Number(q.get("to")) || Date.now();
    return [Number(q.get("from")) || to - 6 * hour, to];
  }, [q.get("from"), q.get("to")]);
  const show = (ids: string[], [from, to]: [number, number] = span, replace = true) => {
    const p = new URLSearchParams();
    for (const s of ids) p.append("s", s);
    p.set("from", String(Math.round(from)));
    p.set("to", String(Math.round(to)));
    go(`${path("series")}?${p}`, replace);
  };
  const move = (from: number, to: number) => {
    if (to - from < 1000) { const mid = (from + to) / 2; from = mid - 500; to = mid + 500; }
    if (to - from > 2 * 366 * 24 * hour) from = to - 2 * 366 * 24 * hour;
    show(chosen, [from, to], false);
  };
  const [from, to] = span;
  const width = to - from;
  const zoom = (by: number) => move(from + (width - width * by) / 2, to - (width - width * by) / 2);
  useKeys({ "+": () => zoom(0.5), "-": () => zoom(2), ArrowLeft: () => move(from - width / 2, to - width / 2), ArrowRight: () => move(from + width / 2, to + width / 2), "0": () => show(chosen, [Date.now() - 6 * hour, Date.now()], false) });
  if (!all) return <Loading error={series.error.value} retry={() => void series.refresh()} />;
  if (!all.length) return <><h1>{t("nav").series}</h1><Empty>{t("noSeries")}</Empty></>;
  const picked = chosen.map((id) => all.find((s) => idOf(s) === id)).filter((s): s is Series => Boolean(s)).slice(0, most);
  return (
    <>
      <h1>{t("nav").series}</h1>
      <div class="cols explore">
        <Picker all={all} chosen={chosen} onChange={(ids) => show(ids)} />
        <div class="stack">
          <div class="tools">
            <Field label={t("from")}><input type="datetime-local" step={1} value={local(from)} onChange={(e) => { const v = Date.parse(e.currentTarget.value); if (v) move(v, Math.max(to, v + 1000)); }} /></Field>
            <Field label={t("to")}><input type="datetime-local" step={1} value={local(to)} onChange={(e) => { const v = Date.parse(e.currentTarget.value); if (v) move(Math.min(from, v - 1000), v); }} /></Field>
            <Field label={t("past")}><select value="" onChange={(e) => { const h = Number(e.currentTarget.value); if (h) move(Date.now() - h * hour, Date.now()); }}><option value="">…</option>{Object.entries(t("hours")).map(([h, name]) => <option key={h} value={h}>{name}</option>)}</select></Field>
            <button type="button" title="+" onClick={() => zoom(0.5)}>{t("zoomIn")}</button>
            <button type="button" title="-" onClick={() => zoom(2)}>{t("zoomOut")}</button>
            <button type="button" title="←" onClick={() => move(from - width / 2, to - width / 2)}>{t("earlier")}</button>
            <button type="button" title="→" onClick={() => move(from + width / 2, to + width / 2)}>{t("later")}</button>
            <button type="button" onClick={() => move(Date.now() - width, Date.now())}>{t("toNow")}</button>
          </div>
          {picked.length === 0 ? <Empty>{t("pickSeries")}</Empty> : <Plots picked={picked} span={span} onZoom={move} onOut={() => zoom(4)} />}
        </div>
      </div>
    </>
  );
}

function Plots({ picked, span, onZoom, onOut }: { picked: Series[]; span: [number, number]; onZoom: (f: number, to: number) => void; onOut: () => void }) {
  const known = edges.use();
  const got = useCourses(picked.map(keyOf), span, plotWidth.value);
  // While more is being read, what was there before stays.
  const there = picked.filter((s) => got.of.has(idOf(s)));
  const swatch = (s: Series) => `s${picked.indexOf(s) % 12}`;
  const save = () => {
    const rows: (string | number | null)[][] = [["time", "site", "edge", "device", "point", "quantity", "unit", "value", "min", "max", "late"]];
    there.forEach((s) => {
      const c = got.of.get(idOf(s))!;
      const head = [s.site, s.edge, s.device, s.point, s.quantity, s.unit];
      c.x.forEach((x, k) => { if (c.y[k] !== null) rows.push([new Date(x).toISOString(), ...head, c.y[k]!, c.low?.[k] ?? null, c.high?.[k] ?? null, 0]); });
      for (const [x, v] of c.late) rows.push([new Date(x).toISOString(), ...head, v, null, null, 1]);
    });
    download("langbiang.csv", csv(rows));
  };
  if (got.error) return <Loading error={got.error} retry={got.again} />;
  return (
    <div class="panel stack">
      <div class="progress" role="progressbar" aria-label={t("loading")} aria-valuemin={0} aria-valuemax={picked.length} aria-valuenow={got.done} style={{ visibility: got.busy ? "visible" : "hidden" }}><i style={{ width: `${(100 * got.done) / picked.length}%` }} /></div>
      {!there.length ? <Loading /> : [...new Set(there.map((s) => s.unit))].map((u) => {
        const lines = there.flatMap((s) => (s.unit === u ? [{ name: `${text(s.label) || s.quantity} · ${siteName(s.site)} · ${s.device}${s.point === s.quantity ? "" : ` · ${s.point}`}`, unit: u, decimals: s.decimals, course: got.of.get(idOf(s))!, color: swatch(s) }] : []));
        // Of one edge, when it did not look; of one series, when it was bad, too.
        const at = [...new Set(there.filter((s) => s.unit === u).map((s) => s.edge))];
        const blind = at.length === 1 ? unseen(known?.find((e) => e.id === at[0])).filter((s) => s.to >= span[0] && s.from <= span[1]) : [];
        return <Plot key={u} label={unit(u) || t("nav").series} from={span[0]} to={span[1]} lines={lines} shades={lines.length === 1 ? [...blind, ...lines[0]!.course.bad] : blind} height={280} onZoom={onZoom} onOut={onOut} />;
      })}
      <div class="tools">
        <span class="soft">{t("resolution")}: {resolution(there[0] && got.of.get(idOf(there[0])))}. {t("zoomHint")}</span>
        <button type="button" disabled={got.busy || !there.length} onClick={save}>{t("csv")}</button>
      </div>
      {there.length > 0 && <div class="scroll"><table>
        <thead><tr><th>{t("series")}</th><th class="n">{t("newest")}</th><th class="n">min</th><th class="n">{t("meanShort")}</th><th class="n">max</th><th>{t("to")}</th></tr></thead>
        <tbody>{there.map((s) => {
          const c = got.of.get(idOf(s))!;
          const v = c.y.filter((y): y is number => y !== null);
          const f = (x: number | undefined) => measured(x, s.unit, s.decimals);
          return <tr key={idOf(s)}><td><span class="swatch" style={{ "--c": `var(--${swatch(s)})`, display: "inline-block" }} /> {text(s.label)} · {siteName(s.site)} · {s.device}{s.point === s.quantity ? "" : ` · ${s.point}`}</td><td class="n">{f(v.at(-1))}</td><td class="n">{f((c.low ?? c.y).reduce<number | undefined>((a, b) => (b === null ? a : a === undefined ? b : Math.min(a, b)), undefined))}</td><td class="n">{f(v.length ? v.reduce((a, b) => a + b, 0) / v.length : undefined)}</td><td class="n">{f((c.high ?? c.y).reduce<number | undefined>((a, b) => (b === null ? a : a === undefined ? b : Math.max(a, b)), undefined))}</td><td>{full(c.x.at(-1))}</td></tr>;
        })}</tbody>
      </table></div>}
    </div>
  );
}

function Picker({ all, chosen, onChange }: { all: Series[]; chosen: string[]; onChange: (ids: string[]) => void }) {
  const numbers = useMemo(() => all.filter((s) => !s.text), [all]);
  const quantities = useMemo(() => [...new Map(numbers.map((s) => [s.quantity, text(s.label) || s.quantity]))].sort((a, b) => a[1].localeCompare(b[1], "vi")), [numbers]);
  const first = numbers.find((s) => idOf(s) === chosen[0])?.quantity;
  const [quantity, setQuantity] = useState(first ?? quantities[0]?.[0] ?? "");
  const [site, setSite] = useState("");
  const [words, setWords] = useState("");
  useEffect(() => { if (first) setQuantity(first); }, []);
  const w = words.trim().toLowerCase();
  const list = numbers.filter((s) => (!quantity || s.quantity === quantity) && (!site || s.site === site) && (!w || `${idOf(s)} ${siteName(s.site)} ${text(s.label)}`.toLowerCase().includes(w))).slice(0, 200);
  const toggle = (id: string) => onChange(chosen.includes(id) ? chosen.filter((x) => x !== id) : [...chosen, id].slice(-most));
  return (
    <div class="panel picker noprint">
      <Field label={t("quantity")}><select value={quantity} onChange={(e) => setQuantity(e.currentTarget.value)}><option value="">{t("all")}</option>{quantities.map(([q, name]) => <option key={q} value={q}>{name}</option>)}</select></Field>
      <Field label={t("site")}><select value={site} onChange={(e) => setSite(e.currentTarget.value)}><option value="">{t("all")}</option>{[...new Set(all.map((s) => s.site))].sort().map((s) => <option key={s} value={s}>{siteName(s)}</option>)}</select></Field>
      <input type="search" class="search" aria-label={t("search")} placeholder={`${t("search")}…`} value={words} onInput={(e) => setWords(e.currentTarget.value)} />
      <ul tabIndex={0} aria-label={t("series")}>{list.map((s) => {
        const id = idOf(s), i = chosen.indexOf(id);
        return <li key={id}><label><input type="checkbox" checked={i >= 0} onChange={() => toggle(id)} /><span class="swatch" style={i >= 0 ? { "--c": `var(--s${i % 12})` } : {}} /><span>{quantity ? "" : `${text(s.label)} · `}{siteName(s.site)} · {s.device}{s.point === s.quantity ? "" : ` · ${s.point}`}</span></label></li>;
      })}</ul>
      <div class="tools"><span class="soft">{chosen.length}/{most}</span>{chosen.length > 0 && <button type="button" onClick={() => onChange([])}>{t("clear")}</button>}</div>
    </div>
  );
}
