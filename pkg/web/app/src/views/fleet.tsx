// Devices and edges: which are well, what is wrong with the others, what to do.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { setWho, signedIn, tell, who } from "../acting";
import { all, post } from "../api";
import { bytes, clock, day, duration, full, measured, number, when } from "../format";
import { t, text } from "../i18n";
import { Asked } from "../parts/asked";
import { Dialog } from "../parts/dialog";
import { Badge, Chip, Empty, Field, Loading, siteName, Tabs, title } from "../parts/basics";
import { useNarrow } from "../parts/media";
import { Virtual } from "../parts/virtual";
import { devices, edges, holds } from "../poll";
import { path, route } from "../router";
import { mayAct } from "../session";
import { current, tick } from "../store";
import { type Device, type Edge, type Hold, rank, type Series } from "../types";
import { NextStep } from "./overview";

// said is the state of a device in words.
export const said = (d: Device) => (d.up === null ? t("unknown") : d.up ? t("up") : t("reasons")[d.reason ?? ""] || t("down"));

const behindAfter = 10 * 60_000;
export const edgeWell = (e: Edge) => e.connected && e.status === "ok";
const behind = (e: Edge) => (e.watermark ? Date.now() - Date.parse(e.watermark) : 0);

// configSaid is how it stands with the edge's configuration, in words.
function configSaid(e: Edge): string {
  const c = e.configuration;
  if (!c) return "–";
  const versions = [c.desired_version && `${t("configVersion")} ${c.desired_version}`, c.running_version && c.running_version !== c.desired_version && `${t("configRunning")} ${c.running_version}`].filter(Boolean).join(", ");
  return `${t("configStates")[c.state] ?? c.state}${versions ? ` (${versions})` : ""}`;
}

// configWrong are the states about which somebody must do something.
const configWrong = ["refused", "rolled_back", "drift", "unknown"];

// Trouble says what is wrong with an edge and what to do, in the worst order.
export function edgeTrouble(e: Edge): { what: string; todo: string } | null {
  const said = e.status !== "ok" ? { what: `${t("edgeStatus")[e.status] ?? e.status}${e.detail ? `: ${e.detail}` : ""}`, todo: t("edgeAdvice")[e.status] ?? "" } : null;
  if (said) return said;
  if (!e.connected) return { what: `${t("offline")}${e.last_seen ? `, ${t("lastSeen").toLowerCase()} ${when(e.last_seen)}` : ""}`, todo: t("edgeAdvice").offline! };
  if (e.clock_offset_ms !== null && Math.abs(e.clock_offset_ms) > 60_000) return { what: `${t("offset")}: ${duration(Math.abs(e.clock_offset_ms))}`, todo: t("edgeAdvice").clock! };
  if (e.configuration && configWrong.includes(e.configuration.state)) return { what: `${t("config")}: ${configSaid(e)}`, todo: `${e.configuration.detail ? `${e.configuration.detail}. ` : ""}${t("configAdvice")}` };
  if (e.backlog) return { what: `${t("backlogNow")}, ${duration(behind(e))} ${t("behind")}`, todo: t("edgeAdvice").backlog! };
  return null;
}

function deviceTrouble(d: Device, edge: Edge | undefined): { what: string; todo: string } | null {
  if (edge && !edge.connected) return { what: `${t("edge")} ${d.edge}: ${t("offline")}`, todo: t("edgeAdvice").offline! };
  if (d.up === false) return { what: t("reasons")[d.reason ?? "unknown"] || d.reason || "", todo: t("advice")[d.reason ?? ""] ?? "" };
  return null;
}

export function EdgeCard({ e }: { e: Edge }) {
  const bad = edgeTrouble(e);
  return (
    <a class={`card${bad && (!e.connected || e.status !== "ok") ? " bad" : ""}`} href={path("edge", e.id)}>
      <strong>{t("edge")} {e.id}</strong> <Chip kind={e.connected ? "up" : "down"}>{e.connected ? t("connected") : t("offline")}</Chip>
      <div class="soft num">{t("watermark")} {e.watermark ? when(e.watermark) : "–"}{bad && <><br />{bad.what}</>}</div>
    </a>
  );
}

type Kind = "devices" | "edges";

