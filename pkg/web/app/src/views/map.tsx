// The map with what is at a chosen place.
import { t, text } from "../i18n";
import { Badge, Chip, Empty, Sign, title } from "../parts/basics";
import { SiteMap } from "../parts/sitemap";
import { devices, edges, sites } from "../poll";
import { go, path, route } from "../router";
import { current } from "../store";
import { rank, severities } from "../types";
import { SiteList } from "./overview";
import { EdgeCard, said } from "./fleet";

export function MapView() {
  const id = route.value.query.get("site") ?? "";
  const all = sites.value.value ?? [];
  const site = all.find((s) => s.id === id);
  const dev = (devices.use() ?? []).filter((d) => d.site === id);
  const agents = (edges.use() ?? []).filter((e) => e.site === id);
  const alerts = current.value.filter((a) => a.site === id && a.state === "active").sort((a, b) => rank(b.severity) - rank(a.severity));
  return (
    <>
      <h1>{t("nav").map}</h1>
      <div class="cols">
        <div class="stack">
          <div class="bigmap"><SiteMap selected={id} /></div>
          <p class="maplegend" aria-label={t("mapLegend")}>{[...severities, "" as const].map((s) => <span key={s}><Badge of={s} /></span>)}</p>
        </div>
        {!site ? <div class="stack"><h2>{t("sites")}</h2><SiteList /></div> : (
          <div class="stack">
            <div class="panel stack">
              <div><h2>{text(site.name)}</h2><p class="soft">{[site.province, site.id].filter(Boolean).join(" · ")}</p></div>
              {alerts.length === 0 ? <p><Sign of="" /> {t("noAlerts")}</p> : <ul class="stack" style={{ gap: ".4rem" }}>{alerts.slice(0, 30).map((a) => <li key={a.id}><Sign of={a.severity} /> <a href={path("alert", a.id)}>{title(a)}</a></li>)}</ul>}
              <button type="button" onClick={() => go(path("map"))}>{t("sites")}</button>
            </div>
            {agents.map((e) => <EdgeCard key={e.id} e={e} />)}
            <div class="panel">
              <h2>{t("devices")}</h2>
              {dev.length === 0 ? <Empty>{t("noDevices")}</Empty> : <ul class="stack" style={{ gap: ".35rem" }}>{dev.map((d) => (
                <li key={`${d.edge}/${d.id}`}><a href={path("device", d.edge, d.id)}>{d.id}</a> <Chip kind={d.up === false ? "down" : d.up ? "up" : ""}>{said(d)}</Chip></li>
              ))}</ul>}
            </div>
          </div>
        )}
      </div>
    </>
  );
}
