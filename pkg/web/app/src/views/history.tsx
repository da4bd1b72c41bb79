// Alerts of the past, asked of the hub page by page.
import { useEffect, useState } from "preact/hooks";
import { get, type Page } from "../api";
import { csv, download, duration, full, measured } from "../format";
import { t, text } from "../i18n";
import { AlertRow } from "../parts/alertrow";
import { Empty, Field, Loading, siteName, title } from "../parts/basics";
import { useNarrow } from "../parts/media";
import { Virtual } from "../parts/virtual";
import { rules, sites } from "../poll";
import { known, version } from "../store";
import { type Alert, severities } from "../types";

const local = (at: number) => new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

export function History() {
  const [f, setF] = useState({ site: "", severity: "", rule: "", state: "", from: local(Date.now() - 7 * 86400_000), to: "" });
  const [list, setList] = useState<Alert[] | null>(null);
  const [next, setNext] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const narrow = useNarrow();
  void version.value;
  const ask = (cursor: string) => {
    const q = new URLSearchParams({ limit: "500" });
    for (const [k, v] of Object.entries(f)) if (v) q.set(k, k === "from" || k === "to" ? new Date(v).toISOString() : v);
    if (cursor) q.set("cursor", cursor);
    return get<Page<Alert>>(`/api/v1/alerts?${q}`);
  };
  const load = (more: boolean) => {
    setBusy(true);
    setError(null);
    ask(more ? next : "").then((p) => { setList(more ? [...(list ?? []), ...p.items] : p.items); setNext(p.next ?? ""); setBusy(false); }, (err: Error) => { setError(err); setBusy(false); });
  };
  useEffect(() => load(false), [f]);
  rules.use();
  const set = (k: keyof typeof f) => (e: { currentTarget: { value: string } }) => setF({ ...f, [k]: e.currentTarget.value });
  const save = async () => {
    const rows: Alert[] = [];
    setBusy(true);
    try {
      for (let cursor = ""; ;) {
        const p = await ask(cursor);
        rows.push(...p.items);
        if (!(cursor = p.next ?? "") || rows.length >= 100_000) break;
      }
      download(`langbiang-${t("nav").history}.csv`, csv([
        [t("start"), t("end"), t("severityName"), t("state"), t("site"), t("device"), t("point"), t("rule"), t("alert"), t("peak"), t("limit"), t("acknowledgedBy"), t("cause")],
        ...rows.map((a) => [a.start, a.end, t("severity")[a.severity], t("isa")[a.isa_state] ?? a.isa_state, siteName(a.site), a.device, a.point, a.rule, title(a), a.peak, a.limit, a.acknowledgement?.by, a.closed ? t("causes")[a.closed.cause] ?? a.closed.cause : ""]),
      ]));
    } catch (err) { setError(err as Error); }
    setBusy(false);
  };
  const shown = list?.map((a) => known(a.id) ?? a) ?? [];
  return (
    <>
      <h1>{t("nav").history}</h1>
      <div class="tools">
        <Field label={t("from")}><input type="datetime-local" value={f.from} onChange={set("from")} /></Field>
        <Field label={t("to")}><input type="datetime-local" value={f.to} onChange={set("to")} /></Field>
        <Field label={t("site")}><select value={f.site} onChange={set("site")}><option value="">{t("all")}</option>{(sites.value.value ?? []).map((s) => <option key={s.id} value={s.id}>{text(s.name)}</option>)}</select></Field>
        <Field label={t("severityName")}><select value={f.severity} onChange={set("severity")}><option value="">{t("all")}</option>{severities.map((s) => <option key={s} value={s}>{t("severity")[s]}</option>)}</select></Field>
        <Field label={t("state")}><select value={f.state} onChange={set("state")}><option value="">{t("all")}</option><option value="active">{t("active")}</option><option value="cleared">{t("tabs").cleared}</option></select></Field>
        <Field label={t("rule")}><select value={f.rule} onChange={set("rule")}><option value="">{t("all")}</option>{(rules.value.value ?? []).map((r) => <option key={r.id} value={r.id}>{text(r.title) || r.id}</option>)}</select></Field>
        <button type="button" disabled={busy || !shown.length} onClick={() => void save()}>{t("csv")}</button>
      </div>
      {busy && list && <div class="progress" role="progressbar" aria-label={t("loading")}><i style={{ width: "60%" }} /></div>}
      {error ? <Loading error={error} retry={() => load(false)} /> : !list ? <Loading /> : shown.length === 0 ? <Empty>{t("noMatch")}</Empty> : (
        <>
          <p class="soft num">{shown.length}{next ? "+" : ""} {t("ofAlerts")}</p>
          <Virtual class="alerts" label={t("alerts")} items={shown} row={narrow ? 128 : 74} id={(a) => a.id} draw={(a) => <AlertRow a={a} fresh={false} here={false} selected={false} />} />
          {next && <button type="button" disabled={busy} onClick={() => load(true)}>{t("more")}</button>}
        </>
      )}
      <table class="printed"><tbody>{shown.slice(0, 500).map((a) => <tr key={a.id}><td>{full(a.start)}</td><td>{a.end ? duration(Date.parse(a.end) - Date.parse(a.start)) : t("active")}</td><td>{t("severity")[a.severity]}</td><td>{title(a)}</td><td>{measured(a.peak, a.unit)}</td></tr>)}</tbody></table>
    </>
  );
}
