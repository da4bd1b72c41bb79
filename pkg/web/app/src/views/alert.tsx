// One alert: how it went, what is around it, what was done.
import { useEffect, useState } from "preact/hooks";
import { type ActName, possible, start } from "../acting";
import { all, get, Problem } from "../api";
import { duration, full, measured, when } from "../format";
import { t, text } from "../i18n";
import { useKeys } from "../keys";
import { Marks } from "../parts/alertrow";
import { Badge, Chip, Empty, Loading, place, siteName, title } from "../parts/basics";
import { type LimitLine, Plot, plotWidth } from "../parts/plot";
import { useCourses } from "../parts/courses";
import { edges, rules, sites } from "../poll";
import { unseen, type Shade } from "../readings";
import { path, route } from "../router";
import { mayAct } from "../session";
import { current, known, put, version } from "../store";
import { type Alert, type Entry, rank, type Receipt, type Rule, type Series } from "../types";

const actsShown: ActName[] = ["acknowledge", "unacknowledge", "comment", "assign", "shelve", "unshelve", "close", "reopen"];

export function AlertView() {
  const id = route.value.rest[0] ?? "";
  const a = (void version.value, known(id));
  const [error, setError] = useState<Error | null>(null);
  const load = () => { setError(null); get<Alert>(`/api/v1/alerts/${encodeURIComponent(id)}`).then(put, setError); };
  useEffect(load, [id]);
  if (!a) return error instanceof Problem && error.status === 404 ? <Empty>{t("notFound")}</Empty> : <Loading error={error} retry={load} />;
  return <Shown key={id} a={a} />;
}

function Shown({ a }: { a: Alert }) {
  rules.use();
  edges.use();
  const rule = rules.value.value?.find((r) => r.id === a.rule);
  const act = (name: ActName) => () => start(name, [a.id]);
  useKeys({ a: act("acknowledge"), c: act("comment"), s: act("shelve"), g: act("assign"), d: act("close") });
  return (
    <>
      <div class={`panel alerthead ${a.severity}`}>
        <div class="line"><Badge of={a.severity} /><Marks a={a} /></div>
        <h1>{title(a)}</h1>
        <p class="soft">{place(a)} · {a.end ? `${full(a.start)} – ${full(a.end)}, ${t("lasted")} ${duration(Date.parse(a.end) - Date.parse(a.start))}` : `${t("since")} ${full(a.start)}`}</p>
        <div class="buttons noprint">
          {actsShown.filter((x) => possible(x, a)).map((x, i) => <button key={x} type="button" class={i === 0 && x === "acknowledge" ? "main" : ""} onClick={act(x)}>{t("acts")[x]}</button>)}
          <button type="button" onClick={() => print()}>{t("print")}</button>
        </div>
      </div>
      <div class="cols">
        <div class="stack">
          <Courses a={a} rule={rule} />
          <Log a={a} />
          {mayAct.value && <Notices a={a} />}
        </div>
        <div class="stack">
          <Links a={a} rule={rule} />
          <Facts a={a} rule={rule} />
          <Beside a={a} />
        </div>
      </div>
    </>
  );
}

// windowOf shows what came before, the episode, and some of what followed.
function windowOf(a: Alert): [number, number] {
  const begin = Date.parse(a.onset || a.start), end = a.end ? Date.parse(a.end) : Date.now();
  const margin = Math.min(Math.max((end - begin) * 0.5, 2 * 60_000), 6 * 3600_000);
  return [begin - margin, Math.min(a.end ? end + margin : end, Date.now())];
}

export function limitsOf(rule: Rule | undefined, u: string): LimitLine[] {
  if (!rule?.compares || !["above", "below", "outside", "inside"].includes(rule.kind)) return []; // of the reading itself
  return rule.severities.flatMap((l) => [l.limit, ...(rule.kind === "outside" || rule.kind === "inside" ? [l.low ?? NaN] : [])].filter((v) => Number.isFinite(v))
    .map((v) => ({ value: v, text: `${t("severity")[l.severity]} ${measured(v, u)}`, severity: l.severity, unit: u })));
}