export function Fleet() {
  const kind = (route.value.query.get("kind") as Kind | null) ?? "devices";
  const [words, setWords] = useState("");
  const [onlyBad, setOnlyBad] = useState(false);
  const d = devices.use(), e = edges.use();
  const narrow = useNarrow();
  if (!d || !e) return <Loading error={devices.error.value ?? edges.error.value} retry={() => { void devices.refresh(); void edges.refresh(); }} />;
  const byId = new Map(e.map((x) => [x.id, x]));
  const w = words.trim().toLowerCase();
  const fits = (...parts: (string | undefined)[]) => !w || parts.join(" ").toLowerCase().includes(w);
  const dev = d.filter((x) => fits(x.id, x.edge, x.site, siteName(x.site), x.profile, x.address) && (!onlyBad || deviceTrouble(x, byId.get(x.edge))))
    .map((x) => ({ x, bad: deviceTrouble(x, byId.get(x.edge)) })).sort((a, b) => Number(Boolean(b.bad)) - Number(Boolean(a.bad)));
  const edg = e.filter((x) => fits(x.id, x.site, siteName(x.site), x.version) && (!onlyBad || edgeTrouble(x)))
    .map((x) => ({ x, bad: edgeTrouble(x) })).sort((a, b) => Number(Boolean(b.bad)) - Number(Boolean(a.bad)));
  const down = d.filter((x) => deviceTrouble(x, byId.get(x.edge))).length, off = e.filter((x) => !edgeWell(x)).length;
  const height = narrow ? 74 : 58;
  return (
    <>
      <h1>{t("nav").fleet}</h1>
      <NextStep />
      <div class="tools">
        <Tabs<Kind> label={t("nav").fleet} value={kind} onChange={(k) => { location.hash = `${path("fleet")}?kind=${k}`; }}
          options={[["devices", `${t("fleetTabs").devices} (${number(d.length, 0)}${down ? `, ${number(down, 0)} ✕` : ""})`], ["edges", `${t("fleetTabs").edges} (${number(e.length, 0)}${off ? `, ${number(off, 0)} ✕` : ""})`]]} />
        <label class="pick"><input type="checkbox" checked={onlyBad} onChange={(ev) => setOnlyBad(ev.currentTarget.checked)} /> {t("onlyBad")}</label>
        <input type="search" class="search" aria-label={t("search")} placeholder={`${t("search")}…`} value={words} onInput={(ev) => setWords(ev.currentTarget.value)} />
      </div>
      {kind === "devices" ? (dev.length === 0 ? <Empty>{d.length ? t("noProblem") : t("noDevices")}</Empty> : (
        <Virtual label={t("devices")} items={dev} row={height} id={({ x }) => `${x.edge}/${x.id}`} draw={({ x, bad }) => (
          <div class={`devrow${bad ? " bad" : x.up === null ? " unsure" : ""}`}>
            <Chip kind={bad ? "down" : x.up ? "up" : ""}>{x.up === null ? t("unknown") : x.up ? t("up") : t("down")}</Chip>
            <span><a href={path("device", x.edge, x.id)}>{x.id}</a><small>{siteName(x.site)}</small></span>
            <span><span>{x.profile || "–"}</span><small>{x.revision ? `${t("revision")} ${x.revision} · ` : ""}{x.edge} · {x.connection} {x.address}</small></span>
            <span class="todo" title={bad?.todo}>{bad ? <><strong>{bad.what}</strong> {bad.todo}</> : <span class="soft">{x.since ? `${t("watermark")} ${when(x.since)}` : ""}</span>}</span>
          </div>
        )} />
      )) : edg.length === 0 ? <Empty>{e.length ? t("noProblem") : t("empty").edges}</Empty> : (
        <Virtual label={t("edges")} items={edg} row={height} id={({ x }) => x.id} draw={({ x, bad }) => (
          <div class={`devrow${!edgeWell(x) ? " bad" : bad ? " unsure" : ""}`}>
            <Chip kind={x.connected ? "up" : "down"}>{x.connected ? t("connected") : t("offline")}</Chip>
            <span><a href={path("edge", x.id)}>{x.id}</a><small>{siteName(x.site)}</small></span>
            <span class="num">{t("watermark")} {x.watermark ? when(x.watermark) : "–"}<small>{t("offset")} {x.clock_offset_ms === null ? "–" : `${number(x.clock_offset_ms / 1000, 1)} s`} · {x.version || "–"}{x.gaps.length ? ` · ${t("gaps")}: ${x.gaps.length}` : ""}</small></span>
            <span class="todo" title={bad?.todo}>{bad && <><strong>{bad.what}</strong> {bad.todo}</>}</span>
          </div>
        )} />
      )}
    </>
  );
}

