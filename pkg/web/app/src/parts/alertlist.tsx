// The live list: what is active, new ones at the top, cleared ones fading out;
// choose many, act on all of them, all by the keyboard as well.
import { useMemo, useState } from "preact/hooks";
import { type ActName, possible, start } from "../acting";
import { t } from "../i18n";
import { useKeys } from "../keys";
import { go, path } from "../router";
import { complete, current, isFresh, listed, tick, version } from "../store";
import { type Alert, rank, severities, type Severity } from "../types";
import { AlertRow } from "./alertrow";
import { Empty, Loading, place, Sign, Tabs, title } from "./basics";
import { Virtual } from "./virtual";
import { useNarrow } from "./media";

type Tab = "active" | "todo" | "held" | "cleared";
type Sort = "newest" | "worst";
const fading = 60_000; // a cleared alert stays in sight so long
const isHeld = (a: Alert) => a.isa_state === "shelved" || a.isa_state === "suppressed" || a.isa_state === "out_of_service";
const calls = (a: Alert) => a.isa_state === "unacknowledged" || a.isa_state === "cleared_unacknowledged";
const bulk: ActName[] = ["acknowledge", "comment", "assign", "shelve", "unshelve", "close"];

export function AlertList() {
  const [tab, setTab] = useState<Tab>("active");
  const [sort, setSort] = useState<Sort>("newest");
  const [only, setOnly] = useState<Severity | "">("");
  const [words, setWords] = useState("");
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [at, setAt] = useState("");
  const narrow = useNarrow();
  const everyFew = Math.floor(tick.value / 5000); // cleared ones leave by the clock
  const list = useMemo(() => {
    const now = Date.now();
    const w = words.trim().toLowerCase();
    const shown = current.value.filter((a) => {
      if (only && a.severity !== only) return false;
      if (w && !`${title(a)} ${place(a)} ${a.rule} ${a.assignee}`.toLowerCase().includes(w)) return false;
      switch (tab) {
        case "active": return (a.state === "active" && !isHeld(a)) || (a.state === "cleared" && now - Date.parse(a.recorded) < fading && calls(a));
        case "todo": return calls(a);
        case "held": return a.state === "active" && isHeld(a);
        case "cleared": return a.state === "cleared";
      }
    });
    const key = (a: Alert) => (tab === "cleared" && a.end ? a.end : a.start);
    const time = (x: Alert, y: Alert) => (key(x) === key(y) ? (x.id < y.id ? -1 : 1) : key(x) > key(y) ? -1 : 1);
    return shown.sort(sort === "newest" ? time : (x, y) => Number(y.state === "active") - Number(x.state === "active") || rank(y.severity) - rank(x.severity) || time(x, y));
  }, [version.value, tab, sort, only, words, everyFew]);

  const cursor = at ? list.findIndex((a) => a.id === at) : -1;
  const move = (by: number) => { const next = list[Math.max(0, Math.min(list.length - 1, cursor + by))]; if (next) setAt(next.id); };
  const picked = list.filter((a) => chosen.has(a.id));
  const targets = picked.length ? picked : cursor >= 0 ? [list[cursor]!] : [];
  const select = (a: Alert, range: boolean) => {
    const next = new Set(chosen);
    const from = range && at ? list.findIndex((x) => x.id === at) : -1;
    const to = list.indexOf(a);
    if (from >= 0) for (const x of list.slice(Math.min(from, to), Math.max(from, to) + 1)) next.add(x.id);
    else if (!next.delete(a.id)) next.add(a.id);
    setAt(a.id);
    setChosen(next);
  };
  const act = (name: ActName) => { start(name, targets.map((a) => a.id)); if (name === "acknowledge") setChosen(new Set()); };
  useKeys({
    j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1),
    PageDown: () => move(10), PageUp: () => move(-10), Home: () => move(-list.length), End: () => move(list.length),
    Enter: () => { if (cursor >= 0) go(path("alert", list[cursor]!.id)); },
    x: () => { if (cursor >= 0) select(list[cursor]!, false); }, " ": () => { if (cursor >= 0) select(list[cursor]!, false); },
    "*": () => setChosen(new Set(picked.length === list.length ? [] : list.map((a) => a.id))),
    Escape: () => setChosen(new Set()),
    a: () => act("acknowledge"), c: () => act("comment"), s: () => act("shelve"), g: () => act("assign"), d: () => act("close"),
  });
  const all = picked.length > 0 && picked.length === list.length;
  const nothing = words || only ? t("noMatch") : tab === "active" ? t("noAlerts") : tab === "todo" ? t("noTodo") : tab === "held" ? t("noHeld") : t("noCleared");
  return (
    <section class="alertlist" aria-label={t("alerts")}>
      <div class="tools">
        <Tabs label={t("alerts")} value={tab} onChange={(k) => { setTab(k); setChosen(new Set()); }} options={(["active", "todo", "held", "cleared"] as Tab[]).map((k) => [k, t("tabs")[k]])} />
        <select aria-label={t("severityName")} value={only} onChange={(e) => setOnly(e.currentTarget.value as Severity | "")}>
          <option value="">{t("severityName")}: {t("all")}</option>
          {severities.map((s) => <option key={s} value={s}>{t("severity")[s]}</option>)}
        </select>
        <select aria-label={t("sort")} value={sort} onChange={(e) => setSort(e.currentTarget.value as Sort)}>
          {(["newest", "worst"] as Sort[]).map((s) => <option key={s} value={s}>{t("sorts")[s]}</option>)}
        </select>
        <input type="search" class="search" aria-label={t("search")} placeholder={`${t("search")}…`} value={words} onInput={(e) => setWords(e.currentTarget.value)} />
      </div>
      <div class="bulk" data-on={picked.length > 0}>
        <label class="pick"><input type="checkbox" checked={all} ref={(el) => { if (el) el.indeterminate = picked.length > 0 && !all; }} disabled={list.length === 0}
          onClick={() => setChosen(new Set(all ? [] : list.map((a) => a.id)))} /> {picked.length ? `${picked.length} ${t("selected")}` : `${complete.value ? list.length : "…"} ${t("ofAlerts")}`}</label>
        {picked.length > 0 && bulk.filter((b) => picked.some((a) => possible(b, a))).map((b) => (
          <button key={b} type="button" class={b === "acknowledge" ? "main" : ""} onClick={() => act(b)}>{t("acts")[b]}</button>
        ))}
        {picked.length > 0 && <button type="button" onClick={() => setChosen(new Set())}>{t("clear")}</button>}
      </div>
      {!listed.value || (list.length === 0 && !complete.value) ? <Loading /> : list.length === 0 ? <Empty><Sign of="" /> {nothing}</Empty> : (
        <Virtual class="alerts" label={t("alerts")} items={list} row={narrow ? 128 : 74} id={(a) => a.id} cursor={cursor}
          draw={(a) => <AlertRow a={a} fresh={isFresh(a.id)} here={a.id === at} selected={chosen.has(a.id)} onSelect={select} />} />
      )}
    </section>
  );
}
