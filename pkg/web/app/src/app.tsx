// The frame around the views: who is on duty, whether what is shown is current.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { setWho, signedIn, undo, who } from "./acting";
import { contact } from "./api";
import { clock, duration, full, when } from "./format";
import { lang, setLang, t } from "./i18n";
import { useKeys } from "./keys";
import { ActDialog, Dialog, Toasts } from "./parts/dialog";
import { Loading } from "./parts/basics";
import { counts, sites } from "./poll";
import { go, path, route } from "./router";
import { lastEvent, link, notice, stale, tick } from "./store";
import { leave, session } from "./session";
import { setTheme, theme, type Theme } from "./theme";
import { Overview } from "./views/overview";

const themes: Theme[] = ["auto", "light", "dark"];
type View = ComponentType;
// The first view is in the first script; the others come when they are opened.
const later: Record<string, () => Promise<View>> = {
  history: () => import("./views/history").then((m) => m.History),
  alert: () => import("./views/alert").then((m) => m.AlertView),
  map: () => import("./views/map").then((m) => m.MapView),
  fleet: () => import("./views/fleet").then((m) => m.Fleet),
  edge: () => import("./views/fleet").then((m) => m.EdgeView),
  device: () => import("./views/fleet").then((m) => m.DeviceView),
  series: () => import("./views/explorer").then((m) => m.Explorer),
  rules: () => import("./views/rules").then((m) => m.Rules),
  rule: () => import("./views/rules").then((m) => m.RuleView),
  reports: () => import("./views/reports").then((m) => m.Reports),
  wall: () => import("./views/wall").then((m) => m.Wall),
};
const loaded = new Map<string, View>([["overview", Overview]]);
const nav = ["overview", "history", "map", "fleet", "series", "rules", "reports"] as const;
const section: Record<string, string> = { alert: "overview", edge: "fleet", device: "fleet", rule: "rules" };

function Body({ name }: { name: string }) {
  const [, redraw] = useState(0);
  const [error, setError] = useState<Error | null>(null);
  const load = () => {
    setError(null);
    later[name]!().then((v) => { loaded.set(name, v); redraw((n) => n + 1); }, (err: Error) => setError(err));
  };
  useEffect(() => { if (!loaded.has(name) && later[name]) load(); }, [name]);
  const View = loaded.get(name);
  return View ? <View /> : <Loading error={error} retry={load} />;
}

function Health() {
  const state = stale.value ? "lost" : link.value === "live" ? "live" : "wait";
  return (
    <p class={`health ${state}`} role="status" id="link">
      <i aria-hidden="true" /> <strong>{t(link.value)}</strong>
      <span class="event">{t("lastEvent")}: {lastEvent.value ? when(lastEvent.value) : t("none")}</span>
    </p>
  );
}

export function Stale() {
  if (!stale.value) return null;
  return (
    <div class="stale" role="alert" id="stale">
      <strong>{t("stale")}</strong>
      <span>{t("staleText")} {clock(contact.value)} ({duration(tick.value - contact.value)} {t("ago")})</span>
    </div>
  );
}

function Help({ onClose }: { onClose: () => void }) {
  const h = t("help");
  const keys: [string, string][] = [["j / k, ↓ / ↑", h.move], ["Enter", h.open], ["x, Space", h.select], ["*", h.selectAll], ["a", h.a], ["c", h.c], ["s", h.s], ["g", h.g], ["d", h.d], ["u", h.u], ["1 … 7", h.nav], ["/", h.search], ["Esc", h.esc], ["?", h.keys]];
  return (
    <Dialog title={t("keys")} onClose={onClose}>
      <dl class="keylist">{keys.map(([k, what]) => <div key={k}><dt><kbd>{k}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <form method="dialog" class="buttons"><button class="main">{t("close")}</button></form>
    </Dialog>
  );
}

export function App() {
  counts.use();
  sites.use();
  const [help, setHelp] = useState(false);
  const [menu, setMenu] = useState(false);
  const name = route.value.name in later ? route.value.name : "overview";
  useKeys({
    "?": () => setHelp(true), u: () => void undo(),
    "/": () => document.querySelector<HTMLInputElement>("input.search")?.focus(),
    Escape: () => { if (section[name]) history.back(); },
    ...Object.fromEntries(nav.map((n, i) => [String(i + 1), () => go(path(n))])),
  });
  useEffect(() => {
    setMenu(false);
    document.title = `${t("nav")[(section[name] ?? name) as "overview"]} · Langbiang`;
  }, [route.value, lang.value]);
  if (name === "wall") return <Body name="wall" />;
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main")!.focus(); }}>{t("skip")}</a>
      <header class="bar">
        <a class="brand" href="#/"><img src="./icon.svg" alt="" width="28" height="28" /><span>Langbiang</span></a>
        <button type="button" class="burger" aria-expanded={menu} aria-controls="nav" onClick={() => setMenu(!menu)}>☰<span class="sr">{t("menu")}</span></button>
        <nav id="nav" class={menu ? "open" : ""} aria-label={t("menu")}>
          {nav.map((n) => <a key={n} href={path(n)} aria-current={n === (section[name] ?? name) ? "page" : undefined}>{t("nav")[n]}</a>)}
          <a href={path("wall")}>{t("nav").wall}</a>
        </nav>
        <Health />
        <div class="own">
          {signedIn.value ? <span class="name" title={t("roles")[session.value!.role] ?? session.value!.role}>{signedIn.value}</span> : <label class="who"><span class="sr">{t("who")}</span><input value={who.value} maxLength={60} placeholder={t("who")} autocomplete="name" onChange={(e) => setWho(e.currentTarget.value)} /></label>}
          {signedIn.value && !session.value!.token && <button type="button" onClick={() => void leave()}>{t("signOut")}</button>}
          <button type="button" title={`${t("theme")}: ${t("themes")[theme.value]}`} aria-label={`${t("theme")}: ${t("themes")[theme.value]}`} onClick={() => setTheme(themes[(themes.indexOf(theme.value) + 1) % themes.length]!)}>{{ auto: "◐", light: "☀", dark: "☾" }[theme.value]}</button>
          <button type="button" id="lang" lang={lang.value === "vi" ? "en" : "vi"} onClick={() => setLang(lang.value === "vi" ? "en" : "vi")}>{t("lang")}</button>
          <button type="button" aria-label={t("keys")} title={t("keys")} onClick={() => setHelp(true)}>?</button>
        </div>
      </header>
      <Stale />
      {notice.value && <div class="note" role="status"><p>{t(notice.value)}</p><button type="button" onClick={() => { notice.value = null; }}>{t("close")}</button></div>}
      <main id="main" tabIndex={-1} class={`view v-${name}`}><Body key={name} name={name} /></main>
      <footer class="printed">Langbiang · {t("madeAt")} {full(Date.now())}</footer>
      {help && <Help onClose={() => setHelp(false)} />}
      <ActDialog />
      <Toasts />
    </>
  );
}
