// For the big screen: no controls, large type, scenes that take turns. The
// address may say how: #/wall?lang=en&theme=dark&seconds=15&site=24848&scenes=alerts,map
import { useEffect, useState } from "preact/hooks";
import { clock, day, duration } from "../format";
import { lang, t, text } from "../i18n";
import { Marks } from "../parts/alertrow";
import { Badge, place, Sign, siteName, title } from "../parts/basics";
import { useLazy } from "../parts/lazy";
import { lastEvent, link, listed, stale, tick } from "../store";
import { edges, sites } from "../poll";
import { route } from "../router";
import { calling } from "../store";
import { theme, type Theme } from "../theme";
import { rank } from "../types";
import { Stale } from "../app";
import { Counts } from "./overview";

type Scene = "alerts" | "map" | "sites";

export function Wall() {
  const q = route.value.query;
  useEffect(() => {
    const l = q.get("lang"), th = q.get("theme");
    if (l === "vi" || l === "en") lang.value = l;
    if (th === "light" || th === "dark") theme.value = th as Theme;
    document.title = "Langbiang";
  }, [q]);
  const only = q.get("site")?.split(",") ?? null;
  const seconds = Math.max(5, Number(q.get("seconds")) || 15);
  const scenes = (q.get("scenes")?.split(",").filter((s): s is Scene => ["alerts", "map", "sites"].includes(s)) ?? []);
  const order: Scene[] = scenes.length ? scenes : ["alerts", "map", "sites"];
  const rows = useRows();
  const list = calling.value.filter((a) => !a.test && (!only || only.includes(a.site)))
    .sort((a, b) => rank(b.severity) - rank(a.severity) || (a.start > b.start ? -1 : 1));
  const pages = Math.max(1, Math.ceil(list.length / rows));
  // Every page of the alerts has its turn, then the other scenes.
  const turns = order.flatMap((s) => Array.from({ length: s === "alerts" ? Math.min(pages, 4) : 1 }, (_, i) => ({ s, i })));
  const [turn, setTurn] = useState(0);
  useEffect(() => { const id = setInterval(() => setTurn((n) => n + 1), seconds * 1000); return () => clearInterval(id); }, [seconds]);
  const { s, i } = turns[turn % turns.length]!;
  const off = (edges.use() ?? []).filter((e) => !e.connected).length;
  return (
    <main class={`wall${stale.value ? " off" : ""}`} id="main">
      <header>
        <img src="./icon.svg" alt="" width="48" height="48" />
        <h1>Langbiang{only && only.length === 1 ? ` · ${siteName(only[0]!)}` : ""}</h1>
        <p class={`health ${stale.value ? "lost" : link.value === "live" ? "live" : "wait"}`} id="link"><i aria-hidden="true" /> {t(link.value)}</p>
        <span class="now">{clock(tick.value)}</span>
      </header>
      {stale.value ? <Stale /> : <Counts />}
      <section class="scene" aria-label={t("alerts")}>
        {!listed.value ? null : s === "map" ? <MapScene /> : s === "sites" ? <SitesScene /> : list.length === 0 ? (
          <p class="calm"><Sign of="" />{t("wall").calm}</p>
        ) : (
          <ul class="lines">
            {list.slice(i * rows, (i + 1) * rows).map((a) => (
              <li key={a.id} class={a.severity}>
                <Badge of={a.severity} />
                <div style={{ minWidth: 0 }}><strong>{title(a)}</strong><span class="soft">{place(a)} <Marks a={a} /></span></div>
                <span class="age">{duration(tick.value - Date.parse(a.start))}</span>
              </li>
            ))}
          </ul>
        )}
      </section>
      <footer>
        <span>{day(tick.value)}{off > 0 && <> · {t("edges")} {t("offline").toLowerCase()}: {off}</>}</span>
        <span>{t("lastEvent")}: {lastEvent.value ? clock(lastEvent.value) : t("none")}</span>
        {s === "alerts" && pages > 1 ? <span>{t("wall").page} {i + 1}/{Math.min(pages, 4)}{list.length > 4 * rows ? `, ${list.length - 4 * rows} ${t("wall").moreAlerts}` : ""}</span> : <span />}
      </footer>
    </main>
  );
}

function MapScene() {
  const Map = useLazy("sitemap", () => import("../parts/sitemap").then((m) => m.SiteMap));
  return <div class="minimap">{Map && <Map wall />}</div>;
}

function SitesScene() {
  const list = [...(sites.value.value ?? [])].sort((a, b) => rank(b.severity) - rank(a.severity) || b.active_alerts - a.active_alerts);
  return <ul class="sitegrid">{list.map((s) => <li key={s.id} class={s.severity}><strong>{text(s.name)}</strong><span><Badge of={s.severity} /> {s.active_alerts > 0 && `${s.active_alerts} ${t("activeAlerts")}`}</span></li>)}</ul>;
}

// useRows is how many lines of alerts fit, by the height of the screen.
function useRows() {
  const fit = () => Math.max(3, Math.floor((innerHeight * 0.68) / (Math.min(Math.max(innerHeight * 0.023, 14), 48) * 4)));
  const [rows, setRows] = useState(fit);
  useEffect(() => { const on = () => setRows(fit()); addEventListener("resize", on); return () => removeEventListener("resize", on); }, []);
  return rows;
}