function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return <dl class="facts">{rows.map(([k, v], i) => [<dt key={`k${i}`}>{k}</dt>, <dd key={`v${i}`}>{v}</dd>])}</dl>;
}

export function EdgeView() {
  const id = route.value.rest[0] ?? "";
  const e = edges.use()?.find((x) => x.id === id);
  const dev = (devices.use() ?? []).filter((d) => d.edge === id);
  void tick.value;
  if (!e) return edges.value.value ? <Empty>{t("empty").edges}</Empty> : <Loading error={edges.error.value} />;
  const bad = edgeTrouble(e);
  return (
    <>
      <h1>{t("edge")} {e.id} <Chip kind={e.connected ? "up" : "down"}>{e.connected ? t("connected") : t("offline")}</Chip></h1>
      {bad && <div class={`note${edgeWell(e) ? "" : " bad"}`} role="status"><p><strong>{bad.what}</strong><br />{bad.todo}</p></div>}
      <div class="cols">
        <div class="stack">
          <section class="panel" aria-label={t("devices")}>
            <h2>{t("devices")} ({dev.length})</h2>
            {dev.length === 0 ? <p class="soft">{t("noDevices")}</p> : (
              <div class="scroll"><table>
                <thead><tr><th>{t("device")}</th><th>{t("state")}</th><th>{t("profile")}</th><th>{t("connection")}</th></tr></thead>
                <tbody>{dev.map((d) => (
                  <tr key={d.id}><td><a href={path("device", d.edge, d.id)}>{d.id}</a></td><td><Chip kind={d.up === false ? "down" : d.up ? "up" : ""}>{said(d)}</Chip></td><td>{d.profile}{d.revision ? ` (${t("revision")} ${d.revision})` : ""}</td><td>{d.connection} {d.address}</td></tr>
                ))}</tbody>
              </table></div>
            )}
          </section>
          <Asked key={e.id} edge={e} kinds={["doctor", "status", "log", "follow"]} />
          {e.unobserved.length > 0 && <section class="panel" aria-label={t("shade").unobserved}>
            <h2>{t("shade").unobserved}</h2>
            <ul class="log">{[...e.unobserved].reverse().map((g, i) => <li key={i}><time>{full(g.from)}</time><div>{t("until")} {full(g.to)}{g.from && g.to ? ` (${duration(Date.parse(g.to) - Date.parse(g.from))})` : ""}</div></li>)}</ul>
          </section>}
          <section class="panel" aria-label={t("gaps")}>
            <h2>{t("gaps")}</h2>
            {e.gaps.length === 0 ? <p class="soft">{t("noGaps")}</p> : <ul class="log">{e.gaps.map((g, i) => <li key={i}><time>{g.from ? full(g.from) : "?"}</time><div>{t("until")} {g.to ? full(g.to) : "?"} · {g.reason}</div></li>)}</ul>}
          </section>
        </div>
        <div class="stack">
          <section class="panel" aria-label={t("details")}>
            <h2>{t("details")}</h2>
            <Facts rows={[
              [t("site"), siteName(e.site)],
              [t("lastSeen"), e.last_seen ? `${full(e.last_seen)} (${duration(Date.now() - Date.parse(e.last_seen))} ${t("ago")})` : "–"],
              [t("watermark"), e.watermark ? `${full(e.watermark)} (${duration(behind(e))} ${t("behind")})` : "–"],
              [t("backlog"), e.log_unsent_bytes === null ? "–" : `${bytes(e.log_unsent_bytes)} ${t("pending")}${e.backlog || behind(e) > behindAfter ? `, ${t("backlogNow")}` : ""}`],
              [t("offset"), e.clock_offset_ms === null ? "–" : `${number(e.clock_offset_ms / 1000, 3)} s, ${e.clock_trusted ? t("trusted") : t("untrusted")}`],
              [t("version"), [e.version || "–", e.platform].filter(Boolean).join(" · ")],
              [t("config"), configSaid(e)],
              [t("position"), <span key="p">{e.epoch ? `${e.epoch.slice(0, 24)}… / ` : ""}{number(e.sequence, 0)}</span>],
              [t("readings"), `${number(e.readings, 0)} (${number(e.frames, 0)} ${t("frames")})`],
              [t("late"), number(e.late_readings, 0)],
            ]} />
          </section>
          <Holds scope={{ site: "", edge: e.id }} />
          <AlertsAt fits={(a) => a.edge === id} />
        </div>
      </div>
    </>
  );
}

