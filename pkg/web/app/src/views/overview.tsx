// What an operator looks at all day.
import { AlertList } from "../parts/alertlist";
import { Badge, Empty, Loading, Sign } from "../parts/basics";
import { useLazy } from "../parts/lazy";
import { number } from "../format";
import { t, text } from "../i18n";
import { begun, counts, deliveries, sites } from "../poll";
import { path } from "../router";
import { mayAct } from "../session";
import { calling, complete } from "../store";
import { rank, severities } from "../types";

export function Counts() {
  const c = counts.value.value;
  const list = calling.value.filter((a) => !a.test);
  const held = c ? Object.values(c.held).reduce((a, b) => a + b, 0) : 0;
  const todo = list.filter((a) => a.isa_state === "unacknowledged").length;
  return (
    <ul class="counts" id="counts" aria-live="polite" aria-label={t("active")}>
      {severities.map((s) => {
        const n = list.filter((a) => a.severity === s).length;
        return <li key={s} class={`${s}${n ? "" : " zero"}`}><Sign of={s} /><b>{complete.value ? number(n, 0) : "…"}</b><span>{t("severity")[s]}</span></li>;
      })}
      <li class={`plain${todo ? "" : " zero"}`}><b>{complete.value ? number(todo, 0) : "…"}</b><span>{t("unacknowledged")}</span></li>
      <li class={`plain${held ? "" : " zero"}`} title={c ? Object.entries(c.held).map(([k, n]) => `${t("isa")[k] ?? k}: ${n}`).join(", ") : ""}><b>{number(held, 0)}</b><span>{t("held")}</span></li>
      <li class={`plain${c?.chattering ? "" : " zero"}`}><b>{number(c?.chattering ?? 0, 0)}</b><span>{t("chatteringNow")}</span></li>
    </ul>
  );
}

// NextStep tells what an empty system wants.
export function NextStep() {
  const s = sites.value.value, have = begun.use();
  const w = t("empty");
  if (!s || !have) return null;
  if (s.length === 0 && !have.edges) return <Empty title={w.sitesTitle}>{w.sites}</Empty>;
  if (!have.edges) return <Empty title={w.edgesTitle}>{w.edges}</Empty>;
  if (!have.devices) return <Empty title={w.devicesTitle}>{w.devices}</Empty>;
  if (!have.rules) return <Empty title={w.rulesTitle}>{w.rules}</Empty>;
  return null;
}

// Undelivered says which targets do not get alerts, and why.
function Undelivered() {
  const bad = (deliveries.use() ?? []).filter((d) => d.state === "held" || d.state === "retrying");
  if (!bad.length) return null;
  return (
    <div class="note bad" role="status"><div><strong>{t("undelivered")}</strong>{bad.map((d) => <p key={d.name}>{d.name} ({d.kind}): {d.summary || d.state} · {t("waiting")}: {number(d.lag, 0)}</p>)}</div></div>
  );
}

export function SiteList() {
  const list = sites.value.value;
  if (!list) return <Loading error={sites.error.value} retry={() => void sites.refresh()} />;
  const order = [...list].sort((a, b) => rank(b.severity) - rank(a.severity) || b.active_alerts - a.active_alerts || text(a.name).localeCompare(text(b.name), "vi"));
  return (
    <ul class="sitelist">
      {order.map((s) => (
        <li key={s.id}>
          <a href={`${path("map")}?site=${encodeURIComponent(s.id)}`}><span class="name">{text(s.name)}</span><Badge of={s.severity}>{s.active_alerts ? `${number(s.active_alerts, 0)} · ${t("severity")[s.severity]}` : undefined}</Badge></a>
        </li>
      ))}
    </ul>
  );
}

export function Overview() {
  const Map = useLazy("sitemap", () => import("../parts/sitemap").then((m) => m.SiteMap));
  return (
    <>
      <h1 class="sr">{t("nav").overview}</h1>
      <Counts />
      <NextStep />
      {mayAct.value && <Undelivered />}
      <div class="split">
        <AlertList />
        <aside aria-label={t("sites")}>
          <h2>{t("sites")}</h2>
          <div class="minimap">{Map ? <Map small /> : <Loading />}</div>
          <SiteList />
        </aside>
      </div>
    </>
  );
}
