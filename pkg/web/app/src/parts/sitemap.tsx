// The map: a point for each site in the colour (and with the sign) of its worst
// alert; outlines and a tile server only if hub.yaml names them.
import * as L from "leaflet";
import "leaflet/dist/leaflet.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api";
import { lang, t, text } from "../i18n";
import { settings, sites } from "../poll";
import { go, path } from "../router";
import { color, dark } from "../theme";
import type { Severity, Site } from "../types";
import { Empty } from "./basics";

const placed = (s: Site) => s.lat !== 0 || s.lon !== 0;
const sides: Record<Severity | "", number> = { emergency: 8, critical: 4, warning: 3, info: 0, "": 0 };

// Shape is a circle marker that is drawn as the sign of a severity.
class Shape extends L.CircleMarker {
  severity: Severity | "" = "";
  _updatePath() {
    const me = this as unknown as { _renderer: { _ctx: CanvasRenderingContext2D; _drawing: boolean; _fillStroke: (c: CanvasRenderingContext2D, l: unknown) => void }; _point: L.Point; _radius: number; _empty: () => boolean };
    const n = sides[this.severity];
    if (!me._renderer._drawing || me._empty()) return;
    const { _ctx: ctx } = me._renderer, { x, y } = me._point, r = me._radius;
    ctx.beginPath();
    if (n === 0) ctx.arc(x, y, r * 0.85, 0, 2 * Math.PI);
    else {
      const turn = n === 8 ? Math.PI / 8 : n === 4 ? 0 : -Math.PI / 2;
      for (let i = 0; i < n; i++) ctx.lineTo(x + r * 1.2 * Math.cos(turn + (2 * Math.PI * i) / n), y + r * 1.2 * Math.sin(turn + (2 * Math.PI * i) / n));
      ctx.closePath();
    }
    me._renderer._fillStroke(ctx, this);
  }
}

export function SiteMap({ small = false, wall = false, selected }: { small?: boolean; wall?: boolean; selected?: string }) {
  const box = useRef<HTMLDivElement>(null);
  const map = useRef<L.Map | null>(null);
  const [group, setGroup] = useState<L.LayerGroup | null>(null);
  const list = sites.value.value;
  const here = (list ?? []).filter(placed);
  const cfg = settings.use();
  useEffect(() => {
    if (!here.length || map.current || !cfg) return;
    const m = map.current = L.map(box.current!, { preferCanvas: true, zoomControl: false, attributionControl: Boolean(cfg.attribution), fadeAnimation: false, zoomAnimation: !small, scrollWheelZoom: !small, maxZoom: 18 });
    if (!small && !wall) L.control.zoom({ zoomInTitle: t("zoomMapIn"), zoomOutTitle: t("zoomMapOut") }).addTo(m);
    if (!small) L.control.scale({ imperial: false }).addTo(m);
    m.attributionControl?.setPrefix(false);
    if (cfg.tiles) L.tileLayer(cfg.tiles, { attribution: cfg.attribution, maxZoom: 18 }).addTo(m);
    m.fitBounds(L.latLngBounds(here.map((s): [number, number] => [s.lat, s.lon])).pad(0.35), { maxZoom: 12 });
    setGroup(L.layerGroup().addTo(m));
    if (cfg.outlines) {
      get<GeoJSON.GeoJsonObject>("/api/v1/page/outlines").then((shape) => {
        L.geoJSON(shape, { interactive: false, style: () => ({ color: color("soft"), weight: 1, fillColor: color("brand"), fillOpacity: 0.06 }), pointToLayer: (_, at) => L.circleMarker(at, { radius: 2 }) }).addTo(m);
      }, () => { /* the points say enough */ });
    }
    const watch = new ResizeObserver(() => m.invalidateSize());
    watch.observe(box.current!);
    L.Util.setOptions(m, { _watch: watch });
  }, [here.length > 0, cfg]);
  useEffect(() => () => { map.current?.remove(); map.current = null; }, []);
  useEffect(() => {
    if (!group) return;
    group.clearLayers();
    for (const s of [...here].sort((a, b) => Number(Boolean(a.severity)) - Number(Boolean(b.severity)))) {
      const mark = new Shape([s.lat, s.lon], { radius: s.id === selected ? 15 : small ? 9 : wall ? 18 : 12, weight: s.id === selected ? 4 : 1.5, color: s.id === selected ? color("focus") : color("panel"), fillColor: color(s.severity || "fine"), fillOpacity: 0.95 });
      mark.severity = s.severity;
      const note = document.createElement("span");
      note.textContent = `${text(s.name)}: ${s.active_alerts ? `${s.active_alerts} ${t("activeAlerts")}` : t("severity")[""]}`;
      mark.bindTooltip(note, { direction: "top", permanent: !small && here.length <= 12, offset: [0, wall ? -20 : -12] });
      mark.on("click", () => go(`${path("map")}?site=${encodeURIComponent(s.id)}`));
      group.addLayer(mark);
    }
  }, [list, selected, dark.value, lang.value, group]);
  if (list && !here.length) return <Empty>{t("mapNone")}</Empty>;
  return <div class={`map${wall ? " big" : ""}`} ref={box} role="application" aria-label={t("nav").map} />;
}