export function DeviceView() {
  const [edge = "", id = ""] = route.value.rest;
  const d = devices.use()?.find((x) => x.edge === edge && x.id === id);
  const e = edges.use()?.find((x) => x.id === edge);
  const [list, setList] = useState<Series[] | null>(null);
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => {
    let on = true;
    const load = () => all<Series>(`series?edge=${encodeURIComponent(edge)}&device=${encodeURIComponent(id)}`).then((s) => { if (on) { setList(s); setError(null); } }, (err: Error) => { if (on) setError(err); });
    void load();
    const timer = setInterval(load, 2000);
    return () => { on = false; clearInterval(timer); };
  }, [edge, id]);
  if (!d) return devices.value.value ? <Empty>{t("noDevices")}</Empty> : <Loading error={devices.error.value} />;
  const bad = deviceTrouble(d, e);
  const page = list?.find((s) => s.labels?.page)?.labels?.page;
  const shown = list?.filter((s) => s.quantity !== "device_up") ?? [];
  return (
    <>
      <h1 class="verbatim">{d.id} <Chip kind={bad ? "down" : d.up ? "up" : ""}>{d.up === null ? t("unknown") : d.up ? t("up") : t("down")}</Chip></h1>
      {bad && <div class="note bad" role="status"><p><strong>{bad.what}</strong><br />{bad.todo}</p></div>}
      <div class="cols">
        <div class="stack">
          <section class="panel" aria-label={t("values")}>
            <h2>{t("values")}</h2>
            {!list ? <Loading error={error} /> : (
              <div class="cards">{shown.map((s) => (
                <a key={s.point} class={`card${s.quality.startsWith("bad") ? " bad" : ""}`} href={`${path("series")}?s=${encodeURIComponent(`${s.edge}/${s.device}/${s.point}`)}`} title={s.time ? `${full(s.time)} · ${s.quality}` : s.quality}>
                  <span>{text(s.label) || s.point}{shown.some((o) => o !== s && o.quantity === s.quantity) && <span class="soft"> {s.point}</span>}</span>
                  <b>{s.quality.startsWith("bad") ? t("reasons")[s.quality.slice(5)] || "–" : s.text || measured(s.value, s.unit, s.decimals)}</b>
                  <span class="soft num">{s.time ? clock(s.time) : t("unknown")}</span>
                </a>
              ))}</div>
            )}
          </section>
          {e && <Asked key={`${edge}/${id}`} edge={e} kinds={["why"]} device={id} />}
        </div>
        <div class="stack">
          <section class="panel" aria-label={t("details")}>
            <h2>{t("details")}</h2>
            <Facts rows={[
              [t("site"), siteName(d.site)], [t("edges"), <a key="e" href={path("edge", d.edge)}>{d.edge}</a>],
              [t("profile"), d.profile || "–"], [t("revision"), d.revision || "–"], [t("connection"), d.connection], [t("address"), d.address || "–"],
              [t("watermark"), full(d.since)],
              ...(d.hardware?.length ? [[t("hardware"), <span key="h">{[...d.hardware].reverse().map((h, i) => <div key={i}>{h.serial || "?"}{h.since ? ` (${t("since")} ${day(h.since)})` : ""}{h.note ? `: ${h.note}` : ""}</div>)}</span>] as [string, ComponentChildren]] : []),
              ...(page && /^https?:\/\//i.test(page) ? [[t("camera"), <a key="c" href={page} target="_blank" rel="noopener noreferrer">{page}</a>] as [string, ComponentChildren]] : []),
            ]} />
          </section>
          <Holds scope={{ edge: d.edge, device: d.id, site: "" }} />
          <AlertsAt fits={(a) => a.edge === edge && a.device === id} />
        </div>
      </div>
    </>
  );
}