function Courses({ a, rule }: { a: Alert; rule: Rule | undefined }) {
  const [span, setSpan] = useState<[number, number]>(() => windowOf(a));
  const [base] = useState(span);
  useEffect(() => { // a running episode goes on to the right, unless somebody has zoomed
    if (a.state !== "active") return undefined;
    const id = setInterval(() => setSpan((s) => (s[0] === base[0] ? windowOf(a) : s)), 15_000);
    return () => clearInterval(id);
  }, [a.state]);
  useEffect(() => { if (a.end && span[0] === base[0]) setSpan(windowOf(a)); }, [a.end]);
  const [near, setNear] = useState<Series[] | null>(null);
  useEffect(() => { all<Series>(`series?edge=${encodeURIComponent(a.edge)}`).then(setNear, () => setNear([])); }, [a.edge]);
  const all_ = near ?? [];
  const own = all_.find((s) => s.device === a.device && s.point === a.point);
  const others = all_.filter((s) => s !== own && s.value !== null && s.quantity !== "device_up" && (s.device === a.device || s.quantity === a.quantity))
    .sort((x, y) => Number(y.device === a.device) - Number(x.device === a.device)).slice(0, 6);
  const key = { edge: a.edge, device: a.device, point: a.point, quantity: a.quantity };
  const main = useCourses(a.point ? [key] : [], span, plotWidth.value);
  const around = useCourses(near ? others.map((s) => ({ edge: s.edge, device: s.device, point: s.point, quantity: s.quantity })) : [], span, plotWidth.value);
  const edge = edges.value.value?.find((e) => e.id === a.edge);
  const shades: Shade[] = [
    { kind: "episode", from: Date.parse(a.start), to: a.end ? Date.parse(a.end) : span[1] },
    ...unseen(edge), ...(main.courses?.[0]?.bad ?? []),
  ];
  const seen = shades.filter((s) => s.to >= span[0] && s.from <= span[1]);
  const u = own?.unit ?? a.unit;
  const ladder = limitsOf(rule, u);
  const limits = ladder.length ? ladder : a.unit === u && a.unit ? [{ value: a.limit, text: `${t("limit")} ${measured(a.limit, u)}`, severity: a.severity, unit: u }] : [];
  const zoom = { onZoom: (f: number, to: number) => setSpan([f, to]), onOut: () => setSpan(windowOf(a)) };
  if (!a.point) return null;
  return (
    <section class="panel" aria-label={t("course")}>
      <h2>{t("course")}</h2>
      {!main.courses || near === null ? <Loading error={main.error} retry={main.again} />
        : main.courses[0]!.x.length === 0 && main.courses[0]!.late.length === 0 ? <p class="soft">{t("noReadings")}</p>
          : <Plot label={title(a)} from={span[0]} to={span[1]} limits={limits} shades={seen} height={300} {...zoom}
            lines={[{ name: text(own?.label) || a.quantity, unit: u, decimals: own?.decimals, course: main.courses[0]! }]} />}
      <p class="hint noprint">{t("zoomHint")}</p>
      {others.length > 0 && around.courses && <>
        <h3>{t("around")}</h3>
        {[...new Set(others.map((s) => s.unit))].slice(0, 4).map((un) => (
          <Plot key={un} label={t("around")} from={span[0]} to={span[1]} height={130} shades={seen.filter((s) => s.kind === "episode" || s.kind === "gap")} {...zoom}
            lines={others.flatMap((s, i) => (s.unit === un && around.courses![i] ? [{ name: `${text(s.label)}${s.device === a.device ? ` (${s.point})` : ` (${s.device})`}`, unit: un, decimals: s.decimals, course: around.courses![i]! }] : []))} />
        ))}
      </>}
    </section>
  );
}