function AlertsAt({ fits }: { fits: (a: { edge: string; device: string }) => boolean }) {
  const list = current.value.filter((a) => a.state === "active" && fits(a)).sort((a, b) => rank(b.severity) - rank(a.severity));
  if (!list.length) return null;
  return <section class="panel" aria-label={t("active")}><h2>{t("active")}</h2><ul class="stack" style={{ gap: ".4rem" }}>{list.map((a) => <li key={a.id}><Badge of={a.severity}>{""}</Badge> <a href={path("alert", a.id)}>{title(a)}</a></li>)}</ul></section>;
}

// Holds shows what keeps a scope from calling, and puts it aside for a time.
function Holds({ scope }: { scope: { site: string; edge: string; device?: string } }) {
  const list = (holds.use() ?? []).filter((h) => h.edge === scope.edge && (!scope.device || !h.device || h.device === scope.device));
  const [asking, setAsking] = useState(false);
  const end = async (h: Hold) => {
    if (!who.value) { tell(t("whoMissing"), true); return; }
    try { await post(`holds/${encodeURIComponent(h.id)}/end`, { who: who.value }); await holds.refresh(); } catch (err) { tell((err as Error).message, true); }
  };
  return (
    <section class="panel" aria-label={t("holds")}>
      <h2>{t("holds")}</h2>
      {list.length === 0 && <p class="soft">{t("none_")}</p>}
      <ul class="stack" style={{ gap: ".5rem" }}>{list.map((h) => (
        <li key={h.id}><Chip>{t("holdKinds")[h.kind] ?? h.kind}</Chip> {h.rule ?? ""} {t("until")} {when(h.until)} <span class="soft">· {h.who}{h.why ? `: ${h.why}` : ""}</span>{" "}
          {mayAct.value && (h.kind === "maintenance" || h.kind === "out_of_service") && <button type="button" onClick={() => void end(h)}>{t("endHold")}</button>}</li>
      ))}</ul>
      {mayAct.value && <button type="button" class="noprint" style={{ marginTop: ".6rem" }} onClick={() => setAsking(true)}>{t("setAside")}…</button>}
      {asking && <HoldForm scope={scope} onClose={() => setAsking(false)} />}
    </section>
  );
}

function HoldForm({ scope, onClose }: { scope: { edge: string; device?: string }; onClose: () => void }) {
  const [name, setName] = useState(who.value);
  const [kind, setKind] = useState("maintenance");
  const [span, setSpan] = useState("4h");
  const [why, setWhy] = useState("");
  const submit = async (e: Event) => {
    e.preventDefault();
    if (!signedIn.value) setWho(name);
    try {
      await post("holds", { kind, edge: scope.edge, ...(scope.device ? { device: scope.device } : {}), for: span, who: who.value, ...(why ? { why } : {}) });
      await holds.refresh();
      onClose();
    } catch (err) { tell((err as Error).message, true); }
  };
  return (
    <Dialog title={t("setAside")} onClose={onClose}>
      <p class="about">{scope.device ? `${scope.device} (${scope.edge})` : scope.edge}</p>
      <form onSubmit={submit}>
        {!signedIn.value && <Field label={t("whoAsk")}><input required maxLength={60} value={name} onInput={(e) => setName(e.currentTarget.value)} /></Field>}
        <Field label={t("state")}><select value={kind} onChange={(e) => setKind(e.currentTarget.value)}>{["maintenance", "out_of_service"].map((k) => <option key={k} value={k}>{t("holdKinds")[k]}</option>)}</select></Field>
        <Field label={t("forHow")}><select value={span} onChange={(e) => setSpan(e.currentTarget.value)}>{["1h", "4h", "8h", "1d", "7d", "30d"].map((s) => <option key={s} value={s}>{t("spans")[s]}</option>)}</select></Field>
        <Field label={t("why")}><textarea rows={2} maxLength={500} value={why} onInput={(e) => setWhy(e.currentTarget.value)} /></Field>
        <div class="buttons"><button type="button" onClick={onClose}>{t("cancel")}</button><button type="submit" class="main">{t("save")}</button></div>
      </form>
    </Dialog>
  );
}