function Log({ a }: { a: Alert }) {
  const [entries, setEntries] = useState<Entry[] | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const load = () => { setError(null); all<Entry>(`alerts/${encodeURIComponent(a.id)}/entries`).then(setEntries, setError); };
  useEffect(load, [a.id, a.sequence]);
  return (
    <section class="panel" aria-label={t("log")}>
      <h2>{t("log")}</h2>
      {!entries ? <Loading error={error} retry={load} /> : (
        <ol class="log">
          {entries.map((e) => (
            <li key={e.sequence}>
              <time dateTime={e.time} title={`${t("known")}: ${full(e.recorded)}`}>{when(e.time)}</time>
              <div>
                <strong>{t("entry")[e.kind] ?? e.kind}</strong>
                {(e.kind === "raised" || e.kind === "severity_changed" || e.kind === "level_changed") && <> <Badge of={e.alert.severity} /> {text(e.alert.level?.name)} {e.alert.unit !== "" && measured(e.alert.value, e.alert.unit)}</>}
                {e.act?.assignee && <> → {e.act.assignee}</>}
                {e.act?.cause && <>: {t("causes")[e.act.cause] ?? e.act.cause}</>}
                {e.act?.until && <> {t("until")} {when(e.act.until)}</>}
                {e.act && <span class="soft"> · {e.act.automatic ? t("automatic") : e.act.who}</span>}
                {Date.parse(e.recorded) - Date.parse(e.time) > 60_000 && <span class="soft"> · {t("cameLate")} {duration(Date.parse(e.recorded) - Date.parse(e.time))}</span>}
                {(e.act?.text || e.act?.why) && <q>{e.act.text || e.act.why}</q>}
              </div>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

// Notices are the messages about the alert to people, newest first.
function Notices({ a }: { a: Alert }) {
  const [list, setList] = useState<Receipt[]>([]);
  useEffect(() => {
    // A hub that carries alerts to nobody has no such list.
    get<{ items: Receipt[] }>(`/api/v1/notices?alert=${encodeURIComponent(a.id)}`).then((p) => setList(p.items), () => setList([]));
  }, [a.id, a.sequence]);
  if (!list.length) return null;
  return (
    <section class="panel" aria-label={t("notices")}>
      <h2>{t("notices")}</h2>
      <ol class="log">{list.map((r) => (
        <li key={r.number}><time dateTime={r.at}>{when(r.at)}</time><div><strong>{r.person}</strong> · {r.channel} <Chip kind={r.sent ? "good" : "bad"}>{r.sent ? t("sent") : t("notSent")}</Chip>{r.detail && <span class="soft"> {r.detail}</span>}</div></li>
      ))}</ol>
    </section>
  );
}

const safe = (u: string) => /^https?:\/\//i.test(u);

function Links({ a, rule }: { a: Alert; rule: Rule | undefined }) {
  // As the rule was when it raised the alert, whatever has become of it since.
  const list = Object.entries({ ...a.links, ...(a.procedure ? { procedure: a.procedure } : {}) }).filter(([, u]) => safe(u));
  const page = a.labels?.page;
  const names: Record<string, string> = { procedure: t("procedure"), camera: t("camera") };
  const [here, setHere] = useState<Series[]>([]);
  useEffect(() => { all<Series>(`series?site=${encodeURIComponent(a.site)}`).then(setHere, () => setHere([])); }, [a.site]);
  const cameras = here.filter((s) => s.labels?.page && safe(s.labels.page));
  const pages = new Map(cameras.map((s) => [s.labels!.page!, s.device]));
  if (page && safe(page)) pages.set(page, a.device);
  return (
    <section class="panel" aria-label={t("links")}>
      <h2>{t("links")}</h2>
      <div class="linklist">
        {list.sort(([x], [y]) => Number(y === "procedure") - Number(x === "procedure")).map(([name, u]) => <a key={name} class={name === "procedure" ? "first" : ""} href={u} target="_blank" rel="noopener noreferrer">{names[name] ?? name}</a>)}
        {[...pages].map(([u, device]) => <a key={u} href={u} target="_blank" rel="noopener noreferrer">{t("camera")}: {device}</a>)}
        {a.device && <a href={path("device", a.edge, a.device)}>{t("device")}: {a.device}</a>}
        <a href={path("rule", a.rule)}>{t("rule")}: {text(rule?.title) || a.rule}</a>
        {a.point && <a href={`${path("series")}?s=${encodeURIComponent(`${a.edge}/${a.device}/${a.point}`)}`}>{t("nav").series}</a>}
      </div>
      {!list.some(([n]) => n === "procedure") && <p class="hint" style={{ marginTop: ".5rem" }}>{t("noProcedure")}</p>}
    </section>
  );
}

function Facts({ a, rule }: { a: Alert; rule: Rule | undefined }) {
  const late = Date.parse(a.recorded) - Date.parse(a.updated);
  const rows: [string, preact.ComponentChildren][] = [
    [t("state"), t("isa")[a.isa_state] ?? a.isa_state],
    [t("site"), siteName(a.site)],
    [t("device"), a.device ? `${a.device}${a.point ? ` · ${a.point}` : ""} (${t("edge")} ${a.edge})` : a.edge],
    [t("onset"), full(a.onset)],
    [t("began"), full(a.start)],
    ...(a.end ? [[t("ended"), full(a.end)] as [string, string]] : []),
    ...(a.unit !== "" || a.point ? [[t("value"), `${measured(a.value, a.unit)}, ${t("peak")} ${measured(a.peak, a.unit)}, ${t("limit")} ${measured(a.limit, a.unit)}`] as [string, string]] : []),
    ...(a.acknowledgement ? [[t("acknowledgedBy"), `${a.acknowledgement.by}, ${when(a.acknowledgement.at)}`] as [string, string]] : []),
    ...(a.assignee ? [[t("acts").assign!, a.assignee] as [string, string]] : []),
    ...(a.closed ? [[t("closedBy"), `${a.closed.by}, ${when(a.closed.at)}: ${t("causes")[a.closed.cause] ?? a.closed.cause}${a.closed.why ? ` (${a.closed.why})` : ""}`] as [string, string]] : []),
    ...(late > 60_000 && !a.acknowledgement ? [[t("known"), `${full(a.recorded)} (${t("cameLate")} ${duration(late)})`] as [string, string]] : []),
    ...(a.labels?.judged_by ? [[t("rule"), t("judgedByHub")] as [string, string]] : []),
    ...(rule?.source ? [[t("source"), rule.source] as [string, string]] : []),
  ];
  return (
    <section class="panel" aria-label={t("details")}>
      <h2>{t("details")}</h2>
      <dl class="facts">{rows.map(([k, v], i) => [<dt key={`k${i}`}>{k}</dt>, <dd key={`v${i}`}>{v}</dd>])}</dl>
    </section>
  );
}

// Beside lists what else is wrong at the site at the same time.
function Beside({ a }: { a: Alert }) {
  void sites.value.value;
  const end = a.end ? Date.parse(a.end) : Infinity;
  const list = current.value.filter((x) => x.id !== a.id && x.site === a.site && Date.parse(x.start) <= end && (x.end ? Date.parse(x.end) : Infinity) >= Date.parse(a.start))
    .sort((x, y) => rank(y.severity) - rank(x.severity)).slice(0, 8);
  if (!list.length) return null;
  return (
    <section class="panel" aria-label={t("sameSite")}>
      <h2>{t("sameSite")}</h2>
      <ul class="stack" style={{ gap: ".4rem" }}>{list.map((x) => <li key={x.id}><Badge of={x.severity}>{""}</Badge> <a href={path("alert", x.id)}>{title(x)}</a></li>)}</ul>
    </section>
  );
}
